"""
The gate: a worker takes nothing new while its machine is in trouble.

An item that meets trouble (a full disk, no descriptors) goes back in line and rings
here.  The folders are tried at once and then every second: while one of them is not in
order, nothing is claimed, and when all are, work goes on by itself.  What cannot be
tried (processes, memory) closes the gate for a moment, and longer when it comes again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio
import structlog

from pipeline.errors import Trouble
from pipeline.store.rows import TroubleRow
from pipeline.trouble import advice

log = structlog.get_logger()

LOOK_S = 1.0
PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 4.0
# Trouble that nobody met for so long is over: longer than an item is put aside.
OVER_S = 6.0


@dataclass(slots=True)
class _Met:
    row: TroubleRow
    last: float  # when, on anyio's clock


class Gate:
    """
    Whether a worker takes new items.

    Args:
        look: Tries every folder that the worker writes to.
    """

    def __init__(self, look: Callable[[], Awaitable[Sequence[Trouble]]]) -> None:
        self._look = look
        self._known: dict[tuple[str, str], _Met] = {}
        self._sick = False
        self._pause_s = PAUSE_FIRST_S
        self._shut_until = 0.0
        self._bell = anyio.Event()
        self._open = anyio.Event()

    def __repr__(self) -> str:
        return f"<Gate {'closed' if self.closed else 'open'} {len(self._known)} known>"

    @property
    def closed(self) -> bool:
        """Whether nothing is to be claimed now."""
        return self._sick or anyio.current_time() < self._shut_until

    @property
    def troubles(self) -> tuple[TroubleRow, ...]:
        """What is wrong, for whoever asks after this worker."""
        return tuple(met.row for met in self._known.values())

    def meet(self, trouble: Trouble) -> None:
        """An item met this."""
        self._note(trouble)
        now = anyio.current_time()
        if not trouble.folder and now >= self._shut_until:
            self._shut_until = now + self._pause_s
            self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)
        self._bell.set()

    async def wait_open(self, at_most_s: float) -> None:
        """Until the gate opens; it may be closed again by then."""
        with anyio.move_on_after(at_most_s):
            await self._open.wait()

    async def run(self) -> None:
        """Try the folders, as long as there is trouble."""
        while True:
            await self._bell.wait()
            found = await self._look()
            for trouble in found:
                self._note(trouble)
            self._sick = bool(found)
            self._forget()
            if not self.closed:
                self._open.set()
                self._open = anyio.Event()
            if not self._known:
                log.info("trouble_over")
                self._bell = anyio.Event()
                self._pause_s = PAUSE_FIRST_S
                continue
            await anyio.sleep(LOOK_S)

    def _note(self, trouble: Trouble) -> None:
        key = (trouble.where, trouble.code)
        met = self._known.get(key)
        if met is None:
            row = TroubleRow(advice(trouble), trouble.where, datetime.now(UTC))
            met = self._known[key] = _Met(row, 0.0)
            log.error(
                "trouble",
                code=trouble.code,
                why=trouble.message,
                where=trouble.where,
                hint=trouble.hint,
            )
        met.last = anyio.current_time()

    def _forget(self) -> None:
        now = anyio.current_time()
        self._known = {k: m for k, m in self._known.items() if now - m.last < OVER_S}
