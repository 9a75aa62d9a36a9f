"""
Work in the foreground: a worker in this process, until what somebody waits for is
done.

Used by `demo`, `ingest --wait`, and a review decision when no worker is up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import anyio

from pipeline.errors import StoreUnavailable
from pipeline.model import ItemId, State
from pipeline.store.rows import Counts, WorkerRow
from waybill.compose import App

LOOK_S = 0.2
MOVING = (State.READY, State.RUNNING, State.WAITING)


async def work_until(
    app: App,
    done: Callable[[], Awaitable[bool]],
    *,
    beside: Sequence[Callable[[], Coroutine[Any, Any, Any]]] = (),
) -> None:
    """Run a worker, and `beside` it other loops, until `done()` says so."""
    worker = app.worker()
    async with anyio.create_task_group() as tasks:
        for loop in beside:
            tasks.start_soon(loop)
        tasks.start_soon(worker.run)
        while True:
            try:
                if await done():
                    break
            except StoreUnavailable:
                pass  # the worker waits for it; so do we
            await anyio.sleep(LOOK_S)
        worker.drain()
        # Loops beside the worker run for ever: end them when it has drained.
        await worker.finished.wait()
        tasks.cancel_scope.cancel()


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


async def at_rest(app: App, batch_id: int, counts: Counts) -> bool:
    """
    Whether nothing of the batch goes on without a person.

    What waits for children that wait for a person does not.
    """
    if counts.live and counts.held:
        return counts.live == await app.store.joining(batch_id)
    return counts.live == 0


async def workers_up(app: App) -> list[WorkerRow]:
    """The workers whose lease is valid, in this process or another."""
    return [s for s in await app.store.sessions() if s.left_s > 0]
