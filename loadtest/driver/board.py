"""
The board of a run, on stderr: what is done to the service, and how it stands.

A table that moves on a terminal, and elsewhere a line every few seconds.
"""

from __future__ import annotations

import sys

import anyio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest.driver.folder import RunFolder
from loadtest.driver.samples import Sampler, Seen

DRAW_S = 0.5
LINE_S = 10.0
RATE_S = 10.0  # over which throughput is taken
SHOWN_FAULTS = 6


class Board:
    """Shows a run until it is cancelled; `phase` is what the run does now."""

    def __init__(self, run: RunFolder, sampler: Sampler, items: int) -> None:
        self._run = run
        self._sampler = sampler
        self._items = items
        self._console = Console(stderr=True)
        self.phase = "starting"

    def say(self, text: str) -> None:
        """A line of its own, above the table."""
        self._console.print(text, highlight=False, markup=False)

    async def run(self) -> None:
        """Draw, again and again."""
        if not self._console.is_terminal:
            while True:
                await anyio.sleep(LINE_S)
                print(self._line(), file=sys.stderr, flush=True)
        with Live(console=self._console, get_renderable=self._table) as live:
            while True:
                live.refresh()
                await anyio.sleep(DRAW_S)

    def _line(self) -> str:
        return "  ".join(f"{key} {value}" for key, value in self._rows())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for key, value in self._rows():
            table.add_row(key, value)
        return table

    def _rows(self) -> list[tuple[str, str]]:
        seen = self._sampler.last
        rows = [("run", f"{self._run.now():.0f} s"), ("phase", self.phase)]
        rows.append(("dropped", f"{len(self._run.submitted)} of {self._items}"))
        if seen is not None:
            rows += self._of(seen)
        struck = [f for f in self._run.faults if f.until < 0] or self._run.faults
        if struck:
            names = [f"{f.kind} {f.what}".strip() for f in struck[-SHOWN_FAULTS:]]
            many = len(self._run.faults)
            rows.append(("faults", f"{many}, last {', '.join(names)}"))
        return rows

    def _of(self, seen: Seen) -> list[tuple[str, str]]:
        rows = [
            ("items", _listed(seen.items)),
            ("stages/s", f"{self._pace():.1f}"),
            ("in flight", f"{seen.in_flight}"),
        ]
        if seen.slack_s is not None:
            rows.append(("slack", f"{seen.slack_s:.0f} s"))
        if seen.effects:
            rows.append(("effects", _listed(seen.effects)))
        rows.append(("MB", _listed({k: round(v) for k, v in seen.rss_mb.items()})))
        return rows

    def _pace(self) -> float:
        seen = self._sampler.throughput
        last = [one for one in seen if one[0] >= seen[-1][0] - RATE_S]
        if len(last) < 2:
            return 0.0
        return (last[-1][1] - last[0][1]) / max(1e-9, last[-1][0] - last[0][0])


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in counts.items() if n)
