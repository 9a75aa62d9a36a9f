"""Limits that a stage sets for all of its worker, and those that nobody in it set."""

from __future__ import annotations

import ctypes
import resource
import sys
import threading
from collections.abc import Iterator
from types import FunctionType, SimpleNamespace

import pytest

from pipeline.errors import Unproven
from pipeline.model import Advance
from pipeline.run import rlimits
from pipeline.run.attempt import Raised
from pipeline.run.holding import Holding
from pipeline.run.slate import Holder, Slate
from pipeline.run.watchdog import WATCHDOG, Watchdog, Watched
from tests.unit.run.test_attempt import tried

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


def outside(wanted: tuple[int, int]) -> None:
    """As the kernel does it for `prlimit` in another process: Python is not asked."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.setrlimit(int(WHAT), (ctypes.c_ulong * 2)(*wanted)) == 0


def holding() -> Holding:
    return Holding(Holder(7, "read", 1, False, False))


@pytest.mark.parametrize(
    ("what", "soft"),
    [
        (WHAT, 4096),
        (resource.RLIMIT_STACK, 1 << 20),
        (resource.RLIMIT_NPROC, 500),
        (resource.RLIMIT_CPU, 1 << 20),
    ],
)
async def test_limits_that_a_stage_sets_are_not_its_neighbours(
    dog: Watchdog, asked: list[bool], what: int, soft: int
) -> None:
    """They are of the whole process, which has its own back at once."""
    before = resource.getrlimit(what)

    async def sets() -> None:
        resource.setrlimit(what, (soft, before[1]))

    await Watched(sets(), holding())
    found = resource.getrlimit(what)
    SET(what, before)

    assert found == before
    assert asked == []


async def test_one_that_is_set_long_after_it_was_told_is_put_back(
    dog: Watchdog, before: tuple[int, int]
) -> None:
    """A thread may be kept waiting in between, while the loop turns."""
    libc = ctypes.CDLL(None, use_errno=True)

    dog.rlimits.note()
    dog.mend_limits()
    assert libc.setrlimit(int(WHAT), (ctypes.c_ulong * 2)(4096, before[1])) == 0
    dog.mend_limits()

    assert resource.getrlimit(WHAT) == before


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
    wanted = (1 << 40, before[1])

    async def meanwhile() -> None:
        outside(wanted)

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


async def test_one_that_is_lower_for_good_keeps_no_other_from_being_put_back(
    dog: Watchdog,
    asked: list[bool],
    before: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its neighbours have to work until the process is replaced."""
    first = resource.RLIMIT_DATA
    had = resource.getrlimit(first)

    def refuse(what: int, bounds: tuple[int, int]) -> None:
        if what == first:
            raise ValueError("not allowed to raise maximum limit")
        SET(what, bounds)

    async def sets() -> None:
        SET(first, (1 << 40, had[1]))
        SET(WHAT, (4096, before[1]))

    monkeypatch.setattr(resource, "setrlimit", refuse)
    await Watched(sets(), holding())
    SET(first, had)

    assert resource.getrlimit(WHAT) == before
    assert asked == [False]


async def test_what_fails_by_limits_that_another_item_lowered_is_not_charged(
    dog: Watchdog,
) -> None:
    """Whoever lowered them pays as ever."""

    async def outgrown(_: object) -> Advance:
        raise MemoryError

    async def code(culprit: int) -> tuple[str, bool]:
        dog.rlimits.lowered = Holding(Holder(culprit, "read", 1, False, False))
        end = await tried(outgrown)
        assert isinstance(end, Raised)
        return end.error.code, isinstance(end.error, Unproven)

    assert await code(7) == ("LIMITS_LOWERED", True)
    assert await code(1) == ("STAGE_RAISED", False)  # itself


async def test_a_stage_adds_no_hook_to_all_that_its_worker_does(dog: Watchdog) -> None:
    """Nobody could take it out again, and one that raises ends its neighbours."""
    heard: list[str] = []

    sys.addaudithook(lambda event, _: heard.append(event))
    sys.audit("waybill.test")

    assert heard == []


async def test_calls_may_be_as_deep_as_before_when_a_stage_has_lowered_that(
    dog: Watchdog,
) -> None:
    """Higher they stay: a stage may need it, and nobody is kept from anything."""
    before = sys.getrecursionlimit()
    found = []

    async def sets(depth: int) -> None:
        sys.setrecursionlimit(depth)

    try:
        for depth in (before // 2, before * 2):
            await Watched(sets(depth), holding())
            found.append(sys.getrecursionlimit())
    finally:
        sys.setrecursionlimit(before)

    assert found == [before, before * 2]


@pytest.mark.parametrize(("again", "after"), [(False, 60), (True, 5)])
async def test_a_limit_that_stays_lower_has_its_worker_replaced(
    dog: Watchdog,
    asked: list[bool],
    before: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    again: bool,
    after: int,
) -> None:
    """Set from outside, or again and again from within: a new process has its own."""
    now = 0.0
    monkeypatch.setattr(rlimits, "time", SimpleNamespace(monotonic=lambda: now))
    lower = (1 << 40, before[1])
    if not again:
        outside(lower)
    replaced: list[float] = []
    while now < 70:
        if again:
            SET(WHAT, lower)
        dog.mend_limits()
        dog._look_around()
        if asked and not replaced:
            replaced.append(now)
        now += 0.2

    assert after < replaced[0] < after + 1
    assert asked == [False]


async def test_a_limit_that_was_lower_for_a_while_replaces_nobody(
    dog: Watchdog,
    asked: list[bool],
    before: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever set it from outside has raised it again."""
    now = 0.0
    monkeypatch.setattr(rlimits, "time", SimpleNamespace(monotonic=lambda: now))
    for now in range(200):  # the clock
        outside((1 << 40, before[1]) if now % 50 else before)
        dog._look_around()

    assert asked == []


def test_who_listens_is_no_trouble_when_the_process_ends() -> None:
    """Its hook is called when the names of its module are gone."""
    heard = rlimits._heard
    bare = FunctionType(heard.__code__, {}, "_heard", heard.__defaults__)

    bare("open", ())
