"""
Cancelling and retrying in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.model import (
    ItemId,
    State,
)
from pipeline.store.memory.tables import MemoryTables, Place


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
                said[item] = "not final"
                continue
            del self._outcomes[item]
            row = self._items[item]
            seq = row.checkpoints[-1].seq + 1 if row.checkpoints else 0
            self._put_ready(item, Place(end[0].stage, seq))
            said[item] = "ready"
        return said
