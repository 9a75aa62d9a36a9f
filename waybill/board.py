"""
Running until done: a worker in this process, and what a person sees meanwhile.

Used where somebody waits: `demo`, `ingest --wait`, and a review decision when no
worker is up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import nullcontext
from typing import Any

import anyio
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.errors import StoreUnavailable
from pipeline.store.port import Counts, WorkRow
from pipeline.store.postgres.reports import StageRow
from waybill import terminal
from waybill.compose import App
from waybill.desk.pages import LONG_PAGES, bar, work_line

LOOK_S = 0.2


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


async def at_rest(app: App, batch_id: int, counts: Counts) -> bool:
    """
    Whether nothing of the batch goes on without a person.

    What waits for children that wait for a person does not.
    """
    if counts.live and counts.held:
        return counts.live == await app.store.joining(batch_id)
    return counts.live == 0


class Board:
    """The live display: the batch's counts, and the stages, as they move."""

    def __init__(
        self, app: App, batch_id: Callable[[], int | None], total: int
    ) -> None:
        self._app = app
        self._batch_id = batch_id
        self._total = total
        self._live: Live | None = None
        self._works: list[WorkRow] = []
        self._worked_at = 0.0
        self.counts: Counts | None = None

    def show(self) -> Any:
        """The display while something runs; nothing when not a terminal."""
        if not terminal.err.is_terminal:
            return nullcontext()
        self._live = Live(
            Text("starting"), console=terminal.err, refresh_per_second=8, transient=True
        )
        return self._live

    async def look(self) -> Counts | None:
        """Read the counts and draw them."""
        batch = self._batch_id()
        if batch is None:
            return None
        self.counts = await self._app.store.counts(batch)
        if self._live is not None:
            stages = await self._app.store.stages(batch)
            await self._look_at_pages(batch)
            self._live.update(draw(self.counts, stages, self._total, self._works))
        return self.counts

    async def _look_at_pages(self, batch: int) -> None:
        """Once a second: a page takes longer, and the question costs more."""
        now = anyio.current_time()
        if now >= self._worked_at + 1.0:
            self._worked_at = now
            self._works = await self._app.store.in_work(
                batch_id=batch, longer_than=LONG_PAGES
            )


def draw(
    counts: Counts,
    stages: Sequence[StageRow],
    total: int,
    works: Sequence[WorkRow] = (),
) -> Table:
    """One frame."""
    grid = Table.grid(padding=(0, 2))
    ended = counts.received - counts.live
    of = max(total, counts.received)
    grid.add_row(bar(ended, of, 32), f"{ended} of {of}")
    words = [
        ("done", counts.done, "green"),
        ("held", counts.held, "yellow"),
        ("rejected", counts.rejected, "magenta"),
        ("quarantined", counts.quarantined, "magenta"),
        ("duplicates", counts.duplicates, "cyan"),
        ("failed", counts.failed, "red"),
        ("live", counts.live, "white"),
    ]
    line = Text("  ").join(
        Text(f"{name} {n}", style=style if n else "dim") for name, n, style in words
    )
    grid.add_row(line)
    busy = "   ".join(
        f"{s.stage} {s.running}▸{f' +{s.ready} in line' if s.ready else ''}"
        for s in stages
        if s.running or s.ready
    )
    grid.add_row(Text(busy, style="dim"))
    for work in works:
        grid.add_row(*work_line(work))
    return grid


def summary(counts: Counts) -> dict[str, Any]:
    """The terms of the conservation law, and whether it holds."""
    return {**counts._asdict(), "conserved": counts.conserved}


def exit_code(counts: Counts) -> int:
    """What a finished run says: 8 not conserved, 4 failed, 5 held, 0."""
    if not counts.conserved:
        return 8
    if counts.failed:
        return 4
    return 5 if counts.held else 0
