"""
The journal: everyone's checkpoints and moves in one transaction.

As soon as a flush returned, the next takes what has gathered, at most `BATCH_MAX`
rows: under load commits are large, when idle they are immediate.  There is no timer,
but where few of many items have come (gathering.py).  A task that records waits until
its entry is durable.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import anyio
import structlog

from pipeline.errors import LeaseLost, Refused, StoreUnavailable, WaybillError
from pipeline.model import Entry, Finish, ItemId, WorkerId
from pipeline.store.gathering import Gathering
from pipeline.store.port import WorkStore

log = structlog.get_logger()

# 500 rows by unnest commit fastest here; 1,000 are no quicker (research figures).
BATCH_MAX = 500
# While one flush is in the database another gathers: PostgreSQL and Python
# overlap.  A third adds nothing on two cores.
FLUSHERS = 2
PAUSE_MAX_S = 2.0


class _Batch:
    """Entries that will be committed together, and what became of them."""

    __slots__ = ("done", "entries", "errors", "notes", "rows", "stood")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.rows = 0  # about: an entry, and each child that is born with it
        self.done = anyio.Event()
        self.stood: list[bool] = []
        self.errors: dict[int, WaybillError] = {}
        self.notes: dict[ItemId, Entry] = {}


class Journal:
    """
    The group-commit writer of one worker session.

    Args:
        on_lost: Called once when the lease turns out to be lost.
        in_hand: How many items the worker has.
    """

    def __init__(
        self,
        store: WorkStore,
        worker: WorkerId,
        on_lost: Callable[[], None],
        in_hand: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store = store
        self._worker = worker
        self._on_lost = on_lost
        self._lost = False
        self._closing = False
        self._batches: deque[_Batch] = deque()
        self._bell = anyio.Event()
        self._gathering = Gathering(in_hand)

    def __repr__(self) -> str:
        gathered = sum(len(b.entries) for b in self._batches)
        return f"<Journal gathered={gathered}>"

    async def record(self, entry: Entry) -> bool:
        """
        Wait until `entry` is durable; False when its move was void.

        A cancelled wait does not take the entry back.

        Raises:
            LeaseLost: nothing was written; abandon the item.
            Refused: the database refused this entry, and only this one.
        """
        if self._lost:
            raise LeaseLost("this worker's lease ran out")
        batch = self._gather(entry)
        place = len(batch.entries) - 1
        await batch.done.wait()
        if batch.errors and place in batch.errors:
            raise batch.errors[place]
        return batch.stood[place]

    def note(self, entry: Entry) -> None:
        """
        Commit an item's progress with what is gathered now; nobody waits for it.

        Of several notes of one item in one batch the newest is written.
        """
        last = self._batches[-1].notes.get(entry.item_id) if self._batches else None
        if last is not None:
            last.progress = entry.progress
        elif not self._lost:
            self._gather(entry).notes[entry.item_id] = entry

    def _gather(self, entry: Entry) -> _Batch:
        """The batch that `entry` is now the last of."""
        batches = self._batches
        if not batches or batches[-1].rows >= BATCH_MAX:
            batches.append(_Batch())
        batches[-1].entries.append(entry)
        batches[-1].rows += 1 if entry.spawn is None else 1 + len(entry.spawn.parts)
        self._bell.set()
        return batches[-1]

    async def run(self) -> None:
        """One flusher; the session starts `FLUSHERS` of them."""
        while not self._lost:
            if not self._batches:
                # One bell for every flusher: each with a bell of its own, all but
                # the last to fall asleep would sleep for ever.
                if self._bell.is_set():
                    self._bell = anyio.Event()
                await self._bell.wait()
                continue
            pause_s = self._gathering.pause_s(len(self._batches[0].entries))
            if pause_s:
                await anyio.sleep(pause_s)
                continue
            batch = self._batches.popleft()
            # Shielded: a session that ends still learns what it wrote.
            with anyio.CancelScope(shield=True):
                await self._flush(batch)

    def close(self) -> None:
        """The session ends: a database that is away is not waited for any more."""
        self._closing = True

    def lose(self) -> None:
        """The lease is gone: everyone who waits gets LeaseLost."""
        if self._lost:
            return
        self._lost = True
        self._bell.set()
        while self._batches:
            _fail(self._batches.popleft(), LeaseLost("this worker's lease ran out"))
        self._on_lost()

    async def _flush(self, batch: _Batch) -> None:
        try:
            batch.stood = await self._commit(batch.entries)
        except Refused:
            await self._one_by_one(batch)
        except LeaseLost as error:
            _fail(batch, error)
            self.lose()
            return
        batch.done.set()

    async def _commit(self, entries: list[Entry]) -> list[bool]:
        """Commit, waiting out a database that is away."""
        pause_s = 0.05
        doubted = False
        while True:
            try:
                return await self._store.commit(self._worker, entries)
            except Refused:
                # A doubtful commit may become visible after we looked for it: then
                # it is our own rows that refuse the second.
                if doubted and await self._stands(entries):
                    return [True] * len(entries)
                raise
            except StoreUnavailable as error:
                if self._lost or self._closing:
                    raise LeaseLost("this worker's lease ran out") from None
                log.warning(
                    "commit_waits",
                    code=error.code,
                    entries=len(entries),
                    why=str(error),
                )
                await anyio.sleep(random.uniform(0, pause_s))
                pause_s = min(pause_s * 2, PAUSE_MAX_S)
                doubted = doubted or error.in_doubt
                if doubted and await self._stands(entries):
                    return [True] * len(entries)

    async def _stands(self, entries: list[Entry]) -> bool:
        """Whether a commit whose answer was lost is there."""
        while not (self._lost or self._closing):
            try:
                for entry in entries:
                    if entry.checkpoint is not None:
                        return await self._store.recorded(
                            self._worker, entry.item_id, entry.checkpoint.seq
                        )
                for entry in entries:
                    # Moves alone: it stands when the item is no longer ours.  Held,
                    # ruled on and claimed again it is: not to be held once more.
                    if entry.move is not None:
                        move = entry.move
                        seq = None if isinstance(move, Finish) else move.seq
                        ours = (self._worker, entry.item_id, seq)
                        return not await self._store.owns(*ours)
                return False  # notes alone: written twice they are the same
            except StoreUnavailable:
                await anyio.sleep(random.uniform(0, PAUSE_MAX_S))
        raise LeaseLost("this worker's lease ran out")

    async def _one_by_one(self, batch: _Batch) -> None:
        """Find the entry the database refuses; the others must not suffer."""
        batch.stood = [False] * len(batch.entries)
        for place, entry in enumerate(batch.entries):
            try:
                [batch.stood[place]] = await self._commit([entry])
            except Refused as error:
                batch.errors[place] = error
            except LeaseLost as error:
                for rest in range(place, len(batch.entries)):
                    batch.errors[rest] = error
                batch.done.set()
                self.lose()
                return
        batch.done.set()


def _fail(batch: _Batch, error: WaybillError) -> None:
    batch.errors = dict.fromkeys(range(len(batch.entries)), error)
    batch.stood = [False] * len(batch.entries)
    batch.done.set()
