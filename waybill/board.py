"""
The board: what a person sees while items move.

The counts of a batch, what each stage has in hand, and a bar for every long
document; drawn anew several times a second, and not at all when nobody looks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import anyio
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.store.rows import Counts, Pace, StageRow, WorkRow
from waybill import terminal
from waybill.compose import App

LONG = 1  # of more than one part: pages, or whatever its stage counts
NAME_CHARS_MAX = 40
BAR_CHARS = 24
SAYS_S = 30.0  # between two lines where nothing can be drawn; arbitrary
WORKS_S = 1.0  # a page takes longer, and the question costs more than counting


class Board:
    """
    The display of one batch, of which `total` files are expected.

    Args:
        counts: What is counted; without it the whole batch.
    """

    def __init__(
        self,
        app: App,
        batch_id: int,
        total: int,
        counts: Callable[[], Awaitable[Counts]] | None = None,
    ) -> None:
        self._app = app
        self._counts = counts or partial(app.store.counts, batch_id)
        self._batch_id = batch_id
        self._total = total
        self._live: Live | None = None
        self._works: list[WorkRow] = []
        self._worked_at = 0.0
        self._said_at: float | None = None

    def show(self) -> AbstractContextManager[Live | None]:
        """The display while something runs; no terminal has a line now and then."""
        shown = display()
        self._live = shown if isinstance(shown, Live) else None
        return shown

    async def look(self) -> Counts:
        """Read the counts and draw them."""
        counts = await self._counts()
        if self._live is not None:
            stages = await self._app.store.stages(self._batch_id)
            await self._look_at_works()
            self._live.update(frame(counts, stages, self._total, self._works))
        else:
            self._say(counts)
        return counts

    def _say(self, counts: Counts) -> None:
        """Now and then a line, for whoever reads a log."""
        now = anyio.current_time()
        if self._said_at is None:
            self._said_at = now  # what ends soon needs none
        if now >= self._said_at + SAYS_S and counts.live:
            self._said_at = now
            of = max(self._total, counts.received)
            said = f"{of - counts.live} of {of} have ended, {counts.live} on their way"
            terminal.err.print(said)

    async def _look_at_works(self) -> None:
        now = anyio.current_time()
        if now >= self._worked_at + WORKS_S:
            self._worked_at = now
            self._works = await self._app.store.in_work(
                batch_id=self._batch_id, longer_than=LONG
            )


def display() -> AbstractContextManager[Live | None]:
    """A place on the terminal that is redrawn; nothing when there is none."""
    if not terminal.err.is_terminal:
        return nullcontext()
    return Live(
        Text("starting"), console=terminal.err, refresh_per_second=8, transient=True
    )


def frame(
    counts: Counts,
    stages: Sequence[StageRow],
    total: int,
    works: Sequence[WorkRow] = (),
    pace: Pace | None = None,
    end: str = "",
) -> Table:
    """One frame: what moves, and its `end`; what waits is a number."""
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
    running = {row.stage: row.running for row in stages if row.running}
    moving = sorted({*running, *(pace.stages if pace and counts.live else ())})
    busy = "   ".join(
        f"{stage} {running.get(stage, 0)}▸{_paced(pace, stage)}" for stage in moving
    )
    for said in filter(None, (busy, end)):
        grid.add_row(Text(said, style="dim"))
    for work in works:
        grid.add_row(*work_line(work))
    return grid


def _paced(pace: Pace | None, stage: str) -> str:
    said = a_minute(pace, stage) if pace else ""
    return f" {said}/min" if said else ""


def a_minute(pace: Pace, stage: str) -> str:
    """How many came through the stage in a minute; "" when nothing did."""
    of = pace.stages.get(stage)
    return "" if of is None else f"{of:.0f}" if of >= 10 else f"{of:.2g}"


def work_line(row: WorkRow) -> tuple[Text, Text]:
    """A long document in work: its bar, and where it is."""
    name = terminal.visible(row.name)
    if len(name) > NAME_CHARS_MAX:
        name = name[: NAME_CHARS_MAX - 1] + "…"
    where = f"{name}  {terminal.visible(row.stage)}  {row.done} of {row.total}"
    return bar(row.done, row.total), Text(where)


def bar(done: int, total: int, width: int = BAR_CHARS) -> Text:
    """So much of it is done."""
    full = round(width * min(done / max(total, 1), 1.0))
    there, missing = "━━" if terminal.draws("━") else "#."
    return Text.assemble((there * full, "green"), (missing * (width - full), "dim"))
