"""
Figures of order, fairness and overload: of runs whose items say when they began.

    rounds          items begun between a lone tenant's admission and its begin, in
                    claim rounds: what all workers have room for at once
    jain            Jain's index over the tenants of a phase, of what was done while all
                    of them had something in line: (sum x)^2 / (n * sum x^2); 1 is fair,
                    1/n is one tenant alone
    peak_per_s      items done a second in the first phase, before any overload
    goodput_per_s   items done in time a second, while the phases lasted that are
                    called overloads
    others_missed   items late of tenants that do not overload
    memory_growth   the largest worker in the last third, beside the first third
"""

from __future__ import annotations

import operator
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg

from loadtest.driver.folder import Submitted
from loadtest.driver.scenario import Scenario

BEGUN = """
select t.name as tenant, b.name as batch, i.key,
       extract(epoch from r.at)::float8 as admitted,
       (c.update ->> 'begun')::float8 as begun,
       extract(epoch from o.at)::float8 as ended, o.state
  from waybill.items i
  join waybill.tenants t on t.id = i.tenant_id
  join waybill.batches b on b.id = i.batch_id
  join waybill.receipts r on r.item_id = i.id
  left join waybill.outcomes o on o.item_id = i.id
  left join waybill.checkpoints c
    on c.item_id = i.id and c.step is null and c.update ? 'begun'
"""
MANY_TENANTS = 5  # of a phase whose fairness is looked at
EDGE_S = 1.0  # of an overload: its first and last moment are not its pace
MUST = re.compile(r"\s*(<=|>=|==|<|>)\s*([\d.]+)\s*")
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


class Went(NamedTuple):
    """How one item went; times are unix time, None: never."""

    tenant: str
    batch: str
    key: str
    admitted: float
    begun: float | None
    ended: float | None
    state: str | None


async def figures(
    con: asyncpg.Connection, scenario: Scenario, submitted: Sequence[Submitted]
) -> dict[str, Any]:
    """Those that this run's items can tell."""
    went = [Went(*row.values()) for row in await con.fetch(BEGUN)]
    return {
        **order(went, room(scenario)),
        **fairness(went),
        **overload(went, scenario, submitted),
    }


def room(scenario: Scenario) -> int:
    """What all workers claim at once, at most."""
    windows = [int(keys.get("window", 64)) for keys in scenario.stage.values()] or [64]
    return max(windows) * scenario.workers.processes


def order(went: Sequence[Went], a_round: int) -> dict[str, Any]:
    """How long items that came alone in their batch had to wait, at the longest."""
    alone = Counter(one.batch for one in went)
    lone = [one for one in went if alone[one.batch] == 1]
    if not lone:
        return {}
    waited = 0
    for one in lone:
        until = one.begun if one.begun is not None else float("inf")
        before = sum(1 for o in went if o.begun and one.admitted < o.begun < until)
        waited = max(waited, before)
    return {
        "begun_before": waited,
        "claim_round": a_round,
        "rounds": round(waited / a_round, 2),
        "started_within_s": round(
            max((one.begun or 0) - one.admitted for one in lone), 2
        ),
    }


def fairness(went: Sequence[Went]) -> dict[str, Any]:
    """Jain's index, the lowest of all phases with many tenants."""
    batches: dict[str, list[Went]] = defaultdict(list)
    for one in went:
        batches[one.batch].append(one)
    found = []
    for items in batches.values():
        tenants = {one.tenant for one in items}
        if len(tenants) >= MANY_TENANTS:
            found.append((jain(done_in_line(items, tenants)), len(tenants)))
    if not found:
        return {}
    worst, many = min(found)
    return {"jain": round(worst, 4), "tenants": many}


def done_in_line(items: Sequence[Went], tenants: set[str]) -> list[int]:
    """
    By tenant, how many were done while nobody had dropped too little or had no more.

    From the last item's admission until the first tenant began its last one.
    """
    begin = max(one.admitted for one in items)
    last = dict.fromkeys(tenants, 0.0)
    for one in items:
        last[one.tenant] = max(last[one.tenant], one.begun or 0.0)
    end = min(last.values())
    counts = Counter(one.tenant for one in items if begin <= (one.begun or 0) < end)
    return [counts[tenant] for tenant in sorted(tenants)]


def jain(counts: Sequence[float]) -> float:
    """Jain's index; 0 where nothing was done."""
    squares = sum(n * n for n in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0


def overload(
    went: Sequence[Went], scenario: Scenario, submitted: Sequence[Submitted]
) -> dict[str, Any]:
    """Of a scenario with phases that overload."""
    names = scenario.phases
    over = {name for name, phase in names.items() if phase.overloads}
    if not over:
        return {}
    span = [one.admitted for one in went if one.batch in over]
    if not span:
        return {}
    first = [
        one.ended
        for one in went
        if one.batch == next(iter(names)) and one.ended and one.ended < min(span)
    ]
    due = {(one.tenant, one.sha256): one.deadline for one in submitted}
    begin, end = min(span) + EDGE_S, max(span) - EDGE_S
    good = sum(
        1
        for one in went
        if one.state == "done"
        and one.ended is not None
        and begin <= one.ended < end
        and one.ended <= due.get((one.tenant, one.key), float("inf"))
    )
    guilty = {one.tenant for one in went if one.batch in over}
    peak = _pace(sorted(first))
    goodput = good / (end - begin) if end > begin else 0.0
    offered = len(span) / max(1e-9, max(span) - min(span))
    return {
        "peak_per_s": round(peak, 1),
        "offered_per_s": round(offered, 1),
        "offered_share": round(offered / peak, 2) if peak else 0.0,
        "goodput_per_s": round(goodput, 1),
        "goodput_share": round(goodput / peak, 3) if peak else 0.0,
        "others_missed": _late(went, due, lambda one: one.tenant not in guilty),
        "overloaded_missed": _late(went, due, lambda one: one.tenant in guilty),
    }


def _late(
    went: Sequence[Went],
    due: Mapping[tuple[str, str], float],
    mine: Callable[[Went], bool],
) -> int:
    def in_time(one: Went) -> bool:
        by = due.get((one.tenant, one.key), float("inf"))
        return one.state == "done" and one.ended is not None and one.ended <= by

    return sum(1 for one in went if mine(one) and not in_time(one))


def _pace(ended: Sequence[float]) -> float:
    """A second, between the first tenth and the last."""
    inner = ended[len(ended) // 10 : len(ended) - len(ended) // 10]
    if len(inner) < 2 or inner[-1] <= inner[0]:
        return 0.0
    return (len(inner) - 1) / (inner[-1] - inner[0])


def growth(sizes: Sequence[tuple[float, float]]) -> float:
    """The largest of the last third beside the largest of the first; 1.0 unknown."""
    third = len(sizes) // 3
    if not third:
        return 1.0
    first = max(mb for _, mb in sizes[:third])
    return round(max(mb for _, mb in sizes[-third:]) / first, 2) if first else 1.0


def broken(must: Mapping[str, str], results: Mapping[str, Any]) -> list[str]:
    """Which of a scenario's own bounds are not kept, each with its figure."""
    found = []
    for name, bound in must.items():
        parts = MUST.fullmatch(bound)
        assert parts is not None
        value = results.get(name)
        if value is None or not COMPARED[parts[1]](value, float(parts[2])):
            found.append(f"{name} {value}, must be {bound}")
    return found
