"""
Plans: what the hot statements read, with a real backlog in the tables.

A sequential scan there is not slow today, it is slow on the day of the deadline.
Nothing is switched off to get these plans: the tables are filled and analysed, and
the statements are explained as prepared ones (a generic plan), as workers run them.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from pipeline.errors import Usage
from pipeline.store.database import Database
from pipeline.store.migrate import migrate
from pipeline.store.postgres import (
    PostgresStore,
    admission,
    births,
    budgets,
    calls,
    cancels,
    claims,
    commits,
    counts,
    effects,
    holds,
    items,
    listing,
    outbox,
    paces,
    reports,
    results,
    sessions,
    settling,
    signals,
    trees,
)
from pipeline.store.rows import Sought
from tests.store.backlog import FILL
from tests.store.conftest import Server, Urls, run

HOT = {
    *("ready", "running", "waiting", "joining", "checkpoints", "items", "outcomes"),
    *("holds", "open_children", "progress", "products"),
    *("calls", "budgets", "budget_waits", "effects", "signals"),
}
ME = UUID(int=1)
NEVER = datetime(2999, 1, 1, tzinfo=UTC)

IDS = list(range(70001, 70101))
PARENT = 50040  # waits for its children
N = len(IDS)

STATEMENTS: dict[str, tuple[str, list[Any]]] = {
    "claim": (
        claims.CLAIM,
        [
            "read",
            500,
            ME,
            list(range(1, 201, 2)),  # those at this stage
            [0.0] * 100,
            [1.0] * 100,
        ],
    ),
    "in line": (claims.IN_LINE, ["read", 100, 64]),
    "claim suspects": (claims.CLAIM_SUSPECTS, ["read", ME, 32]),
    "alive": (sessions.ALIVE, [ME]),
    "progress": (
        commits.PROGRESS,
        [IDS, ["read"] * N, [1] * N, [9] * N, [""] * N, ME],
    ),
    "products": (
        commits.PRODUCTS,
        [IDS, ["p"] * N, ["a" * 64] * N, ["{}"] * N, ["read"] * N, ME],
    ),
    "to ready": (commits.TO_READY, [IDS, ["judge"] * N, [1] * N, [0] * N, ME]),
    "to waiting": (
        commits.TO_WAITING,
        [
            *(IDS, ["read"] * N, [0] * N, [0] * N, [9.0] * N, ["X"] * N, [True] * N),
            *(["a,b"] * N, ME),
        ],
    ),
    "to joining": (commits.TO_JOINING, [IDS, ["read"] * N, [1] * N, [0] * N, ME]),
    "to held": (
        commits.TO_HELD,
        [
            IDS,
            ["read"] * N,
            [0] * N,
            *([["X"] * N] * 2),
            *([["{}"] * N, [None] * N] * 2),
            ["X"] * N,
            [False] * N,
            ["judge"] * N,
            [None] * N,
            [None] * N,
            [""] * N,
            [None] * N,
            ME,
        ],
    ),
    "finish": (
        commits.FINISH,
        [IDS, ["done"] * N, ["judge"] * N, [""] * N, [""] * N, ME],
    ),
    "put back": (sessions.PUT_BACK, [[ME], True, [], "why", None]),
    "cancel parked": (cancels.CANCEL_PARKED, [list(range(1, 50)), "ann"]),
    "cancel running": (cancels.CANCEL_RUNNING, [IDS, "ann"]),
    "retry": (cancels.RETRY, [list(range(80000, 80050)), "ann"]),
    "item": (items.ITEM + " where i.id = $1", [70001]),
    "received": (results.RECEIVED, [7, 500, 100]),
    "placed": (results.PLACED, [IDS]),
    "updates": (results.UPDATES, [IDS]),
    "products of items": (results.PRODUCTS, [IDS]),
    "callers": (calls.CALLERS, [IDS, ME]),
    "lock budgets": (
        calls.LOCK_BUDGETS,
        [["batch", "day", "tenant"], [7, 20260101, 7], ["USD"] * 3, [None] * 3],
    ),
    "read budgets": (
        calls.READ_BUDGETS,
        [["item"] * N + ["tenant"], [*IDS, 7]],
    ),
    "called": (calls.CALLED, [IDS]),
    "open of a worker": (calls.OPEN, [IDS, ME]),
    "opened": (
        calls.OPENED,
        [
            IDS,
            [3] * N,
            IDS,
            *([[7] * N] * 3),
            *([["read"] * N] * 2),
            [1] * N,
            ["llm"] * N,
            [UUID(int=n) for n in IDS],
            ["USD"] * N,
            [1] * N,
            ME,
        ],
    ),
    "settle": (
        settling.SETTLE,
        [
            *(IDS, [1] * N, [1] * N),
            *([[""] * N] * 3),
            *([[0] * N] * 5),
            ME,
        ],
    ),
    "settle lost": (settling.SETTLE_LOST, [[UUID(int=9)], "X"]),
    "change budgets": (
        settling.CHANGE,
        [["item"] * N, IDS, ["USD"] * N, *([[1] * N] * 8)],
    ),
    "begin families": (budgets.BEGIN_ITEMS, [IDS, ["USD"] * N]),
    "family": (budgets.FAMILY.format(of="$1::bigint"), [PARENT]),
    "lacking": (budgets.LACKING, ["item", 7, "USD", 200]),
    "go on": (
        budgets.GO_ON,
        [
            *(["tenant"] * 20, list(range(1, 21)), ["USD"] * 20),
            *(100, ["BUDGET_USED_UP"]),
        ],
    ),
    "take effects": (effects.TAKE, [ME, ["s1", "s2"], ["c", "c"], [8, 8]]),
    "settle effects": (
        effects.SETTLE,
        [ME, IDS, ["confirmed"] * N, [None] * N, [None] * N, [""] * N, [False] * N],
    ),
    "set effects aside": (effects.SET_ASIDE, [["s1", "s2"]]),
    "disown effects": (effects.DISOWN, [ME, IDS]),
    "return effects": (outbox.RETURN, [[ME]]),
    "open effects": (effects.COUNT_OPEN, []),
    "effects of a batch": (effects.COUNT_BATCH, [7]),
    "signals": (signals.SIGNALS, [70001, ""]),
    "answer": (signals.ANSWER, [70001, "ocr", "d", "{}", None, "x", "{}"]),
    "wake": (signals.WOKEN, [50001, "ocr"]),
    "tree": (f"{trees.PICKED} select id from picked", [PARENT, 1000, 20]),
    "spent by each": (trees.SPENT_EACH, [IDS]),
    "parents": (births.PARENTS, [[70001], ME]),
    "known": (admission.KNOWN, [1, ["k1", "k2"], 1]),
}


@pytest.fixture(scope="module")
def backlog(server: Server) -> Iterator[Urls]:
    """A database of its own with a full house, analysed."""
    urls = server.make()
    run(migrate(urls.owner))
    run(_fill(urls))
    yield urls
    server.drop(urls)


async def _fill(urls: Urls) -> None:
    con = await asyncpg.connect(urls.owner)
    try:
        await con.execute(FILL)
        await con.execute("vacuum analyze")
    finally:
        await con.close()


@pytest.fixture
async def store(backlog: Urls) -> AsyncIterator[PostgresStore]:
    """The service's store, with the settings of its connections."""
    async with PostgresStore(backlog.app) as opened:
        yield opened


