"""
Migrations: applied once, checked for ever; and what the service's role may not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest

from pipeline.errors import Integrity, StoreUnavailable, Usage
from pipeline.store.migrate import APP_ROLE, available, migrate
from pipeline.store.postgres import PostgresStore
from tests.store.conftest import Server, Urls

OLD_ITEM = """
with t as (insert into waybill.tenants (name) values ('t') returning id),
p as (insert into waybill.pipelines (name, version, stages, files)
      values ('p', 'v', '{read}', '{}') returning id),
b as (insert into waybill.batches (tenant_id, name, deadline_at)
      select id, 'b', now() + interval '1 day' from t returning id, tenant_id),
i as (insert into waybill.items (tenant_id, batch_id, pipeline_id, pipeline, name, key,
                                 deadline_at, input)
      select b.tenant_id, b.id, p.id, 'p', 'n', 'k', now() + interval '1 day', '{}'
        from b, p returning id, tenant_id, batch_id),
r as (insert into waybill.receipts (batch_id, token, name, key, size_bytes, disposal,
                                    item_id)
      select batch_id, 't', 'n', 'k', 1, 'item', id from i)
insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select id, 'read', tenant_id, now() + interval '1 day', 0 from i returning item_id
"""
TABLES = "select count(*) from pg_tables where schemaname = 'waybill'"


async def owner_says(urls: Urls, sql: str) -> object:
    """One value, asked (or one change made) by the owner."""
    con = await asyncpg.connect(urls.owner)
    try:
        return await con.fetchval(sql)
    finally:
        await con.close()


async def test_an_empty_database_gets_everything(empty_database: Urls):
    """All files are applied, in the order of their numbers, and the store works."""
    names = (await migrate(empty_database.owner)).applied

    assert names == [m.name for m in available()] == sorted(names)
    async with PostgresStore(empty_database.app) as store:
        assert (await store.counts()).conserved
        assert await store.schema_version() == available()[-1].number


async def test_migrating_twice_is_nothing(empty_database: Urls):
    """The second time there is nothing to do, and nothing is touched."""
    await migrate(empty_database.owner)
    before = await owner_says(
        empty_database, "select max(applied_at) from waybill.migrations"
    )

    again = await migrate(empty_database.owner)

    assert again == ([], True)
    assert before == await owner_says(
        empty_database, "select max(applied_at) from waybill.migrations"
    )


async def test_two_at_once_apply_once(empty_database: Urls):
    """Of processes that start together, one applies each file."""
    applied: list[str] = []

    async def one() -> None:
        applied.extend((await migrate(empty_database.owner)).applied)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(one)

    assert sorted(applied) == [m.name for m in available()]


SLOW_OWNER = (
    # As a migration whose transaction began before the first one's end.
    "default_transaction_isolation = 'serializable'",
    "lock_timeout = '1ms'",
    "search_path = pg_temp",
    "timezone = 'Pacific/Kiritimati'",
)


async def test_what_the_database_prefers_is_not_for_a_migration(empty_database: Urls):
    """Settings of a database or a role, for shorter sessions: two at once go on."""
    name = urlsplit(empty_database.owner).path[1:]
    for setting in SLOW_OWNER:
        await owner_says(empty_database, f'alter database "{name}" set {setting}')
    applied: list[str] = []

    async def one() -> None:
        applied.extend((await migrate(empty_database.owner)).applied)

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(one)

    assert sorted(applied) == [m.name for m in available()]


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def few_letters(server: Server, request: pytest.FixtureRequest) -> Iterator[Urls]:
    """An empty database of another encoding."""
    urls = server.make(f"encoding '{request.param}' locale 'C' template template0")
    yield urls
    server.drop(urls)


async def test_a_database_that_is_not_utf8_is_refused(few_letters: Urls):
    """Before anything is made in it: a letter that it cannot hold would come later."""
    with pytest.raises(Usage, match="UTF8"):
        await migrate(few_letters.owner)

    assert await owner_says(few_letters, TABLES) == 0


async def test_functions_are_granted_where_nobody_may_call_them(empty_database: Urls):
    """As a database is hardened: what is made later is its owner's alone."""
    harden = "alter default privileges revoke execute on functions from public"
    soften = "alter default privileges grant execute on functions to public"
    await owner_says(empty_database, harden)
    await migrate(empty_database.owner)

    try:
        async with PostgresStore(empty_database.app) as store:
            await store.wake()
            assert await store.holds() == []
    finally:
        await owner_says(empty_database, soften)


