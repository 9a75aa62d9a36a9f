"""
What PostgreSQL alone can do to a store: refuse rows, vanish, answer into the void.
Its audit trail and its reports.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg
import pytest

from pipeline.errors import NotFound, Refused, StoreUnavailable
from pipeline.model import Attempt, Entry, Finish, State, ToReady, ToWaiting
from pipeline.store.postgres import PostgresStore
from pipeline.store.rows import Origin
from pipeline.store.strikes import Blame
from tests.store.conftest import Urls
from tests.store.wire import Wire
from tests.store.world import (
    ServerClock,
    World,
    done,
    finished,
    parked,
    sent,
    step,
    waiting,
)

SESSION = """
select name, setting from pg_settings
 where name in ('transaction_isolation', 'idle_session_timeout')
"""
NUL, SURROGATE = "a \x00 in it", "lone \ud800 surrogate"


# -- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        Finish(State.FAILED, "read", "X", NUL),
        Finish(State.FAILED, "read", "X", SURROGATE),
        ToReady("read", 2**40),
        ToReady("read", 0, 10**6),
        ToWaiting("read", 0, 0, float("inf"), "for ever"),
    ],
    ids=["nul", "surrogate", "seq", "attempt", "for-ever"],
)
async def test_a_bad_value_is_refused_and_not_retried(postgres: World, bad):
    """
    What PostgreSQL or its driver cannot store is Refused: the journal then splits
    the batch.  As StoreUnavailable it would be sent again for ever.
    """
    worker, [item, neighbour] = await postgres.take("a", "b")

    with pytest.raises(Refused):
        await postgres.store.commit(
            worker, [Entry(neighbour, None, done()), Entry(item, None, bad)]
        )

    assert await postgres.states([item, neighbour]) == ["running", "running"]
    assert await postgres.move(worker, neighbour, done())


async def test_a_bad_name_is_refused_at_the_door(postgres: World):
    """A file whose name cannot be stored fails its call, and nothing is received."""
    with pytest.raises(Refused):
        await postgres.receive(sent("good"), sent(SURROGATE, key="k"))

    assert (await postgres.store.counts()).received == 0


# -- what the database prefers ---------------------------------------------------------

TRAPS = """
create schema if not exists traps;
grant usage on schema traps to public;
create or replace function traps.statement_timestamp() returns timestamptz
  language sql as $$ select '2001-01-01'::timestamptz $$;
create or replace function traps.make_interval(secs float8) returns interval
  language sql as $$ select '0'::interval $$;
