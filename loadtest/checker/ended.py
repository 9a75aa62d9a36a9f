"""
What holds once the faults are over and everything had its time, in one snapshot.
"""

from __future__ import annotations

from loadtest.checker.checks import Check, Query
from loadtest.checker.safety import PLACES

# Between the begin of a try and the row that tells of it lie a flush of the worker's
# journal and, under faults, the return of its database; arbitrary.
LATE_S = 10.0

MOVED = """
exists (select from waybill.audit a where a.item_id = {} and a.event = 'deadline')
"""


def _in_the_end(name: str, invariant: str, says: str, of: str, bad: str) -> Query:
    return Query(Check(name, invariant, says, during=False), of, bad)


NO_LOST_EFFECT = _in_the_end(
    "no-lost-effect",
    "I8",
    "no effect of an item that is done is still on its way: each was confirmed,"
    " refused, or is in doubt for a person",
    "select from waybill.effects",
    """
    select 'effect ' || e.id || ' is ' || e.state as example
      from waybill.effects e join waybill.outcomes o on o.item_id = e.item_id
     where o.state = 'done' and (e.state in ('planned', 'sending')
            or (e.state = 'in_doubt' and (e.class <> 'c' or e.worker_id is not null)))
    """,
)
NO_LATE_START = _in_the_end(
    "no-late-start",
    "I11",
    "nothing began after its item's deadline, as the rows tell that it wrote"
    f" ({LATE_S:.0f} s are allowed for writing)",
    "select from waybill.checkpoints where worker_id is not null",
    f"""
    select 'item ' || c.item_id || ' checkpoint ' || c.seq as example
      from waybill.checkpoints c join waybill.items i on i.id = c.item_id
     where c.worker_id is not null and not {MOVED.format("i.id")}
       and c.at - make_interval(secs => c.took_s)
           > i.deadline_at + interval '{LATE_S} seconds'
    """,
)
EXPIRED_ENDED = _in_the_end(
    "expired-ended",
    "I11",
    "what is past its deadline has ended, or is with a person",
    "select from waybill.items where deadline_at < statement_timestamp()",
    f"""
    select 'item ' || i.id || ' is past its deadline and ' || p.place as example
      from waybill.items i
      join ({PLACES}) p on p.item_id = i.id
       and p.place in ('ready', 'running', 'waiting', 'joining')
     where i.deadline_at < statement_timestamp() - interval '{LATE_S} seconds'
    """,
)
HELD_IS_FREE = _in_the_end(
    "held-is-free",
    "I13",
    "what is held has nothing open: no call, no claim",
    "select from waybill.holds where open",
    """
    select 'item ' || h.item_id || ' is held, and call ' || c.number || ' is open'
           as example
      from waybill.holds h join waybill.calls c on c.item_id = h.item_id
     where h.open and c.settled_at is null
    union all
    select 'item ' || h.item_id || ' is held, and with ' || u.worker_id
      from waybill.holds h join waybill.running u on u.item_id = h.item_id where h.open
    """,
)
ALL_ENDED = _in_the_end(
    "all-ended",
    "I22",
    "with the faults over, every item has ended or is with a person",
    "select from waybill.items",
    """
    select 'item ' || item_id || ' is ' || place as example
      from (select item_id, 'ready' as place from waybill.ready
            union all select item_id, 'running' from waybill.running
            union all select item_id, 'waiting' from waybill.waiting
            union all select item_id, 'waiting for its children'
              from waybill.joining) p
    """,
)

ENDED = (NO_LOST_EFFECT, NO_LATE_START, EXPIRED_ENDED, HELD_IS_FREE, ALL_ENDED)
