"""The journal: many items' entries in one transaction, each durable or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from pipeline.errors import LeaseLost, Refused, StoreUnavailable
from pipeline.model import (
    Checkpoint,
    Entry,
    Finish,
    ItemId,
    Progress,
    Spawn,
    State,
    ToHeld,
)
from pipeline.parts import Part
from pipeline.run.journal import BATCH_MAX, FLUSHERS, Journal
from pipeline.store.gathering import GATHER_S
from tests.unit.engine import ELSEWHERE, Engine, Tape, landed, lost, not_sent, until


def kept(item: ItemId, seq: int, move: Any = None) -> Entry:
    return Entry(item, Checkpoint(seq, "one", f"s{seq}", "{}", None, None, 0.0), move)


def slow(took_s: float) -> Any:
    """A database that takes its time over a commit."""

    async def fault(call: Any) -> Any:
        await anyio.sleep(took_s)
        return await call()

    return fault


class Desk:
    """A journal with its flushers, over `count` items that its worker owns."""

    def __init__(self, engine: Engine, journal: Journal, items: list[ItemId]) -> None:
        self.engine = engine
        self.wire = engine.wire
        self.journal = journal
        self.items = items
        self.worker = journal._worker
        self.said: dict[tuple[ItemId, int], Any] = {}
        self.order: list[tuple[ItemId, int]] = []

    async def record(self, entry: Entry) -> None:
        assert entry.checkpoint is not None
        place = (entry.item_id, entry.checkpoint.seq)
        try:
            self.said[place] = await self.journal.record(entry)
        except (LeaseLost, Refused) as error:
            self.said[place] = error.code
        self.order.append(place)

    async def record_all(self, entries: list[Entry]) -> None:
        """All at once, each by a task of its own."""
        async with anyio.create_task_group() as tasks:
            for entry in entries:
                tasks.start_soon(self.record, entry)


@asynccontextmanager
async def desk(
    count: int = 1, flushers: int = FLUSHERS, in_hand: int = 0
) -> AsyncIterator[Desk]:
    engine = Engine(Tape().line("one"))
    items = await engine.submit(count)
    me = await engine.store.join(ELSEWHERE, lease_s=1e6)
    await engine.store.claim(me, "one", count, {})
    wire: Any = engine.wire
    journal = Journal(wire, me, lambda: None, lambda: in_hand)
    async with anyio.create_task_group() as tasks:
        for _ in range(flushers):
            tasks.start_soon(journal.run)
        await anyio.wait_all_tasks_blocked()  # every flusher sleeps
        yield Desk(engine, journal, items)
        tasks.cancel_scope.cancel()


async def test_a_lone_entry_is_flushed_at_once() -> None:
    """There is no timer: an idle journal writes what it is given immediately."""
    async with desk() as d:
        began = anyio.current_time()
        stood = await d.journal.record(kept(1, 0))
        took_s = anyio.current_time() - began

    assert stood is True
    assert took_s < 1e-3
    assert len(d.wire.commits) == 1


async def test_the_few_of_many_that_come_one_by_one_share_a_transaction() -> None:
    """A thousand items wait for vendors: what they bring comes ten times a second."""
    async with desk(200, in_hand=1000) as d:
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for item in d.items:
                tasks.start_soon(d.record, kept(item, 0))
                await anyio.sleep(0.005)
        took_s = anyio.current_time() - began

    sizes = [len(entries) for _, entries in d.wire.commits]
    assert sizes[0] == 1
    assert len(sizes) <= 1 / GATHER_S + 1
    assert took_s == pytest.approx(1, abs=2 * GATHER_S)


async def test_where_most_have_come_nobody_waits_for_the_rest() -> None:
    """A hundred items that take step after step are as quick as their commits."""
    async with desk(100, flushers=1, in_hand=100) as d:
        d.wire.always["commit"] = slow(0.002)
        began = anyio.current_time()
        for seq in range(10):
            await d.record_all([kept(i, seq) for i in d.items])
        took_s = anyio.current_time() - began

    assert took_s == pytest.approx(0.02, abs=0.01)


async def test_what_gathers_during_a_flush_is_one_transaction() -> None:
    """Under load commits are large: nobody waits for a commit of his own."""
    async with desk(200, flushers=1) as d:
        d.wire.always["commit"] = slow(1)
        began = anyio.current_time()
        await d.record_all([kept(i, 0) for i in d.items[:1]])
        await d.record_all([kept(i, 0) for i in d.items[1:]])
        took_s = anyio.current_time() - began

    assert [len(entries) for _, entries in d.wire.commits] == [1, 199]
    assert took_s == pytest.approx(2, abs=0.01)


async def test_no_transaction_holds_more_than_its_bound() -> None:
    """A herd of entries is cut into transactions of at most `BATCH_MAX`."""
    count = 2 * BATCH_MAX + 1
    async with desk(count) as d:
        d.wire.always["commit"] = slow(1)
        await d.record_all([kept(i, 0) for i in d.items])

    sizes = [len(entries) for _, entries in d.wire.commits]
    assert sum(sizes) == count
    assert max(sizes) == BATCH_MAX
    assert set(d.said.values()) == {True}


async def test_children_count_in_what_a_transaction_holds() -> None:
    """Fifty that each have a hundred children are no single transaction."""
    parts = tuple(Part(f"{n}", {}) for n in range(BATCH_MAX // 5))
    async with desk(11) as d:
        d.wire.always["commit"] = slow(1)
        await d.record_all(
            [replace(kept(i, 0), spawn=Spawn("one", f"{i}", parts)) for i in d.items]
        )

    assert [len(entries) for _, entries in d.wire.commits] == [5, 5, 1]
    assert set(d.said.values()) == {True}


async def test_a_second_flush_begins_while_the_first_is_in_the_database() -> None:
    """Two flushers overlap: an entry does not wait for the whole flush before it."""
    async with desk(2) as d:
        await d.journal.record(kept(1, 0))  # both flushers went to sleep since
        d.wire.always["commit"] = slow(10)
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(d.record, kept(1, 1))
            await anyio.sleep(1)
            tasks.start_soon(d.record, kept(2, 0))
        took_s = anyio.current_time() - began

    assert took_s == pytest.approx(11, abs=0.1)


async def test_one_refused_entry_does_not_fail_its_neighbours() -> None:
    """A batch the database refuses is split; only the bad entry is refused."""
    async with desk(20, flushers=1) as d:
        await d.journal.record(kept(7, 0))
        bad = kept(7, 0)  # its checkpoint stands already
        good = [kept(i, 1 if i == 7 else 0) for i in d.items if i != 7]
        await d.record_all([*good[:9], bad, *good[9:]])

    assert d.said.pop((7, 0)) == "REFUSED"
    assert set(d.said.values()) == {True}
    for item in d.items:
        assert len(await d.engine.history(item)) == 1


async def test_entries_are_committed_in_the_order_they_came() -> None:
    """What was recorded first is durable first, also across batches."""
    async with desk(700, flushers=1) as d:
        entries = [kept(i, 0) for i in d.items]
        d.wire.always["commit"] = slow(0.1)
        async with anyio.create_task_group() as tasks:
            for entry in entries:
                tasks.start_soon(d.record, entry)
                await anyio.lowlevel.checkpoint()
    committed = [e.item_id for e in d.wire.entries]

    assert committed == d.items


async def test_a_void_move_is_told_and_its_neighbours_stand() -> None:
    """An item that somebody else has meanwhile: that move is void, no other."""
    async with desk(2) as d:
        end = Finish(State.DONE, "one")
        await d.journal.record(kept(1, 0, end))
        await d.record_all([kept(1, 1, end), kept(2, 0, end)])

    assert d.said == {(1, 1): False, (2, 0): True}


async def test_a_database_that_is_away_is_waited_for() -> None:
    """Nobody hears of an outage: the entry is written when it is over."""
    async with desk() as d:
        d.wire.away_until = anyio.current_time() + 3600
        stood = await d.journal.record(kept(1, 0))
        waited_s = anyio.current_time()

    assert stood is True
    assert 3600 <= waited_s < 3610
    assert d.wire.calls["commit"] > 100
    assert len(await d.engine.history(1)) == 1


async def test_a_doubtful_commit_that_landed_is_not_written_twice() -> None:
    """The lost answer of a COMMIT is asked for, not guessed."""
    async with desk(3, flushers=1) as d:
        d.wire.faults["commit"].append(landed)
        await d.record_all([kept(i, 0) for i in d.items])

    assert set(d.said.values()) == {True}
    assert len(d.wire.commits) == 1
    assert d.wire.calls["commit"] == 1


async def test_a_doubtful_commit_that_did_not_land_is_written() -> None:
    """Asked and not found: it is written, once."""
    async with desk(3, flushers=1) as d:
        d.wire.faults["commit"].extend([lost, not_sent, lost])
        d.wire.faults["recorded"].append(not_sent)
        await d.record_all([kept(i, 0) for i in d.items])

    assert set(d.said.values()) == {True}
    assert d.wire.calls["commit"] == 4
    assert len(d.wire.commits) == 1


async def test_a_doubtful_move_without_a_checkpoint_is_settled_too() -> None:
    """Where no checkpoint can be asked for, ownership answers."""
    async with desk() as d:
        d.wire.faults["commit"].append(landed)
        stood = await d.journal.record(Entry(1, None, Finish(State.DONE, "one")))

    assert stood is True
    assert d.wire.calls["commit"] == 1
    assert await d.engine.state(1) == "done"


async def test_a_doubtful_hold_that_was_ruled_on_is_not_parked_again() -> None:
    """Ruled on and claimed by the same worker before the doubt is settled, it is that
    worker's again, by another claim: the hold stood, and is not made a second time."""
    held = ToHeld("one", 0, "LOOK", "see", "{}", "{}", (), False, "two")

    async def answered_late(call: Any) -> Any:
        await call()
        hold = await d.engine.store.hold_of(1)
        said: dict[str, Any] = {"author": "ann", "reason": "", "digest": hold.digest}
        await d.engine.store.decide(hold.id, verb="approve", update="{}", **said)
        await d.engine.store.claim(d.worker, "two", 1, {})
        raise StoreUnavailable("no answer", in_doubt=True)

    async with desk() as d:
        d.wire.faults["commit"].append(answered_late)
        stood = await d.journal.record(Entry(1, None, held))

    assert stood is True
    assert d.wire.calls["commit"] == 1
    assert await d.engine.store.holds() == []
    assert await d.engine.state(1) == "running"


