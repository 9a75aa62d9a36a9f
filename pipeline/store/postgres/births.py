"""
Children are born: the parts that stages found, in the transaction of their checkpoints.

Those of all parents that are new are written by the same few statements: fifty
contracts of a hundred parts would else take longer than one transaction may.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pipeline.errors import Refused
from pipeline.model import Entry, ItemId, Submission, WorkerId
from pipeline.store.database import Connection
from pipeline.store.postgres.admission import KNOWN, receipt_rows, receipts_of, receive
from pipeline.store.refusals import key_in_trial

# Locked: a parent that is being cancelled is let go before its children are born,
# or finds them.
PARENTS = """
select u.item_id, i.batch_id, i.pipeline_id, b.trial is not null as trial
  from waybill.running u
  join waybill.items i on i.id = u.item_id
  join waybill.batches b on b.id = i.batch_id
 where u.item_id = any($1::bigint[]) and u.worker_id = $2
 order by u.item_id
   for key share of u
"""

# In their order: a child's number says where it stood.
CHILDREN = """
with made as (
  insert into waybill.items (tenant_id, batch_id, pipeline_id, pipeline, name, key,
                     deadline_at, input, parent_id)
  select p.tenant_id, p.batch_id, p.pipeline_id, p.pipeline, t.name, t.key,
         b.deadline_at, t.input, p.id
    from unnest($1::bigint[], $2::text[], $3::text[], $4::jsonb[])
         with ordinality t(parent_id, name, key, input, place)
    join waybill.items p on p.id = t.parent_id
    join waybill.batches b on b.id = p.batch_id
   order by t.place
  on conflict (tenant_id, pipeline, key) do nothing
  returning id, deadline_at, tenant_id, key, parent_id),
at as (
  select * from unnest($5::bigint[], $6::text[]) t(parent_id, stage)),
line as (
  insert into waybill.ready (item_id, stage, tenant_id, deadline_at, seq)
  select m.id, at.stage, m.tenant_id, m.deadline_at, 0
    from made m join at using (parent_id)),
kin as (
  insert into waybill.open_children (child_id, parent_id)
  select id, parent_id from made),
noted as (
  insert into waybill.audit (item_id, event, stage, actor)
  select m.id, 'received', at.stage, 'item ' || m.parent_id
    from made m join at using (parent_id))
select parent_id, key, id from made
"""

RECEIPTS = """
insert into waybill.receipts (batch_id, token, name, key, size_bytes, disposal, item_id,
                      code, why, kept_at)
select * from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[],
                     $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[])
on conflict (token) do nothing
returning token
"""


class _Birth(NamedTuple):
    """One entry's parts, as its parent's batch receives them."""

    entry: Entry
    batch: int
    pipeline: int
    stage: str
    submissions: Sequence[Submission]


async def write_spawns(
    con: Connection, worker: WorkerId, entries: Sequence[Entry]
) -> Sequence[Entry]:
    """
    Make the children of the entries; returns the entries with the ids in their
    checkpoints.

    Raises:
        Refused: a parent is not this worker's.
    """
    spawning = [e for e in entries if e.spawn is not None]
    if not spawning:
        return entries
    births = await _births(con, worker, spawning)
    tokens = [s.token for birth in births for s in birth.submissions]
    seen = (await receipts_of(con, tokens)).keys()
    new: dict[ItemId, _Birth] = {}
    others: list[_Birth] = []
    for birth in births:
        again = any(s.token in seen for s in birth.submissions)
        # Of two spawns of one parent it could not be told whose a child is.
        if again or birth.entry.item_id in new:
            others.append(birth)
        else:
            new[birth.entry.item_id] = birth
    ids = await _born(con, new)
    found = [(birth.entry, ids[parent]) for parent, birth in new.items()]
    for birth in others:
        parent = birth.entry.item_id
        where = (birth.batch, birth.pipeline, _parts(birth.entry))
        receipts = await receive(con, *where, parent=parent, stage=birth.stage)
        found.append((birth.entry, [r.item_id for r in receipts]))
    written = {(e.item_id, _seq(e)): json.dumps(born) for e, born in found}
    return [
        e
        if e.checkpoint is None or e.spawn is None
        else replace(
            e,
            checkpoint=e.checkpoint._replace(update=written[e.item_id, _seq(e)]),
            spawn=None,
        )
        for e in entries
    ]


async def _births(
    con: Connection, worker: WorkerId, spawning: Sequence[Entry]
) -> list[_Birth]:
    rows = await con.fetch(PARENTS, list({e.item_id for e in spawning}), worker)
    parents = {r["item_id"]: r for r in rows}
    found = []
    for e in spawning:
        parent = parents.get(e.item_id)
        if parent is None:
            raise Refused(f"item {e.item_id} is not this worker's: it has no children")
        assert e.spawn is not None
        batch, parts = parent["batch_id"], _parts(e)
        if parent["trial"]:
            parts = [key_in_trial(batch, s, e.item_id) for s in parts]
        found.append(_Birth(e, batch, parent["pipeline_id"], e.spawn.stage, parts))
    return found


async def _born(
    con: Connection, births: Mapping[ItemId, _Birth]
) -> dict[ItemId, list[ItemId | None]]:
    """Children of parts that nobody has seen before: the ids, in the parts' order."""
    parts = [
        (parent, s.name, s.key, json.dumps(dict(s.input)))
        for parent, birth in births.items()
        for s in birth.submissions
        if not s.refused_code
    ]
    stages = [(parent, birth.stage) for parent, birth in births.items()]
    made: dict[ItemId, dict[str, ItemId]] = defaultdict(dict)
    if parts:
        columns = [*zip(*parts, strict=True), *zip(*stages, strict=True)]
        for row in await con.fetch(CHILDREN, *map(list, columns)):
            made[row["parent_id"]][row["key"]] = row["id"]
    rows: list[tuple[object, ...]] = []
    for parent, birth in births.items():
        known = dict(made[parent])
        wanted = {s.key for s in birth.submissions if not s.refused_code}
        if others := list(wanted - known.keys()):  # another's, or another parent's
            fetched = await con.fetch(KNOWN, birth.pipeline, others, birth.batch)
            known |= {r["key"]: r["id"] for r in fetched}
        fresh = set(made[parent])
        rows += [
            (birth.batch, *row) for row in receipt_rows(birth.submissions, fresh, known)
        ]
    ids = {row[1]: row[6] for row in rows}
    if rows:
        written = await con.fetch(RECEIPTS, *map(list, zip(*rows, strict=True)))
        if len(written) < len(rows):  # the first receipt stands
            kept = await receipts_of(con, [str(row[1]) for row in rows])
            ids = {token: receipt.item_id for token, (_, receipt) in kept.items()}
    return {
        parent: [ids[s.token] for s in birth.submissions]  # type: ignore[misc]
        for parent, birth in births.items()
    }


def _parts(entry: Entry) -> list[Submission]:
    assert entry.spawn is not None
    return entry.spawn.submissions()


def _seq(entry: Entry) -> int:
    assert entry.checkpoint is not None
    return entry.checkpoint.seq
