"""
Migrations: numbered plain-SQL files, applied once, checked for ever.

Each file of `schema/` runs in its own transaction, in the order of its number,
under an advisory lock, so that two processes that start at once apply it once.
The sha256 of what was applied is kept: a file that changed afterwards is an
error and not a silent difference between two installations.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

import asyncpg

from pipeline.errors import Integrity

# Arbitrary, fixed: every Waybill that migrates the same database must agree.
LOCK = 0x7761_7962_696C_6C01

# The role the service runs as: it owns nothing and cannot bypass a policy.
APP_ROLE = "waybill_app"


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
    if await con.fetchval("select to_regclass('waybill.migrations')") is None:
        return {}
    rows = await con.fetch("select number, checksum from waybill.migrations")
    return {row["number"]: row["checksum"] for row in rows}


async def migrate(url: str) -> list[str]:
    """
    Bring the database at `url` up to date, as its owner; return what was applied.

    Raises:
        Integrity: an applied file differs from the one in this version, or the
            database is newer than this version.
    """
    con = await asyncpg.connect(url, timeout=10)
    try:
        await con.execute("select pg_advisory_lock($1)", LOCK)
        try:
            return await _apply(con)
        finally:
            await con.execute("select pg_advisory_unlock($1)", LOCK)
    finally:
        await con.close()


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


async def _apply(con: asyncpg.Connection) -> list[str]:
    todo = check(available(), await applied(con))
    for migration in todo:
        async with con.transaction():
            # A lock that cannot be had soon must not queue behind it everything
            # that the running service does.
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
    if todo:
        await con.execute(
            f"""
            do $$ begin
              if exists (select from pg_roles where rolname = '{APP_ROLE}') then
                grant usage on schema waybill to {APP_ROLE};
                grant select, insert, update, delete
                  on all tables in schema waybill to {APP_ROLE};
                revoke insert, update, delete on waybill.migrations from {APP_ROLE};
                revoke update, delete on waybill.audit from {APP_ROLE};
              end if;
            end $$
            """  # noqa: S608 - the role's name is our constant
        )
    return [m.name for m in todo]
