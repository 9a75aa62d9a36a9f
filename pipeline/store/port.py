"""
The store's port: everything the engine asks of a database, and nothing more.

Two stores implement it, `postgres/` for real and `memory/` for virtual time; one
conformance suite (tests/store) runs on both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pipeline.model import (
    Batch,
    Checkpoint,
    Claim,
    Entry,
    HoldId,
    ItemId,
    Receipt,
    Submission,
    WorkerId,
)
from pipeline.store.rows import (
    AttemptRow,
    Counts,
    HoldRow,
    ItemRow,
    KinRow,
    Mark,
    Origin,
    PipelineRow,
    ProductRow,
    Share,
    Sought,
    TroubleRow,
    WaitsRow,
    WorkerRow,
    WorkRow,
)
from pipeline.store.signals import SignalStore
from pipeline.store.strikes import Blame

# A claim looks at as many tenants as it may take items, and at these at least: to
# find out who was served least costs little.  Arbitrary.
TENANTS_MIN = 64
# Of one read of histories, as stored: a fraction of a second, also of a slow disk.
HISTORY_BYTES = 4 << 20
ANY = Sought()
# By one question for a name or a code: some tenths of a second.
HOLDS_LOOKED_AT = 100_000


class WorkStore(SignalStore, Protocol):
    """
    What a worker needs.  Every method that writes for a worker raises
    `LeaseLost` when that worker's lease ran out, and `StoreUnavailable` when
    the database did not answer.
    """

    async def join(self, origin: Origin, *, lease_s: float) -> WorkerId:
        """Open a session: a fresh random id, never used again."""
        ...

    async def renew(
        self, worker: WorkerId, *, lease_s: float, troubles: Sequence[TroubleRow] = ()
    ) -> list[ItemId]:
        """
        Keep everything this worker has for another `lease_s` seconds; `troubles`
        are what keeps it from working now, for `sessions`.

        Returns those of its items that somebody cancelled: it must let them go.
        """
        ...

    async def leave(
        self, worker: WorkerId, *, died: bool = False, blamed: Blame | None = None
    ) -> int:
        """
        Close a session; what it still had goes back in line, uncharged.

        With `died` it did not end by itself: its items get strikes, as by `reap`;
        or, when it is known for whom it ended, the one that is `blamed` alone.
        """
        ...

    async def sessions(self) -> list[WorkerRow]:
        """Every worker row, live or expired."""
        ...

    async def reap(self, workers: Sequence[WorkerId], *, died: bool) -> int:
        """
        Remove dead or expired sessions and put their items back in line.

        With `died`, an item that made no progress since it was claimed gets a
        strike; `DEATHS` of them, the last two alone in its worker, fail it with
        WORKER_KILLED.  Returns how many items moved.
        """
        ...

    async def lines(self) -> list[str]:
        """The stages at which something is ready."""
        ...

    async def claim(
        self,
        worker: WorkerId,
        stage: str,
        limit: int,
        shares: Mapping[str, Share],
        *,
        suspects: bool = False,
    ) -> list[Claim]:
        """
        Take up to `limit` items waiting at `stage`: earliest deadline first
        within a tenant, weighted fair between tenants.  `suspects` takes such as may
        have killed workers, who waits longest first: one that must run alone, or
        several.  Nothing else should run beside them.

        With more tenants in line than `limit`, or `TENANTS_MIN`, it looks at that
        many, at the next ones the next time: a claim costs what it takes.  Where
        one that it took is late all others end."""
        ...

    async def disown(self, worker: WorkerId, keep: Sequence[ItemId]) -> int:
        """
        Put back in line what this worker owns but does not know of.

        After a claim whose answer was lost; returns how many there were.
        """
        ...

    async def suspects(self) -> list[tuple[str, float]]:
        """(stage, seconds in line) of ready items that run beside no others."""
        ...

    async def history(
        self, items: Sequence[ItemId], *, slices: int | None = None
    ) -> dict[ItemId, list[Checkpoint]]:
        """
        All checkpoints of these items, by `seq`; read in slices of `HISTORY_BYTES`.

        With `slices` it reads that many at most; an item that is not read whole by
        then is left out.
        """
        ...

    async def commit(self, worker: WorkerId, entries: Sequence[Entry]) -> list[bool]:
        """
        All entries in one transaction; per entry, whether its move stood.

        A move is void (False) when the item is no longer this worker's, and so
        are its progress (the newest of an item stands) and its products.  A
        `spawn` makes children, their receipts and the checkpoint that holds
        their ids; of an item that is not this worker's it is refused.

        Raises:
            LeaseLost: nothing was written.
            StoreUnavailable: nothing was written, or `in_doubt`.
            Refused: nothing was written; one of the entries is bad.
        """
        ...

    async def result_of(self, item: ItemId, seq: int) -> str:
        """The update of a checkpoint, as JSON text; raises NotFound."""
        ...

    async def open_children(self, parent: ItemId) -> int:
        """How many children of this item are not final."""
        ...

    async def kin(
        self, parent: ItemId, only: Sequence[ItemId] | None = None
    ) -> list[KinRow]:
        """The children of this item, or `only` these of them, by id."""
        ...

    async def recorded(self, worker: WorkerId, item: ItemId, seq: int) -> bool:
        """Whether this worker's checkpoint stands: settles an in-doubt commit."""
        ...

    async def owns(self, worker: WorkerId, item: ItemId, seq: int | None) -> bool:
        """Whether the item is this worker's; claimed before its checkpoint `seq`."""
        ...

    async def wake(self, limit: int = 1000) -> tuple[int, float | None]:
        """
        Put waiting items back in line: those whose time has come, those that join
        children of which none is open any more, and those that join past their
        deadline.  Holds lapse, and what else must be put in order now and then, is.

        Returns how many, and the seconds until the next one whose time will come
        (None: none waits).
        """
        ...

    async def pipeline(self, pipeline_id: int) -> PipelineRow:
        """A pinned pipeline version; raises NotFound."""
        ...

    async def pipelines(self) -> list[PipelineRow]:
        """Every pinned version there is."""
        ...

    async def weights(self) -> dict[str, float]:
        """Every tenant's weight."""
        ...


