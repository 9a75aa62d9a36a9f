"""How much of items' states a worker has in memory at once, and how it gets there."""

from __future__ import annotations

from typing import Any

import anyio

from pipeline.holds.parking import whole
from pipeline.model import Advance, Checkpoint, Entry, Hold, ToReady
from pipeline.state import INLINE_BYTES_MAX
from pipeline.store.memory import MemoryStore
from pipeline.store.port import HISTORY_BYTES
from pipeline.store.rows import Origin
from tests.unit.engine import Engine, Letter, Tape, until

STEPS = 6
STEP = "x" * 8000  # stands in its row
STATE = STEPS * (len(STEP) + 2)  # bytes of an item's steps, as they are stored


async def resumed(engine: Engine, count: int, *, large: bool = False) -> list[int]:
    """Items that a worker put back in line after these steps."""
    items = await engine.submit(count)
    store = engine.store
    worker = await store.join(Origin("gone", 1, "1"), lease_s=60)
    await store.claim(worker, "read", count, {})
    ref = await engine.artifacts.put(b'"' + STEP.encode() * STEPS + b'"')
    for item in items:
        steps = (
            [Checkpoint(0, "read", "s0", None, ref, None, 1)]
            if large
            else [
                Checkpoint(n, "read", f"s{n}", f'"{STEP}"', None, None, 1)
                for n in range(STEPS)
            ]
        )
        await store.commit(worker, [Entry(item, c) for c in steps])
        await store.commit(worker, [Entry(item, None, ToReady("read", len(steps)))])
    await store.leave(worker)
    return items


def reading(tape: Tape) -> Any:
    """A stage that needs its first step, and a second."""

    async def read(letter: Letter, ctx: Any) -> Advance:
        async def never() -> str:
            raise AssertionError("a finished step is not run again")

        await ctx.step("s0", never)
        await anyio.sleep(1)
        return Advance(text="read")

    return tape.station("read", read, window=100)


async def test_only_so_much_is_in_memory() -> None:
    """However many large histories are in line, two fit and two are loaded."""
    tape = Tape()
    engine = Engine([reading(tape)], bytes_max=2 * STATE - 100)
    items = await resumed(engine, 30)

    async with engine.session():
        ends = await engine.finish(items, within_s=60)

    assert ends == {"done": 30}
    assert tape.most["read"] == 2


async def test_only_so_much_of_what_stands_in_artifacts_is_in_memory() -> None:
    """A reference is small in its row, and as large as any other in memory."""
    tape = Tape()
    engine = Engine([reading(tape)], bytes_max=2 * STATE - 100)
    items = await resumed(engine, 30, large=True)

    async with engine.session():
        ends = await engine.finish(items, within_s=60)

    assert ends == {"done": 30}
    assert tape.most["read"] == 2


async def test_a_state_larger_than_a_worker_may_load_runs_alone() -> None:
    """Nothing is too large to be finished, one after the other."""
    tape = Tape()
    engine = Engine([reading(tape)], bytes_max=STATE // 2)
    items = await resumed(engine, 5)

    async with engine.session():
        ends = await engine.finish(items, within_s=60)

    assert ends == {"done": 5}
    assert tape.most["read"] == 1


async def test_what_grows_in_memory_counts() -> None:
    """Items that become large while they are worked on keep others out."""
    tape = Tape()

    async def read(letter: Letter, ctx: Any) -> Advance:
        async def page() -> str:
            return STEP * STEPS

        await ctx.step("page", page)
        await anyio.sleep(100)
        return Advance(text="read")

    stages = [tape.station("read", read, window=100)]
    engine = Engine(stages, bytes_max=2 * STATE)
    first = await engine.submit(3)
    async with engine.session() as session:
        await until(lambda: session.windows.loaded > 2 * STATE)
        then = await engine.submit(10, tenant="south")
        await anyio.sleep(50)
        early = {i for i, _, _ in tape.ran}
        ends = await engine.finish([*first, *then], within_s=3600)

    assert early == set(first)
    assert ends == {"done": 13}
    assert session.windows.loaded == 0


async def test_histories_beyond_a_slice_are_read_one_by_one() -> None:
    """One question for what fits, then one for each of the others."""
    tape = Tape()
    engine = Engine([reading(tape)])
    count = 2 * HISTORY_BYTES // STATE
    items = await resumed(engine, count)

    async with engine.session():
        ends = await engine.finish(items, within_s=600)

    assert ends == {"done": count}
    # Windows open with the first item: it comes alone.
    assert 2 <= engine.wire.calls["history"] <= 1 + count


async def test_a_cancelled_load_gives_its_turn_back() -> None:
    """A session that ends while a large state waits leaves nothing counted."""
    tape = Tape()
    engine = Engine([reading(tape)], bytes_max=STATE // 2)
    items = await resumed(engine, 5)

    async with engine.session() as first:
        await until(lambda: tape.ran != [], every_s=0.05)
    await engine.bury(first)
    async with engine.session():
        ends = await engine.finish(items, within_s=60)

    assert ends == {"done": 5}
    assert first.windows.loaded == 0


# -- holds -----------------------------------------------------------------------------


async def held(text: str) -> tuple[Engine, MemoryStore]:
    """An item held with this as its state and its proposal."""
    tape = Tape()

    async def hold(letter: Letter, ctx: Any) -> Hold:
        return Hold("LOOK", "why", evidence=["mark"], text=text, answer="new")

    async def first(letter: Letter, ctx: Any) -> Advance:
        return Advance(text=text)

    engine = Engine([tape.station("one", first), tape.station("two", hold)])
    await engine.submit()
    async with engine.session():
        await until(lambda: len(engine.store._open) == 1)
    return engine, engine.store


async def test_a_large_hold_is_a_reference() -> None:
    """The row names what is shown and proposed; whoever reads it gets it whole."""
    text = "ß" * INLINE_BYTES_MAX
    engine, store = await held(text)

    [row] = await store.holds()
    there = await whole(row, engine.artifacts)

    assert (row.shown, row.proposal) == ({}, {})
    assert row.shown_ref in engine.artifacts.kept
    assert row.proposal_ref in engine.artifacts.kept
    assert there.shown["state"]["text"] == text
    assert there.proposal == {"text": text, "answer": "new"}
    assert (there.shown_ref, there.proposal_ref) == (None, None)


async def test_a_small_hold_stands_in_its_row() -> None:
    """Nobody opens a file for a few words."""
    _, store = await held("few words")

    [row] = await store.holds()

    assert row.proposal == {"text": "few words", "answer": "new"}
    assert (row.shown_ref, row.proposal_ref) == (None, None)
