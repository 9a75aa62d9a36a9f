"""A stage that shields itself from its cancellation: its item goes on without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pipeline.errors import Permanent
from pipeline.model import Advance
from pipeline.run.attempt import STUCK_S
from pipeline.run.session import END_S, Session
from pipeline.stage import Retry
from tests.unit.engine import ELSEWHERE, Engine, Letter, Tape

TIMEOUT_S = 10
POLICY = {"timeout_s": TIMEOUT_S, "retry": Retry(attempts=2, base_s=0.1)}


async def test_its_item_goes_on_and_what_it_does_later_is_refused() -> None:
    """Charged by name and tried again; the first try writes nothing any more."""
    tape, release = Tape(), anyio.Event()
    refused: list[str] = []

    async def late_step() -> str:
        return "late"

    async def shields(letter: Letter, ctx: Any) -> Advance:
        if ctx.item.id != 1 or len(tape.stages()) > 1:
            return Advance()
        with anyio.CancelScope(shield=True):
            await release.wait()
            for late in (ctx.step("late", late_step), ctx.spawn([], name="late")):
                try:
                    await late
                except Permanent as error:
                    refused.append(error.code)
            with pytest.raises(Permanent):
                ctx.progress(1, 2)
        return Advance(trail=["too late"])

    engine = Engine([tape.station("shields", shields, **POLICY)])
    items = await engine.submit(5)

    async with engine.session():
        ends = await engine.finish(items)
        took_s = anyio.current_time() - tape.ran[0][2]
        entries = list(engine.wire.entries)
        release.set()
        await anyio.sleep(5)

    [failed] = [e.attempt for e in entries if e.attempt is not None]
    assert ends == {"done": 5}
    assert failed.code == "STAGE_TIMEOUT"
    assert failed.charged
    assert "did not end" in failed.message
    assert took_s == pytest.approx(TIMEOUT_S + STUCK_S, abs=2)
    assert refused == ["STAGE_TIMEOUT"] * 2
    assert engine.wire.entries == entries


async def test_whose_cleaning_up_hangs_is_cancelled_all_the_same() -> None:
    """A person cancels an item whose stage does not hear it."""
    tape, release = Tape(), anyio.Event()

    async def hangs(letter: Letter, ctx: Any) -> Advance:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await release.wait()
        return Advance()

    engine = Engine([tape.station("hangs", hangs, timeout_s=3600)])
    items = await engine.submit()

    async with engine.session():
        await anyio.sleep(1)
        await engine.store.cancel(items, "anna")
        ends = await engine.finish(items, within_s=60)
        release.set()

    assert ends == {"cancelled": 1}


async def test_a_session_ends_though_a_stage_does_not() -> None:
    """Whoever keeps it is left to `on_hung`, which ends the process."""
    hung: list[float] = []

    async with shielded(timeout_s=3600) as (engine, release):

        async def on_hung() -> None:
            hung.append(anyio.current_time() - stopped)
            release.set()

        session = await session_of(engine, on_hung=on_hung)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            await anyio.sleep(1)
            stopped = anyio.current_time()
            session.stop()

    assert hung == [pytest.approx(END_S, abs=0.5)]


async def test_a_worker_whose_stage_is_stuck_wants_a_successor() -> None:
    """What it had of a limit would never come back."""
    stuck: list[int] = []

    async with shielded(**POLICY) as (engine, release):
        session = await session_of(engine, on_stuck=lambda: stuck.append(1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            await anyio.sleep(TIMEOUT_S + STUCK_S + 3)
            session.stop()
            release.set()

    assert stuck == [1]


@asynccontextmanager
async def shielded(**policy: Any) -> AsyncIterator[tuple[Engine, anyio.Event]]:
    """An engine with an item that waits for the event, whoever cancels it."""
    tape, release = Tape(), anyio.Event()

    async def shields(letter: Letter, ctx: Any) -> Advance:
        with anyio.CancelScope(shield=True):
            await release.wait()
        return Advance()

    engine = Engine([tape.station("shields", shields, **policy)])
    await engine.submit()
    yield engine, release


async def session_of(engine: Engine, **hooks: Any) -> Session:
    """A session that tells somebody."""
    me = await engine.store.join(ELSEWHERE, lease_s=engine.settings.lease_s)
    return Session(
        engine.port, me, engine.catalogue, engine.services, engine.settings, **hooks
    )