class Cancels(Protocol):
    """Whoever ends items before their time."""

    async def cancel(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        """
        Cancel live and held items, and what was found in them.  Per item
        "cancelled", "cancelling" (its worker will let go within one renewal) or
        "final" (too late).
        """
        ...


class AdmissionStore(Cancels, Protocol):
    """What the way in needs: publishing pipelines, the watcher, admission."""

    async def register_pipeline(
        self, name: str, version: str, stages: Sequence[str], files: Mapping[str, str]
    ) -> int:
        """Pin a version of a pipeline folder; the same version twice is one row."""
        ...

    async def open_batch(
        self, tenant: str, name: str, *, deadline_s: float, trial: str = ""
    ) -> Batch:
        """
        The batch of this name; made with a deadline `deadline_s` from now.  A `trial`
        of that sends nothing outside; Conflict when it is there as something else.
        """
        ...

    async def admit(
        self, batch: Batch, pipeline_id: int, submissions: Sequence[Submission]
    ) -> list[Receipt]:
        """
        Receive files: one transaction, a receipt each, returned after COMMIT.

        The same key of the same tenant and pipeline is one item; every later one is a
        recorded duplicate of it, also within one call; in a trial each token is one.
        """
        ...


class HoldStore(Protocol):
    """What a reviewer needs; no hold is ruled on twice."""

    async def holds(
        self,
        *,
        decided: bool = False,
        tenant: str | None = None,
        batch_id: int | None = None,
        sought: Sought = ANY,
        limit: int = 100,
    ) -> list[HoldRow]:
        """
        Open holds, what is due first first, and of those equally urgent the ones that
        need only a look; or the decided ones, newest first.  Of trials: by `batch_id`.

        What is `sought` is looked for among the first `HOLDS_LOOKED_AT` of them.
        """
        ...

    async def hold(self, hold_id: HoldId) -> HoldRow:
        """One hold, open or decided; raises NotFound."""
        ...

    async def hold_of(self, item_id: ItemId) -> HoldRow:
        """The item's newest hold; raises NotFound."""
        ...

    async def claim_next(
        self,
        author: str,
        *,
        lease_s: float,
        tenant: str | None = None,
        role: str = "",
    ) -> HoldRow | None:
        """
        Lease the first hold of the role's line, in the order of `holds`, that is free
        or this reviewer's; None: there is none.  Two who ask at once get two holds.
        """
        ...

    async def claim_hold(
        self, hold_id: HoldId, author: str, *, lease_s: float
    ) -> HoldRow:
        """
        Lease a hold, so that two do not read the same one; raises Conflict when
        another reviewer has it, or it is decided.
        """
        ...

    async def release_hold(self, hold_id: HoldId, author: str) -> None:
        """Give a leased hold back; raises Conflict when it is another's."""
        ...

    async def decide(
        self,
        hold_id: HoldId,
        *,
        verb: str,
        author: str,
        reason: str,
        digest: str,
        update: str | None,
        ref: str | None = None,
    ) -> HoldRow:
        """
        Rule on a hold: its item goes on, or ends, in the same transaction.

        `update` is the JSON text the state receives (approve: the proposal;
        edit: with the reviewer's values), or `ref` the artifact in which that
        stands; both are None on reject.

        Raises:
            Conflict: decided before (the message names by whom and when), LAPSED,
                another reviewer's lease, or `digest` is not what is held.
            NotFound: no such hold.
        """
        ...


class ItemStore(Cancels, SignalStore, Protocol):
    """What whoever runs the service needs: where items are, cancel and retry."""

    async def item(self, item_id: ItemId) -> ItemRow:
        """One item; raises NotFound."""
        ...

    async def counts(self, batch_id: int | None = None) -> Counts:
        """Of one batch, or of everything."""
        ...

    async def astray(self, batch_id: int | None = None) -> list[ItemId]:
        """Items that stand in no state table, or in more than one."""
        ...

    async def failures(self, item_id: ItemId, *, limit: int = 10) -> list[AttemptRow]:
        """The item's failed tries, newest first."""
        ...

    async def waits(self, item_id: ItemId) -> WaitsRow:
        """What keeps an item that is ready or running from its stage."""
        ...

    async def in_work(
        self, *, batch_id: int | None = None, longer_than: int = 0, limit: int = 5
    ) -> list[WorkRow]:
        """
        Running items whose stage has reported a total above `longer_than` and that
        wait for no permit, the longest first.
        """
        ...

    async def products(self, item: ItemId) -> list[ProductRow]:
        """What stages made of the item, by name."""
        ...

    async def set_deadline(
        self, batch_id: int, author: str, *, deadline_s: float
    ) -> int:
        """
        Give a batch another deadline, `deadline_s` from now; what is not done of it
        gets the same.  Nothing waits past it; an item in a worker's hands keeps the
        old one until it leaves them.

        Returns how many open items follow.

        Raises:
            NotFound: no such batch.
        """
        ...

    async def retry(self, items: Sequence[ItemId], author: str) -> dict[ItemId, str]:
        """Put failed, cancelled and rejected items back in line at the stage where
        they ended.  Per item "ready", "done" or "not final"."""
        ...

    async def pin(
        self, marks: Mapping[ItemId, Mark], pipeline_id: int, author: str
    ) -> dict[ItemId, str]:
        """
        Pin items to another version of their pipeline, and put them back in line.

        Those that no worker has and that are not done, where their mark says; an
        open hold that no reviewer has claimed is closed, and its stage runs again.
        Per item "ready", "joining" (pinned, and still waiting for its children) or
        "moved" (not where its mark says: nothing was done).
        """
        ...
