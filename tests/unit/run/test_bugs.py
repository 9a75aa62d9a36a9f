"""Bugs and bad answers: whatever a stage does, one item pays and no worker."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pipeline.errors import Integrity, Refused, Usage
from pipeline.model import Advance, Hold, State, Wait
from pipeline.stage import Retry
from tests.unit.engine import Engine, Letter, Tape, run_all


async def test_a_bug_in_a_stage_is_charged_named_and_stops_nobody() -> None:
    """A ValueError is tried again and becomes STAGE_RAISED; neighbours finish."""
    tape = Tape()

    async def odd(letter: Letter, ctx: Any) -> Advance:
        if ctx.item.id % 2:
            raise ValueError("the text of a letter")
        return Advance()

    engine = Engine([tape.station("odd", odd, retry=Retry(attempts=2))])
    items = await engine.submit(10)

    async with engine.session() as session:
        ends = await engine.finish(items)
        alive = session.windows.total == 0 and not session._lost

    assert ends == {"done": 5, "failed": 5}
    assert await engine.code(1) == "STAGE_RAISED"
    assert len(engine.store.attempts) == 10
    assert all(a.charged for _, a in engine.store.attempts)
    assert not any("text of a letter" in a.message for _, a in engine.store.attempts)
    assert alive


class Unstorable:
    """What no JSON can hold."""


@pytest.mark.parametrize(
    "returned",
    [
        None,
        {"text": "a dict"},
        Advance(anything=Unstorable()),
        Hold("LOOK", evidence=Unstorable()),
        Wait("soon"),  # type: ignore[arg-type]  # the point of the test
        Advance(pence=None),
        Advance(odd=1),
    ],
    ids=["None", "dict", "update", "evidence", "wait", "value", "reducer"],
)
async def test_a_stage_that_returns_nonsense_fails_alone(returned: Any) -> None:
    """Whatever a stage returns, its item ends with a code and the worker lives."""
    tape = Tape()

    async def odd(letter: Letter, ctx: Any) -> Any:
        return returned if ctx.item.id == 1 else Advance()

    engine = Engine([tape.station("odd", odd), tape.station("next", took_s=1)])
    items = await engine.submit(4)

    async with engine.session():
        ends = await engine.finish(items)

    assert ends == {"failed": 1, "done": 3}
    assert await engine.code(1) == "BAD_OUTCOME"
    assert await engine.sound()


async def test_a_bad_update_fails_and_names_the_channel_never_the_value() -> None:
    """What does not fit the state is refused before it is stored."""
    tape = Tape()

    async def bad(letter: Letter, ctx: Any) -> Advance:
        return Advance(pence="a child's secret")

    engine = Engine([tape.station("bad", bad)])

    await run_all(engine)

    row = await engine.store.item(1)
    assert (row.state, row.code) == ("failed", "BAD_OUTCOME")
    assert "pence" in row.why
    assert "secret" not in row.why
    assert await engine.history() == []


async def test_an_input_that_does_not_fit_fails_with_its_code() -> None:
    """An item that cannot begin ends, and its neighbours go on."""
    engine = Engine(Tape().line("one"))
    bad = await engine.submit(1, pence="many")
    good = await engine.submit(3)

    async with engine.session():
        ends = await engine.finish([*bad, *good])

    assert ends == {"failed": 1, "done": 3}
    assert await engine.code(bad[0]) == "BAD_INPUT"


async def test_a_stage_the_pipeline_does_not_have_is_named() -> None:
    """An item whose line leads nowhere fails as UNKNOWN_STAGE, alone."""
    engine = Engine(Tape().line("one"))
    [item] = await engine.submit()
    engine.store._ready[item].stage = "gone"
    engine.store._put_ready(item, engine.store._ready[item])

    async with engine.session():
        await engine.finish([item])

    assert (await engine.state(), await engine.code()) == ("failed", "UNKNOWN_STAGE")


@pytest.mark.parametrize(
    ("error", "code"),
    [(Usage("no such folder"), "USAGE"), (ZeroDivisionError(), "INTERNAL")],
)
async def test_a_pipeline_that_cannot_be_had_is_named(
    error: Exception, code: str
) -> None:
    """Its items fail with the reason; another pipeline's go on."""
    engine = Engine(Tape().line("one"))
    items = await engine.submit(3)

    class Broken:
        async def get(self, number: int, store: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            raise error

    engine.catalogue = Broken()

    async with engine.session() as session:
        ends = await engine.finish(items)
        alive = not session._lost

    assert ends == {"failed": 3}
    assert await engine.code() == code
    assert alive


async def test_a_pipeline_that_somebody_changed_is_waited_for() -> None:
    """Nobody's attempt, and no end: its items go on when it is mended."""
    engine = Engine(Tape().line("one"))
    items = await engine.submit(3)
    sound, mended = engine.catalogue, anyio.Event()

    class Changed:
        async def get(self, number: int, store: Any) -> Any:
            if not mended.is_set():
                raise Integrity("not what was published", code="PIPELINE_CHANGED")
            return await sound.get(number, store)

    engine.catalogue = Changed()

    async with engine.session():
        await anyio.sleep(600)
        rows = [await engine.store.item(item) for item in items]
        mended.set()
        ends = await engine.finish(items)

    assert [(row.state, row.why) for row in rows] == [
        (State.WAITING, "PIPELINE_CHANGED")
    ] * 3
    assert ends == {"done": 3}
    assert engine.store.attempts == []


async def test_rows_the_database_refuses_end_their_item_alone() -> None:
    """A step's checkpoint that is refused fails that item, with REFUSED."""
    tape = Tape()

    async def page() -> str:
        return "x"

    async def ocr(letter: Letter, ctx: Any) -> Advance:
        return Advance(text=await ctx.step("page-1", page))

    engine = Engine([tape.station("ocr", ocr)])

    inner = engine.store.commit

    async def commit(worker: Any, entries: Any) -> list[bool]:
        if any(e.item_id == 7 and e.checkpoint is not None for e in entries):
            raise Refused("no")
        return await inner(worker, entries)

    engine.store.commit = commit  # type: ignore[method-assign]  # a strict database

    await run_all(engine, 20)

    assert (await engine.state(7), await engine.code(7)) == ("failed", "REFUSED")
    assert (await engine.store.counts()).done == 19


async def test_a_refused_result_ends_its_item_where_it_was_made() -> None:
    """So that a retry makes it again: no stage is passed over."""
    tape = Tape()
    engine = Engine(tape.line("one", "two"))
    inner, refuse = engine.store.commit, [True]

    async def commit(worker: Any, entries: Any) -> list[bool]:
        if refuse and any(e.checkpoint is not None for e in entries):
            raise Refused("no")
        return await inner(worker, entries)

    engine.store.commit = commit  # type: ignore[method-assign]  # a strict database
    await run_all(engine)
    item = 1
    failed = await engine.store.item(item)
    refuse.clear()
    await engine.store.retry([item], "ann")
    async with engine.session():
        await engine.finish([item])

    assert (failed.state.value, failed.code, failed.stage) == (
        "failed",
        "REFUSED",
        "one",
    )
    assert await engine.state(item) == "done"
    assert tape.stages(item) == ["one", "one", "two"]
