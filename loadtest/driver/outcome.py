"""
What came of a run: the figures that must be 0.

By SQL of the driver's own, the run's own list of what was dropped, the print batches on
the disk, and the vendors' book.

The checker, a process of its own, says so once more without a line of this.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from loadtest.driver.figures import figures as order_of
from loadtest.driver.folder import Submitted
from loadtest.driver.stand import Stand

MANY = 20  # names in a list of what went wrong
PRINTS = "manifest.csv"

ITEMS = """
select t.name as tenant, i.key, i.id, o.state, o.code,
       extract(epoch from o.at)::float8 as at,
       (exists (select from waybill.ready where item_id = i.id))::int
     + (exists (select from waybill.running where item_id = i.id))::int
     + (exists (select from waybill.waiting where item_id = i.id))::int
     + (exists (select from waybill.joining where item_id = i.id))::int
     + (exists (select from waybill.holds where item_id = i.id and open))::int
     + (o.item_id is not null)::int as places
  from waybill.items i
  join waybill.tenants t on t.id = i.tenant_id
  left join waybill.outcomes o on o.item_id = i.id
"""
REFUSED = """
select t.name as tenant, r.key from waybill.receipts r
  join waybill.batches b on b.id = r.batch_id
  join waybill.tenants t on t.id = b.tenant_id
 where r.disposal = 'quarantined'
"""
TWICE_PLANNED = """
select coalesce(sum(n - 1), 0)::int from (
  select count(*) as n from waybill.effects group by item_id, stage, name) e
"""
TWICE_DONE = """
select count(*)::int from (
  select from waybill.checkpoints where step is not null
   group by item_id, stage, step having count(*) > 1) c
"""
TAKEN_TWICE = """
select vendor, sum(n - 1) from (
  select vendor, count(*) as n from taken
   where key <> '' and what in ('batch', 'order', 'event', 'mail')
   group by vendor, what, key) group by vendor having sum(n - 1) > 0
"""


class Ended(NamedTuple):
    """Where one document was found."""

    state: str  # of its outcome, quarantined, "unfinished", "nowhere"
    at: float  # unix time; 0 while it has not ended
    places: int
    code: str


async def account(it: Stand) -> dict[str, Any]:
    """
    The figures; of rows, those of order and fairness too, in `more`.

    Returns:
        `conserved`, `lost`, `unfinished`, `duplicate_effects`, `deadlines_missed`,
        `urgent_missed`, `unexpected`, `states` (counts), `amiss` (some names of each).
    """
    con = await asyncpg.connect(it.server.owner_url, timeout=30)
    try:
        items = await con.fetch(ITEMS)
        refused = await con.fetch(REFUSED)
        planned = await con.fetchval(TWICE_PLANNED)
        steps = await con.fetchval(TWICE_DONE)
        more: dict[str, Any] = {}
        if it.scenario.corpus.kind == "rows":
            more = await order_of(con, it.scenario, it.run.submitted)
    finally:
        await con.close()
    found = {
        (row["tenant"], row["key"]): Ended(
            row["state"] or "unfinished", row["at"] or 0.0, row["places"], row["code"]
        )
        for row in items
    }
    for row in refused:
        key = (row["tenant"], row["key"])
        found.setdefault(key, Ended("quarantined", 0.0, 1, ""))
    figures = compared(it.run.submitted, found)
    sold = dict(it.world.rows(TAKEN_TWICE))
    printed = printed_twice(it.home / "print")
    return {
        **figures,
        "more": more,
        "duplicate_effects": planned + printed + sum(sold.values()),
        "steps_kept_twice": steps,
        "sold_twice": sold,
        "printed_twice": printed,
    }


def compared(
    submitted: list[Submitted], found: Mapping[tuple[str, str], Ended]
) -> dict[str, Any]:
    """What was dropped beside what is there."""
    amiss: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    states: Counter[str] = Counter()

    def wrong(what: str, one: Submitted, why: str = "") -> None:
        counts[what] += 1
        listed = amiss.setdefault(what, [])
        if len(listed) < MANY:
            listed.append(f"{one.tenant}/{one.batch}/{one.name} {why}".strip())

    for one in submitted:
        ended = found.get((one.tenant, one.sha256))
        if ended is None:
            wrong("lost", one)
            continue
        states[ended.state] += 1
        if ended.places != 1:
            wrong("astray", one, f"stands in {ended.places} places")
        if ended.state == "unfinished":
            wrong("unfinished", one)
        if ended.state == "unfinished" or ended.at > one.deadline:
            late = f"{ended.at - one.deadline:+.0f} s" if ended.at else "unfinished"
            wrong("urgent_missed" if one.urgent else "deadlines_missed", one, late)
        elif ended.state == "failed" and ended.code.startswith("DEADLINE"):
            wrong("urgent_missed" if one.urgent else "deadlines_missed", one)
        if one.expect != "any" and ended.state not in (one.expect, "unfinished"):
            wrong("unexpected", one, f"{ended.state} {ended.code}")
    names = ("lost", "unfinished", "deadlines_missed", "urgent_missed", "unexpected")
    return {
        "conserved": not counts["lost"] and not counts["astray"],
        **{name: counts[name] for name in names},
        "states": dict(states),
        "amiss": amiss,
    }


def printed_twice(folder: Path) -> int:
    """Prints that stand in two lines of the manifests of all print batches."""
    seen: Counter[str] = Counter()
    for manifest in folder.rglob(PRINTS):
        with manifest.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                seen[f"{manifest.parts[-4]}/{row.get('file') or row}"] += 1
    return sum(n - 1 for n in seen.values())