alter database "{name}" set search_path = traps, pg_catalog;
alter database "{name}" set default_transaction_isolation = 'repeatable read';
alter database "{name}" set idle_session_timeout = '5s';
"""


async def test_settings_of_a_database_do_not_reach_us(
    postgres: World, shared: Urls, owner: asyncpg.Connection
):
    """Names that are found first, a snapshot that is too old, sessions cut short."""
    name = urlsplit(shared.owner).path[1:]
    await owner.execute(TRAPS.format(name=name))
    try:
        async with PostgresStore(shared.app) as store:
            worker = await store.join(Origin("h", 1, "b"), lease_s=60)
            await store.renew(worker, lease_s=60)  # raises when its lease is over
            found = await store.database.fetch(SESSION)
    finally:
        for setting in ("search_path", "default_transaction_isolation"):
            await owner.execute(f'alter database "{name}" reset {setting}')
        await owner.execute(f'alter database "{name}" reset idle_session_timeout')
        await owner.execute("drop schema traps cascade")

    assert {r["name"]: r["setting"] for r in found} == {
        "idle_session_timeout": "0",
        "transaction_isolation": "read committed",
    }


# -- a server that goes away -----------------------------------------------------------


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path):
    """Entering the store says so early, and tells no password."""
    url = f"postgresql://ann:s3cret@/waybill?host={tmp_path}"

    with pytest.raises(StoreUnavailable) as refused:
        async with PostgresStore(url):
            pass

    assert "s3cret" not in f"{refused.value} {refused.value.hint}"


async def test_a_killed_connection_is_replaced(
    postgres: World, owner: asyncpg.Connection
):
    """One call may fail; the next ones have a new connection."""
    [item] = await postgres.admit("a")
    await owner.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
        " and backend_type = 'client backend'"
    )

    try:
        row = await postgres.store.item(item)
    except StoreUnavailable:
        row = await postgres.store.item(item)

    assert row.state is State.READY


@pytest.fixture
async def wire(
    postgres: World, shared: Urls, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Wire, PostgresStore]]:
    """A second store, whose wire to the server of `postgres` can be cut."""
    parts = urlsplit(shared.app)
    host = parse_qs(parts.query).get("host", [""])[0]
    if not host.startswith("/"):
        pytest.skip("the wire stands before a unix socket")
    folder = tmp_path_factory.mktemp("wire")
    url = parts._replace(query=f"host={folder}").geturl()
    async with Wire(Path(host)).listen(folder) as between, PostgresStore(url) as store:
        yield between, store


async def test_a_lost_answer_to_commit_is_in_doubt(postgres: World, wire):
    """The commit stands; its caller is told to look, and finds its checkpoint."""
    between, store = wire
    worker, [item] = await postgres.take("a")
    entry = Entry(item, finished(0, "read", ""), done())
    between.cut_after = b"COMMIT"

    with pytest.raises(StoreUnavailable) as lost:
        await store.commit(worker, [entry])

    assert (lost.value.in_doubt, between.cuts) == (True, 1)
    assert await store.recorded(worker, item, 0)
    assert not await store.owns(worker, item)
    assert await postgres.state(item) is State.DONE


async def test_a_lost_answer_before_commit_is_not_in_doubt(postgres: World, wire):
    """Cut earlier, nothing stands, and it may simply be done again."""
    between, store = wire
    worker, [item] = await postgres.take("a")
    entry = Entry(item, finished(0, "read", ""), done())
    between.cut_after = b"insert into waybill.checkpoints"

    with pytest.raises(StoreUnavailable) as lost:
        await store.commit(worker, [entry])

    assert (lost.value.in_doubt, between.cuts) == (False, 1)
    assert await store.commit(worker, [entry]) == [True]


async def test_a_claim_whose_answer_was_lost_is_disowned(postgres: World, wire):
    """The worker owns what it never heard of, and gives it back."""
    between, store = wire
    [item] = await postgres.admit("a")
    worker = await postgres.join()
    await store.claim(worker, "write", 10, {})  # prepares the statement
    between.cut_after = worker.bytes

    with pytest.raises(StoreUnavailable):
        await store.claim(worker, "read", 10, {})

    assert await postgres.state(item) is State.RUNNING
    assert await store.disown(worker, []) == 1
    assert await postgres.state(item) is State.READY


async def test_a_cancelled_caller_leaves_no_transaction_open(
    postgres: World, owner: asyncpg.Connection
):
    """A deadline that strikes in a commit does not cut it: it stands, whole."""
    worker, items = await postgres.take(*"abcdef")

    for item in items:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await postgres.store.commit(worker, [Entry(item, None, done())])

    left = await owner.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and state like 'idle in transaction%'"
    )
    assert left == 0
    assert set(await postgres.states(items)) == {"done"}


# -- the audit trail -------------------------------------------------------------------


async def audit(owner: asyncpg.Connection, item: int) -> list[tuple[str, str]]:
    """Event and actor of each record of an item; a worker's id as "worker"."""
    rows = await owner.fetch(
        "select event, actor from waybill.audit where item_id = $1 order by id", item
    )
    return [
        (r["event"], re.sub(r"^[0-9a-f]{8}-.*", "worker", r["actor"])) for r in rows
    ]


async def test_every_transition_leaves_one_record(
    postgres: World, owner: asyncpg.Connection
):
    """From receipt to its end each move by hold, person or reaper is on record."""
    hold = await postgres.hold(after="judge")
    item = hold.item_id
    await postgres.decide(hold, author="ann")
    await postgres.store.cancel([item], "bob")
    await postgres.store.retry([item], "cid")
    for _ in range(2):
        await postgres.died_with(item)
    for _ in range(2):
        await postgres.died_with(item, suspects=True)

    records = await audit(owner, item)

    assert records == [
        ("received", "admission"),
        ("held", "worker"),
        ("decided_approve", "ann"),
        ("cancelled", "bob"),
        ("retried", "cid"),
        ("worker_died", "reaper"),
        ("worker_died", "reaper"),
        ("worker_died", "reaper"),
        ("failed", "reaper"),
        ("worker_died", "reaper"),
    ]


async def test_an_end_by_its_worker_is_on_record(
    postgres: World, owner: asyncpg.Connection
):
    """That an item is done stands in its timeline like every other transition."""
    worker, [item] = await postgres.take("a")

    await postgres.store.commit(worker, [Entry(item, None, done())])

    assert (await audit(owner, item))[1:] == [("done", "worker")]


