"""What drives a stage: nothing that a stage catches keeps it on the loop."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import resource
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import structlog
from anyio import to_thread

from pipeline.errors import (
    DescriptorsCrowded,
    DescriptorsLeaked,
    LoopBlocked,
    MemoryOutgrown,
)
from pipeline.model import Advance, ToWaiting
from pipeline.run import holding as leaving
from pipeline.run import watchdog as watching
from pipeline.run.descriptors import OWN, used
from pipeline.run.holding import HOLDING, Holding
from pipeline.run.slate import Holder, Slate, place_of
from pipeline.run.watchdog import WATCHDOG, Watchdog, Watched
from pipeline.stage import Retry
from pipeline.threads import in_thread
from tests.unit.engine import Engine, Letter, Tape
from tests.unit.virtual import VirtualLoop


@contextmanager
def watched(slate: Slate, **bounds: Any) -> Iterator[Watchdog]:
    """A watchdog without its alarm, for this test alone."""
    bounds = {
        "blocked_s": 3,
        "memory_bytes": 1 << 50,
        "recycle": lambda _: None,
    } | bounds
    dog = Watchdog(slate, **bounds)
    token = WATCHDOG.set(dog)
    try:
        yield dog
    finally:
        WATCHDOG.reset(token)


def holding(*, alone: bool = False) -> Holding:
    return Holding(Holder(7, "read", 1, False, alone))


# What is dropped so says it once more when Python lets go of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
# On trio, which hands over a cancellation as a value, nobody could tell.
@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})], ids=["asyncio"]
)
async def test_a_stage_that_swallows_its_cancellation_is_over_all_the_same() -> None:
    """Its time passes: the item fails by name, and its neighbours are done."""
    tape = Tape()

    async def deaf(letter: Letter, ctx: Any) -> Advance:
        while ctx.item.id == 1:
            try:
                await anyio.sleep(3)
            except BaseException:  # the point of the test
                continue
        return Advance()

    policy = {"timeout_s": 10, "retry": Retry(attempts=2)}
    engine = Engine([tape.station("deaf", deaf, **policy)])
    items = await engine.submit(5)

    async with engine.session():
        ends = await engine.finish(items)

    row = await engine.store.item(1)
    assert ends == {"failed": 1, "done": 4}
    assert row.code == "STAGE_TIMEOUT"
    assert "swallowed" in row.why
    assert "let what ends it pass" in row.why
    [(_, attempt), *_] = engine.store.attempts
    assert "test_watchdog.py" in attempt.frames


async def test_who_cleans_up_is_given_the_time() -> None:
    """A cancellation that is obeyed, in the end, is not taken for swallowed."""
    tape = Tape()
    cleaned = []

    async def tidy(letter: Letter, ctx: Any) -> Advance:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(8)
            cleaned.append(ctx.item.id)
        return Advance()

    policy = {"timeout_s": 10, "retry": Retry(attempts=1)}
    engine = Engine([tape.station("tidy", tidy, **policy)])
    items = await engine.submit()

    async with engine.session():
        await engine.finish(items)

    assert cleaned == [1]
    assert "swallowed" not in (await engine.store.item(1)).why


async def test_the_slate_says_whose_stage_is_on_the_loop() -> None:
    """While it is, and not while it waits."""
    slate, seen = Slate(), []

    async def looks() -> str:
        seen.append(slate.holder())
        await anyio.sleep(1)
        seen.append(slate.holder())
        return "an outcome"

    with watched(slate):
        async with anyio.create_task_group() as tasks:

            async def waits() -> None:
                await anyio.sleep(0.5)
                seen.append(slate.holder())

            tasks.start_soon(waits)
            outcome = await Watched(looks(), holding())

    me = Holder(7, "read", 1, False, False)
    assert seen == [me, None, me]
    assert slate.holder() is None
    assert outcome == "an outcome"


async def test_alone_in_its_worker_it_is_the_one_all_the_time() -> None:
    """Whatever holds up the loop then is its doing."""
    slate = Slate()

    with watched(slate):
        await Watched(anyio.sleep(1), holding(alone=True))

    assert slate.holder() == Holder(7, "read", 1, False, True)


@pytest.mark.parametrize("error", [LoopBlocked.of(3, "x.py:1 f"), MemoryOutgrown.of(1)])
async def test_what_it_was_told_cannot_be_swallowed(error: Exception) -> None:
    """A stage that catches what the alarm raised has failed even so."""
    held = holding()

    async def deaf() -> None:
        held.end = error  # as the alarm, or a beat, does
        await anyio.sleep(1)
        raise AssertionError("it was driven on")

    with pytest.raises(type(error)):
        await Watched(deaf(), held)


async def test_who_held_up_the_loop_is_charged_and_runs_alone_next_time() -> None:
    """Its second try is a suspect's, and its last one fails it by name."""
    tape = Tape()

    async def blocks(letter: Letter, ctx: Any) -> Advance:
        if ctx.item.id == 1:
            held = HOLDING.get()
            assert held is not None
            held.end = LoopBlocked.of(3, "act.py:7 act")
            raise held.end
        return Advance()

    engine = Engine([tape.station("act", blocks, retry=Retry(attempts=2))])
    items = await engine.submit(4)

    async with engine.session():
        ends = await engine.finish(items)

    row = await engine.store.item(1)
    assert ends == {"failed": 1, "done": 3}
    assert row.code == "LOOP_BLOCKED"
    assert "act.py:7 act" in row.why
    assert [m.alone for m in engine.wire.moves(ToWaiting)] == [True]


