"""
A model of the whole store, walked at random on both stores.

The model is written from the guarantees and knows no SQL: for every item its
state, stage, next checkpoint, tries and strikes.  Hypothesis makes up histories of
workers, zombies, crashes, people and time; after every step each item must be
where the model says, with the checkpoints that it saw written and no others.

Time stands still unless a rule moves it, on PostgreSQL too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.errors import Conflict, LeaseLost, Refused
from pipeline.model import Entry, Finish, Move, State, ToHeld, ToReady, ToWaiting
from pipeline.store.postgres import PostgresStore
from tests.store.conftest import EMPTY, Urls
from tests.store.world import (
    STAGES,
    Lawful,
    StillMemory,
    World,
    finished,
    parked,
    sent,
    step,
)

LEASE_S = 30
DEADLINE_S = 500
FINAL = (State.DONE, State.REJECTED, State.FAILED, State.CANCELLED)

picks = st.integers(0, 10**6)  # an index into whatever there is


@dataclass
class Thing:
    """What the model knows of one item."""

    state: State = State.READY
    stage: str = "read"
    attempt: int = 0
    strikes: int = 0
    solo: bool = False
    owner: UUID | None = None
    claimed_seq: int = 0
    claimed_at: str = "read"
    tries: int = 0  # as claimed; `attempt` is of the stage it reached
    until: float = 0.0
    cancelled: bool = False
    hold: Any = None
    wrote: list[tuple[int, str]] = field(default_factory=list)

    @property
    def seq(self) -> int:
        return len(self.wrote)

    def line_up(self, stage: str, attempt: int = 0, strikes: int = 0) -> None:
        """Back in line, unless somebody cancelled it meanwhile."""
        self.owner, self.hold = None, None
        self.state = State.CANCELLED if self.cancelled else State.READY
        self.stage, self.attempt, self.strikes = stage, attempt, strikes
        self.cancelled = False

    def put_back(self, *, died: bool) -> None:
        """Its worker is gone: the rules of strikes, in words."""
        progressed = self.seq > self.claimed_seq
        strikes = self.strikes
        if died and progressed:
            strikes = 1
        elif died:
            strikes = strikes + 1 if self.solo else min(strikes + 1, 2)
        attempt = self.tries if self.stage == self.claimed_at else 0
        killer = strikes >= 3 and not self.cancelled
        self.line_up(self.stage, attempt, strikes)
        if killer:
            self.state = State.FAILED


class Clock:
    """Frozen time of one of the stores."""

    def __init__(self, move: Callable[[float], Any]) -> None:
        self.now = 0.0
        self._move = move

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        await self._move(seconds)


class Histories(RuleBasedStateMachine):
    """Everything that may happen to a store, in any order."""

    def __init__(self, make: Callable[[], World], run: Callable[[Any], Any]) -> None:
        super().__init__()
        self.run = run
        self.world = make()
        self.run(self.world.open())
        self.store = self.world.store
        self.things: dict[int, Thing] = {}
        self.leases: dict[UUID, float] = {}  # until when; gone: -1
        self.texts = count(1)

    # -- what the model knows ----------------------------------------------------------

    def alive(self, worker: UUID) -> bool:
        return self.leases[worker] > self.world.clock.now

    def some_worker(self, pick: int) -> UUID:
        workers = list(self.leases)[-4:]  # the living and the lately dead
        return workers[pick % len(workers)]

    def some_owner(self, pick: int) -> UUID:
        """A worker with something in its hands, when there is one."""
        owners = [t.owner for t in self.things.values() if t.owner is not None]
        return owners[pick % len(owners)] if owners else self.some_worker(pick)

    def some_stage(self, pick: int, solo: bool) -> str:
        """A stage with something to claim, when there is one."""
        line = [t for t in self.things.values() if t.state is State.READY]
        stages = [t.stage for t in line if (t.strikes >= 2) == solo] or STAGES
        return stages[pick % len(stages)]

    def some_item(self, pick: int) -> int:
        items = list(self.things)
        return items[pick % len(items)]

    def held_by(self, worker: UUID) -> list[Thing]:
        return [t for t in self.things.values() if t.owner == worker]

    def lose(self, worker: UUID, *, died: bool) -> int:
        things = self.held_by(worker)
        for thing in things:
            thing.put_back(died=died)
        self.leases[worker] = -1.0
        return len(things)

    # -- the way in --------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.admit("acme", 2)
        self.join()

    @precondition(lambda self: len(self.things) < 8)
    @rule(tenant=st.sampled_from(["acme", "bravo"]), number=st.integers(1, 3))
    def admit(self, tenant: str, number: int) -> None:
        names = [f"n{next(self.texts)}" for _ in range(number)]
        for item in self.run(
            self.world.admit(*names, tenant=tenant, deadline_s=DEADLINE_S)
        ):
            assert item not in self.things
            self.things[item] = Thing()

    @rule(pick=picks)
    def admit_again(self, pick: int) -> None:
        item = self.some_item(pick)
        key = self.run(self.store.item(item)).key
        tenant = self.run(self.store.item(item)).tenant
        batch = self.run(self.world.batch(tenant=tenant))
        [receipt] = self.run(self.world.receive(sent("again", key=key), batch=batch))
        assert (receipt.disposal, receipt.item_id) == ("duplicate", item)

    # -- workers -----------------------------------------------------------------------

    @precondition(lambda self: sum(map(self.alive, self.leases)) < 2)
    @rule()
    def join(self) -> None:
        worker = self.run(self.world.join(lease_s=LEASE_S))
        self.leases[worker] = self.world.clock.now + LEASE_S

    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        worker = self.some_worker(pick)
        if not self.alive(worker):
            with pytest.raises(LeaseLost):
                self.run(self.store.renew(worker, lease_s=LEASE_S))
            return
        told = self.run(self.store.renew(worker, lease_s=LEASE_S))
        mine = {i for i, t in self.things.items() if t.owner == worker and t.cancelled}
        assert set(told) == mine
        self.leases[worker] = self.world.clock.now + LEASE_S

    @rule(
        pick=picks,
        at=picks,
        limit=st.integers(1, 4),
        solo=st.sampled_from([False, False, True]),
    )
    def claim(self, pick: int, at: int, limit: int, solo: bool) -> None:
        worker, stage = self.some_worker(pick), self.some_stage(at, solo)
        call = self.world.claim(worker, limit, stage=stage, solo=solo)
        if not self.alive(worker):
            with pytest.raises(LeaseLost):
                self.run(call)
            return
        line = {
            i: t
            for i, t in self.things.items()
            if (t.state, t.stage) == (State.READY, stage) and (t.strikes >= 2) == solo
        }
        claims = self.run(call)
        assert len(claims) == min(1 if solo else limit, len(line))
        for claim in claims:
            thing = line.pop(claim.item.id)
            assert (claim.stage, claim.seq, claim.attempt, claim.solo) == (
                thing.stage,
                thing.seq,
                thing.attempt,
                solo,
            )
            thing.state, thing.owner, thing.solo = State.RUNNING, worker, solo
            thing.claimed_seq, thing.claimed_at = thing.seq, stage
            thing.tries = thing.attempt

    @rule(
        worker=picks,
        item=picks,
        own=st.sampled_from([True, True, True, False]),
        part=st.sampled_from(["step", "stage", "nothing"]),
        move=st.sampled_from(["stay", "ready", "wait", "hold", "ask", "finish"]),
    )
    def commit(self, worker: int, item: int, own: bool, part: str, move: str) -> None:
        """Any worker, dead or alive, writes about any item, its own or not."""
        who, number = self.some_worker(worker), self.some_item(item)
        if own:
            who = self.some_owner(worker)
            has = [i for i, t in self.things.items() if t.owner == who] or [number]
            number = has[item % len(has)]
        thing = self.things[number]
        mine = thing.owner == who
        if part != "nothing" and not mine and self.alive(who):
            part = "nothing"  # a live worker writes about its own items alone
        if part == "stage" and thing.stage == STAGES[-1]:
            move = "finish"
        if (part, move) == ("nothing", "stay"):
            move = "ready"
        entry, after = self.entry(number, thing, part, move)
        if not self.alive(who):
            with pytest.raises(LeaseLost):
                self.run(self.store.commit(who, [entry]))
            return
        assert self.run(self.store.commit(who, [entry])) == [entry.move is None or mine]
        if entry.checkpoint is not None:
            thing.wrote.append((entry.checkpoint.seq, entry.checkpoint.update))
            thing.stage = after
        if entry.move is not None and mine:
            self.moved(number, thing, entry.move)

    def entry(self, item: int, thing: Thing, part: str, move: str) -> tuple[Entry, str]:
        text = json.dumps(f"text {next(self.texts)}")
        after, seq, checkpoint = thing.stage, thing.seq, None
        if part == "step":
            checkpoint = step(seq, thing.stage, f"step-{seq}", text)
        elif part == "stage":
            place = STAGES.index(thing.stage)
            after = "" if move == "finish" else STAGES[place + 1]
            checkpoint = finished(seq, thing.stage, after, text)
        following = seq + (checkpoint is not None)
        stage = after or thing.stage
        last = part == "stage" and thing.stage == STAGES[-1]
        end = State.DONE if last else State.FAILED
        moves: dict[str, Move | None] = {
            "stay": None,
            "ready": ToReady(stage, following, 1),
            "wait": ToWaiting(stage, following, 2, 10, "X"),
            "hold": parked(following, stage=stage, after="write"),
            "ask": parked(following, stage=stage, again=True),
            "finish": Finish(end, thing.stage, "X"),
        }
        return Entry(item, checkpoint, moves[move]), stage

    def moved(self, item: int, thing: Thing, move: Move) -> None:
        thing.owner, thing.strikes = None, 0
        if isinstance(move, Finish):
            thing.state, thing.cancelled = move.state, False
            return
        if thing.cancelled:
            thing.state, thing.cancelled = State.CANCELLED, False
            return
        match move:
            case ToReady():
                thing.line_up(move.stage, move.attempt)
            case ToWaiting():
                thing.state, thing.attempt = State.WAITING, move.attempt
                now = self.world.clock.now
                thing.until = min(now + move.for_s, DEADLINE_S)
            case ToHeld():
                thing.state = State.HELD
                thing.hold = self.run(self.store.hold_of(item))

    @rule(item=picks, seq=picks)
    def overwrite(self, item: int, seq: int) -> None:
        """Whoever tries to write a checkpoint again is refused."""
        thing = self.things[number := self.some_item(item)]
        if thing.owner is None or not self.alive(thing.owner) or not thing.wrote:
            return
        again = step(seq % thing.seq, thing.stage, "again", '"other"')
        move = Finish(State.DONE, thing.stage)
        with pytest.raises(Refused):
            self.run(self.store.commit(thing.owner, [Entry(number, again, move)]))

    # -- ends of workers ---------------------------------------------------------------

    @rule(pick=picks)
    def crash(self, pick: int) -> None:
        worker = self.some_owner(pick)
        known = self.leases[worker] >= 0
        moved = self.run(self.store.reap([worker], died=True))
        assert moved == (self.lose(worker, died=True) if known else 0)

    @rule(died=st.booleans())
    def reap_expired(self, died: bool) -> None:
        late = [w for w in self.leases if not self.alive(w)]
        known = [w for w in late if self.leases[w] >= 0]
        moved = self.run(self.store.reap(late, died=died))
        assert moved == sum(self.lose(w, died=died) for w in known)

    @rule(pick=picks)
    def leave(self, pick: int) -> None:
        worker = self.some_worker(pick)
        assert self.run(self.store.leave(worker)) == self.lose(worker, died=False)

    @rule(pick=picks)
    def disown(self, pick: int) -> None:
        """All but one of the worker's items were in an answer that got lost."""
        worker = self.some_worker(pick)
        if not self.alive(worker):
            return
        mine = [i for i, t in self.things.items() if t.owner == worker]
        assert self.run(self.store.disown(worker, mine[:1])) == len(mine[1:])
        for item in mine[1:]:
            self.things[item].put_back(died=False)

    # -- time --------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([7, 31]))
    def pass_time(self, seconds: int) -> None:
        self.run(self.world.clock.advance(seconds))

    @rule()
    def wake(self) -> None:
        now = self.world.clock.now
        due = [
            t
            for t in self.things.values()
            if t.state is State.WAITING and t.until <= now
        ]
        moved, _ = self.run(self.store.wake())
        assert moved == len(due)
        for thing in due:
            thing.line_up(thing.stage, thing.attempt)

    # -- people ------------------------------------------------------------------------

    @rule(pick=picks, verb=st.sampled_from(["approve", "edit", "reject"]))
    def decide(self, pick: int, verb: str) -> None:
        thing = self.things[self.some_item(pick)]
        if thing.hold is None:
            return
        hold, text = thing.hold, json.dumps(f"text {next(self.texts)}")
        call = self.world.decide(hold, verb, update=None if verb == "reject" else text)
        if thing.state is not State.HELD:
            with pytest.raises(Conflict):
                self.run(call)
            return
        self.run(call)
        if verb == "reject":
            thing.state = State.REJECTED
        else:
            thing.wrote.append((hold.seq, text))
            thing.line_up(hold.stage if hold.again else hold.next_stage)
        thing.hold = hold

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        thing = self.things[item := self.some_item(pick)]
        [said] = self.run(self.store.cancel([item], "ann")).values()
        if thing.state in FINAL:
            assert said == "final"
        elif thing.state is State.RUNNING:
            assert said == "cancelling"
            thing.cancelled = True
        else:
            assert said == "cancelled"
            thing.state = State.CANCELLED

    @rule(pick=picks)
    def retry(self, pick: int) -> None:
        thing = self.things[item := self.some_item(pick)]
        [said] = self.run(self.store.retry([item], "ann")).values()
        if thing.state in FINAL and thing.state is not State.DONE:
            assert said == "ready"
            thing.line_up(thing.stage)
        else:
            assert said == "not final"

    # -- what must hold ----------------------------------------------------------------

    @invariant()
    def every_item_is_where_the_model_says(self) -> None:
        for item, thing in self.things.items():
            row = self.run(self.store.item(item))
            assert (row.state, row.stage) == (thing.state, thing.stage)

    @invariant()
    def every_checkpoint_stands_as_it_was_written(self) -> None:
        written = self.run(self.store.history(list(self.things)))
        for item, thing in self.things.items():
            found = [(c.seq, c.update) for c in written[item]]
            assert found == thing.wrote


