"""
Effects in PostgreSQL: what couriers take and settle, and what people do about them.

How they are planned, and what becomes of those of a worker that is gone, stands in
outbox.py: it happens in the transactions of others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pipeline.errors import Conflict, LeaseLost, NotFound
from pipeline.model import ItemId, WorkerId
from pipeline.outbox import EffectState, SinkClass
from pipeline.state import clean_text
from pipeline.store.database import Connection, Topic
from pipeline.store.effects import EffectId, EffectRow, Passage, Room, Settlement
from pipeline.store.postgres.sessions import ALIVE

COLUMNS = """
e.id, e.item_id, i.name as item_name, n.name as tenant, b.name as batch, e.batch_id,
e.stage, e.name, e.sink, e.key, e.class, e.state, e.payload, e.payload_ref,
e.artifacts, e.irreversible, e.tries, e.worker_id, e.planned_at, e.due_at, e.sent_at,
e.ended_at, e.answer, e.why, e.released_by, e.released_at
"""
JOINED = """
join waybill.items i on i.id = e.item_id
join waybill.batches b on b.id = e.batch_id
join waybill.tenants n on n.id = e.tenant_id
"""
CANCELLED = """
exists (select from waybill.outcomes o
         where o.item_id = e.item_id and o.state = 'cancelled')
"""
# `effects_due` gives them in order; what others have locked is theirs.
ASIDE_MAX = 1000  # due ones of a sink, of one look
TAKE = f"""
with due as (
  select x.id, w.class
    from unnest($2::text[], $3::text[], $4::int[]) w(sink, class, most)
   cross join lateral (
     select e.id from waybill.effects e
      where e.sink = w.sink and e.due_at <= waybill.clock() and not e.still
        and not {CANCELLED}
      order by e.due_at, e.id limit w.most for update of e skip locked) x),
taken as (
  update waybill.effects e
     set worker_id = $1, due_at = null, class = d.class
    from due d where e.id = d.id
  returning e.*),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, 'effect_asked', stage, $1::uuid::text, id::text
    from taken where state = 'in_doubt')
select {COLUMNS}, false as cancelled from taken e {JOINED} order by e.id
"""
# Those of cancelled items would be met at every look, for ever.  The lock keeps out who
# has their item retried, which has them sent again; nobody is waited for, and nothing
# is locked that others may take.
SET_ASIDE = f"""
update waybill.effects set still = true
 where id in (
   select e.id from unnest($1::text[]) w(sink)
    cross join lateral (
      select d.id, d.item_id from waybill.effects d
       where d.sink = w.sink and d.due_at <= waybill.clock() and not d.still
       order by d.due_at, d.id limit {ASIDE_MAX}) x
     join waybill.outcomes o on o.item_id = x.item_id and o.state = 'cancelled'
     join waybill.effects e on e.id = x.id and e.due_at is not null and not e.still
      for update of e skip locked for key share of o skip locked)
"""
# From here on it may have happened.
BEGIN = f"""
with found as (
  select e.id from waybill.effects e
   where e.id = any($2::bigint[]) and e.worker_id = $1 and e.state = 'planned'
     and not {CANCELLED}
   order by e.id for update of e),
begun as (
  update waybill.effects e
     set state = 'sending', tries = e.tries + 1, sent_at = waybill.clock()
    from found f where e.id = f.id
  returning e.id, e.item_id, e.stage),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, 'effect_sending', stage, $1::uuid::text, id::text from begun)
select id from begun
"""
# One that was not begun stands as it stood: that is no transition.
SETTLE = """
with told as (
  select * from unnest($2::bigint[], $3::text[], $4::float8[], $5::json[], $6::text[],
                       $7::boolean[])
                t(id, state, due_s, answer, why, perhaps)),
found as (
  select e.id, e.state as was from waybill.effects e join told t using (id)
   where e.worker_id = $1 order by e.id for update of e),
settled as (
  update waybill.effects e
     set state = t.state, worker_id = null, why = t.why,
         due_at = waybill.clock() + make_interval(secs => t.due_s),
         ended_at = case when t.state in ('confirmed', 'refused')
                         then waybill.clock() end,
         answer = coalesce(t.answer, e.answer), perhaps = e.perhaps or t.perhaps
    from told t join found f using (id) where e.id = t.id
  returning e.id, e.item_id, e.stage, e.state, f.was),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, 'effect_' || state, stage, $1::uuid::text, id::text from settled
   where (was, state) <> ('planned', 'planned'))
