"""
An effect as a stage plans it: checked, and with its key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.errors import Permanent
from pipeline.outbox import EFFECTS_MAX, PAYLOAD_CHARS_MAX, Planned, key_of
from pipeline.run.services import Services
from pipeline.run.stay import Run
from pipeline.state import encode

NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
# What a file is called that goes with it: no path, and nothing hidden.
FILE = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
ARTIFACT = re.compile(r"[0-9a-f]{64}")
FILES_MAX = 50


async def planned(
    services: Services,
    run: Run,
    stage: str,
    name: str,
    sink: str,
    payload: Mapping[str, Any],
    artifacts: Mapping[str, str],
    irreversible: bool,
) -> str:
    """
    Plan an effect of this attempt; see `Planning.effect`.

    Its key is told by the item, the stage and its name alone: not by the attempt, nor
    by what it says.  What an item came in with makes it another in another database.
    """
    known = services.sinks.get(sink)
    if known is None:
        raise Permanent(
            f"there is no sink {sink!r}",
            code="NO_SUCH_SINK",
            hint=f"declare [sink.{sink}] in vendors.toml; known: "
            f"{', '.join(services.sinks) or 'none'}",
        )
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise _bad("its name is not 1 to 100 of a-z, A-Z, 0-9, `_`, `-`, `.`")
    item, facts = run.item, known
    text = _text(name, dict(payload))
    ref = None
    if len(text) > PAYLOAD_CHARS_MAX:
        ref = await services.artifacts.put(text.encode())
    key = key_of(item.tenant, item.id, encode(item.input), stage, name)
    run.effects[f"{sink}/{name}"] = Planned(
        stage,
        name,
        sink,
        key,
        facts.sink_class,
        text if ref is None else None,
        ref,
        _text(name, _files(name, artifacts)),
        not (irreversible or facts.irreversible),
        facts.gather_s,
    )
    if len(run.effects) > EFFECTS_MAX:
        raise _bad(f"more than {EFFECTS_MAX} of one stage")
    return key


def _files(effect: str, artifacts: Mapping[str, str]) -> dict[str, str]:
    for name, artifact in artifacts.items():
        if not isinstance(name, str) or not FILE.fullmatch(name):
            raise _bad(f"{effect} has a file whose name is none")
        if not isinstance(artifact, str) or not ARTIFACT.fullmatch(artifact):
            raise _bad(f"{effect}: {name} names no artifact")
    if len(artifacts) > FILES_MAX:
        raise _bad(f"{effect} has more than {FILES_MAX} files")
    return dict(artifacts)


def _text(name: str, value: dict[str, Any]) -> str:
    try:
        return encode(value)
    except (ValueError, RecursionError, Permanent):
        raise _bad(f"the payload of {name} has no JSON") from None


def _bad(why: str) -> Permanent:
    return Permanent(f"an effect cannot be: {why}", code="BAD_EFFECT")
