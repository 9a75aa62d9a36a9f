"""
The checker's own log of what it saw, in SQLite beside the run (`looked.sqlite`).

What a service acknowledged it may not forget, and what it wrote once it may not write
otherwise: that shows between two looks only.  The looks of one process and the last
look of another share this file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from loadtest.checker.checks import Check, Found, found

NAME = "looked.sqlite"

SCHEMA = """
create table if not exists looks (at real not null, faults integer not null);
create table if not exists seen (  -- what must stay as it was, by kind
    kind text not null, id text not null, was text not null, primary key (kind, id)
) without rowid;
create table if not exists workers (  -- gone_at: by the database's clock, unix time
    id text primary key, gone_at real
) without rowid;
create table if not exists broken (  -- found while faults were on
    name text not null, violations integer not null, examples text not null
);
"""

KEPT = Check(
    "kept",
    "I2",
    "what was there at one look is there at every later one: receipts, items, holds,"
    " decisions, and ends but for what was put back in line",
    during=True,
)
SAME = Check(
    "same",
    "I9",
    "a checkpoint that was seen says the same at every later look",
    during=True,
)
FENCED = Check(
    "fenced",
    "I5",
    "a worker that a look found replaced wrote nothing after that look",
    during=True,
)

# One text a row, that does not change as long as the row stands.
ROWS = {
    "receipt": """
        select id::text, concat_ws(' ', disposal, item_id, left(key, 16)) as was
          from waybill.receipts""",
    "item": """
        select id::text, concat_ws(' ', tenant_id, batch_id, left(key, 16)) as was
          from waybill.items""",
    "hold": """
        select id::text, concat_ws(' ', item_id, digest) as was from waybill.holds""",
    "decision": """
        select hold_id::text as id, concat_ws(' ', verb, digest) as was
          from waybill.decisions""",
    # A retry takes an end back; its record in the audit is in the same transaction.
    "end": """
        select o.item_id || '/' || coalesce(a.n, 0) as id,
               concat_ws(' ', o.state, extract(epoch from o.at)) as was
          from waybill.outcomes o
          left join (select item_id, count(*) as n from waybill.audit
                      where event = 'retried' group by 1) a on a.item_id = o.item_id""",
}
RETRIES = """
select item_id, count(*) as n from waybill.audit where event = 'retried' group by 1
"""
CHECKPOINTS = """
select item_id || '/' || seq as id,
       md5(concat_ws(' ', stage, step, update::text, ref, next_stage, worker_id)) as was
  from waybill.checkpoints
 where $1::timestamptz is null or at > $1::timestamptz
"""
WORKERS = """
select id::text from waybill.workers
"""
WROTE = """
select distinct worker_id::text as id from waybill.checkpoints
 where worker_id is not null and ($1::timestamptz is null or at > $1)
union
select distinct worker_id::text from waybill.attempts
 where worker_id is not null and ($1::timestamptz is null or at > $1)
"""
LATE = """
with gone as (
  select t.id, to_timestamp(t.at) as at from unnest($1::text[], $2::float8[]) t(id, at))
select 'item ' || c.item_id || ' checkpoint ' || c.seq || ' by ' || g.id as example
  from gone g join waybill.checkpoints c on c.worker_id = g.id::uuid where c.at > g.at
union all
select 'attempt ' || t.id || ' by ' || g.id
  from gone g join waybill.attempts t on t.worker_id = g.id::uuid where t.at > g.at
union all
select 'audit ' || a.id || ' by ' || g.id
  from gone g join waybill.audit a on a.actor = g.id where a.at > g.at
