"""
Work in the foreground: a worker in this process, until what somebody waits for is
done.

Used by `demo`, `ingest --wait`, and a review decision when no worker is up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import anyio

from pipeline.errors import StoreUnavailable, Trouble
from pipeline.model import ItemId, State
from pipeline.run.slate import Slate
from pipeline.run.watchdog import Watchdog
from pipeline.store.rows import WorkerRow
from waybill import terminal
from waybill.compose import App
from waybill.settings import Settings

T = TypeVar("T")

LOOK_S = 0.2
AGAIN_S = 1.0  # while our own trouble stands
MOVING = (State.READY, State.RUNNING, State.WAITING)


async def work_until(
    app: App,
    done: Callable[[], Awaitable[bool]],
    *,
    beside: Sequence[Callable[[], Coroutine[Any, Any, Any]]] = (),
) -> None:
    """Run a worker, and `beside` it other loops, until `done()` says so."""
    worker = app.worker()
    waits = Waits()
    # Nobody would replace this process: it grows, and is watched for all else.
    watchdog = watchdog_of(app.settings, Slate(), lambda _: None)
    watchdog.stand()
    async with anyio.create_task_group() as tasks:
        for loop in beside:
            tasks.start_soon(loop)
        tasks.start_soon(watchdog.run)
        tasks.start_soon(worker.run)
        while True:
            try:
                if await done():
                    break
            except StoreUnavailable as error:
                waits.tell(error.message)  # the worker waits for it; so do we
            for trouble in worker.troubles:
                waits.tell(f"{trouble.what} ({trouble.where})")
            await anyio.sleep(LOOK_S)
        worker.drain()
        # Loops beside the worker run for ever: end them when it has drained.
        await worker.finished.wait()
        tasks.cancel_scope.cancel()


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


async def finish(app: App, item: ItemId) -> None:
    """Work until the item, and what waits for it, stop moving."""

    async def done() -> bool:
        at: ItemId | None = item
        while at is not None:
            row = await app.store.item(at)
            parked = row.joining and await app.store.open_children(at) > 0
            if row.state in MOVING and not parked:
                return False
            at = row.parent_id
        return True

    await work_until(app, done)


async def workers_up(app: App) -> list[WorkerRow]:
    """The workers whose lease is valid, in this process or another."""
    return [s for s in await app.store.sessions() if s.left_s > 0]


def watchdog_of(
    settings: Settings, slate: Slate, recycle: Callable[[bool], None]
) -> Watchdog:
    """A watchdog of this process."""
    return Watchdog(
        slate,
        blocked_s=settings.blocked_bound_s,
        memory_bytes=settings.worker_memory_bytes,
        recycle=recycle,
    )
