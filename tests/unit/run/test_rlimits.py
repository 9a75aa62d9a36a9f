"""Limits that a stage sets for all of its worker, and those that nobody in it set."""

from __future__ import annotations

import ctypes
import resource
import threading
from collections.abc import Iterator

import pytest

from pipeline.run.holding import Holding
from pipeline.run.slate import Holder, Slate
from pipeline.run.watchdog import WATCHDOG, Watchdog, Watched

SET = resource.setrlimit
WHAT = resource.RLIMIT_FSIZE


@pytest.fixture
def asked() -> list[bool]:
    """How often the worker was to be replaced."""
    return []


@pytest.fixture
def dog(asked: list[bool]) -> Iterator[Watchdog]:
    """A watchdog of this process that hears of its limits."""
    made = Watchdog(Slate(), blocked_s=3, memory_bytes=1 << 50, recycle=asked.append)
    before = WATCHDOG.set(made)
    made.rlimits.listen()
    yield made
    WATCHDOG.reset(before)


@pytest.fixture
def before() -> Iterator[tuple[int, int]]:
    """What the limit was, and is to be again when the test is over."""
    had = resource.getrlimit(WHAT)
    yield had
    SET(WHAT, had)


def holding() -> Holding:
    return Holding(Holder(7, "read", 1, False, False))


async def test_limits_that_a_stage_sets_are_not_its_neighbours(
    dog: Watchdog, asked: list[bool], before: tuple[int, int]
) -> None:
    """They are of the whole process, which has its own back at once."""

    async def sets() -> None:
        resource.setrlimit(WHAT, (4096, before[1]))

    await Watched(sets(), holding())

    assert resource.getrlimit(WHAT) == before
    assert asked == []


async def test_a_thread_that_a_stage_started_sets_none_either(
    dog: Watchdog, asked: list[bool], before: tuple[int, int]
) -> None:
    """Nobody waits for it: the watchdog's next look puts it right."""
    thread = threading.Thread(target=SET, args=(WHAT, (4096, before[1])))
    thread.start()
    thread.join()

    dog.mend_limits()

    assert resource.getrlimit(WHAT) == before
    assert asked == []


async def test_a_limit_set_from_outside_stays(
    dog: Watchdog, before: tuple[int, int]
) -> None:
    """Also in the midst of a turn: whoever runs the worker knows why."""
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = (1 << 40, before[1])

    async def meanwhile() -> None:
        # As the kernel does it for `prlimit` in another process: Python is not asked.
        assert libc.setrlimit(int(WHAT), (ctypes.c_ulong * 2)(*wanted)) == 0

    await Watched(meanwhile(), holding())
    dog.mend_limits()

    assert resource.getrlimit(WHAT) == wanted


async def test_a_limit_that_is_lower_for_good_has_its_worker_replaced(
    dog: Watchdog,
    asked: list[bool],
    before: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No process without rights can raise a hard one again."""

    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    async def sets() -> None:
        SET(WHAT, (4096, before[1]))

    monkeypatch.setattr(resource, "setrlimit", refuse)
    await Watched(sets(), holding())

    assert asked == [False]
