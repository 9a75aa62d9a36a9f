"""
Doubts: tries that met what would be our trouble, where nothing of ours is in trouble.

A stage that writes to `/dev/full` is told that the disk is full, and it is not.  But a
file that was deleted in time, or a moment without memory, cannot be found afterwards
either: so each attempt is put off a few times, uncharged and with no gate closed for
others; then it is charged, as the stage's own.
"""

from __future__ import annotations

from collections import OrderedDict

from pipeline.errors import Trouble, Unproven
from pipeline.model import ItemId

ROUNDS_MAX = 3  # arbitrary
KNOWN_MAX = 10_000  # tries that are remembered


class Doubts:
    """The tries of one process that met trouble that nobody else has."""

    def __init__(self) -> None:
        self._rounds: OrderedDict[tuple[ItemId, str], int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Doubts {len(self._rounds)}>"

    def put_off(self, item: ItemId, stage: str, trouble: Trouble) -> Unproven | None:
        """Once more, uncharged; None: it was so often enough, for this attempt."""
        rounds = self._rounds.pop((item, stage), 0) + 1
        if rounds > ROUNDS_MAX:
            return None
        self._rounds[item, stage] = rounds
        if len(self._rounds) > KNOWN_MAX:
            self._rounds.popitem(last=False)
        return Unproven(
            f"the stage met {trouble.code}, and everything of ours is in order",
            code=trouble.code,
            hint="it is tried again, and charged when it goes on",
        )

    def clear(self, item: ItemId, stage: str) -> None:
        """It was our trouble after all."""
        self._rounds.pop((item, stage), None)
