"""
Trials: batches that are run to be scored, and what their items took.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal

from pipeline.model import ItemId
from pipeline.store.database import Topic
from pipeline.store.rows import EffortRow, TrialRow

TRIALS = """
select b.id, b.name, b.trial_ended_at is not null as ended
  from waybill.batches b
 where b.trial = $1
   and b.tenant_id = (select t.id from waybill.tenants t where t.name = $2)
 order by b.id desc limit $3
"""
END = """
update waybill.batches set trial_ended_at = waybill.clock()
 where id = any($1::bigint[]) and trial is not null and trial_ended_at is null
"""
# What was found in an item is in its batch.
KIN = """
with recursive kin (id, root) as (
  select i.id, i.id from waybill.items i
   where i.batch_id = $1 and i.parent_id is null
  union all
  select i.id, k.root from kin k join waybill.items i on i.parent_id = k.id)
"""
SECONDS = f"""
{KIN}
select k.root as item, coalesce(sum(c.took_s), 0)::float8 as seconds
  from kin k
  left join waybill.checkpoints c on c.item_id = k.id and c.step is null
 group by k.root order by k.root
"""
COSTS = f"""
{KIN}
select k.root as item, c.currency, count(*) as calls, sum(c.cost) as cost
  from kin k join waybill.calls c on c.item_id = k.id
 group by k.root, c.currency order by k.root, c.currency
"""
TRIALS_MAX = 1000  # of one thing that is tried; arbitrary


class PostgresTrials(Topic):
    """What was tried."""

    async def trials(self, tenant: str, trial: str) -> list[TrialRow]:
        """The tenant's trials of that, newest first."""
        rows = await self._db.fetch(TRIALS, trial, tenant, TRIALS_MAX)
        return [TrialRow(*r.values()) for r in rows]

    async def end_trials(self, batches: Sequence[int]) -> None:
        """Their results are written: they are not gone on with."""
        await self._db.fetch(END, list(batches))

    async def efforts(self, batch_id: int) -> list[EffortRow]:
        """What each item took that nothing else of the batch was found in."""
        calls: dict[ItemId, int] = defaultdict(int)
        costs: dict[ItemId, dict[str, Decimal]] = defaultdict(dict)
        for r in await self._db.fetch(COSTS, batch_id):
            calls[r["item"]] += r["calls"]
            costs[r["item"]][r["currency"]] = r["cost"]
        return [
            EffortRow(r["item"], r["seconds"], calls[r["item"]], costs[r["item"]])
            for r in await self._db.fetch(SECONDS, batch_id)
        ]
