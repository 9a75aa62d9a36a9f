"""
Cancelling and retrying in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.model import ItemId, State
from pipeline.store.memory.tables import MemoryTables, Place
from pipeline.store.rows import Mark


class MemoryCancels(MemoryTables):
    """Ends and new beginnings; see the port for every contract."""

    async def cancel(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        said = {}
        for item in sorted(set(items)):
            if self._cancel_parked(item, author):
                said[item] = "cancelled"
            elif item in self._running:
                self._cancels.setdefault(item, author)
                said[item] = "cancelling"
            else:
                said[item] = "final"
        return said

    async def retry(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        said = {}
        for item in sorted(set(items)):
            end = self._outcomes.get(item)
            if end is None or end[0].state is State.DONE:
                said[item] = "not final" if end is None else "done"
                continue
            del self._outcomes[item]
            self._hold_again(item)
            self._retried[item] += 1
            self._put_ready(item, Place(end[0].stage, self._last_seq(item) + 1))
            self._ask_anew(item)
            said[item] = "ready"
        return said

    async def pin(
        self, marks: Mapping[ItemId, Mark], pipeline_id: int, author: str
    ) -> dict[ItemId, str]:
        said = {}
        for item in sorted(marks):
            mark = marks[item]
            stage, seq = self._parked_at(item)
            if (stage, self._last_seq(item)) != mark:
                said[item] = "moved"
                continue
            row = self._items[item]
            row.facts = row.facts._replace(pipeline_id=pipeline_id)
            if item in self._joining:
                said[item] = "joining"
                continue
            if item in self._outcomes:
                self._hold_again(item)
                self._ask_anew(item)
            for plane in (self._ready, self._waiting, self._open, self._outcomes):
                plane.pop(item, None)
            self._retried[item] += 1
            self._put_ready(item, Place(stage, seq))
            said[item] = "ready"
        return said

    def _hold_again(self, item: ItemId) -> None:
        """What its conversations held when it ended."""
        for (whose, _), found in self._holdings.items():
            if whose == item and found.swept:
                found.swept = False
                purse = self._purses[found.root]
                purse.held = purse.held.plus(found.holds)

    def _ask_anew(self, item: ItemId) -> None:
        """Its time begins again, and what came late counts."""
        for (whose, _), row in self._signals.items():
            if whose == item:
                row.stage, row.within_s, row.lapsed = "", None, False

    def _parked_at(self, item: ItemId) -> tuple[str, int]:
        """The stage and next checkpoint of an item that no worker and nobody has."""
        for plane in (self._ready, self._waiting, self._joining):
            if item in plane:
                return plane[item].stage, plane[item].seq
        if item in self._open:
            hold = self._holds[self._open[item]]
            until = hold.claimed_until
            free = until is None or until <= self._at(self.now())
            return (hold.stage if free else ""), hold.seq
        end = self._outcomes.get(item)
        if end is None or end[0].state is State.DONE:
            return "", 0
        return end[0].stage, self._last_seq(item) + 1

    def _last_seq(self, item: ItemId) -> int:
        checkpoints = self._items[item].checkpoints
        return checkpoints[-1].seq if checkpoints else -1