async def test_the_record_says_for_whom_a_worker_ended(
    postgres: World, owner: asyncpg.Connection
):
    """Its neighbours were put back; for the one that is named the worker died."""
    worker, [evil, good] = await postgres.take("evil", "good")

    await postgres.store.leave(worker, died=True, blamed=Blame(evil))

    assert (await audit(owner, evil))[1:] == [("worker_died", "reaper")]
    assert (await audit(owner, good))[1:] == [("put_back", "reaper")]


async def test_a_refused_commit_leaves_no_record(
    postgres: World, owner: asyncpg.Connection
):
    """What did not happen is not on record: the audit is in the transaction."""
    worker, [item, other] = await postgres.take("a", "b")
    bad = Finish(State.FAILED, "read", "X", NUL)

    with pytest.raises(Refused):
        await postgres.store.commit(
            worker, [Entry(other, None, done()), Entry(item, None, bad)]
        )
    await postgres.move(worker, item, done())
    await postgres.move(worker, item, done())

    assert await audit(owner, item) == [("received", "admission"), ("done", "worker")]
    assert await audit(owner, other) == [("received", "admission")]


# -- reports ---------------------------------------------------------------------------


async def test_the_timeline_tells_everything_in_order(postgres: World):
    """Receipt, steps, failed tries, stages, hold and ruling of one item."""
    worker, [item] = await postgres.take("a")
    tried = Attempt("read", 0, "TRANSIENT", "line dropped", True)
    for entry in (
        Entry(item, step(0, "read", "page-1")),
        Entry(item, None, ToReady("read", 1, 1), tried),
    ):
        await postgres.store.commit(worker, [entry])
    await postgres.claim(worker)
    await postgres.store.commit(worker, [Entry(item, finished(1, "read", "judge"))])
    await postgres.move(worker, item, parked(2, stage="judge", after=""))
    await postgres.decide(await postgres.store.hold_of(item), author="ann")

    events = await postgres.store.timeline(item)

    told = [(e.event, e.stage) for e in events]
    assert told[:5] == [
        ("received", "read"),
        ("step", "read"),
        ("attempt", "read"),
        ("stage", "read"),
        ("held", "judge"),
    ]
    assert {(e.event, e.actor) for e in events[5:]} == {
        ("decided_approve", "ann"),
        ("approve", "ann"),
        ("ruled", "reviewer"),
    }
    assert "line dropped" in events[2].detail


async def test_items_are_listed_by_state(postgres: World):
    """Each of the eight words lists its items and no others."""
    worker, items = await postgres.take(*"abcdefgh")
    moves = [
        ToReady("judge", 0),
        None,
        waiting(60),
        parked(),
        done(),
        Finish(State.REJECTED, "read"),
        Finish(State.FAILED, "read"),
        Finish(State.CANCELLED, "read"),
    ]
    await postgres.store.commit(
        worker, [Entry(i, None, m) for i, m in zip(items, moves, strict=True)]
    )

    listed = {s: await postgres.store.items(state=s.value) for s in State}

    assert {s: [r.id for r in rows] for s, rows in listed.items()} == {
        s: [i] for s, i in zip(State, items, strict=True)
    }
    assert len(await postgres.store.items(limit=5)) == 5
    assert await postgres.store.items(tenant="nobody") == []


async def test_status_counts_what_stands_at_each_stage(postgres: World):
    """A running item counts at the stage that it reached."""
    worker, [carried, parked_, _] = await postgres.take("a", "b", "c")
    await postgres.store.commit(worker, [Entry(carried, finished(0, "read", "judge"))])
    await postgres.move(worker, parked_, parked())
    await postgres.admit("d")

    rows = {r.stage: r[1:] for r in await postgres.store.stages()}

    assert rows == {"read": (1, 1, 0, 1), "judge": (0, 1, 0, 0)}


async def test_quarantined_files_are_listed(postgres: World):
    """With code, reason and where their bytes lie."""
    bad = sent(
        "a.pdf", refused_code="PDF_ENCRYPTED", refused_why="locked", kept_at="q/a.pdf"
    )
    await postgres.receive(bad, sent("b.pdf"))

    [row] = await postgres.store.quarantined()

    assert (row.name, row.code, row.why, row.kept_at) == (
        "a.pdf",
        "PDF_ENCRYPTED",
        "locked",
        "q/a.pdf",
    )


