"""
What store tests share: a store under the law, its clock, and short ways to put
items where a test needs them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Protocol

import asyncpg

from pipeline.model import (
    Batch,
    Checkpoint,
    Claim,
    Entry,
    Finish,
    HoldId,
    ItemId,
    Move,
    Receipt,
    State,
    Submission,
    ToHeld,
    ToWaiting,
    WorkerId,
)
from pipeline.store.memory import MemoryStore
from pipeline.store.rows import HoldRow, Origin, Share

STAGES = ["read", "judge", "write"]
HERE = Origin("here/boot/1", 4711, "born")
PROPOSAL = '{"text": "proposed"}'
SHOWN = '{"evidence": null}'

READS = {
    *("item", "history", "hold", "hold_of", "holds", "counts", "astray", "recorded"),
    *("owns", "lines", "suspects", "sessions", "weights", "pipeline"),
    *("kin", "open_children", "result_of", "in_work", "finished", "audit", "items"),
    *("failures", "waits", "limits", "budgets", "budget", "calls_of", "spent"),
    "signals",
    *("effect", "effects", "passages", "count_effects"),
    *("trials", "efforts", "batches", "stands", "quarantined"),
}

_tokens = count(1)


class Clock(Protocol):
    """The store's time, in a test's hands."""

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        ...


class StillMemory(MemoryStore):
    """The memory store with a clock that moves when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    async def advance(self, seconds: float) -> None:
        self.seconds += seconds


class ServerClock:
    """
    PostgreSQL's side of `waybill.clock()`: its body, replaced by the owner.

    Args:
        owner: A connection of the owner's, or its URL: most tests let no time pass.
    """

    def __init__(self, owner: asyncpg.Connection | str) -> None:
        self._owner = owner
        self._ours: asyncpg.Connection | None = None
        self._ahead_s = 0.0

    async def advance(self, seconds: float) -> None:
        if isinstance(self._owner, str):
            self._owner = self._ours = await asyncpg.connect(self._owner)
        self._ahead_s += seconds
        await self._owner.execute(clock_sql(self._ahead_s))

    async def close(self) -> None:
        """Close the connection, if it had to make one."""
        if self._ours is not None:
            await self._ours.close()


def clock_sql(ahead_s: float) -> str:
    """`waybill.clock()`, so many seconds ahead."""
    return f"""
        create or replace function waybill.clock() returns timestamptz
        language sql stable parallel safe as
        $$ select statement_timestamp() + interval '{ahead_s} seconds' $$"""