async def test_threads_that_a_stage_leaves_are_counted() -> None:
    """Past the bound the process makes room for a new one, once."""
    go = threading.Event()
    asked: list[bool] = []
    begun = [
        threading.Thread(target=go.wait) for _ in range(leaving.THREADS_LEFT_MAX + 1)
    ]

    async def leaves() -> None:
        for thread in begun:
            thread.start()
        await anyio.lowlevel.checkpoint()

    with watched(Slate(), recycle=asked.append) as dog:
        await Watched(leaves(), holding())
        dog._look_around()
        dog._look_around()
        go.set()
        # Were they still to end, the next test would count them.
        for thread in begun:
            thread.join()

    assert asked == [False]


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})], ids=["asyncio"]
)
@pytest.mark.parametrize("pool", ["anyio", "asyncio"])
async def test_threads_of_a_pool_that_a_stage_leaves_are_counted(
    monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    """They never come back to it; those that do are nobody's."""
    monkeypatch.setattr(leaving, "THREADS_LEFT_MAX", 2)
    go, begun = threading.Event(), threading.Semaphore(0)
    asked: list[bool] = []

    def sits() -> None:
        begun.release()
        go.wait()

    async def one() -> None:
        if pool == "anyio":
            await to_thread.run_sync(sits, abandon_on_cancel=True)
        else:
            await asyncio.to_thread(sits)

    async def leaves() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)
            for _ in range(3):
                await to_thread.run_sync(begun.acquire)
            tasks.cancel_scope.cancel()

    with watched(Slate(), recycle=asked.append) as dog:
        try:
            tried = holding()
            await Watched(leaves(), tried)
            dog._look_around()
            while dog.threads.count > 3:  # who waited lets go of its call in a moment
                dog._look_around()
            while_they_sit = list(asked)
            found = dog.threads.count
        finally:
            go.set()

    assert while_they_sit == [False]
    assert found == 3


async def test_who_fills_the_line_for_threads_fills_its_own() -> None:
    """Ours is another: artifacts are written, folders are looked at."""
    line = to_thread.current_default_thread_limiter()
    for borrower in range(int(line.total_tokens)):
        line.acquire_on_behalf_of_nowait(borrower)
    try:
        with anyio.fail_after(60):
            assert await in_thread(int, "7") == 7
    finally:
        for borrower in range(int(line.total_tokens)):
            line.release_on_behalf_of(borrower)


async def test_memory_past_the_bound_names_whoever_is_alone() -> None:
    """Its try has failed, and the process is replaced: soon, or at once."""
    asked: list[bool] = []
    held = holding(alone=True)

    async def grows(dog: Watchdog) -> None:
        dog._look_around()
        await anyio.sleep(1)
        raise AssertionError("it was driven on")

    bounds = {"memory_bytes": 1, "recycle": asked.append}
    with watched(Slate(), **bounds) as dog, pytest.raises(MemoryOutgrown):
        await Watched(grows(dog), held)

    assert asked == [False, True]


