"""
What is seen while a run lasts: every two seconds, by SQL of the driver's own, by /proc,
and by the vendors' book.

A moment at which the database does not answer has no rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, NamedTuple

import anyio
import asyncpg

from loadtest.driver.stand import AWAY, Stand
from loadtest.scenarios.processes import JAILED, WORKER, tree

EVERY_S = 2.0
ANSWER_S = 10.0
MB = 1 << 20

ITEMS = """
select 'ready' as state, count(*) as n from waybill.ready
union all select 'running', count(*) from waybill.running
union all select 'waiting', (select count(*) from waybill.waiting)
                          + (select count(*) from waybill.joining)
union all select 'held', count(*) from waybill.holds where open
union all select state, count(*) from waybill.outcomes group by state
"""
FINISHED = """
select stage as label, count(*) as n from waybill.checkpoints
 where step is null group by stage
"""
AGES = """
select stage as label, extract(epoch from now() - min(since))::float8 as n
  from waybill.ready group by stage
"""
SLACK = """
select percentile_disc(array[0, 0.01, 0.5]) within group (order by left_s) as p
  from (select extract(epoch from i.deadline_at - now())::float8 as left_s
          from waybill.items i
         where not exists (select from waybill.outcomes o where o.item_id = i.id)) t
"""
HELD = "select code as label, count(*) as n from waybill.holds where open group by code"
TENANTS = """
select t.name as label, count(*) as n from waybill.outcomes o
  join waybill.items i on i.id = o.item_id join waybill.tenants t on t.id = i.tenant_id
 group by t.name
"""
EFFECTS = "select state as label, count(*) as n from waybill.effects group by state"


class Seen(NamedTuple):
    """
    One moment.

    Attributes:
        items: By state.
        finished: By stage.
        effects: By state.
    """

    t: float
    items: dict[str, int]
    finished: dict[str, int]
    effects: dict[str, int]
    in_flight: int
    slack_s: float | None
    rss_mb: dict[str, float]

    @property
    def unfinished(self) -> int:
        """Items that are not final."""
        return sum(self.items.get(state, 0) for state in LIVE)


LIVE = ("ready", "running", "waiting", "held")


class Sampler:
    """Looks again and again; `last` is the newest moment."""

    def __init__(self, it: Stand) -> None:
        self._it = it
        self._con: asyncpg.Connection | None = None
        self.last: Seen | None = None
        self.throughput: list[tuple[float, float]] = []
        self.in_flight_max = 0
        self.rss_worker: list[tuple[float, float]] = []  # the largest, by moment

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await self.look()
                await anyio.sleep(EVERY_S)
        finally:
            if self._con is not None:
                self._con.terminate()

    async def look(self) -> None:
        """One moment, into the run's folder."""
        sizes = dict(self._sizes())
        try:
            with anyio.fail_after(ANSWER_S):
                seen, rows = await self._asked(sizes)
        except AWAY:
            if self._con is not None:
                self._con.terminate()
            self._con = None
            self._it.run.sample([("rss_mb", r, mb) for r, mb in sizes.items()])
            return
        rows += [("rss_mb", role, mb) for role, mb in sizes.items()]
        with suppress(sqlite3.Error):
            rows += await anyio.to_thread.run_sync(self._vendors)
        self._it.run.sample(rows)
        self.last = seen
        self.throughput.append((seen.t, sum(seen.finished.values())))
        self.in_flight_max = max(self.in_flight_max, seen.in_flight)
        if sizes.get("worker"):
            self.rss_worker.append((seen.t, sizes["worker"]))

    async def _asked(
        self, sizes: dict[str, float]
    ) -> tuple[Seen, list[tuple[str, str, float]]]:
        if self._con is None:
            self._con = await asyncpg.connect(self._it.server.owner_url, timeout=5)
        con = self._con
        items = {r["state"]: r["n"] for r in await con.fetch(ITEMS)}
        finished = await _by_label(con, FINISHED)
        effects = await _by_label(con, EFFECTS)
        slack: list[float] | None = await con.fetchval(SLACK)
        in_flight = items.get("running", 0) + items.get("waiting", 0)
        rows: list[tuple[str, str, float]] = [
            *(("items", state, n) for state, n in items.items()),
            *(("finished", stage, n) for stage, n in finished.items()),
            *(("queue_age_s", s, a) for s, a in (await _by_label(con, AGES)).items()),
            *(("held", code, n) for code, n in (await _by_label(con, HELD)).items()),
            *(
                ("tenant_finished", tenant, n)
                for tenant, n in (await _by_label(con, TENANTS)).items()
            ),
            *(("effects", state, n) for state, n in effects.items()),
            ("in_flight", "", in_flight),
        ]
        if slack:
            names = ("p0", "p1", "p50")
            rows += [("slack_s", p, s) for p, s in zip(names, slack, strict=True)]
        seen = Seen(
            self._it.run.now(),
            items,
            finished,
            effects,
            in_flight,
            slack[0] if slack else None,
            sizes,
        )
        return seen, rows

    def _sizes(self) -> Iterator[tuple[str, float]]:
        """The largest process of each role, in MB."""
        service = self._it.service
        if service is None or service.poll() is not None:
            return
        found: dict[str, float] = {}
        for process in tree(service.pid):
            if WORKER in process.command:
                role = "worker"
            elif JAILED in process.command:
                role = "jailed"
            else:
                role = "service" if process.pid == service.pid else "other"
            found[role] = max(found.get(role, 0.0), process.resident / MB)
        yield from ((role, round(mb, 1)) for role, mb in found.items())

    def _vendors(self) -> list[tuple[str, str, float]]:
        """By the vendors' book, as it was written until now."""
        uri = f"file:{self._it.world.book}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=1)) as book:
            counted = book.execute(
                "select vendor || ':' || outcome, count(*) from calls group by 1"
            ).fetchall()
        allowed = [("vendor_limit", name, n) for name, n in limits(self._it).items()]
        return [*(("vendor_calls", label, n) for label, n in counted), *allowed]


def limits(it: Stand) -> dict[str, float]:
    """Calls a second that each vendor allows; vendors without a limit are left out."""
    found: dict[str, float] = {}
    for name, vendor in it.world.shown.get("vendors", {}).items():
        for limit in vendor.get("limits") or ():
            rate = limit.get("requests")
            if rate and limit.get("per", "service") == "service":
                found[name] = rate[0] / rate[1]
    return found


async def _by_label(con: asyncpg.Connection, sql: str) -> dict[str, Any]:
    return {row["label"]: row["n"] for row in await con.fetch(sql)}
