"""
Playing one history, the same each time for the same seed.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import structlog
import trio
import trio.testing

from loadtest.simulation.checks import check
from loadtest.simulation.world import World

TOO_LONG_S = 3600.0  # of virtual time: a history that does not end is broken


class Played(NamedTuple):
    """
    What came of one history.

    Attributes:
        broken: (number of the promise, what was seen).
        met: How often each thing happened.
        trace: A digest of every outcome and its moment: of a seed always the same.
    """

    seed: int
    broken: list[tuple[str, str]]
    met: dict[str, int]
    items: int
    virtual_s: float
    trace: str


def play(seed: int) -> Played:
    """One history from its seed."""
    random.seed(seed)
    world = World(seed)

    async def main() -> None:
        try:
            with trio.fail_after(TOO_LONG_S):
                await world.play()
        except trio.TooSlowError:
            world.books.breach("I22", f"not over after {TOO_LONG_S:g} s")
        except Exception as raised:  # whatever escaped its worker is a finding
            for error in _leaves(raised):
                world.books.breach("I20", f"a worker ended by {error!r}")
        await check(world)
        world.ended_s = trio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    with _ordered_by(seed):
        trio.run(main, clock=clock)
    ends = [(i, world.store.end(i)) for i in world.store.everything()]
    trace = hashlib.sha256(repr((ends, sorted(world.books.met.items()))).encode())
    met = {**world.books.met, **world.counted()}
    return Played(
        seed,
        world.books.broken,
        met,
        len(ends),
        round(world.ended_s, 1),
        trace.hexdigest()[:16],
    )


def hush() -> None:
    """Log lines of every history would take longer than the history."""
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)


@contextmanager
def _ordered_by(seed: int) -> Iterator[None]:
    """trio draws in which order it wakes tasks; a history draws it from its seed."""
    core: Any = trio._core._run  # trio has no public way (python-trio/trio#32)
    core._ALLOW_DETERMINISTIC_SCHEDULING = True
    core._r.seed(seed)
    try:
        yield
    finally:
        core._ALLOW_DETERMINISTIC_SCHEDULING = False


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
