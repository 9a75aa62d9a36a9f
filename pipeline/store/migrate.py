"""
Migrations: numbered plain-SQL files, applied once, checked for ever.

Each file of `schema/` runs in its own transaction, in the order of its number,
under an advisory lock, so that two processes that start at once apply it once.  The
lock ends with the transaction: a pooler may lend the session to others after it.
The sha256 of what was applied is kept: a file that changed afterwards is an
error and not a silent difference between two installations.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from pipeline.errors import Integrity, StoreUnavailable, Usage
from pipeline.store.connection import AWAY, CONNECT_S, FAILURES, Line

# Arbitrary, fixed: every Waybill that migrates the same database must agree.
LOCK = 0x7761_7962_696C_6C01

# The role the service runs as: it owns nothing and cannot bypass a policy.
APP_ROLE = "waybill_app"


_IS_THERE = """
select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = 'waybill' and c.relname = 'migrations')
"""
# Whether the role lacks nothing of what `_grant` grants: asked at every start of the
# embedded server, while a grant writes.
_MAY_WORK = """
select has_schema_privilege($1, 'waybill', 'usage') and not exists (
  select from pg_class c
   cross join unnest('{select,insert,update,delete}'::text[]) as may
   where c.relnamespace = 'waybill'::regnamespace and c.relkind in ('r', 'v')
     and not (c.relname = 'migrations' and may <> 'select')
     and not (c.relname = 'audit' and may in ('update', 'delete'))
     and not has_table_privilege($1, c.oid, may))
 and not exists (
  select from pg_proc p where p.pronamespace = 'waybill'::regnamespace
     and not has_function_privilege($1, p.oid, 'execute'))
"""


# What the owner's role prefers is not for a migration; names that this server's
# version does not have are left out.
_UNHURRIED = """
select pg_catalog.set_config(name, '0', true) from pg_catalog.pg_settings
 where name in ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                'idle_in_transaction_session_timeout');
set local search_path = pg_catalog;
"""


class Migration(NamedTuple):
    """One file of `schema/`."""

    number: int
    name: str
    sql: str
    checksum: str


def available() -> list[Migration]:
    """The migrations this version knows, by number."""
    found = []
    for entry in files("pipeline.store").joinpath("schema").iterdir():
        if entry.name.endswith(".sql"):
            sql = entry.read_text(encoding="utf-8")
            digest = hashlib.sha256(sql.encode()).hexdigest()
            found.append(Migration(int(entry.name[:4]), entry.name, sql, digest))
    return sorted(found)


async def applied(con: asyncpg.Connection) -> dict[int, str]:
    """Number and checksum of each applied migration; {} on an empty database."""
    if not await con.fetchval(_IS_THERE):
        return {}
    rows = await con.fetch("select number, checksum from waybill.migrations")
    return {row["number"]: row["checksum"] for row in rows}


class Migrated(NamedTuple):
    """What `migrate` did."""

    applied: list[str]
    granted: bool  # to the service's role; False: there is no such role yet


async def migrate(url: str, variable: str = "WAYBILL_OWNER_URL") -> Migrated:
    """
    Bring the database at `url` up to date, as its owner, straight or by a pooler.

    What the service's role may do is granted each time: it may have been made since.

    Args:
        variable: The setting that `url` comes from, for what is said to people.

    Raises:
        Integrity: an applied file differs from the one in this version, or the
            database is newer than this version.
        StoreUnavailable, Usage: it cannot be had, or its owner is somebody else.
    """
    line = Line(url, variable)
    try:
        # Prepared in its transaction and gone with it, whoever stands in between.
        con = await asyncpg.connect(url, timeout=CONNECT_S, statement_cache_size=0)
    except FAILURES as error:
        raise line.unreachable(error) from None
    try:
        names = []
        while name := await _apply_next(con):
            names.append(name)
        async with _alone(con):
            return Migrated(names, await _grant(con))
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        raise StoreUnavailable(
            "the running service holds what a migration must change",
            hint="try again, or stop it for a moment",
        ) from None
    except AWAY as error:
        raise line.said(error, otherwise="the migration was not finished") from None
    finally:
        await con.close(timeout=CONNECT_S)


def check(known: list[Migration], done: dict[int, str]) -> list[Migration]:
    """
    The migrations still to apply.

    Raises:
        Integrity: see `migrate`.
    """
    by_number = {m.number: m for m in known}
    for number, checksum in sorted(done.items()):
        if number not in by_number:
            raise Integrity(
                f"the database has migration {number:04d}, which this version "
                "does not know",
                code="SCHEMA_NEWER",
                hint="run the newer version of Waybill",
            )
        if by_number[number].checksum != checksum:
            raise Integrity(
                f"migration {by_number[number].name} changed after it was applied",
                code="SCHEMA_CHECKSUM",
                hint="restore the file; write a new migration for the change",
            )
    return [m for m in known if m.number not in done]


@asynccontextmanager
async def _alone(con: asyncpg.Connection) -> AsyncIterator[None]:
    """A transaction that sees what those before it have committed."""
    async with con.transaction(isolation="read_committed"):
        await con.execute(_UNHURRIED)
        await con.execute(f"select pg_advisory_xact_lock({LOCK})")
        yield


async def _apply_next(con: asyncpg.Connection) -> str | None:
    """Apply one migration; its name, or None when nothing is left."""
    async with _alone(con):
        done = await applied(con)
        todo = check(available(), done)
        if not todo:
            return None
        if not done and await con.fetchval("show server_encoding") != "UTF8":
            raise Usage(
                "this database cannot hold every character: its encoding is not UTF8",
                hint="make another: create database … encoding 'UTF8' template "
                "template0",
            )
        migration = todo[0]
        # A lock that cannot be had soon must not queue behind it everything that
        # the running service does.
        await con.execute("set local lock_timeout = '5s'")
        await con.execute(migration.sql)
        await con.execute(
            """
            create table if not exists waybill.migrations (
              number int primary key, name text not null,
              checksum text not null, applied_at timestamptz not null default now())
            """
        )
        await con.execute(
            "insert into waybill.migrations (number, name, checksum)"
            " values ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
        # With it, or workers that run could not write until the last one is applied.
        await _grant(con)
    return migration.name


async def _grant(con: asyncpg.Connection) -> bool:
    """What the service's role needs; False: there is none."""
    if not await con.fetchval("select 1 from pg_roles where rolname = $1", APP_ROLE):
        return False
    if not await con.fetchval(_MAY_WORK, APP_ROLE):
        await con.execute(
            f"""
            grant usage on schema waybill to {APP_ROLE};
            grant select, insert, update, delete
              on all tables in schema waybill to {APP_ROLE};
            grant execute on all functions in schema waybill to {APP_ROLE};
            revoke insert, update, delete on waybill.migrations from {APP_ROLE};
            revoke update, delete on waybill.audit from {APP_ROLE};
            """
        )
    return True
