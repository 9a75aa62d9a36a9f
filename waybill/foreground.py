"""
Work in the foreground: a worker in this process, until what somebody waits for is
done.

Used by `demo`, `ingest --wait`, and a review decision when no worker is up.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from pipeline.errors import StoreUnavailable, Trouble, WaybillError
from pipeline.jail.codes import JAIL, End
from pipeline.model import ItemId, State
from pipeline.run.shepherd import adopt, end_left
from pipeline.run.slate import Slate
from pipeline.run.watchdog import Watchdog
from pipeline.run.worker import Worker
from pipeline.store import embedded
from pipeline.store.postgres import PostgresStore
from pipeline.store.rows import ItemRow, WorkerRow
from pipeline.store.signals import SIGNAL
from waybill import terminal
from waybill.compose import App
from waybill.settings import Settings

T = TypeVar("T")

LOOK_S = 0.2
STDERR = 2
SENT_S = 60.0  # for what is due outside when all is done here
AGAIN_S = 1.0  # while our own trouble stands
# Set when a stage does not end: the process must end without it (cli.py).
LEFT_BEHIND = threading.Event()
MOVING = (State.READY, State.RUNNING, State.WAITING)


async def work_until(
    app: App,
    done: Callable[[], Awaitable[bool]],
    *,
    beside: Sequence[Callable[[], Coroutine[Any, Any, Any]]] = (),
) -> None:
    """
    Run a worker, and `beside` it other loops, until `done()` says so and no effect is
    due: with no other worker up, nobody would send it.  Who has a thousand to send at
    one a second is told so, and not kept.

    A stage that does not end is left behind: its item has gone on without it.
    """
    over = anyio.Event()
    worker = app.worker(give_up=over.set)
    waits = Waits()
    before = asyncio.all_tasks()
    # Nobody would replace this process: it grows, and is watched for all else.
    watchdog = _alone(app.settings)
    watchdog.stand()
    # Not in the group, which could not end before it.
    working = asyncio.create_task(worker.run())
    working.add_done_callback(lambda _: over.set())
    try:
        async with anyio.create_task_group() as tasks:
            for loop in (*beside, watchdog.run):
                tasks.start_soon(loop)
            tasks.start_soon(_raise_of, working, over)
            await _until(done, worker, waits)
            await _sent(worker, over)
            worker.drain()
            # Loops beside the worker run for ever: end them when it has drained.
            await over.wait()
            tasks.cancel_scope.cancel()
    finally:
        # Nobody died of being told to end: what is in hand is put back uncharged.
        worker.stop()
        if worker.session is None:
            working.cancel()
        with anyio.CancelScope(shield=True):
            await over.wait()
        if not working.done():
            _leave_behind(asyncio.all_tasks() - before)


@asynccontextmanager
async def watched(settings: Settings) -> AsyncIterator[None]:
    """Watch over stages that run within, though no worker does."""
    watchdog = _alone(settings)
    watchdog.stand()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        yield
        tasks.cancel_scope.cancel()


async def _raise_of(working: asyncio.Task[None], over: anyio.Event) -> None:
    await over.wait()
    if working.done():
        working.result()


async def _until(
    done: Callable[[], Awaitable[bool]], worker: Worker, waits: Waits
) -> None:
    while True:
        try:
            if await done():
                return
        except StoreUnavailable as error:
            waits.tell(error.message)  # the worker waits for it; so do we
        for trouble in worker.troubles:
            waits.tell(f"{trouble.what} ({trouble.where})")
        await anyio.sleep(LOOK_S)


async def _sent(worker: Worker, over: anyio.Event) -> None:
    """Wait until nothing is due to be sent, the worker is over, or it takes long."""
    async with anyio.create_task_group() as tasks:

        async def ended() -> None:
            await over.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(ended)
        with anyio.move_on_after(SENT_S) as patience:
            await worker.caught_up()
        tasks.cancel_scope.cancel()
    if patience.cancelled_caught:
        up = f"{terminal.command()} up"
        terminal.err.print(f"effects are still to be sent: `{up}` sends them")


def _leave_behind(tasks: set[asyncio.Task[Any]]) -> None:
    """Have the loop's end not wait for them."""
    LEFT_BEHIND.set()
    for task in tasks:
        asyncio._unregister_task(task)


class Waits:
    """Says on stderr what is waited for, each thing once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def tell(self, why: str) -> None:
        """Say it, unless it was said."""
        if why not in self._said:
            self._said.add(why)
            terminal.err.print(f"waits: {terminal.safe(why)}")


async def at_once(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` comes to, or the trouble that it meets."""
    return await work()


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` comes to, tried again as long as our own trouble stands."""
    waits = Waits()
    while True:
        try:
            return await work()
        except (StoreUnavailable, Trouble) as error:
            waits.tell(error.message)
        await anyio.sleep(AGAIN_S)


async def twice(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` comes to; a jail that did not start in time is tried once more."""
    try:
        return await work()
    except Trouble as error:
        code = JAIL.get(error.code)
        if code is None or code.end is not End.UNBEGUN:
            raise
        Waits().tell(error.message)
    return await work()


async def finish(app: App, items: Iterable[ItemId]) -> None:
    """Work until these items, and what waits for them, stop moving."""
    left = list(items)

    async def done() -> bool:
        while left:
            if await _moves(app, left[-1]):
                return False
            left.pop()
        return True

    await work_until(app, done)


async def _moves(app: App, item: ItemId) -> bool:
    """Whether the item, or one that waits for it, is still on its way."""
    at: ItemId | None = item
    while at is not None:
        row = await app.store.item(at)
        if row.state in MOVING and not await _is_parked(app, row):
            return True
        at = row.parent_id
    return False


async def _is_parked(app: App, row: ItemRow) -> bool:
    """Whether it waits for others: for its children, or for somebody outside."""
    if row.joining:
        return await app.store.open_children(row.id) > 0
    if row.code != SIGNAL:
        return False
    asked = [s for s in await app.store.signals(row.id) if s.open]
    return all(s.poll_s is None for s in asked)


async def workers_up(app: App) -> list[WorkerRow]:
    """The workers whose lease is valid, in this process or another."""
    return await up_in(app.store)


async def up_in(store: PostgresStore) -> list[WorkerRow]:
    """The workers whose lease is valid."""
    return [s for s in await store.sessions() if s.left_s > 0]


def _alone(settings: Settings) -> Watchdog:
    """A watchdog of a process that has no supervisor, and no shepherd (cli.py)."""
    adopt()
    return watchdog_of(settings, Slate(), lambda _: None, _end_without)


def _end_without(end: WaybillError) -> None:
    """The process ends, for a stage that nothing interrupts."""
    said = f"{end.code}: {end.message}, and goes on; this command ends without it\n"
    os.write(STDERR, said.encode())  # whatever a stage made of `sys.stderr`
    end_left(embedded.keepers())
    os._exit(end.exit_code)


def watchdog_of(
    settings: Settings,
    slate: Slate,
    recycle: Callable[[bool], None],
    give_up: Callable[[WaybillError], None] | None = None,
) -> Watchdog:
    """A watchdog of this process."""
    return Watchdog(
        slate,
        blocked_s=settings.blocked_bound_s,
        memory_bytes=settings.worker_memory_bytes,
        recycle=recycle,
        give_up=give_up,
    )