def note(item: ItemId, done: int) -> Entry:
    return Entry(item, progress=Progress("one", done, 9))


async def test_a_note_is_committed_though_nobody_waits() -> None:
    """With what is gathered next; of several of one item the newest."""
    async with desk(2) as d:
        for done in range(9):
            d.journal.note(note(1, done))
        d.journal.note(note(2, 5))
        await d.journal.record(kept(2, 0))

    [(_, entries)] = d.wire.commits
    assert [e.progress and e.progress.done for e in entries] == [8, 5, None]
    assert [r.done for r in await d.engine.store.in_work()] == [8, 5]


async def test_a_note_in_doubt_is_written_again() -> None:
    """Twice the same is the same; nobody is asked whether it stands."""
    async with desk() as d:
        d.wire.faults["commit"].append(landed)
        d.journal.note(note(1, 1))
        await until(lambda: bool(d.wire.commits))

    assert d.wire.calls["owns"] == d.wire.calls["recorded"] == 0
    assert [r.done for r in await d.engine.store.in_work()] == [1]


async def test_a_note_does_not_answer_for_a_move() -> None:
    """Beside it a doubtful move is settled by the item that moved."""
    async with desk(2, flushers=1) as d:
        d.wire.faults["commit"].append(landed)
        d.journal.note(note(1, 1))
        stood = await d.journal.record(Entry(2, None, Finish(State.DONE, "one")))

    assert stood is True
    assert d.wire.calls["commit"] == 1


