"""
Threads of our own: what blocks is run beside the loop, and not in the stages' line.

anyio's threads have one line for everybody: forty calls of a stage that do not return,
and neither an artifact would be written nor a folder looked at any more.  Here is
another, for what is sure to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

THREADS_MAX = 40  # at once, in one process; arbitrary

Given = TypeVarTuple("Given")
Made = TypeVar("Made")
_LINE: RunVar[CapacityLimiter] = RunVar("waybill_threads")


async def in_thread(
    work: Callable[[*Given], Made], *given: *Given, abandon_on_cancel: bool = False
) -> Made:
    """What `work(*given)` returns, run in a thread."""
    try:
        line = _LINE.get()
    except LookupError:
        line = CapacityLimiter(THREADS_MAX)
        _LINE.set(line)
    return await to_thread.run_sync(
        work, *given, limiter=line, abandon_on_cancel=abandon_on_cancel
    )
