"""A batch's counts as commands give them: the law as a sentence, an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import Integrity
from pipeline.outbox import EffectState
from pipeline.store.rows import Counts

WITH_FAILED = 4
WITH_HELD = 5


def summary(counts: Counts) -> dict[str, Any]:
    """The terms of the conservation law, and whether it holds."""
    return {**counts._asdict(), "conserved": counts.conserved}


def law(counts: Counts, *, zeros: bool = True) -> tuple[str, str]:
    """The law's two sides as a person reads them; without `zeros`, what there is."""
    terms = zip(counts._fields[1:], counts[1:], strict=True)
    right = " + ".join(f"{n} {name}" for name, n in terms if n or zeros)
    return f"{counts.received} received", f"{'=' if counts.conserved else '≠'} {right}"


def exit_code(counts: Counts) -> int:
    """What a finished run says: something is missing, failed, held; or all well."""
    if not counts.conserved:
        return Integrity.exit_code
    if counts.failed:
        return WITH_FAILED
    return WITH_HELD if counts.held else 0


EFFECTS = ("sink", "effects", "state")


def outside(counts: Mapping[tuple[str, EffectState], int]) -> list[dict[str, Any]]:
    """Effects by sink and state, as `EFFECTS` heads them."""
    return [
        {"sink": sink, "effects": count, "state": state.value}
        for (sink, state), count in sorted(counts.items())
    ]
