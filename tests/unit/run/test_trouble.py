"""Our own trouble is nobody's attempt: items wait, and go on when it is mended."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from pipeline.errors import Trouble, Unacceptable
from pipeline.model import Advance
from pipeline.run.services import Services
from pipeline.stage import Retry
from pipeline.trouble import ours
from tests.unit.engine import LEASE_S, Engine, Letter, Tape, until


class Machine(Services):
    """Services of a machine whose disk can be full."""

    full = False
    full_until = 0.0
    looks = 0

    async def look(self) -> list[Trouble]:
        await anyio.lowlevel.checkpoint()
        Machine.looks += 1
        full = Machine.full or anyio.current_time() < Machine.full_until
        return [full_disk()] if full else []


def full_disk() -> Trouble:
    return Trouble("the disk is full", code="DISK_FULL", where="/out", folder=True)


def engine_of(tape: Tape, run: Any, **settings: Any) -> Engine:
    station = tape.station("one", run, retry=Retry(attempts=2))
    engine = Engine([station, *tape.line("two")], **settings)
    kept = engine.services
    engine.services = Machine(kept.artifacts, kept.jail, kept.door, kept.out)
    Machine.full, Machine.full_until, Machine.looks = False, 0.0, 0
    return engine


@pytest.mark.parametrize(
    "number",
    [
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE),
        *(errno.ENFILE, errno.ENOMEM),
    ],
    ids=errno.errorcode.get,
)
async def test_trouble_in_a_stage_costs_no_attempt(number: int) -> None:
    """Longer than all retries: every item waits, uncharged, and then goes on."""
    tape = Tape()
    until_s = anyio.current_time() + 20

    async def write(letter: Letter, ctx: Any) -> Advance:
        if anyio.current_time() < until_s:
            raise OSError(number, os.strerror(number))
        return Advance()

    engine = engine_of(tape, write)
    Machine.full_until = until_s
    items = await engine.submit(20)
    async with engine.worker():
        ends = await engine.finish(items)
        took_s = anyio.current_time() - until_s

    assert ends == {"done": 20}
    assert engine.store.attempts == []
    assert took_s < 10


async def test_trouble_behind_another_error_is_found() -> None:
    """A library that has no descriptors says that it cannot connect."""
    tape = Tape()

    async def call(letter: Letter, ctx: Any) -> Advance:
        if anyio.current_time() < 30:
            try:
                raise OSError(errno.EMFILE, "too many")
            except OSError as error:
                raise ConnectionError("no way there") from error
        return Advance()

    engine = engine_of(tape, call)
    Machine.full_until = 30
    items = await engine.submit(3)
    async with engine.worker():
        ends = await engine.finish(items)

    assert ends == {"done": 3}
    assert engine.store.attempts == []


async def test_what_nothing_of_ours_bears_out_is_the_stages_in_the_end() -> None:
    """A stage of its own `/dev/full`: put off, then charged; no gate is closed."""
    tape = Tape()

    async def write(letter: Letter, ctx: Any) -> Advance:
        met.append(worker.troubles)
        number = os.open("/dev/full", os.O_WRONLY)
        try:
            os.write(number, b"x")
        finally:
            os.close(number)
        return Advance()

    met: list[Any] = []
    engine = engine_of(tape, write)
    items = await engine.submit(1)
    async with engine.worker() as worker:
        ends = await engine.finish(items)

    row = await engine.store.item(1)
    attempts = [(row.code, row.charged) for _, row in engine.store.attempts]
    assert ends == {"failed": 1}
    assert row.code == "STAGE_RAISED"
    assert attempts == ([("DISK_FULL", False)] * 3 + [("STAGE_RAISED", True)]) * 2
    assert not any(met)


async def test_a_moment_that_nobody_can_find_again_costs_no_attempt() -> None:
    """A file of another program was deleted in time, and so on."""
    tape = Tape()

    async def write(letter: Letter, ctx: Any) -> Advance:
        if len(tape.ran) < 3:
            raise OSError(errno.ENOMEM, "no memory")
        return Advance()

    engine = engine_of(tape, write)
    items = await engine.submit(1)
    async with engine.worker():
        ends = await engine.finish(items)

    assert ends == {"done": 1}
    assert [row.charged for _, row in engine.store.attempts] == [False, False]


async def test_what_a_stage_decided_stands() -> None:
    """Trouble that a stage has dealt with by itself is not found again."""
    tape = Tape()

    async def judge(letter: Letter, ctx: Any) -> Advance:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise Unacceptable("too large", code="TOO_LARGE") from error

    engine = engine_of(tape, judge)
    items = await engine.submit(1)
    async with engine.worker():
        ends = await engine.finish(items)

    assert ends == {"rejected": 1}


async def test_nothing_is_claimed_while_a_folder_is_sick() -> None:
    """One item finds it out; the others stay in line, and go on within seconds."""
    tape = Tape()

    async def write(letter: Letter, ctx: Any) -> Advance:
        if Machine.full:
            raise full_disk()
        return Advance()

    engine = engine_of(tape, write, items_max=5)
    items = await engine.submit(40)
    Machine.full = True
    async with engine.worker() as worker:
        await until(lambda: len(tape.ran) == 5)
        await anyio.sleep(60)
        tried, looks, told = len(tape.ran), Machine.looks, worker.troubles
        rows = await engine.store.sessions()
        Machine.full = False
        mended = anyio.current_time()
        ends = await engine.finish(items)
        took_s = anyio.current_time() - mended
        await until(lambda: not worker.troubles)
        await anyio.sleep(LEASE_S)
        over = await engine.store.sessions()

    assert tried <= 10  # what one claim took before the gate closed
    assert 50 <= looks <= 70
    assert [(t.what, t.where) for t in told] == [("the disk is full", "/out")]
    assert [row.troubles for row in rows] == [told]
    assert [row.troubles for row in over] == [()]
    assert ends == {"done": 40}
    assert took_s < 30  # forty stages of a second, five at a time, twice
    assert engine.store.attempts == []


async def test_one_sick_folder_does_not_hold_up_other_items() -> None:
    """A batch's own folder, where the whole is in order: its items wait alone."""
    tape = Tape()

    async def write(letter: Letter, ctx: Any) -> Advance:
        if ctx.item.id == 1:
            with ours("the folder b1", Path("/out/north/b1")):
                raise FileNotFoundError(errno.ENOENT, "gone", "/out/north/b1/a")
        return Advance()

    engine = engine_of(tape, write)
    items = await engine.submit(50)
    async with engine.worker() as worker:
        await engine.finish(items[1:], within_s=10)
        told = worker.troubles
        state = await engine.state(1)

    assert [t.where for t in told] == ["/out/north/b1"]
    assert told[0].what.startswith("the folder b1 is not there: bring it back")
    assert state in ("waiting", "ready", "running")
    assert engine.store.attempts == []


