"""
A try of a stage whose turn on the loop it is, and the threads that such tries leave.

A thread that a stage started and left keeps a stack and all that it refers to.  So
does one of a pool that works on for a stage that is over; which those are is read
from the context that their frames run in.
"""

from __future__ import annotations

import os
import sys
import threading
from contextvars import Context, ContextVar
from traceback import walk_stack
from types import FrameType
from typing import Any

import structlog

from pipeline.errors import WaybillError
from pipeline.run.frames import Place
from pipeline.run.slate import Holder

log = structlog.get_logger()

THREADS_LEFT_MAX = 50  # arbitrary; each keeps a stack, and what it refers to
# Threads of pools, which are used again: left are those that never come back.
POOLED = ("AnyIO worker thread", "asyncio_")
# asyncio's pool has no more, and whoever looks up a host name needs one.
POOL_THREADS = min(32, (os.cpu_count() or 1) + 4)


class Holding:
    """A try of a stage, whose turn on the loop may be the one that does not end."""

    __slots__ = (
        "at",
        "end",
        "holder",
        "label",
        "noticed",
        "over",
        "stubborn",
        "threads",
    )

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.label = holder.label()
        # What this try has come to, whatever it goes on to do.
        self.end: WaybillError | None = None
        self.stubborn = False
        self.at: list[Place] = []  # where it was, when it was stubborn
        self.over = False
        self.noticed = False  # the log, that it holds up the loop
        self.threads: list[threading.Thread] = []

    def names(self) -> dict[str, Any]:
        """What a log says of it."""
        who = self.holder
        return {"item": who.item, "stage": who.stage, "attempt": who.attempt}


# Inherited by the tasks that a stage starts.
HOLDING: ContextVar[Holding | None] = ContextVar("holding", default=None)


class ThreadsLeft:
    """The threads of this process that stages left."""

    def __init__(self) -> None:
        self._known = set(threading.enumerate())
        self._left: set[threading.Thread] = set()
        self._kept: set[threading.Thread] = set()  # of a pool, by a stage that is over

    def __repr__(self) -> str:
        return f"<ThreadsLeft {self.count}>"

    @property
    def count(self) -> int:
        """How many of them still run."""
        return len(self._left | self._kept)

    def begun(self, holding: Holding) -> None:
        """A stage started threads; those of pools are used again by others."""
        new = set(threading.enumerate()) - self._known
        self._known |= new
        holding.threads += [t for t in new if not t.name.startswith(POOLED)]

    def ended(self, holding: Holding) -> None:
        """A try is over; what of its threads still runs is named, and counted."""
        left = [thread for thread in holding.threads if thread.is_alive()]
        if left:
            self._left.update(left)
            log.warning("threads_left", threads=len(left), **holding.names())

    def look(self) -> bool:
        """Look around; whether there are too many."""
        self._known = set(threading.enumerate())
        self._left = {thread for thread in self._left if thread.is_alive()}
        pooled = [t for t in self._known if t.name.startswith(POOLED)]
        frames = sys._current_frames() if pooled else {}
        kept: dict[threading.Thread, Holding] = {}
        for thread in pooled:
            holding = _works_for(frames.get(thread.ident or 0))
            if holding is not None and holding.over:
                kept[thread] = holding
        for holding in {kept[thread] for thread in kept.keys() - self._kept}:
            count = sum(one is holding for one in kept.values())
            log.warning("threads_left", threads=count, **holding.names())
        self._kept = set(kept)
        in_pool = sum(thread.name.startswith("asyncio_") for thread in kept)
        return self.count > THREADS_LEFT_MAX or in_pool >= POOL_THREADS


def _works_for(frame: FrameType | None) -> Holding | None:
    """The try whose context a pool's thread runs in, found among its frames."""
    for at, _ in walk_stack(frame):
        if at.f_code.co_name != "run":  # anyio's thread, or an item of asyncio's pool
            continue
        given = at.f_locals
        context = given.get("context")
        if context is None:  # asyncio.to_thread: partial(context.run, …)
            run = getattr(getattr(given.get("self"), "fn", None), "func", None)
            context = getattr(run, "__self__", None)
        if isinstance(context, Context):
            return context.get(HOLDING)
    return None