class Lawful:
    """
    A store that is audited after every call that may write: the conservation law
    holds, no item is astray, and what triggers tally is what is there, whether the
    call returned or raised.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.iscoroutinefunction(found) or name in READS:
            return found

        async def audited(*args: Any, **named: Any) -> Any:
            try:
                return await found(*args, **named)
            finally:
                counts = await self._store.counts()
                assert counts.conserved, f"{name} broke the law: {counts}"
                if audit := getattr(self._store, "audit", None):
                    there = await audit()
                    assert there.sound, f"{name} broke the law: {there}"
                else:
                    lost = await self._store.astray()
                    assert lost == [], f"{name} led items astray"

        return audited


def sent(name: str, key: str | None = None, **more: Any) -> Submission:
    """A submission under a token of its own; its bytes are its name."""
    token = more.pop("token", f"token-{next(_tokens)}")
    return Submission(name, key or f"key of {name}", token, 10, **more)


def finished(seq: int, stage: str, after: str, text: str = "{}") -> Checkpoint:
    """The checkpoint of a finished stage."""
    return Checkpoint(seq, stage, None, text, None, after, 0.5)


def step(seq: int, stage: str, name: str, text: str = "1") -> Checkpoint:
    """The checkpoint of a finished step."""
    return Checkpoint(seq, stage, name, text, None, None, 0.5)


def done(stage: str = "read") -> Finish:
    """The good end."""
    return Finish(State.DONE, stage)


def waiting(for_s: float, *, attempt: int = 0, why: str = "THROTTLED") -> ToWaiting:
    """Out of the line, at the first stage."""
    return ToWaiting("read", 0, attempt, for_s, why)


def parked(
    seq: int = 0,
    *,
    stage: str = "read",
    after: str = "judge",
    again: bool = False,
    lapse: str | None = None,
    lapse_s: float | None = None,
    **more: Any,
) -> ToHeld:
    """Held with the usual picture and proposal, but for what is given otherwise."""
    move = ToHeld(
        stage,
        seq,
        "LOOK",
        "why not",
        SHOWN,
        PROPOSAL,
        ("text",),
        again,
        after,
        lapse=lapse,
        lapse_s=lapse_s,
    )
    return replace(move, **more)


class World:
    """One store with one pipeline of three stages."""

    def __init__(self, store: Any, clock: Clock) -> None:
        self.store = store
        self.clock = clock
        self.pipeline = 0

    async def open(self) -> World:
        """Register the pipeline."""
        self.pipeline = await self.store.register_pipeline("letters", "v1", STAGES, {})
        return self

    async def batch(
        self, name: str = "may", *, tenant: str = "acme", deadline_s: float = 3600
    ) -> Batch:
        """The batch of this name, made when it is new."""
        return await self.store.open_batch(tenant, name, deadline_s=deadline_s)

    async def receive(
        self, *submissions: Submission, batch: Batch | None = None
    ) -> list[Receipt]:
        """Admit into `batch`, or into acme's only one."""
        batch = batch or await self.batch()
        return await self.store.admit(batch, self.pipeline, submissions)

    async def admit(
        self,
        *names: str,
        tenant: str = "acme",
        batch: str = "may",
        deadline_s: float = 3600,
    ) -> list[ItemId]:
        """One new item a name; a batch's deadline is that of its first admission."""
        opened = await self.batch(batch, tenant=tenant, deadline_s=deadline_s)
        receipts = await self.receive(*map(sent, names), batch=opened)
        return [r.item_id for r in receipts]

    async def join(self, *, lease_s: float = 30) -> WorkerId:
        """A new worker."""
        return await self.store.join(HERE, lease_s=lease_s)

    async def claim(
        self,
        worker: WorkerId,
        limit: int = 100,
        *,
        stage: str = "read",
        shares: Mapping[str, Share] | None = None,
        suspects: bool = False,
    ) -> list[Claim]:
        """What the worker gets at `stage`."""
        return await self.store.claim(
            worker, stage, limit, shares or {}, suspects=suspects
        )

    async def take(self, *names: str) -> tuple[WorkerId, list[ItemId]]:
        """New items, all in the hands of one new worker."""
        items = await self.admit(*names)
        worker = await self.join()
        await self.claim(worker, len(items))
        return worker, items

    async def move(self, worker: WorkerId, item: ItemId, move: Move) -> bool:
        """Commit one move."""
        [stood] = await self.store.commit(worker, [Entry(item, None, move)])
        return stood

    async def hold(self, *, seq: int = 0, **more: Any) -> HoldRow:
        """A new item, held."""
        worker, [item] = await self.take(f"held-{next(_tokens)}")
        await self.move(worker, item, parked(seq, **more))
        return await self.store.hold_of(item)

    async def decide(
        self, hold: HoldRow, verb: str = "approve", author: str = "ann", **more: Any
    ) -> HoldRow:
        """Rule on a hold as it was shown."""
        ruling: dict[str, Any] = {
            "reason": "because",
            "digest": hold.digest,
            "update": None if verb == "reject" else json.dumps(hold.proposal),
        }
        hold_id: HoldId = hold.id
        return await self.store.decide(
            hold_id, verb=verb, author=author, **(ruling | more)
        )

    async def change_hold(self, hold_id: HoldId, **columns: Any) -> None:
        """As somebody who may write to the database."""
        store = self.store._store
        if isinstance(store, MemoryStore):
            hold = store._holds[hold_id]._replace(**columns)
            store._holds[hold_id] = hold
            return
        for name, value in columns.items():
            stored = json.dumps(value) if isinstance(value, dict) else value
            await store._db.fetch(
                f"update waybill.holds set {name} = $2 where id = $1", hold_id, stored
            )

    async def states(self, items: Sequence[ItemId]) -> list[State]:
        """Where each item is."""
        return [(await self.store.item(i)).state for i in items]

    async def state(self, item: ItemId) -> State:
        """Where the item is."""
        [found] = await self.states([item])
        return found

    async def died_with(self, item: ItemId, *, suspects: bool = False) -> None:
        """A worker claims the item and is killed before it makes any progress."""
        victim = await self.join()
        stage = (await self.store.item(item)).stage
        claims = await self.claim(victim, stage=stage, suspects=suspects)
        assert item in [c.item.id for c in claims]
        await self.store.reap([victim], died=True)
