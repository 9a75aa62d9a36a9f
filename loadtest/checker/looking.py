"""
Looks at a run: all that is asked of the database, in one snapshot each.

While faults run, the database may be away, restarted or another one: a look that was
broken off has found nothing, and the next one waits until it is there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from loadtest.checker import books as vendors
from loadtest.checker.checks import Check, Found, Query
from loadtest.checker.ended import ENDED
from loadtest.checker.memory import FENCED, KEPT, SAME, Memory
from loadtest.checker.safety import SAFETY
from loadtest.checker.submitted import CHECKS, compare, lines

STATEMENT_S = 300.0  # a million items are scanned in less
CONNECT_S = 5.0
RETRY_S = 0.5
# Looks are a tenth of the time at most, however large the tables grow: what judges
# must not be what slows down.
SHARE = 9.0

AWAY = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, TimeoutError)
# A server that ends, begins or follows another one; and a backend that was ended.
NOT_NOW = (
    asyncpg.OperatorInterventionError,
    asyncpg.CannotConnectNowError,
    asyncpg.QueryCanceledError,
    asyncpg.SerializationError,
    asyncpg.InternalClientError,
    asyncpg.UndefinedTableError,  # the service has not begun yet
    asyncpg.InvalidSchemaNameError,
)

EVERY_CHECK: tuple[Check, ...] = (
    *(query.check for query in (*SAFETY, *ENDED)),
    *(KEPT, SAME, FENCED, *CHECKS),
    *(vendors.ONCE, vendors.REALLY_DONE, vendors.OWN_EFFECTS),
)

Results = dict[str, Found]


@dataclass
class Checker:
    """One run's folder, its database and the vendors' books."""

    run: Path
    database: str
    books: Sequence[Path]
    memory: Memory
    say: Callable[[str], None]
    last: Results = field(default_factory=dict, init=False)

    async def safety(self) -> Results:
        """One look while faults run; what it found is remembered."""
        return await self._there(ended=False)

    async def all(self, patience_s: float) -> Results:
        """
        The look after the faults: every check.

        Raises:
            TimeoutError: the database was away for so long.
        """
        with anyio.fail_after(patience_s):
            return await self._there(ended=True)

    async def follow(self, every_s: float) -> None:
        """
        Look again and again until cancelled.

        What a look found is in `last`; one that is broken off leaves nothing there.
        """
        while True:
            began = time.monotonic()
            self.last = results = await self.safety()
            took = time.monotonic() - began
            broken = [name for name, f in results.items() if f.violations]
            self.say(
                f"look {self.memory.looks}: {took:.2f} s, "
                + (f"broken: {', '.join(broken)}" if broken else "nothing broken")
            )
            await anyio.sleep(max(every_s, took * SHARE))

    def verdict(self, results: Mapping[str, Found]) -> list[dict[str, Any]]:
        """What `checker.json` says: a line a check that had its turn."""
        looks = self.memory.looks
        lines = []
        for check in sorted(EVERY_CHECK, key=_number):
            now, before = results.get(check.name), self.memory.noted(check)
            if now is None and not before.violations:
                continue
            now = now or Found(0, 0)
            examples = dict.fromkeys((*before.examples, *now.examples))
            lines.append(
                {
                    "invariant": check.invariant,
                    "name": check.name,
                    "says": check.says,
                    "checked": now.checked,
                    "violations": max(now.violations, before.violations),
                    "examples": list(examples)[:10],
                    "during": looks if check.during else 0,
                }
            )
        return lines

    async def _there(self, *, ended: bool) -> Results:
        """What a look finds, once the database lets it end."""
        waited = False
        while True:
            try:
                return await self._once(ended=ended)
            except (*AWAY, *NOT_NOW) as error:
                if not waited:
                    self.say(f"the database is away: {type(error).__name__}")
                waited = True
                await anyio.sleep(RETRY_S)

    async def _once(self, *, ended: bool) -> Results:
        con = await asyncpg.connect(
            self.database,
            timeout=CONNECT_S,
            command_timeout=STATEMENT_S,
            server_settings={"application_name": "loadtest checker", "jit": "off"},
        )
        try:
            async with con.transaction(isolation="repeatable_read", readonly=True):
                return await self.look(con, ended=ended)
        finally:
            con.terminate()

    async def look(self, con: asyncpg.Connection, *, ended: bool) -> Results:
        """What is found on this connection, which is in a snapshot; by check."""
        # The first statement takes the snapshot; what the clock says after it is
        # later than all that the snapshot shows.
        await con.fetchval("select count(*) from waybill.workers")
        at = await con.fetchval("select extract(epoch from clock_timestamp())::float8")
        found = {q.check: await _ask(con, q) for q in SAFETY}
        found[KEPT] = await self.memory.kept(con)
        found[SAME] = await self.memory.same(con, all_of_them=ended)
        found[FENCED] = await self.memory.fenced(con, at)
        if self.books:
            done = await anyio.to_thread.run_sync(vendors.taken, self.books)
            found.update(await vendors.compare(con, done, ended=ended))
        if ended:
            found.update({q.check: await _ask(con, q) for q in ENDED})
            submitted = lines(self.run / "submitted.jsonl")
            found.update(await compare(con, submitted, at))
        self.memory.looked(at, faults=not ended)
        for check, what in found.items():
            if not ended:
                self.memory.note(check, what)
        return {check.name: what for check, what in found.items()}


async def _ask(con: asyncpg.Connection, query: Query) -> Found:
    row = await con.fetchrow(query.sql)
    assert row is not None
    return Found(row["checked"], row["violations"], tuple(row["examples"]))


def _number(check: Check) -> tuple[int, str]:
    return int(check.invariant[1:]), check.name


def write(run: Path, verdict: Sequence[Mapping[str, Any]]) -> Path:
    """`checker.json`, whole or not at all; where it is."""
    path, part = run / "checker.json", run / "checker.json.part"
    part.write_text(json.dumps(verdict, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return path
