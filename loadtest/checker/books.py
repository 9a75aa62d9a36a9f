"""
What the vendors say they did, by their own books, beside what the service says.

A book is the SQLite file that a simulated vendor writes (loadtest/vendors/book.py):
`taken` has a row a thing that was really done, by the key the vendor knows it by.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import asyncpg

from loadtest.checker.checks import Check, Found, found

ONCE = Check(
    "effect-once",
    "I7",
    "a receiver that knows no keys accepted each effect once at most, and one that does"
    " never another body under the same key",
    during=True,
)
REALLY_DONE = Check(
    "really-done",
    "I8",
    "every effect that is called confirmed stands in its receiver's book",
    during=False,
)
OWN_EFFECTS = Check(
    "own-effects",
    "I16",
    "a receiver was given each effect in the name of the tenant whose it is",
    during=True,
)

EFFECTS = """
select e.id, e.key, e.sink, e.class, e.state, t.name as tenant
  from waybill.effects e join waybill.tenants t on t.id = e.tenant_id
"""
TAKEN = """
select t.vendor, t.key, t.body_sha, coalesce(c.tenant, '')
  from taken t left join calls c on c.seq = t.call where t.key <> ''
"""


class Taken(NamedTuple):
    """One thing that a vendor really did."""

    vendor: str
    key: str
    body: str
    tenant: str  # that it was asked for; '': the vendor is not told


def taken(books: Iterable[Path]) -> list[Taken]:
    """What stands in these books; one that is not there yet has nothing."""
    rows: list[Taken] = []
    for path in books:
        if not path.exists():
            continue
        uri = f"file:{path}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=5)) as book:
            rows += [Taken(v, _plain(k), b, t) for v, k, b, t in book.execute(TAKEN)]
    return rows


def _plain(key: str) -> str:
    """A message's id is its key in brackets, at a host."""
    return key.strip("<>").partition("@")[0]


async def compare(
    con: asyncpg.Connection, done: Sequence[Taken], *, ended: bool
) -> list[tuple[Check, Found]]:
    """The table of effects beside the books."""
    effects = await con.fetch(EFFECTS)
    bodies: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    askers: dict[str, set[str]] = defaultdict(set)
    for row in done:
        bodies[row.key][row.vendor].append(row.body)
        if row.tenant:
            askers[row.key].add(row.tenant)
    twice = [
        f"effect {e['id']} at {vendor}"
        for e in effects
        for vendor, them in bodies.get(e["key"], {}).items()
        if len(set(them)) > 1 or (e["class"] != "a" and len(them) > 1)
    ]
    strangers = [
        f"effect {e['id']}"
        for e in effects
        if askers.get(e["key"], {e["tenant"]}) != {e["tenant"]}
    ]
    known = [e for e in effects if e["key"] in bodies]
    compared = [
        (ONCE, found(len(known), twice)),
        (OWN_EFFECTS, found(sum(e["key"] in askers for e in effects), strangers)),
    ]
    if ended:
        # A sink of which no book knows a single key keeps none: a folder.
        kept = {e["sink"] for e in known}
        said = [e for e in effects if e["state"] == "confirmed" and e["sink"] in kept]
        missing = [f"effect {e['id']}" for e in said if e["key"] not in bodies]
        compared.append((REALLY_DONE, found(len(said), missing)))
    return compared