select id from settled
"""
DISOWN = """
with back as (
  update waybill.effects
     set worker_id = null, due_at = waybill.clock()
   where worker_id = $1 and not id = any($2::bigint[])
  returning id, item_id, stage, state),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, 'effect_in_doubt', stage, $1::uuid::text, id::text
    from back where state = 'in_doubt')
select count(*) from back
"""
LIST = f"select {COLUMNS}, {CANCELLED} as cancelled from waybill.effects e {JOINED}"
COUNT_OPEN = """
select sink, state, count(*) as n from waybill.effects
 where state not in ('confirmed', 'not_sent') group by 1, 2
"""
COUNT_BATCH = """
select sink, state, count(*) as n from waybill.effects where batch_id = $1 group by 1, 2
"""
# A person's word; `{when}` is what it may be said of.
SAY = """
with said as (
  update waybill.effects e
     set {set}
   where e.id = any($1::bigint[]) and {when}
  returning e.id, e.item_id, e.stage, e.state),
noted as (
  insert into waybill.audit (item_id, event, stage, actor, code)
  select item_id, {event}, stage, $2::text, id::text from said)
select id from said order by id
"""
RESOLVE = SAY.format(
    set="""state = $3, why = $4, due_at = case when $3 = 'planned'
             then waybill.clock() end,
           ended_at = case when $3 <> 'planned' then waybill.clock() end""",
    when="e.state = 'in_doubt' and e.worker_id is null",
    event="'effect_' || state",
)
RESEND = SAY.format(
    set="""state = 'planned', why = '', due_at = waybill.clock(), ended_at = null,
           perhaps = e.perhaps or e.state <> 'refused'""",
    when="""e.worker_id is null and (e.state in ('refused', 'in_doubt')
            or (e.state = 'confirmed' and e.class = 'a'))""",
    event="'effect_planned'",
)
RELEASE = SAY.format(
    set="""state = 'planned', released_by = $2, released_at = waybill.clock(),
           due_at = waybill.clock() + make_interval(secs => $3)""",
    when="e.state = 'awaiting_release'",
    event="'effect_released'",
)
UNDO = SAY.format(
    set="""state = 'awaiting_release', released_by = null, released_at = null,
           due_at = null, worker_id = null""",
    when="e.state = 'planned' and not e.perhaps and e.released_by is not null",
    event="'effect_awaiting_release'",
)


class PostgresEffects(Topic):
    """Effects; see `EffectStore` for every contract."""

    async def take_effects(
        self, worker: WorkerId, rooms: Sequence[Room]
    ) -> list[EffectRow]:
        """What is due, in this worker's hands."""

        async def work(con: Connection) -> list[EffectRow]:
            await _alive(con, worker)
            columns = [list(c) for c in zip(*rooms, strict=True)]
            await con.execute(SET_ASIDE, columns[0])
            return [_row(r) for r in await con.fetch(TAKE, worker, *columns)]

        return await self._db.tx(work) if rooms else []

    async def begin_effects(
        self, worker: WorkerId, ids: Sequence[EffectId]
    ) -> list[bool]:
        """Have planned ones be `sending`."""

        async def work(con: Connection) -> set[EffectId]:
            await _alive(con, worker)
            return {r["id"] for r in await con.fetch(BEGIN, worker, list(ids))}

        begun = await self._db.tx(work)
        return [number in begun for number in ids]

    async def settle_effects(
        self, worker: WorkerId, settled: Sequence[Settlement]
    ) -> list[bool]:
        """Write what became of effects."""
        rows = [
            (s.id, s.state.value, s.due_s, s.answer, clean_text(s.why), s.perhaps)
            for s in settled
        ]

        async def work(con: Connection) -> set[EffectId]:
            await _alive(con, worker)
            columns = map(list, zip(*rows, strict=True))
            return {r["id"] for r in await con.fetch(SETTLE, worker, *columns)}

        stood = await self._db.tx(work) if rows else set()
        return [s.id in stood for s in settled]

    async def disown_effects(self, worker: WorkerId, keep: Sequence[EffectId]) -> int:
        """Give back what this worker took and does not know of."""

        async def work(con: Connection) -> int:
            await _alive(con, worker)
            return int(await con.fetchval(DISOWN, worker, list(keep)))

        return await self._db.tx(work)

    async def effects(
        self,
        *,
        batch_id: int | None = None,
        item_id: ItemId | None = None,
        sink: str = "",
        states: Sequence[EffectState] = (),
        limit: int = 100,
    ) -> list[EffectRow]:
        """Effects, newest first."""
        asked = {
            "e.batch_id = ${}": batch_id,
            "e.item_id = ${}": item_id,
            "e.sink = ${}": sink,
            "e.state = any(${}::text[])": [s.value for s in states],
        }
        given = {what: value for what, value in asked.items() if value}
        where = " and ".join(what.format(n) for n, what in enumerate(given, 2))
        sql = f"{LIST} where {where or 'true'} order by e.id desc limit $1"
        return [_row(r) for r in await self._db.fetch(sql, limit, *given.values())]

    async def effect(self, effect_id: EffectId) -> EffectRow:
        """One effect; raises NotFound."""
        rows = await self._db.fetch(f"{LIST} where e.id = $1", effect_id)
        if not rows:
            hint = "`waybill effects ls` lists them"
            raise NotFound(f"there is no effect {effect_id}", hint=hint)
        return _row(rows[0])

    async def passages(self, effect_id: EffectId) -> list[Passage]:
        """Its transitions, in order."""
        rows = await self._db.fetch(
            """
            select a.event, a.actor, a.at from waybill.effects e
              join waybill.audit a on a.item_id = e.item_id
             where e.id = $1 and a.code = $1::bigint::text and a.event like 'effect@_%'
                   escape '@' order by a.id
            """,
            effect_id,
        )
        return [Passage(*r) for r in rows]

    async def count_effects(
        self, batch_id: int | None = None
    ) -> dict[tuple[str, EffectState], int]:
        """How many stand where, by sink and state."""
        rows = (
            await self._db.fetch(COUNT_OPEN)
            if batch_id is None
            else await self._db.fetch(COUNT_BATCH, batch_id)
        )
        return {(r["sink"], EffectState(r["state"])): r["n"] for r in rows}

    async def resolve_effect(
        self, effect_id: EffectId, state: EffectState, author: str, why: str
    ) -> EffectRow:
        """A person says what became of an effect in doubt."""
        said = await self._db.fetch(
            RESOLVE, [effect_id], author, state.value, clean_text(why)
        )
        row = await self.effect(effect_id)
        if not said:
            raise Conflict(f"effect {effect_id} is not in doubt: it is {row.state}")
        return row

    async def resend_effect(self, effect_id: EffectId, author: str) -> EffectRow:
        """Plan one again, with its key and its body."""
        said = await self._db.fetch(RESEND, [effect_id], author)
        row = await self.effect(effect_id)
        if not said:
            raise Conflict(f"effect {effect_id} is {row.state}: it is not sent again")
        return row

    async def awaiting_release(self, batch_id: int) -> list[EffectId]:
        """Those of a batch that wait for a person."""
        return await self._of(batch_id, (), EffectState.AWAITING_RELEASE)

    async def release_effects(
        self, author: str, *, ids: Sequence[EffectId], in_s: float
    ) -> list[EffectId]:
        """Release those of these that wait for it."""
        said = await self._db.fetch(RELEASE, list(ids), author, in_s)
        return [r["id"] for r in said]

    async def undo_release(
        self, author: str, *, batch_id: int | None = None, ids: Sequence[EffectId] = ()
    ) -> list[EffectId]:
        """Have released effects wait again that no courier has taken."""
        found = await self._of(batch_id, ids, EffectState.PLANNED)
        return [r["id"] for r in await self._db.fetch(UNDO, found, author)]

    async def _of(
        self, batch_id: int | None, ids: Sequence[EffectId], state: EffectState
    ) -> list[EffectId]:
        if batch_id is None:
            return list(ids)
        rows = await self._db.fetch(
            "select id from waybill.effects where batch_id = $1 and state = $2",
            batch_id,
            state.value,
        )
        return [r["id"] for r in rows]


async def _alive(con: Connection, worker: WorkerId) -> None:
    if await con.fetchval(ALIVE, worker) is None:
        raise LeaseLost("this worker's lease ran out")


def _row(r: Any) -> EffectRow:
    row = EffectRow(*r)
    return row._replace(
        sink_class=SinkClass(row.sink_class),
        state=EffectState(row.state),
        artifacts=json.loads(r["artifacts"]),
        answer=None if row.answer is None else json.loads(r["answer"]),
    )
