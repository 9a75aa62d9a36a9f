"""
Reports of the PostgreSQL store: tallies that triggers keep, audits that count for
real, lists that begin anywhere.
"""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from pipeline.errors import Usage
from pipeline.model import Entry, ItemId, State, ToReady
from pipeline.store.database import Connection
from pipeline.store.migrate import available, migrate
from pipeline.store.postgres import PostgresStore, counts, items
from pipeline.store.postgres.listing import STATES, Listing, statement
from tests.store.conftest import Urls
from tests.store.test_migrations import OLD_ITEM, owner_says
from tests.store.world import World, done, parked, step, waiting

WORDS = list(STATES)
UNFOLDED = "select count(*) from waybill.tally_changes"


async def spread(world: World, *, batch: str, tenant: str = "acme") -> list[ItemId]:
    """An item in each state that a commit or a person brings it to, twice."""
    ids = await world.admit(
        *(f"{tenant} {batch} {n:02}" for n in range(14)), tenant=tenant, batch=batch
    )
    worker = await world.join()
    await world.claim(worker, 14)
    for item in ids[12:]:
        await world.move(worker, item, ToReady("judge", 0))
    for n, item in enumerate(ids[:10]):
        move = (waiting(60), parked(), done(), parked(), done())[n // 2]
        await world.move(worker, item, move)
    for item in ids[6:8]:
        await world.decide(await world.store.hold_of(item), "reject")
    await world.store.cancel(ids[12:13], "ann")
    return ids


# -- tallies and audits ----------------------------------------------------------------


async def test_folding_changes_nothing_that_is_read(postgres: World):
    """Before and after, and when two fold: the same counts, and no more rows."""
    await spread(postgres, batch="may")
    store = postgres.store
    may = (await postgres.batch("may")).id
    before = await store.counts(), await store.counts(may), await store.stages()

    await store.fold()
    first = await store.counts(), await store.counts(may), await store.stages()
    await spread(postgres, batch="june")
    await store.fold()

    assert first == before
    assert await store.database.fetchval(UNFOLDED) == 0
    assert (await store.audit()).sound


async def test_timers_fold(postgres: World):
    """Whoever wakes what is due keeps the tallies short."""
    await spread(postgres, batch="may")

    await postgres.store.wake()

    assert await postgres.store.database.fetchval(UNFOLDED) == 0


async def test_a_rolled_back_move_is_not_tallied(postgres: World):
    """What triggers write is as true as what made them write it."""
    [item] = await postgres.admit("a")
    before = await postgres.store.counts()

    async def work(con: Connection) -> None:
        await con.execute("delete from waybill.ready where item_id = $1", item)
        raise Usage("undo it")

    with pytest.raises(Usage):
        await postgres.store.database.tx(work)

    assert await postgres.store.counts() == before


async def test_counts_of_many_batches_are_those_of_each(postgres: World):
    """`batches ls` asks once."""
    for name in ("may", "june"):
        await spread(postgres, batch=name)
    may, june = [(await postgres.batch(name)).id for name in ("may", "june")]

    found = await postgres.store.counts_of([may, june, june + 1])

    assert found[may] == await postgres.store.counts(may)
    assert found[june] == await postgres.store.counts(june)
    assert sum(found[june + 1]) == 0
    assert found[may].received == 14


@pytest.mark.parametrize("size", [3, 20_000])
async def test_an_audit_counts_what_is_there(postgres: World, monkeypatch, size: int):
    """Of everything or of a batch, in slices of any size."""
    monkeypatch.setattr(counts, "SLICE", size)
    for name in ("may", "june"):
        await spread(postgres, batch=name)
    noted: list[int] = []

    whole = await postgres.store.audit(note=noted.append)
    may = (await postgres.batch("may")).id
    part = await postgres.store.audit(may)

    assert whole.sound
    assert part.sound
    assert whole.counted == await postgres.store.counts()
    assert part.counted == await postgres.store.counts(may)
    assert noted == [size * n for n in range(1, len(noted) + 1)]
    assert len(noted) >= 2 * 28 / size


@pytest.mark.parametrize("table", ["ready", "running", "waiting", "outcomes"])
async def test_an_audit_finds_a_row_that_was_deleted(
    postgres: World, owner: asyncpg.Connection, table: str
):
    """Behind the triggers or before them: nothing hides that an item is gone."""
    await spread(postgres, batch="may")
    await owner.execute("set session_replication_role = replica")
    lost = await owner.fetchval(
        f"delete from waybill.{table} where item_id ="
        f" (select min(item_id) from waybill.{table}) returning item_id"
    )
    await owner.execute("set session_replication_role = origin")

    found = await postgres.store.audit()

    assert found.astray == [lost]
    assert not found.sound
    assert not found.counted.conserved
    assert found.tallied.conserved  # no trigger saw it: `status` would not say


async def test_an_item_in_two_places_is_astray(
    postgres: World, owner: asyncpg.Connection
):
    """Two rows of one item are one too many."""
    [item] = await postgres.admit("a")
    await owner.execute(
        "insert into waybill.outcomes (item_id, state, stage, code, why)"
        " values ($1, 'done', '', '', '')",
        item,
    )

    found = await postgres.store.audit()

    assert found.astray == await postgres.store.astray() == [item]


async def test_wrong_tallies_are_said(postgres: World, owner: asyncpg.Connection):
    """What `status` reads is compared with what is there."""
    await postgres.admit("a")
    await owner.execute("delete from waybill.tally_changes")

    found = await postgres.store.audit()

    assert found.counted.conserved
    assert not found.sound


async def test_an_audit_is_of_one_moment(
    postgres: World, owner: asyncpg.Connection, monkeypatch
):
    """What moves and what comes while it is counted is not counted twice."""
    monkeypatch.setattr(counts, "SLICE", 2)
    ids = await postgres.admit(*(f"n{n}" for n in range(6)))
    before = await postgres.store.counts()
    slices = counts._slice
    ended = False

    async def meanwhile(con: Connection, sql: str, last: int, of: tuple) -> Any:
        nonlocal ended
        found = await slices(con, sql, last, of)
        if not ended:  # between the first slice and the second
            ended = True
            await owner.execute(
                "with gone as (delete from waybill.ready returning item_id)"
                " insert into waybill.outcomes (item_id, state, stage, code, why)"
                " select item_id, 'done', '', '', '' from gone"
            )
        return found

    monkeypatch.setattr(counts, "_slice", meanwhile)

    found = await postgres.store.audit()
    monkeypatch.undo()

    assert found.sound
    assert found.counted == before
    assert (await postgres.store.counts()).done == len(ids)


async def test_an_old_database_is_tallied(
    empty_database: Urls, monkeypatch: pytest.MonkeyPatch
):
    """What stood there before the tallies is in them, open holds and closed ones."""
    real = available()
    monkeypatch.setattr("pipeline.store.migrate.available", lambda: real[:3])
    await migrate(empty_database.owner)
    monkeypatch.undo()
    await owner_says(empty_database, OLD_ITEM)
    await owner_says(
        empty_database,
        """
        with i as (insert into waybill.items (tenant_id, batch_id, pipeline_id,
                     pipeline, name, key, deadline_at, input)
                   select tenant_id, batch_id, pipeline_id, pipeline, key || n,
                          key || n, deadline_at, input
                     from waybill.items, generate_series(1, 3) n returning *),
        r as (insert into waybill.receipts (batch_id, token, name, key, size_bytes,
                                            disposal, item_id)
              select batch_id, key, name, key, 1, 'item', id from i
              union all
              select batch_id, 'q' || key, name, key, 1, 'quarantined', null from i),
        o as (insert into waybill.outcomes (item_id, state, stage, code, why)
              select id, 'done', 'read', '', '' from i where name = 'k1')
        insert into waybill.holds (item_id, stage, tenant_id, deadline_at, seq, code,
                                   why, shown, proposal, digest, again, next_stage,
                                   open)
        select id, 'read', tenant_id, deadline_at, 0, 'X', 'x', '{"a": 1}', '{}', 'd',
               false, '', name <> 'k1' from i returning 1
        """,
    )

    await migrate(empty_database.owner)

    async with PostgresStore(empty_database.app) as store:
        found = await store.audit()
        assert found.sound
        assert found.tallied == await store.counts(1)
        assert found.counted[:4] == (7, 1, 2, 1)
        [stage] = await store.stages()
        assert stage == ("read", 1, 0, 0, 2)
        assert (await store.claim_next("ann", lease_s=9)).shown == {"a": 1}


# -- lists -----------------------------------------------------------------------------


async def test_every_way_to_a_list_gives_the_same(postgres: World):
    """By state, batch and tenant: each list is what a look at every item finds."""
    ids: list[ItemId] = []
    places: dict[int, tuple[str, str]] = {}
    for tenant, batch in (("acme", "may"), ("acme", "june"), ("bravo", "may")):
        ids += await spread(postgres, batch=batch, tenant=tenant)
        places[(await postgres.batch(batch, tenant=tenant)).id] = tenant, batch
    store = postgres.store
    every = [await store.item(n) for n in sorted(ids, reverse=True)]

    for state in (None, *WORDS):
        for batch in (None, *places, max(places) + 1):
            for tenant in (None, "acme", "bravo", "nobody"):
                found = await store.items(state=state, batch_id=batch, tenant=tenant)
                assert [r.id for r in found] == [
                    r.id
                    for r in every
                    if state in (None, r.state.value)
                    and (batch is None or (r.tenant, r.batch) == places.get(batch))
                    and tenant in (None, r.tenant)
                ], (state, batch, tenant)


@pytest.mark.parametrize("by_state", [True, False])
@pytest.mark.parametrize("state", WORDS)
async def test_both_ends_of_a_list_find_the_same(
    postgres: World, state: str, by_state: bool
):
    """From the table of the state, or from the batch: the planner's size decides."""
    for batch in ("may", "june"):
        await spread(postgres, batch=batch)
    expected = [
        r.id for r in await postgres.store.items(state=state) if r.batch == "june"
    ]

    june = (await postgres.batch("june")).id
    sql, args = statement(Listing([june], None, state, by_state))
    rows = await postgres.store.database.fetch(sql, items.LAST, 50, 0, *args)

    assert [r["id"] for r in rows] == expected


async def test_a_list_goes_on_where_it_ended(postgres: World):
    """Page after page: everything once, newest first."""
    ids = await spread(postgres, batch="may")
    pages: list[list[ItemId]] = []
    before = items.LAST
    while page := await postgres.store.items(limit=4, before=before):
        pages.append([r.id for r in page])
        before = page[-1].id

    assert [i for page in pages for i in page] == ids[::-1]
    assert [len(page) for page in pages] == [4, 4, 4, 2]


async def test_numbers_are_read_in_slices(postgres: World, monkeypatch):
    """What one call moves may be everything there is."""
    monkeypatch.setattr(items, "SLICE", 3)
    ids = await spread(postgres, batch="may")
    held = [i for i in ids[::-1] if await postgres.state(i) is State.HELD]
    may = (await postgres.batch("may")).id
    ask = postgres.store.item_ids

    assert await ask(state=None, batch_id=may, limit=99) == ids[::-1]
    assert await ask(state=None, batch_id=may, limit=5) == ids[:8:-1]
    assert await ask(state="held", batch_id=None, limit=99) == held
    assert await ask(state="failed", batch_id=may, limit=99) == []


async def test_parts_of_an_item_in_a_state(postgres: World, owner: asyncpg.Connection):
    """Of what was found in an item, what is in a state; of a batch, too."""
    parent, *parts = await postgres.admit("a", "b", "c")
    await owner.execute(
        "update waybill.items set parent_id = $1 where id = any($2)", parent, parts
    )
    await postgres.store.cancel(parts[:1], "ann")
    store = postgres.store

    assert [r.id for r in await store.items(parent=parent)] == parts[::-1]
    may = (await postgres.batch("may")).id
    ended = await store.items(parent=parent, state="cancelled", batch_id=may)
    assert [r.id for r in ended] == parts[:1]
    assert await store.items(parent=parent, state="ready", batch_id=may + 1) == []


# -- histories -------------------------------------------------------------------------


async def test_no_statement_reads_more_than_a_slice(postgres: World, monkeypatch):
    """A history of many megabytes comes in pieces, each a short statement."""
    worker, [item] = await postgres.take("a")
    noise = [f'"{n:08}{"é" * 300}"' for n in range(60)]
    for n, text in enumerate(noise):
        await postgres.store.commit(
            worker, [Entry(item, step(n, "read", f"s{n}", text))]
        )
    monkeypatch.setattr("pipeline.store.postgres.claims.HISTORY_BYTES", 2000)
    sent: list[int] = []
    real = postgres.store.database.fetch

    async def fetch(sql: str, *args: object) -> list[asyncpg.Record]:
        rows = await real(sql, *args)
        if "checkpoints" in sql:
            sent.append(len(rows))
        return rows

    monkeypatch.setattr(postgres.store.database, "fetch", fetch)

    found = (await postgres.store.history([item]))[item]

    assert [c.seq for c in found] == list(range(60))
    assert len(sent) > 5
    assert sum(sent) == 60