async def test_a_doubtful_commit_that_lands_late_fails_nobody() -> None:
    """It became visible after we looked: the refusal of the second is no refusal."""
    async with desk(3, flushers=1) as d:
        cut: list[Any] = []

        async def late(call: Any) -> Any:
            cut.append(call)
            raise StoreUnavailable("no answer", in_doubt=True)

        async def after_the_look(call: Any) -> Any:
            found = await call()
            await cut[0]()
            return found

        d.wire.faults["commit"].append(late)
        d.wire.faults["recorded"].append(after_the_look)
        await d.record_all([kept(i, 0) for i in d.items])

    assert set(d.said.values()) == {True}
    for item in d.items:
        assert len(await d.engine.history(item)) == 1


async def test_a_lost_lease_writes_nothing_and_tells_everybody() -> None:
    """Who waits and who comes later hears LeaseLost; the owner hears it once."""
    engine = Engine(Tape().line("one"))
    [item] = await engine.submit(1)
    me = await engine.store.join(ELSEWHERE, lease_s=1e6)
    await engine.store.claim(me, "one", 1, {})
    heard: list[str] = []
    wire: Any = engine.wire
    journal = Journal(wire, me, lambda: heard.append("lost"))
    d = Desk(engine, journal, [item])

    async with anyio.create_task_group() as tasks:
        for _ in range(FLUSHERS):
            tasks.start_soon(journal.run)
        await engine.store.reap([me], died=True)
        await d.record_all([kept(item, n) for n in range(5)])
        await d.record(kept(item, 9))
        tasks.cancel_scope.cancel()

    assert set(d.said.values()) == {"LEASE_LOST"}
    assert heard == ["lost"]
    assert await engine.history(item) == []


async def test_a_cancelled_wait_does_not_take_the_entry_back() -> None:
    """The flush is shielded: what was handed over is written or lost with the lease."""
    async with desk() as d:
        d.wire.always["commit"] = slow(10)
        with anyio.move_on_after(1):
            await d.journal.record(kept(1, 0))
        await until(lambda: bool(d.wire.commits), within_s=60)

    assert len(await d.engine.history(1)) == 1


async def test_a_commit_under_way_is_never_cut() -> None:
    """A session that ends still learns what it wrote."""
    async with desk() as d:
        d.wire.always["commit"] = slow(10)
        with anyio.move_on_after(1):
            await d.journal.record(kept(1, 0))

    assert anyio.current_time() >= 10
    assert len(await d.engine.history(1)) == 1


async def test_a_journal_that_ends_does_not_wait_for_a_database_that_is_away() -> None:
    """Stop means now: an outage cannot hold a session that is over."""
    async with desk() as d:
        d.wire.away_until = anyio.current_time() + 3600
        with anyio.move_on_after(1):
            await d.journal.record(kept(1, 0))
        d.journal.close()
    ended_at = anyio.current_time()

    assert ended_at < 60
    assert await d.engine.history(1) == []