async def test_a_file_taken_since_is_no_longer_in_quarantine(postgres: World):
    """By its delivery or its bytes, of this tenant; older items do not count."""
    await postgres.receive(sent("old", "k0"))
    bad = {"refused_code": "PDF_ENCRYPTED"}
    await postgres.receive(*(sent(n, f"k{i}", **bad) for i, n in enumerate("abc")))
    await postgres.receive(sent("d", "big", token="once", **bad))
    await postgres.receive(sent("d", "k4", token="once"), sent("again", "k1"))
    theirs = await postgres.batch("may", tenant="bravo")
    await postgres.receive(sent("c", "k2"), batch=theirs)

    left = await postgres.store.quarantined()
    kept = await postgres.store.quarantined(taken=True)

    assert [row.name for row in left] == ["c", "a"]
    assert [(row.name, row.item is None) for row in kept] == [
        ("d", False),
        ("c", True),
        ("b", False),
        ("a", True),
    ]


@pytest.mark.parametrize(("code", "listed"), [("PDF_CORRUPT", True), ("BLANK", False)])
async def test_bytes_that_were_refused_again_were_not_taken(
    postgres: World, code: str, listed: bool
):
    """An item of the same bytes, a bundle's part, that ended as the file did."""
    await postgres.receive(sent("a.pdf", "k1", refused_code="PDF_CORRUPT"))
    [part] = await postgres.receive(sent("post.zip › a.pdf", "k1"))
    assert part.item_id is not None
    worker = await postgres.join()
    await postgres.claim(worker)
    await postgres.move(worker, part.item_id, Finish(State.REJECTED, "read", code))

    left = await postgres.store.quarantined()

    assert [row.name for row in left] == ["a.pdf"] * listed


async def test_a_batch_is_found_by_number_or_name(postgres: World):
    """A name that two tenants use must be told apart."""
    ours = await postgres.batch("may")
    theirs = await postgres.batch("may", tenant="bravo")

    found = [
        (await postgres.store.find_batch(name)).id
        for name in (str(ours.id), "acme/may", "bravo/may")
    ]

    assert found == [ours.id, ours.id, theirs.id]
    for name in ("june", "acme/june", "0"):
        with pytest.raises(NotFound):
            await postgres.store.find_batch(name)
    with pytest.raises(NotFound, match=r"2 batches .* acme/may \(.* bravo/may") as told:
        await postgres.store.find_batch("may")
    assert told.value.code == "AMBIGUOUS"


async def test_a_batch_is_found_by_whatever_is_printed_of_it(postgres: World):
    """Names with slashes as well; what is printed means one batch, come what may."""
    weeks = await postgres.batch("2026/week1")
    other = await postgres.batch("acme/2026/week1", tenant="bravo")
    number = await postgres.batch(str(weeks.id))

    found = {
        name: (await postgres.store.find_batch(name)).id
        for name in (
            *("acme/2026/week1", "2026/week1", "bravo/acme/2026/week1"),
            *(f"acme/{weeks.id}", str(other.id)),
        )
    }

    assert list(found.values()) == [weeks.id, weeks.id, other.id, number.id, other.id]
    with pytest.raises(NotFound, match=f"acme/{weeks.id} "):
        await postgres.store.find_batch(str(weeks.id))  # a name, and a number


async def test_ahead_counts_who_is_served_before(postgres: World):
    """Items of the tenant with an earlier deadline, or the same and older."""
    [late] = await postgres.admit("late", batch="late", deadline_s=900)
    await postgres.admit("a", batch="soon", deadline_s=100)
    await postgres.admit("b", tenant="bravo", deadline_s=1)

    assert await postgres.store.ahead(late) == 1


async def test_the_clock_is_the_servers(postgres: World, owner: asyncpg.Connection):
    """Ownership follows waybill.clock(), whatever a worker's machine thinks."""
    worker, [item] = await postgres.take("a")

    await ServerClock(owner).advance(-3600)
    kept = await postgres.store.renew(worker, lease_s=30)
    await ServerClock(owner).advance(3600)

    assert kept == []
    assert [s.left_s < 0 for s in await postgres.store.sessions()] == [True]
    assert await postgres.state(item) is State.RUNNING


async def test_whether_its_role_is_the_owner_is_told(postgres: World, shared: Urls):
    """Who owns the tables may drop them: no role for a service."""
    assert (await postgres.store.health())["owns"] is False
    async with PostgresStore(shared.owner) as store:
        assert (await store.health())["owns"] is True