async def test_a_task_of_a_stage_is_the_stages() -> None:
    """What a stage starts is held to its name."""
    seen = []

    async def inside() -> None:
        seen.append(HOLDING.get())

    async def starts() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inside)

    held = holding()
    await Watched(starts(), held)

    assert seen == [held]


@pytest.mark.parametrize(
    ("alone", "error"), [(False, DescriptorsCrowded), (True, DescriptorsLeaked)]
)
async def test_descriptors_past_the_bound_name_whoever_left_most(
    few_descriptors: int, alone: bool, error: type[Exception]
) -> None:
    """In company it is tried alone, uncharged; alone it is charged; what it raises."""
    asked: list[bool] = []
    slate, opened = Slate(), []
    slate.short = True  # the process before this one was

    async def modest() -> str:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        await anyio.sleep(3)
        return "an outcome"

    async def leaks() -> None:
        await anyio.sleep(1)
        while True:  # in one turn
            opened.append(os.open(os.devnull, os.O_RDONLY))

    try:
        with watched(slate, recycle=asked.append):
            async with anyio.create_task_group() as tasks:
                if not alone:
                    other = Holding(Holder(8, "read", 0, False, False))
                    tasks.start_soon(drive, Watched(modest(), other))
                with pytest.raises(error):
                    await Watched(leaks(), holding(alone=alone))
    finally:
        for file in opened:
            os.close(file)

    assert asked == [False]
    assert alone or other.end is None


async def test_a_limit_too_low_for_a_worker_replaces_nobody(
    few_descriptors: int,
) -> None:
    """Its successor would have as few."""
    asked: list[bool] = []

    with watched(Slate(), recycle=asked.append) as dog:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used() + 1, few_descriptors))
        dog._look_around()

    assert asked == []


async def drive(stage: Watched) -> None:
    await stage


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """A limit of this process that is soon reached; the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used() + 2 * OWN, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("watching_too", [True, False])
async def test_a_forked_copy_of_a_worker_leaves_no_turn(watching_too: bool) -> None:
    """It would go on as the same worker, and write with its connections."""
    slate, mine = Slate(), os.getpid()

    async def forks() -> int:
        return os.fork()

    with watched(slate) if watching_too else nullcontext():
        copy = await Watched(forks(), holding(alone=True))
    if os.getpid() != mine:
        os._exit(7)

    assert await to_thread.run_sync(os.waitpid, copy, 0) == (copy, 0)


def test_where_it_is_begins_with_the_pipelines_own_frame() -> None:
    """What a library does within it comes after."""
    found = []

    def own() -> None:
        re.sub("a", lambda _: found.append(place_of(sys._getframe(1))) or "", "a")

    own()

    assert re.fullmatch(
        r"run/test_watchdog.py:\d+ own, in re/__init__.py:\d+ sub", found[0]
    )
    assert place_of(None) == ""


@pytest.mark.filterwarnings("ignore")
async def test_who_holds_up_the_loop_again_and_again_is_told_once() -> None:
    """For a try; another one is news."""
    first, second = holding(), holding()

    with watched(Slate()) as dog, structlog.testing.capture_logs() as logs:
        for held in (first, second, first, second, second):
            token = HOLDING.set(held)
            dog._alarm(0, None)
            HOLDING.reset(token)

    assert [log["event"] for log in logs] == ["loop_held_up"] * 2


async def test_garbage_is_no_memory_that_a_worker_has_outgrown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is looked for seldom: before a worker is replaced, it is taken away."""
    asked: list[bool] = []

    class Round:
        def __init__(self) -> None:
            self.me = self

    seen = weakref.ref(Round())
    monkeypatch.setattr(
        watching, "resident_bytes", lambda: 10 if seen() is None else 3000
    )
    gc.disable()
    try:
        with watched(Slate(), recycle=asked.append, memory_bytes=1000) as dog:
            dog._look_around()
    finally:
        gc.enable()

    assert asked == []
