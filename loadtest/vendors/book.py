"""
The vendors' own book: what was asked, and what they accepted, in SQLite.

    calls   a row a request: what became of it, and whether it was billed
    sent    a row a try to deliver a callback
    taken   a row a thing that was really done: a record written, a batch printed,
            a mail delivered, an event taken; `key` is what the vendor knows it by

Rows are written in batches; `settle` writes what is left, so that whoever reads the
file afterwards reads everything.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple

KEEP = 500  # rows in memory before they are written

SCHEMA = """
create table calls (
    seq integer primary key,
    at real not null,           -- unix time of the whole request's arrival
    vendor text not null,
    kind text not null,
    method text not null,
    path text not null,         -- below the vendor's URL
    query text not null,        -- as it came, '' without one
    tenant text not null,
    credential text not null,   -- digest; '' without one
    key text not null,          -- idempotency key
    body_sha text not null,
    bytes integer not null,
    outcome text not null,      -- accepted repeated throttled outage failed refused
    fault text not null,
    status integer not null,    -- 0: no answer was sent
    billed integer not null,
    tokens_in integer not null,
    tokens_out integer not null
);
create table taken (
    call integer not null,      -- calls.seq
    at real not null,
    vendor text not null,
    what text not null,
    key text not null,
    body_sha text not null
);
create table sent (
    at real not null,           -- of a try to deliver a callback
    vendor text not null,
    id text not null,
    url text not null,
    status integer not null     -- of the answer; 0: there was none
);
create view accepted as select * from calls where outcome = 'accepted';
"""

# The most in any second, wherever it begins.
PEAKS = """
select vendor, max(n)
  from (select vendor, count(*) over (partition by vendor order by at
                                      range between 0.999999 preceding
                                                and current row) n
          from {})
 group by vendor
"""


class Row(NamedTuple):
    """One request; see `calls`."""

    at: float
    vendor: str
    kind: str
    method: str
    path: str
    query: str
    tenant: str
    credential: str
    key: str
    body_sha: str
    bytes: int
    outcome: str
    fault: str
    status: int
    billed: int
    tokens_in: int
    tokens_out: int


class Taken(NamedTuple):
    """One thing that was really done."""

    what: str
    key: str
    content: bytes


class Book:
    """The book of one world; `path` is made anew."""

    def __init__(self, path: Path) -> None:
        for old in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            old.unlink(missing_ok=True)
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = off")  # it need not outlive the machine
        self._db.executescript(SCHEMA)
        self._seq = 0
        self._calls: list[tuple[Any, ...]] = []
        self._taken: list[tuple[Any, ...]] = []

    def write(self, row: Row, taken: list[Taken]) -> None:
        """A request was decided, and these things were done."""
        self._seq += 1
        self._calls.append((self._seq, *row))
        for what, key, content in taken:
            done = (self._seq, row.at, row.vendor, what, key, digest(content))
            self._taken.append(done)
        if len(self._calls) + len(self._taken) > KEEP:
            self.settle()

    def sent(self, vendor: str, identity: str, url: str, status: int) -> None:
        """A callback was tried."""
        row = (now(), vendor, identity, url, status)
        self._db.execute("insert into sent values (?, ?, ?, ?, ?)", row)

    def settle(self) -> None:
        """Everything is in the file."""
        if not self._calls:
            return
        self._db.execute("begin")
        marks = ",".join("?" * (len(Row._fields) + 1))
        self._db.executemany(f"insert into calls values ({marks})", self._calls)
        self._db.executemany("insert into taken values (?, ?, ?, ?, ?, ?)", self._taken)
        self._db.execute("commit")
        self._calls.clear()
        self._taken.clear()

    def empty(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self._taken.clear()
        self._db.executescript(
            "delete from calls; delete from taken; delete from sent;"
        )

    def counts(self) -> dict[str, dict[str, Any]]:
        """By vendor: calls by outcome, billed ones, tokens, things done, peaks."""
        self.settle()
        found: dict[str, dict[str, Any]] = {}
        for vendor, outcome, calls, billed, t_in, t_out in self._db.execute(
            "select vendor, outcome, count(*), sum(billed), sum(tokens_in * billed),"
            " sum(tokens_out * billed) from calls group by 1, 2"
        ):
            mine = found.setdefault(vendor, _nothing())
            mine["calls"] += calls
            mine[outcome] += calls
            mine["billed"] += billed
            mine["tokens_in"] += t_in
            mine["tokens_out"] += t_out
        for vendor, taken, keys in self._db.execute(
            "select vendor, count(*), count(distinct nullif(key, '')) from taken"
            " group by 1"
        ):
            found.setdefault(vendor, _nothing()).update(taken=taken, keys=keys)
        for of in ("calls", "accepted"):
            for vendor, most in self._db.execute(PEAKS.format(of)):
                found[vendor][f"{of}_in_a_second_max"] = most
        return found

    def close(self) -> None:
        """No more is written."""
        self.settle()
        self._db.close()


def digest(content: bytes) -> str:
    """What a body is compared by."""
    return hashlib.sha256(content).hexdigest()[:32] if content else ""


def now() -> float:
    """The book's clock."""
    return time.time()


def _nothing() -> dict[str, Any]:
    outcomes = ("accepted", "repeated", "throttled", "outage", "failed", "refused")
    figures = ("calls", *outcomes, "billed", "tokens_in", "tokens_out")
    peaks = ("calls_in_a_second_max", "accepted_in_a_second_max")
    return dict.fromkeys((*figures, "taken", "keys", *peaks), 0)