async def test_a_file_changed_after_it_was_applied_is_an_error(empty_database: Urls):
    """Two installations must not differ in silence."""
    await migrate(empty_database.owner)
    await owner_says(
        empty_database, "update waybill.migrations set checksum = 'other' returning 1"
    )

    with pytest.raises(Integrity) as refused:
        await migrate(empty_database.owner)

    assert (refused.value.code, refused.value.exit_code) == ("SCHEMA_CHECKSUM", 8)


async def test_a_newer_database_is_left_alone(empty_database: Urls):
    """An older version says that it is older, and changes nothing."""
    await migrate(empty_database.owner)
    await owner_says(
        empty_database,
        "insert into waybill.migrations values (9999, '9999_x.sql', 'x') returning 1",
    )

    with pytest.raises(Integrity) as refused:
        await migrate(empty_database.owner)

    assert refused.value.code == "SCHEMA_NEWER"
    assert "9999" in str(refused.value)


async def test_a_migration_that_fails_leaves_nothing_behind(
    empty_database: Urls, monkeypatch: pytest.MonkeyPatch
):
    """Half a file is no file: it is one transaction, and can be tried again."""
    real = available()
    broken = real[0]._replace(sql=real[0].sql + "\nselect 1 / 0;")
    monkeypatch.setattr("pipeline.store.migrate.available", lambda: [broken])

    with pytest.raises(StoreUnavailable, match="DivisionByZeroError"):
        await migrate(empty_database.owner)

    assert await owner_says(empty_database, TABLES) == 0
    monkeypatch.undo()
    applied, _ = await migrate(empty_database.owner)
    assert applied == [m.name for m in real]


async def test_an_older_database_keeps_its_items(
    empty_database: Urls, monkeypatch: pytest.MonkeyPatch
):
    """Items of the first schema go on under the newest one."""
    real = available()
    monkeypatch.setattr("pipeline.store.migrate.available", lambda: real[:1])
    await migrate(empty_database.owner)
    monkeypatch.undo()
    await owner_says(empty_database, OLD_ITEM)

    applied, _ = await migrate(empty_database.owner)

    assert applied == [m.name for m in real[1:]]
    async with PostgresStore(empty_database.app) as store:
        assert (await store.counts()).live == 1
        assert await store.cancel([1], "ann") == {1: "cancelled"}
        assert await store.retry([1], "ann") == {1: "ready"}


async def test_who_joined_before_goes_on_joining(
    empty_database: Urls, monkeypatch: pytest.MonkeyPatch
):
    """Rows of `waiting` that meant children are in their own place; others stay."""
    real = available()
    monkeypatch.setattr("pipeline.store.migrate.available", lambda: real[:2])
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
                     from waybill.items, unnest(array['JOIN', 'X']) n
                   returning *)
        insert into waybill.waiting (item_id, stage, tenant_id, deadline_at, seq,
                                     attempt, until, why)
        select id, 'read', tenant_id, deadline_at, 3, 1, deadline_at, substr(name, 2)
          from i returning 1
        """,
    )

    await migrate(empty_database.owner)

    async with PostgresStore(empty_database.app) as store:
        found = {r.name: r for r in await store.items(state="waiting")}
        assert {n: r.joining for n, r in found.items()} == {"kJOIN": True, "kX": False}
        assert (found["kJOIN"].stage, found["kJOIN"].attempt) == ("read", 1)
        assert await store.astray() == []
        assert (await store.wake())[0] == 1  # it has no open child


async def test_what_was_printed_before_is_a_product(
    empty_database: Urls, monkeypatch: pytest.MonkeyPatch
):
    """The newest value that names an artifact, of the stages and not of their steps."""
    real = available()
    monkeypatch.setattr("pipeline.store.migrate.available", lambda: real[:2])
    await migrate(empty_database.owner)
    monkeypatch.undo()
    await owner_says(empty_database, OLD_ITEM)
    await owner_says(
        empty_database,
        """
        insert into waybill.checkpoints (item_id, seq, stage, step, update, took_s)
        values (1, 0, 'output', null, '{"printed": {"artifact": "a", "pages": 1}}', 0),
               (1, 1, 'output', null, '{"printed": {"artifact": "b", "pages": 2}}', 0),
               (1, 2, 'output', null, '{"text": "x", "verdict": {"a": 1}}', 0),
               (1, 3, 'output', 's', '{"printed": {"artifact": "c"}}', 0),
               (1, 4, 'output', null, null, 0), (1, 5, 'output', null, '[1]', 0)
        returning 1
        """,
    )

    await migrate(empty_database.owner)

    made = await owner_says(
        empty_database,
        "select string_agg(concat_ws(' ', item_id, name, artifact, facts, stage), ';')"
        " from waybill.products",
    )
    assert made == '1 printed b {"pages": 2} output'


OLD_HOLDS = """
with h as (
  insert into waybill.holds (item_id, stage, tenant_id, deadline_at, seq, code, why,
                             shown, proposal, digest, again, next_stage, open)
  select item_id, stage, tenant_id, deadline_at, seq, 'LOOK', 'why', '{"n": 1.50}',
         '{"a": ["ü"]}', 'of another version', false, '', open
    from waybill.ready, unnest(array[false, true]) open returning id, open),