async def test_trouble_in_the_store_of_artifacts_costs_no_attempt() -> None:
    """Loading and recording are no stage: what they meet is no item's end either."""
    tape = Tape()

    async def big(letter: Letter, ctx: Any) -> Advance:
        return Advance(text="x" * 20_000)

    engine = engine_of(tape, big)
    put = engine.artifacts.put

    async def no_room(data: bytes) -> str:
        if anyio.current_time() < 30:
            raise full_disk()
        return await put(data)

    engine.artifacts.put = no_room  # type: ignore[method-assign]
    items = await engine.submit(5)
    async with engine.worker():
        ends = await engine.finish(items)

    assert ends == {"done": 5}
    assert engine.store.attempts == []


async def test_a_worker_at_a_closed_gate_can_be_stopped() -> None:
    """Draining does not wait for the disk."""
    tape = Tape()

    async def write(letter: Letter, ctx: Any) -> Advance:
        raise full_disk()

    engine = engine_of(tape, write)
    Machine.full = True
    await engine.submit(5)
    async with engine.worker() as worker:
        await until(lambda: len(worker.troubles) > 0)
        began = anyio.current_time()
        worker.drain()
        await worker.finished.wait()
        took_s = anyio.current_time() - began

    assert took_s < 2
    assert len(engine.store._waiting) + len(engine.store._ready) == 5
