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
from collections import Counter
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
    invariant,
    rule,
    run_state_machine_as_test,
)

from pipeline.errors import Conflict, LeaseLost, Refused
from pipeline.model import (
    Entry,
    Finish,
    Move,
    State,
    ToHeld,
    ToJoining,
    ToReady,
    ToWaiting,
)
from pipeline.store.postgres import PostgresStore
from pipeline.store.strikes import DEATHS
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

Pick = Callable[..., Any]  # one of its arguments


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

    def claimed(self, worker: UUID, solo: bool) -> None:
        """In a worker's hands."""
        self.state, self.owner, self.solo = State.RUNNING, worker, solo
        self.claimed_seq, self.claimed_at = self.seq, self.stage
        self.tries = self.attempt

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
            # Two in company, one among suspects, and two alone.
            strikes = max(strikes, 3) + 1 if self.solo else min(strikes + 1, 3)
        attempt = self.tries if self.stage == self.claimed_at else 0
        killer = strikes >= DEATHS and not self.cancelled
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

    def __init__(
        self,
        make: Callable[[], World],
        run: Callable[[Any], Any],
        walked: Counter[str],
    ) -> None:
        super().__init__()
        self.run = run
        self.walked = walked  # how often each action was taken, by all histories
        self.world = make()
        self.run(self.world.open())
        self.store = self.world.store
        self.things: dict[int, Thing] = {}
        self.leases: dict[UUID, float] = {}  # until when; closed: -1
        self.texts = count(1)
        self.admit("acme", 3)
        self.admit("bravo", 2)

    @rule(data=st.data())
    def something_happens(self, data: Any) -> None:
        """One of the actions that are possible now, the usual ones more often."""
        # One rule, because Hypothesis switches rules off at random: histories
        # without claims or commits teach nothing.
        possible = [
            name
            for name, (weight, when) in ACTIONS.items()
            if when(self)
            for _ in range(weight)
        ]
        action = data.draw(st.sampled_from(possible), label="what")
        getattr(self, action)(lambda *choice: data.draw(st.sampled_from(choice)))
        self.walked[action] += 1

    # -- what the model knows ----------------------------------------------------------

    @property
    def now(self) -> float:
        return self.world.clock.now  # type: ignore[attr-defined]

    def alive(self, worker: UUID) -> bool:
        return self.leases[worker] > self.now

    def living(self) -> list[UUID]:
        return [w for w in self.leases if self.alive(w)]

    def zombies(self) -> list[UUID]:
        return [w for w in self.leases if not self.alive(w)][-3:]

    def unreaped(self) -> list[UUID]:
        return [w for w, until in self.leases.items() if 0 <= until <= self.now]

    def owners(self) -> list[UUID]:
        return list({t.owner: 0 for t in self.things.values() if t.owner})

    def of(self, worker: UUID) -> list[int]:
        return [i for i, t in self.things.items() if t.owner == worker]

    def are(self, *states: State) -> list[int]:
        return [i for i, t in self.things.items() if t.state in states]

    def lose(self, worker: UUID, *, died: bool) -> int:
        items = self.of(worker)
        for item in items:
            self.things[item].put_back(died=died)
        self.leases[worker] = -1.0
        return len(items)

    def refuses(self, call: Any) -> None:
        with pytest.raises(LeaseLost):
            self.run(call)

    # -- the way in --------------------------------------------------------------------

    def admit(self, tenant: str, number: int) -> None:
        names = [f"n{next(self.texts)}" for _ in range(number)]
        for item in self.run(
            self.world.admit(*names, tenant=tenant, deadline_s=DEADLINE_S)
        ):
            assert item not in self.things
            self.things[item] = Thing()

    def arrive(self, pick: Pick) -> None:
        self.admit(pick("acme", "bravo"), pick(1, 2))

    def arrive_again(self, pick: Pick) -> None:
        item = pick(*self.things)
        row = self.run(self.store.item(item))
        batch = self.run(self.world.batch(tenant=row.tenant))
        again = sent("again", key=row.key)
        [receipt] = self.run(self.world.receive(again, batch=batch))
        assert (receipt.disposal, receipt.item_id) == ("duplicate", item)

    # -- workers -----------------------------------------------------------------------

    def join(self, pick: Pick) -> None:
        worker = self.run(self.world.join(lease_s=LEASE_S))
        assert worker not in self.leases
        self.leases[worker] = self.now + LEASE_S

    def renew(self, pick: Pick) -> None:
        worker = pick(*self.living())
        told = self.run(self.store.renew(worker, lease_s=LEASE_S))
        assert set(told) == {i for i in self.of(worker) if self.things[i].cancelled}
        self.leases[worker] = self.now + LEASE_S

    def claim(self, pick: Pick) -> None:
        worker = pick(*self.living())
        wanted = self.things[pick(*self.are(State.READY))]
        stage, limit = wanted.stage, pick(1, 2, 4)
        odd = (wanted.strikes >= 2) != pick(False, False, False, True)
        line = {
            i: t
            for i, t in self.things.items()
            if (t.state, t.stage) == (State.READY, stage) and (t.strikes >= 2) == odd
        }
        claims = self.run(self.world.claim(worker, limit, stage=stage, suspects=odd))
        taken = [line[claim.item.id] for claim in claims]
        if odd:
            assert len(claims) in range(bool(line), min(limit, len(line)) + 1)
            assert len(claims) < 2 or {t.strikes for t in taken} == {2}
        else:
            assert len(claims) == min(limit, len(line))
        solo = odd and len(claims) == 1
        for claim, thing in zip(claims, taken, strict=True):
            assert claim[1:4] == (stage, thing.seq, thing.attempt)
            assert claim.solo == solo
            thing.claimed(worker, solo)

    def commit(self, pick: Pick) -> None:
        """A worker writes about an item of its own."""
        worker = pick(*self.owners())
        item = pick(*self.of(worker))
        thing = self.things[item]
        part = pick("step", "stage", "stage", "nothing")
        move = pick(*("stay", "stay", "ready", "wait", "join", "hold", "ask", "finish"))
        if part == "stage" and thing.stage == STAGES[-1]:
            move = "finish"
        if (part, move) == ("nothing", "stay"):
            move = "ready"
        entry, after = self.entry(item, part, move)
        call = self.store.commit(worker, [entry])
        if not self.alive(worker):
            self.refuses(call)
            return
        assert self.run(call) == [True]
        if entry.checkpoint is not None:
            thing.wrote.append((entry.checkpoint.seq, entry.checkpoint.update))
            thing.stage = after
        if entry.move is not None:
            self.moved(item, thing, entry.move)

    def entry(self, item: int, part: str, move: str) -> tuple[Entry, str]:
        thing, text = self.things[item], json.dumps(f"text {next(self.texts)}")
        after, seq, checkpoint, end = thing.stage, thing.seq, None, State.FAILED
        if part == "step":
            checkpoint = step(seq, thing.stage, f"step-{seq}", text)
        elif part == "stage":
            place = STAGES.index(thing.stage)
            end = State.DONE if thing.stage == STAGES[-1] else State.REJECTED
            after = "" if move == "finish" else STAGES[place + 1]
            checkpoint = finished(seq, thing.stage, after, text)
        following = seq + (checkpoint is not None)
        stage = after or thing.stage
        moves: dict[str, Move | None] = {
            "stay": None,
            "ready": ToReady(stage, following, 1),
            "wait": ToWaiting(stage, following, 2, 10, "X"),
            "join": ToJoining(stage, following, 3),
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
                thing.until = min(self.now + move.for_s, DEADLINE_S)
            case ToJoining():  # children that it does not have: until the next look
                thing.state, thing.attempt = State.WAITING, move.attempt
                thing.until = self.now
            case ToHeld():
                thing.state = State.HELD
                thing.hold = self.run(self.store.hold_of(item))

    def meddle(self, pick: Pick) -> None:
        """A living worker moves an item that is not its own: nothing happens."""
        worker = pick(*self.living())
        others = [i for i, t in self.things.items() if t.owner not in (None, worker)]
        item = pick(*others or [i for i in self.things if i not in self.of(worker)])
        entry, _ = self.entry(item, "nothing", pick("ready", "wait", "hold", "finish"))
        assert self.run(self.store.commit(worker, [entry])) == [False]

    def overwrite(self, pick: Pick) -> None:
        """Whoever writes a checkpoint again is refused, and its move with it."""
        worker = pick(*self.owners())
        item = pick(*self.of(worker))
        thing = self.things[item]
        if not thing.wrote or not self.alive(worker):
            return
        again = step(pick(*range(thing.seq)), thing.stage, "again", '"other"')
        entry = Entry(item, again, Finish(State.DONE, thing.stage))
        with pytest.raises(Refused):
            self.run(self.store.commit(worker, [entry]))

    def haunt(self, pick: Pick) -> None:
        """A worker that lost its lease tries everything it could."""
        worker, item = pick(*self.zombies()), pick(*self.things)
        stage = self.things[item].stage
        entry, _ = self.entry(item, pick("step", "stage", "nothing"), "finish")
        calls = {
            "commit": lambda: self.store.commit(worker, [entry]),
            "renew": lambda: self.store.renew(worker, lease_s=LEASE_S),
            "claim": lambda: self.world.claim(worker, stage=stage),
            "suspects": lambda: self.world.claim(worker, stage=stage, suspects=True),
            "disown": lambda: self.store.disown(worker, []),
        }
        self.refuses(calls[pick("commit", "commit", *calls)]())

    # -- ends of workers ---------------------------------------------------------------

    def crash(self, pick: Pick) -> None:
        worker = pick(*self.owners())
        moved = self.run(self.store.reap([worker], died=True))
        assert moved == self.lose(worker, died=True) > 0

    def reap_late(self, pick: Pick) -> None:
        """A reaper looks at everybody; the living are none of its business."""
        died, late = pick(True, False), self.unreaped()
        workers = late if died else list(self.leases)
        moved = self.run(self.store.reap(workers, died=died))
        assert moved == sum(self.lose(w, died=died) for w in late)

    def leave(self, pick: Pick) -> None:
        worker = pick(*self.leases)
        assert self.run(self.store.leave(worker)) == self.lose(worker, died=False)

    def disown(self, pick: Pick) -> None:
        """All but one of the worker's items were in an answer that got lost."""
        worker = pick(*self.living())
        kept, lost = self.of(worker)[:1], self.of(worker)[1:]
        assert self.run(self.store.disown(worker, kept)) == len(lost)
        for item in lost:
            self.things[item].put_back(died=False)

    # -- time --------------------------------------------------------------------------

    def pass_time(self, pick: Pick) -> None:
        self.run(self.world.clock.advance(pick(5, 5, 10, 31)))

    def wake(self, pick: Pick) -> None:
        due = [i for i in self.are(State.WAITING) if self.things[i].until <= self.now]
        moved, _ = self.run(self.store.wake())
        assert moved == len(due)
        for item in due:
            thing = self.things[item]
            thing.line_up(thing.stage, thing.attempt)

    # -- people ------------------------------------------------------------------------

    def decide(self, pick: Pick) -> None:
        held = [i for i, t in self.things.items() if t.hold is not None]
        thing = self.things[pick(*held)]
        hold, text = thing.hold, json.dumps(f"text {next(self.texts)}")
        verb = pick("approve", "edit", "reject")
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
        thing.hold = hold  # to be decided a second time

    def cancel(self, pick: Pick) -> None:
        item = pick(*self.things)
        thing = self.things[item]
        [said] = self.run(self.store.cancel([item], "ann")).values()
        if thing.state in FINAL:
            assert said == "final"
        elif thing.state is State.RUNNING:
            assert said == "cancelling"
            thing.cancelled = True
        else:
            assert said == "cancelled"
            thing.state = State.CANCELLED

    def retry(self, pick: Pick) -> None:
        item = pick(*self.things)
        thing = self.things[item]
        [said] = self.run(self.store.retry([item], "ann")).values()
        if thing.state in FINAL and thing.state is not State.DONE:
            assert said == "ready"
            thing.line_up(thing.stage)
        else:
            assert said == ("done" if thing.state is State.DONE else "not final")

    # -- what must hold ----------------------------------------------------------------

    @invariant()
    def everything_is_where_the_model_says(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        """Every item's place, and every checkpoint as it was written."""
        written = await self.store.history(list(self.things))
        for item, thing in self.things.items():
            row = await self.store.item(item)
            assert (row.state, row.stage) == (thing.state, thing.stage)
            assert [(c.seq, c.update) for c in written[item]] == thing.wrote
        self.walked["compare"] += 1


# How often an action is taken where it is possible, and where that is.
ACTIONS: dict[str, tuple[int, Callable[[Histories], Any]]] = {
    "arrive": (1, lambda h: len(h.things) < 8),
    "arrive_again": (1, lambda h: len(h.things) == 8),
    "join": (4, lambda h: len(h.living()) < 2),
    "renew": (1, lambda h: any(map(h.of, h.living()))),
    "claim": (8, lambda h: h.living() and h.are(State.READY)),
    "commit": (12, Histories.owners),
    "meddle": (2, lambda h: h.living() and len(h.owners()) != 1),
    "overwrite": (1, Histories.owners),
    "haunt": (1, Histories.zombies),
    "crash": (3, Histories.owners),
    "reap_late": (3, Histories.unreaped),
    "leave": (1, lambda h: len(h.leases) > 1),
    "disown": (1, lambda h: any(map(h.of, h.living()))),
    "pass_time": (2, lambda h: True),
    "wake": (3, lambda h: h.are(State.WAITING)),
    "decide": (2, lambda h: any(t.hold for t in h.things.values())),
    "cancel": (1, lambda h: len(h.are(*FINAL)) < len(h.things) - 2),
    "retry": (2, lambda h: h.are(*FINAL)),
}


# Passing takes seconds; after a failure Hypothesis looks for a shorter history.
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("histories", [30, pytest.param(300, marks=pytest.mark.proof)])
def test_random_histories_in_memory(histories):
    """No history of 50 steps breaks a guarantee of the memory store: after every
    action, each of which was taken, it is where the model says."""
    walked: Counter[str] = Counter()
    with asyncio.Runner() as runner:

        def make() -> World:
            store = StillMemory()
            return World(Lawful(store), Clock(store.advance))

        run_state_machine_as_test(
            lambda: Histories(make, runner.run, walked),
            settings=_settings(histories, 50),
        )

    # After each of these the store was where the model is.
    assert set(ACTIONS) - set(walked) == set()
    assert walked["compare"] > walked["commit"] > 100


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
    """No history of 30 steps breaks a guarantee of the PostgreSQL store: after every
    action it is where the model says."""
    runner, make = frozen
    walked: Counter[str] = Counter()

    run_state_machine_as_test(
        lambda: Histories(make, runner.run, walked), settings=_settings(20, 30)
    )

    # Fewer, for time: the rare ones are walked in memory, and in the races.
    assert {"join", "claim", "commit", "crash", "cancel"} - set(walked) == set()
    assert walked["compare"] > walked["commit"] > 10


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
