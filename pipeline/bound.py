"""
A stage as a pipeline runs it: its policies, its settings, and what it may do with less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.calls import WhenUsedUp
from pipeline.declared import MANIFEST, Manifest, fit
from pipeline.errors import Usage
from pipeline.faults import Faults
from pipeline.stage import Retry, Settings, Stage

POLICIES: Sequence[str] = (
    "timeout_s",
    "attempts",
    "base_s",
    "cap_s",
    "window",
    "limit",
)


@dataclass(frozen=True)
class Degraded:
    """
    `[stage.NAME.degraded]`: what a stage does with instead when time or money is short.

    Attributes:
        settings: The stage's, with what is said here in their place.
        when_left_s: It is used with so little left until the item's deadline; 0: only
            when no budget pays, and `when_used_up = "degrade"`.
    """

    settings: Settings
    when_left_s: float = 0.0


@dataclass(frozen=True)
class BoundStage:
    """A stage as this pipeline runs it: policies overridden, settings read."""

    stage: Stage
    settings: Settings
    next: str  # "" after the last one
    depth: int  # position, from 0; branches come after the main line
    degraded: Degraded | None = None

    @property
    def name(self) -> str:
        """The stage's name."""
        return self.stage.name


def bind(
    root: Path, stage: Stage, manifest: Manifest, after: str, depth: int
) -> BoundStage:
    """
    `[stage.NAME]` of this folder, over what the stage itself declares.

    Args:
        after: The stage that comes next; "" after the last one.

    Raises:
        Usage: with the key and what it may be; several are beside the first.
    """
    raw = dict(manifest.stage.get(stage.name, {}))
    given = {key: raw.pop(key) for key in POLICIES if key in raw}
    retry = replace(
        stage.retry,
        **{k: given.pop(k) for k in ("attempts", "base_s", "cap_s") if k in given},
    )
    where = f"{root / MANIFEST} [stage.{stage.name}]"
    less = raw.pop("degraded", None)
    bound = replace(stage, retry=retry, **given)
    faults = Faults()
    _check(bound, retry, where, manifest, faults)
    with faults.gathered():
        settings = fit(stage.settings, raw, where, beside=(*POLICIES, "degraded"))
        degraded = None
        if less is not None:
            degraded = _degraded(stage, raw, less, where, manifest)
    faults.end()
    return BoundStage(bound, settings, after, depth, degraded)


def _degraded(
    stage: Stage, raw: Mapping[str, Any], less: Any, where: str, manifest: Manifest
) -> Degraded:
    where = where.replace("]", ".degraded]")
    if not isinstance(less, Mapping):
        raise Usage(f"{where} must be a table", hint='such as when_left = "2h"')
    changed = dict(less)
    left = changed.pop("when_left", None)
    if not changed:
        hint = f"settings of the stage: {', '.join(stage.settings.model_fields)}"
        raise Usage(f"{where} changes no setting", hint=hint)
    if left is None and manifest.budget.when_used_up is not WhenUsedUp.DEGRADE:
        hint = 'say when_left = "2h", or when_used_up = "degrade" in [budget]'
        raise Usage(f"{where} would never be used", hint=hint)
    settings = fit(stage.settings, {**raw, **changed}, where, beside=("when_left",))
    if left is not None and not isinstance(left, str):
        raise Usage(f"{where}: when_left is no text", hint='write it as "2h"')
    return Degraded(settings, 0.0 if left is None else seconds(left, where))


def _check(
    stage: Stage, retry: Retry, where: str, manifest: Manifest, faults: Faults
) -> None:
    numbers = {
        "timeout_s": stage.timeout_s,
        "attempts": retry.attempts,
        "base_s": retry.base_s,
        "cap_s": retry.cap_s,
        "window": stage.window,
    }
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            faults.found.append(Usage(f"{where}: {key} must be a number above 0"))
    if stage.limit is not None and stage.limit not in manifest.limit:
        fault = Usage(
            f"{where}: there is no [limit.{stage.limit}]",
            hint="add it to pipeline.toml with `rate` and `per_s`",
        )
        faults.found.append(fault)


def seconds(text: str, where: str = "") -> float:
    """
    `21d`, `6h`, `90m`, `30s` or combinations (`1d12h`) in seconds.

    Raises:
        Usage: it is none, or not between a moment and ten years; `where` it stands.
    """
    said = f"{where}: {text!r}" if where else repr(text)
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", text)
    if not parts or re.sub(r"(\d+(?:\.\d+)?)\s*([dhms])", "", text).strip():
        raise Usage(f"{said} is not a duration", hint="write 21d, 6h, 90m or 30s")
    total = sum(float(n) * units[u] for n, u in parts)
    if not 0 < total <= 3650 * 86400:
        raise Usage(f"{said} is not between a moment and ten years")
    return total
