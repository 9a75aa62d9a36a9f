"""
What was submitted, by the run's own list, and what became of each line of it.

The list is written before a file is dropped, by who drops it: it is the one witness
that does not depend on the service.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import asyncpg

from loadtest.checker.checks import Check, Found, found

ON_TIME_S = 2.0  # between a deadline and the row of an end that came in time

NONE_LOST = Check(
    "none-lost",
    "I1",
    "every file that was submitted has a receipt, and stands somewhere",
    during=False,
)
NONE_INVENTED = Check(
    "none-invented",
    "I1",
    "in the batches of the run there is nothing that nobody submitted",
    during=False,
)
ON_TIME = Check(
    "on-time",
    "I11",
    "every file that was to be done was done by its deadline",
    during=False,
)
URGENT = Check(
    "urgent-on-time",
    "I11",
    "every urgent file was done by its deadline",
    during=False,
)
OWN_TENANT = Check(
    "own-tenant",
    "I16",
    "every file stands under the tenant it was submitted for, and under no other",
    during=False,
)
AS_EXPECTED = Check(
    "as-expected",
    "I20",
    "what was poison was stopped, and nothing else: every file ended as it was to end",
    during=False,
)
ONE_ITEM = Check(
    "one-item",
    "I24",
    "the same bytes, submitted again, became no second item",
    during=False,
)
CHECKS = (NONE_LOST, NONE_INVENTED, ON_TIME, URGENT, OWN_TENANT, AS_EXPECTED, ONE_ITEM)

STOOD = """
select t.name as tenant, b.name as batch, r.name, r.key, r.disposal, r.item_id,
       i.pipeline, o.state, extract(epoch from o.at)::float8 as ended_at,
       exists (select from waybill.holds h where h.item_id = i.id and h.open) as held
  from waybill.receipts r
  join waybill.batches b on b.id = r.batch_id
  join waybill.tenants t on t.id = b.tenant_id
  left join waybill.items i on i.id = r.item_id
  left join waybill.outcomes o on o.item_id = i.id
 where i.parent_id is null
"""


@dataclass(frozen=True)
class Line:
    """One line of the list; times are unix time, in seconds; a deadline of 0: none."""

    number: int
    tenant: str
    batch: str
    pipeline: str
    name: str
    sha256: str
    deadline: float
    urgent: bool
    expect: str

    def __repr__(self) -> str:
        return f"<Line {self.number}>"


class Stood(NamedTuple):
    """What one receipt led to."""

    tenant: str
    batch: str
    name: str
    key: str
    disposal: str
    item: int | None
    pipeline: str | None
    state: str | None
    ended_at: float | None
    held: bool


def lines(path: Path) -> list[Line]:
    """Every whole line of `submitted.jsonl`; one that is being written is left."""
    return list(_lines(path)) if path.exists() else []


def _lines(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith("\n"):
                return
            row = json.loads(text)
            yield Line(
                number,
                row["tenant"],
                row["batch"],
                row["pipeline"],
                row["name"],
                row["sha256"],
                float(row.get("deadline") or 0.0),
                bool(row.get("urgent")),
                row.get("expect", "any"),
            )


async def compare(
    con: asyncpg.Connection, submitted: Sequence[Line], now: float
) -> list[tuple[Check, Found]]:
    """Every line beside what the database says; `now` is its clock, in unix time."""
    rows = [Stood(*r.values()) for r in await con.fetch(STOOD)]
    by_key: dict[tuple[str, str], list[Stood]] = defaultdict(list)
    by_name: dict[tuple[str, str, str], list[Stood]] = defaultdict(list)
    for row in rows:
        by_key[row.tenant, row.key].append(row)
        by_name[row.tenant, row.batch, row.name].append(row)

    def of(line: Line) -> list[Stood]:
        # What is no file has a key of its own, and is known by its name.
        named = (line.tenant, line.batch, line.name)
        return by_key.get((line.tenant, line.sha256)) or by_name.get(named, [])

    pairs = [(line, of(line)) for line in submitted]
    return [
        (NONE_LOST, _none_lost(pairs)),
        (NONE_INVENTED, _none_invented(submitted, pairs, rows)),
        (ON_TIME, _on_time(pairs, now)),
        (URGENT, _on_time([p for p in pairs if p[0].urgent], now, of_all=True)),
        (OWN_TENANT, _own_tenant(submitted, rows)),
        (AS_EXPECTED, _as_expected(pairs)),
        (ONE_ITEM, _one_item(pairs)),
    ]


Pairs = Sequence[tuple[Line, Sequence[Stood]]]


def _named(line: Line) -> str:
    return f"line {line.number} ({line.sha256[:12]})"


def _none_lost(pairs: Pairs) -> Found:
    return found(len(pairs), (_named(line) for line, stood in pairs if not stood))


def _none_invented(
    submitted: Sequence[Line], pairs: Pairs, rows: Sequence[Stood]
) -> Found:
    ours = {(line.tenant, line.batch) for line in submitted}
    known = {row for _, stood in pairs for row in stood}
    there = [row for row in rows if (row.tenant, row.batch) in ours]
    return found(
        len(there), (f"item {r.item} ({r.key[:12]})" for r in there if r not in known)
    )


def _on_time(pairs: Pairs, now: float, *, of_all: bool = False) -> Found:
    wanted = [
        (line, stood)
        for line, stood in pairs
        if line.deadline and (of_all or line.expect == "done") and stood
    ]
    return found(
        len(wanted),
        (
            f"{_named(line)}, item {stood[0].item}"
            for line, stood in wanted
            if _missed(line, stood, now)
        ),
    )


def _missed(line: Line, stood: Iterable[Stood], now: float) -> bool:
    """
    Whether its time passed without its being done.

    What failed in time has missed no deadline: another check speaks of it.
    """
    latest = line.deadline + ON_TIME_S
    return not any(
        (now if row.ended_at is None else row.ended_at) <= latest for row in stood
    )


def _own_tenant(submitted: Sequence[Line], rows: Sequence[Stood]) -> Found:
    owners: dict[str, set[str]] = defaultdict(set)
    for line in submitted:
        owners[line.sha256].add(line.tenant)
    ours = [row for row in rows if row.key in owners]
    return found(
        len(ours),
        (
            f"item {r.item} ({r.key[:12]})"
            for r in ours
            if r.tenant not in owners[r.key]
        ),
    )


def _as_expected(pairs: Pairs) -> Found:
    wanted = [(line, s) for line, s in pairs if line.expect != "any" and s]
    return found(
        len(wanted),
        (
            f"{_named(line)} is to be {line.expect} and is {_ended(stood)}"
            for line, stood in wanted
            if line.expect not in _ends(stood)
        ),
    )


def _one_item(pairs: Pairs) -> Found:
    times = Counter((li.tenant, li.pipeline, li.sha256) for li, _ in pairs)
    items: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for line, stood in pairs:
        for row in stood:
            if row.item is not None and row.pipeline == line.pipeline:
                items[line.tenant, line.pipeline, line.sha256].add(row.item)
    return found(
        len(times),
        (
            f"items {', '.join(map(str, sorted(them)))} ({key[2][:12]})"
            for key, them in items.items()
            if len(them) > 1
        ),
    )


def _ends(stood: Iterable[Stood]) -> set[str]:
    return {_end(row) for row in stood}


def _ended(stood: Iterable[Stood]) -> str:
    return " and ".join(sorted(_ends(stood)))


def _end(row: Stood) -> str:
    if row.disposal == "quarantined":
        return "quarantined"
    return "held" if row.held else row.state or "not ended"
