"""
Sinks, opened: what is declared with what it needs to work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from pipeline.effects.declared import (
    CrmSpec,
    FolderSpec,
    PostSpec,
    SinkSpec,
    SmtpSpec,
    WebhookSpec,
)
from pipeline.effects.folder import FolderSink, Sheet
from pipeline.effects.mail import SmtpSink
from pipeline.effects.posting import Caller, PostSink, Secret, WebhookSink
from pipeline.effects.records import CrmSink
from pipeline.effects.sink import Sink
from pipeline.stage import Artifacts


def open_sinks(
    specs: Mapping[str, SinkSpec],
    *,
    home: Path,
    artifacts: Artifacts,
    caller: Caller,
    secret: Secret,
    sheet: Sheet | None = None,
) -> dict[str, Sink]:
    """
    The declared sinks, by name.

    Args:
        home: Where folders are that no path was given for.
        caller: Calls vendors.
        secret: Finds a secret by its reference, of a tenant or else of the service.
        sheet: See `FolderSink`.
    """
    opened: dict[str, Sink] = {}
    for name, spec in specs.items():
        match spec:
            case FolderSpec():
                root = folder_of(spec, home)
                opened[name] = FolderSink(spec, root, artifacts, sheet)
            case WebhookSpec():
                opened[name] = WebhookSink(spec, caller, secret)
            case PostSpec():
                opened[name] = PostSink(spec, caller)
            case CrmSpec():
                opened[name] = CrmSink(spec, caller)
            case SmtpSpec():
                opened[name] = SmtpSink(spec, artifacts, secret)
            case _:
                assert_never(spec)
    return opened


def folder_of(spec: FolderSpec, home: Path) -> Path:
    """Where a folder sink's folders are."""
    return home / (spec.path or spec.name)
