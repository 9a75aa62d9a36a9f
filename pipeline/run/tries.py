"""
The failed calls of a step, as they are kept: who failed, and what was paid for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple

from pipeline.run.stay import Run

# Who is busy has not failed: a call made again is no repeat.
BUSY = ("THROTTLED", "QUOTA")


class Tried(NamedTuple):
    """Of a step's failed calls: how many, of whom, whom to pass by."""

    times: int
    failed: frozenset[str]
    gone: frozenset[str]


def paid_for_none(run: Run, stage: str, step: str) -> list[tuple[int, Decimal]]:
    """Answers of a step that were paid for, and were none: each one's tokens, cost."""
    paid = (kept.get("paid") for kept in _tries(run, stage, step))
    return [(tokens, Decimal(cost)) for tokens, cost in filter(None, paid)]


def _tries(run: Run, stage: str, step: str) -> Iterator[dict[str, Any]]:
    """The failed calls of a step, in order."""
    for number in count(1):
        text = run.memo.get((stage, f"{step}/try-{number}"))
        if text is None:
            return
        yield json.loads(text)


def tried_before(run: Run, stage: str, step: str) -> Tried:
    """Of a step's failed calls, in the order in which they failed."""
    times = 0
    failed: set[str] = set()
    gone: set[str] = set()
    for kept in _tries(run, stage, step):
        times += 1
        if kept["code"] not in BUSY:
            failed.add(kept["vendor"])
        gone.add(kept["vendor"])
        if kept["over"]:
            gone.clear()  # nobody was left: the worker's retry begins anew
    return Tried(times, frozenset(failed), frozenset(gone))