"""


class Memory:
    """
    What earlier looks saw; see the module.

    Args:
        folder: The run's; the file is made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / NAME, isolation_level=None)
        self._db.execute("pragma synchronous = off")  # it need not outlive the machine
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Nothing is asked any more."""
        self._db.close()

    # -- looks ------------------------------------------------------------------------

    def looked(self, at: float, *, faults: bool) -> None:
        """A look was made, at this unix time of the database."""
        self._db.execute("insert into looks values (?, ?)", (at, faults))

    @property
    def looks(self) -> int:
        """How many were made while faults ran."""
        [n] = self._db.execute("select count(*) from looks where faults").fetchone()
        return int(n)

    @property
    def last(self) -> float | None:
        """When the last look was, by the database's clock, in unix time."""
        [at] = self._db.execute("select max(at) from looks").fetchone()
        return None if at is None else float(at)

    # -- what was broken --------------------------------------------------------------

    def note(self, check: Check, broken: Found) -> None:
        """A look found this; it is told in the end, whatever a later look finds."""
        if broken.violations:
            row = (check.name, broken.violations, "\n".join(broken.examples))
            self._db.execute("insert into broken values (?, ?, ?)", row)

    def noted(self, check: Check) -> Found:
        """The worst that a look found, with examples of all looks."""
        rows = self._db.execute(
            "select violations, examples from broken where name = ? order by rowid",
            (check.name,),
        ).fetchall()
        examples = dict.fromkeys(e for _, text in rows for e in text.split("\n") if e)
        most = max((int(n) for n, _ in rows), default=0)
        return Found(0, max(most, len(examples)), tuple(examples))

    # -- between looks ----------------------------------------------------------------

    async def kept(self, con: asyncpg.Connection) -> Found:
        """Whether everything seen is there, as it was; remembers what is new."""
        retries = {r["item_id"]: r["n"] for r in await con.fetch(RETRIES)}
        bad: list[str] = []
        checked = 0
        for kind, sql in ROWS.items():
            there = {r["id"]: r["was"] for r in await con.fetch(sql)}
            seen = self._seen(kind)
            checked += len(seen)
            for id_, was in seen.items():
                now = there.get(id_)
                if now == was or (kind == "end" and _taken_back(id_, retries)):
                    continue
                bad.append(
                    f"{kind} {id_.partition('/')[0]} is"
                    f" {'gone' if now is None else 'another'}"
                )
            self._remember(kind, ((i, w) for i, w in there.items() if i not in seen))
        return found(checked, bad)

    async def same(self, con: asyncpg.Connection, *, all_of_them: bool) -> Found:
        """Whether checkpoints are as they were seen; the recent ones, or all."""
        since = None if all_of_them or self.last is None else _stamp(self.last - 60.0)
        there = {r["id"]: r["was"] for r in await con.fetch(CHECKPOINTS, since)}
        seen = self._seen("checkpoint")
        bad = [
            f"item {id_.replace('/', ' checkpoint ')}"
            f" is {'gone' if id_ not in there else 'another'}"
            for id_, was in seen.items()
            if there.get(id_, None if all_of_them else was) != was
        ]
        new = ((i, w) for i, w in there.items() if i not in seen)
        self._remember("checkpoint", new)
        return found(len(seen) if all_of_them else len(seen.keys() & there), bad)

    async def fenced(self, con: asyncpg.Connection, at: float) -> Found:
        """
        Whether those seen gone wrote since; `at` is a moment after this snapshot.

        A worker's row is locked by each of its commits: one that began after a look
        that did not find the row must have been refused.
        """
        alive = {r["id"] for r in await con.fetch(WORKERS)}
        since = None if self.last is None else _stamp(self.last - 60.0)
        known = dict(self._db.execute("select id, gone_at from workers").fetchall())
        gone = {i: t for i, t in known.items() if t is not None and i not in alive}
        late = await con.fetch(LATE, list(gone), list(gone.values()))
        wrote = {r["id"] for r in await con.fetch(WROTE, since)}
        self._db.execute("begin")
        self._db.executemany(
            "insert into workers values (?, ?) on conflict (id) do update"
            " set gone_at = coalesce(gone_at, excluded.gone_at)",
            [(i, None if i in alive else at) for i in alive | wrote | known.keys()],
        )
        self._db.execute("commit")
        return found(len(gone), (r["example"] for r in late))

    def _seen(self, kind: str) -> dict[str, str]:
        rows = self._db.execute("select id, was from seen where kind = ?", (kind,))
        return dict(rows.fetchall())

    def _remember(self, kind: str, rows: Iterable[tuple[str, str]]) -> None:
        self._db.execute("begin")
        self._db.executemany(
            "insert into seen values (?, ?, ?)", ((kind, i, w) for i, w in rows)
        )
        self._db.execute("commit")


def _taken_back(id_: str, retries: dict[int, int]) -> bool:
    """Whether its item was put in line again since."""
    item, _, before = id_.partition("/")
    return retries.get(int(item), 0) > int(before)


def _stamp(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