gone as (delete from waybill.ready)
insert into waybill.decisions (hold_id, verb, author, reason, digest)
select id, 'approve', 'ann', '', 'of another version' from h where not open returning 1
"""


async def test_holds_of_before_are_decided_and_shown(
    empty_database: Urls, monkeypatch: pytest.MonkeyPatch
):
    """Nobody changed their rows: neither of the open one nor of the decided one."""
    real = available()
    monkeypatch.setattr("pipeline.store.migrate.available", lambda: real[:6])
    await migrate(empty_database.owner)
    monkeypatch.undo()
    await owner_says(empty_database, OLD_ITEM)
    await owner_says(empty_database, OLD_HOLDS)

    await migrate(empty_database.owner)

    async with PostgresStore(empty_database.app) as store:
        [hold], [before] = await store.holds(), await store.holds(decided=True)
        assert (hold.changed, before.changed) == (False, False)
        ruled = await store.decide(
            hold.id,
            verb="approve",
            author="bob",
            reason="",
            digest=hold.digest,
            update="{}",
        )
        assert ruled.decision is not None
        await owner_says(
            empty_database, "update waybill.holds set why = 'other' returning 1"
        )
        assert (await store.hold(hold.id)).changed


async def test_the_service_may_work_after_each_file(
    empty_database: Urls, monkeypatch: pytest.MonkeyPatch
):
    """A later one may fail, and workers run meanwhile: triggers write new tables."""
    known = available()
    after = known[-1].number + 1
    broken = known[-1]._replace(number=after, sql="select 1 / 0;")
    monkeypatch.setattr("pipeline.store.migrate.available", lambda: [*known, broken])

    with pytest.raises(StoreUnavailable):
        await migrate(empty_database.owner)

    async with PostgresStore(empty_database.app) as store:
        assert (await store.wake())[0] == 0
        assert await store.schema_version() == known[-1].number


# -- the service's role ----------------------------------------------------------------


@pytest.fixture
async def app(shared: Urls):
    """A connection as the service has it."""
    con = await asyncpg.connect(shared.app)
    yield con
    await con.close()


async def test_the_service_is_nobody_special(app: asyncpg.Connection):
    """It is no superuser, bypasses no policy, owns nothing and creates no roles."""
    row = await app.fetchrow(
        "select current_user::text as name, rolsuper, rolbypassrls, rolcreaterole,"
        " rolcreatedb from pg_roles where rolname = current_user"
    )
    owned = await app.fetchval(
        "select count(*) from pg_class where relowner = current_user::regrole"
    )

    assert tuple(row) == (APP_ROLE, False, False, False, False)
    assert owned == 0


@pytest.mark.parametrize(
    "sql",
    [
        "alter table waybill.items add column x int",
        "drop table waybill.checkpoints",
        "truncate waybill.items cascade",
        "create table waybill.mine (x int)",
        "create table public.mine (x int)",
        "create schema mine",
        "create or replace function waybill.clock() returns timestamptz"
        " language sql as 'select now()'",
        "update waybill.audit set actor = 'nobody'",
        "delete from waybill.audit",
        "truncate waybill.audit",
        "alter table waybill.audit disable trigger all",
        "alter table waybill.outcomes disable trigger all",
        "drop trigger outcome_stands on waybill.outcomes",
        "create or replace function waybill.outcome_stands() returns trigger"
        " language plpgsql as 'begin return null; end'",
        "update waybill.migrations set checksum = ''",
        "insert into waybill.migrations values (9999, 'x', 'x')",
        "delete from waybill.migrations",
        f"alter role {APP_ROLE} bypassrls",
        f"alter role {APP_ROLE} superuser",
        "set session_replication_role = replica",
        "copy (select 1) to program 'true'",
        "select pg_read_file('/etc/passwd')",
    ],
)
async def test_the_service_cannot_change_the_rules(app: asyncpg.Connection, sql: str):
    """Not the schema, not the clock, not the past, not its own rights."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(sql)


async def test_the_service_cannot_become_the_owner(app: asyncpg.Connection):
    """The role that may change the schema is out of its reach."""
    if await app.fetchval("select session_user::text") != APP_ROLE:
        pytest.skip("on a server of one's own the tests only act as the role")
    owner = await app.fetchval(
        "select tableowner::text from pg_tables"
        " where schemaname = 'waybill' and tablename = 'items'"
    )

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(f'set role "{owner}"')