def test_random_histories_in_memory():
    """No history of 50 steps breaks a guarantee of the memory store."""
    with asyncio.Runner() as runner:

        def make() -> World:
            store = StillMemory()
            return World(Lawful(store), Clock(store.advance))

        run_state_machine_as_test(
            lambda: Histories(make, runner.run), settings=_settings(150, 50)
        )


@pytest.fixture
def frozen(shared: Urls) -> Iterator[tuple[asyncio.Runner, Callable[[], World]]]:
    """Worlds on PostgreSQL, one after the other, in time that stands still."""
    with asyncio.Runner() as runner:
        owner = runner.run(asyncpg.connect(shared.owner))
        store = PostgresStore(shared.app)

        async def at(seconds: float) -> None:
            await owner.execute(
                "create or replace function waybill.clock() returns timestamptz"
                " language sql stable parallel safe as $$ select timestamptz"
                f" '2026-12-01 00:00:00Z' + interval '{seconds} seconds' $$"
            )

        def make() -> World:
            runner.run(owner.execute(EMPTY))
            runner.run(at(0))

            async def move(_: float) -> None:
                await at(clock.now)

            clock = Clock(move)
            return World(Lawful(store), clock)

        yield runner, make
        runner.run(store.database.close())
        runner.run(owner.close())


def test_random_histories_on_postgres(frozen):
    """No history of 30 steps breaks a guarantee of the PostgreSQL store."""
    runner, make = frozen

    run_state_machine_as_test(
        lambda: Histories(make, runner.run), settings=_settings(25, 30)
    )


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