async def explain(
    store: PostgresStore,
    sql: str,
    args: list[Any],
    mode: str = "force_generic_plan",
) -> list[dict[str, Any]]:
    """Every node of the plan that this statement ran with; its writes undone."""
    plans: list[str] = []

    async def work(con: asyncpg.Connection) -> None:
        await con.execute(f"set local plan_cache_mode = {mode}")
        plans.append(await con.fetchval(f"explain (analyze, format json) {sql}", *args))
        raise Usage("undo it")

    with pytest.raises(Usage):
        await store.database.tx(work)
    return list(_nodes(json.loads(plans[0])[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def scanned(nodes: list[dict[str, Any]]) -> set[str]:
    """The big tables that were read from end to end."""
    whole = {n["Relation Name"] for n in nodes if n["Node Type"] == "Seq Scan"}
    return whole & HOT


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_hot_statements_read_by_index(store: PostgresStore, name, mode):
    """No statement of workers or people reads a whole table of items."""
    nodes = await explain(store, *STATEMENTS[name], mode)

    assert scanned(nodes) == set()


@pytest.mark.parametrize("name", ["item", "put back"])
async def test_where_an_item_came_to_is_asked_without_a_call(store, name):
    """The body of `reached` is planned with the statement, not called for each row."""
    nodes = await explain(store, *STATEMENTS[name])

    assert "Function Scan" not in {
        n["Node Type"] for n in nodes if n.get("Function Name") == "reached"
    }
    assert [n for n in nodes if n.get("Relation Name") == "checkpoints"]


class Spy:
    """A database that notes the statements a store sends, and runs them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.sent: list[tuple[str, list[Any]]] = []

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        self.sent.append((sql, list(args)))
        return await self._database.fetch(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        self.sent.append((sql, list(args)))
        return await self._database.fetchval(sql, *args)


class Asked(sessions.PostgresSessions, claims.PostgresClaims, commits.PostgresCommits):
    """What workers use, over any database."""


@pytest.mark.parametrize(
    "name",
    [
        *("lines", "suspects", "history", "recorded", "owns", "renew", "wake"),
        *("open_children", "kin", "result_of", "claim"),
    ],
)
async def test_hot_questions_read_by_index(store: PostgresStore, name: str):
    """What a dispatcher asks twice a second costs as much with a full house."""
    spy = Spy(store.database)
    asked = Asked(spy)
    ask = {
        "lines": asked.lines,
        "suspects": asked.suspects,
        "history": lambda: asked.history(IDS),
        "claim": lambda: asked.claim(ME, "read", 500, {}),
        "recorded": lambda: asked.recorded(ME, 70001, 0),
        "owns": lambda: asked.owns(ME, 70001),
        "renew": lambda: asked.renew(ME, lease_s=30),
        "wake": lambda: asked.wake(100),
        "open_children": lambda: asked.open_children(PARENT),
        "kin": lambda: asked.kin(PARENT),
        "result_of": lambda: asked.result_of(70001, 0),
    }

    await ask[name]()

    nodes = [n for sql, args in spy.sent for n in await explain(store, sql, args)]
    # Whatever joins is looked at, and nothing else stands in its table.
    whole = {"joining"} if name == "wake" else set()
    assert nodes
    assert scanned(nodes) <= whole


class Looked(
    holds.PostgresHolds,
    counts.PostgresCounts,
    items.PostgresItems,
    paces.PostgresPaces,
    reports.PostgresReports,
    results.PostgresResults,
    budgets.PostgresBudgets,
):
    """What people use, over any database."""


# What people ask, and the tables that it may read from end to end: in work are no
# more than workers carry.
ASKED: dict[str, tuple[Callable[[Looked], Awaitable[Any]], set[str]]] = {
    "next": (lambda s: s.claim_next("ann", lease_s=60), set()),
    "next of a tenant": (
        lambda s: s.claim_next("ann", lease_s=60, tenant="tenant-7"),
        set(),
    ),
    "holds": (lambda s: s.holds(), set()),
    "holds of a tenant": (lambda s: s.holds(tenant="tenant-7"), set()),
    "decided": (lambda s: s.holds(decided=True), set()),
    "decided of a tenant": (lambda s: s.holds(decided=True, tenant="tenant-7"), set()),
    "holds of the common line": (lambda s: s.holds(sought=Sought(role="")), set()),
    "holds of a role": (lambda s: s.holds(sought=Sought(role="quality")), set()),
    "holds of a name": (lambda s: s.holds(sought=Sought(name="ü77")), set()),
    "decided of a name": (
        lambda s: s.holds(decided=True, batch_id=7, sought=Sought(name="n7", code="X")),
        set(),
    ),
    "counts": (lambda s: s.counts(), set()),
    "counts of a batch": (lambda s: s.counts(7), set()),
    "stages": (lambda s: s.stages(), {"running"}),
    "stages of a batch": (lambda s: s.stages(7), {"running"}),
    "in work": (lambda s: s.in_work(), {"running"}),
    "in work of a batch": (lambda s: s.in_work(batch_id=7), {"running"}),
    # There is no more of `outcomes` than is read at its end.
    "pace": (lambda s: s.pace(), {"outcomes"}),
    "pace of a batch": (lambda s: s.pace(7), {"outcomes"}),
    "limited": (lambda s: s.limited(), {"running"}),
    "limited of a batch": (lambda s: s.limited(7), {"running"}),
    "waiting": (lambda s: s.waiting(), set()),
    "waiting of a batch": (lambda s: s.waiting(7), set()),
    "in line": (lambda s: s.in_line(["read", "judge"]), set()),
    "quarantined": (lambda s: s.quarantined(), set()),
    "quarantined of a batch": (lambda s: s.quarantined(batch_id=7), set()),
    "quarantined with those taken": (lambda s: s.quarantined(taken=True), set()),
    "how batches stand": (lambda s: s.stands(), set()),
    "how a batch stands": (lambda s: s.stands([7]), set()),
    "pipelines of a batch": (lambda s: s.pipelines_of(7), set()),
    "budgets": (lambda s: s.budgets(), set()),
    "budget of an item": (lambda s: s.budget("item/90001"), set()),
    "calls of an item": (lambda s: s.calls_of(90001), set()),
    "spent": (lambda s: s.spent(), set()),
    "spent by a batch": (lambda s: s.spent(batch_id=7), set()),
    "spent by an item": (lambda s: s.spent(item=90001), set()),
    "a family": (lambda s: s.family([PARENT]), set()),
    "items": (lambda s: s.items(), set()),
    "items of a tenant": (lambda s: s.items(tenant="tenant-7"), set()),
    "items found in one": (lambda s: s.items(parent=PARENT), set()),
    "ready found in one": (lambda s: s.items(parent=PARENT, state="ready"), set()),
    # A slice of them: of all there are, each table is read whole.
    "items of a name": (
        lambda s: s.find(before=20_000, sought=Sought(name="ü77")),
        set(),
    ),
    "items of a name in a batch": (
        lambda s: s.find(batch_id=7, sought=Sought(name="n7", pipeline="p")),
        set(),
    ),
    "items of a code": (
        lambda s: s.find(before=20_000, sought=Sought(code="Y")),
        set(),
    ),
    "items at a stage": (
        lambda s: s.find(before=20_000, sought=Sought(stage="write")),
        {"running"},
    ),
    "items since": (
        lambda s: s.find(before=20_000, sought=Sought(since=NEVER)),
        {"running"},
    ),
    "held of a name": (lambda s: s.find(state="held", sought=Sought(name="x")), set()),
    **{
        f"{state} {'of a batch' if batch else ''}": (
            lambda s, state=state, batch=batch: s.items(state=state, batch_id=batch),
            set(),
        )
        for state in listing.STATES
        for batch in (None, 7)
    },
}


@pytest.mark.parametrize("name", ASKED)
async def test_what_people_ask_reads_by_index(store: PostgresStore, name: str):
    """No report walks through the items, or through what only grows."""
    ask, small = ASKED[name]
    spy = Spy(store.database)

    await ask(Looked(spy))

    nodes = [
        n
        for sql, args in spy.sent
        for n in await explain(store, sql, args, "force_custom_plan")
    ]
    assert nodes
    assert scanned(nodes) <= small


async def test_the_pace_is_read_at_the_end_of_what_grows(store: PostgresStore):
    """So many blocks, however many rows there are: 64,000 checkpoints here."""
    spy = Spy(store.database)

    pace = await Looked(spy).pace()

    through = next(sent for sent in spy.sent if "from waybill.checkpoints" in sent[0])
    read = [
        n["Actual Rows"] + n.get("Rows Removed by Filter", 0)
        for n in await explain(store, *through)
        if n.get("Relation Name") == "checkpoints"
    ]
    assert 0 < sum(read) < 40_000
    assert pace.stages == {}  # none of those has a worker


@pytest.mark.parametrize("statement", [counts.PLACES, counts.RECEIPTS])
@pytest.mark.parametrize("of", [(), (7,)])
async def test_an_audit_reads_its_slice(store: PostgresStore, statement: str, of):
    """A slice of an audit looks up its own items, whatever else there is."""
    kind = "ITEMS" if statement == counts.PLACES else "RECEIPTS"
    slice_of = getattr(counts, f"{kind}_SLICE{'_OF_BATCH' if of else ''}")

    nodes = await explain(store, statement.format(slice=slice_of), [500, 100, *of])

    assert scanned(nodes) == set()


def test_no_statement_asks_whether_it_was_asked():
    """`$1 is null or …` has one plan for two questions, and it is the slow one."""
    there = {
        path.name: found
        for path in Path(counts.__file__).parent.glob("*.py")
        if (
            found := re.findall(
                r"\$\d+(?:::[\w\[\]]+)? is (?:not )?null or", path.read_text()
            )
        )
    }

    assert there == {}


async def test_a_claim_touches_little_more_than_it_takes(store: PostgresStore):
    """A claim of 500 reads about that from 50,000: tenants, heads, its own rows."""
    nodes = await explain(store, *STATEMENTS["claim"])

    read = sum(
        n["Actual Rows"] * n["Actual Loops"]
        for n in nodes
        if n.get("Relation Name") in ("ready", "items") and "Scan" in n["Node Type"]
    )
    assert nodes[0]["Actual Rows"] == 500
    assert read < 6000


async def test_a_claim_asks_for_as_many_tenants_as_it_has_room_for(
    store: PostgresStore,
):
    """Of however many are in line: one look at the index for each it asks for."""
    read = []
    for most in (5, 64):
        nodes = await explain(store, claims.IN_LINE, ["read", 0, most])
        rows = [n for n in nodes if n.get("Relation Name") == "ready"]
        read.append(sum(n["Actual Rows"] * n["Actual Loops"] for n in rows))

    assert read == [5, 64]


@pytest.mark.parametrize("state", ["done", "cancelled"])
async def test_the_end_of_an_item_costs_its_own_rows(store: PostgresStore, state: str):
    """What the triggers on outcomes do by themselves reads no whole table either."""
    read: list[str] = []

    async def work(con: asyncpg.Connection) -> None:
        ends = [IDS, [state] * N, ["judge"] * N, [""] * N, [""] * N, ME]
        await con.execute(commits.FINISH, *ends)
        await con.execute(cancels.CANCEL_PARKED, [PARENT], "ann")
        await con.execute(cancels.RETRY, [*IDS, PARENT], "ann")
        rows = await con.fetch(
            "select relname, seq_tup_read from pg_stat_xact_user_tables"
            " where seq_tup_read > 0"
        )
        read.extend(f"{r['relname']}: {r['seq_tup_read']}" for r in rows)
        raise Usage("undo it")

    with pytest.raises(Usage):
        await store.database.tx(work)

    assert [line for line in read if line.split(":")[0] in HOT] == []
