"""
Lists of items: each begins at the index that has the fewest rows to look at.

Items are filtered one by one, by look-ups of their keys: scalar queries, which the
planner cannot turn into a walk over a whole table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.model import ItemId
from pipeline.store.outside import WAIT_CODE
from pipeline.store.port import ANY
from pipeline.store.postgres.seeking import Parameters, all_of, beside, of_items
from pipeline.store.rows import Sought
from pipeline.store.signals import SIGNAL

# Where an item in a state stands, by the word that people use: tables and conditions.
STATES: dict[str, tuple[tuple[str, str], ...]] = {
    "ready": (("ready", "true"),),
    "running": (("running", "true"),),
    "waiting": (("waiting", "true"), ("joining", "true")),
    "held": (("holds", "x.open"),),
    "done": (("outcomes", "x.state = 'done'"),),
    "rejected": (("outcomes", "x.state = 'rejected'"),),
    "failed": (("outcomes", "x.state = 'failed'"),),
    "cancelled": (("outcomes", "x.state = 'cancelled'"),),
}
CODED = (
    "waiting",  # for a signal, for money, for a vendor, after an error
    "held",
    "rejected",
    "failed",
    "cancelled",
)  # others have no code
NO_CODE = "joining"  # of what waits for its children
SINCE = {"running": "claimed_at", "holds": "held_at", "outcomes": "at"}  # else `since`
# `running` names the stage at which an item was claimed.
STAGE_NOW = "(select n.stage from waybill.running_now n where n.item_id = x.item_id)"


class Listing(NamedTuple):
    """
    What is listed: items of these batches (None: of all), found in `parent`, in a
    state, and such as are `sought`.

    `by_state` says that fewer items are in the state than in the batches.
    """

    batches: list[int] | None = None
    parent: ItemId | None = None
    state: str | None = None
    by_state: bool = True
    sought: Sought = ANY


def statement(what: Listing) -> tuple[str, list[object]]:
    """
    The ids, newest first, below $1, at most $2 and from $3 on; and the parameters from
    $4 on.
    """
    given = Parameters(None, None, None)
    sql = _statement(what, given)
    return sql, given.values[3:]


def _statement(what: Listing, given: Parameters) -> str:
    places = _places(what, given)
    facts = of_items(what.sought, None, given)
    batches = what.batches
    if what.parent is not None:
        facts = [f"i.parent_id = {given(what.parent)}", *facts, *_in_places(places)]
        if batches is not None:
            facts.append(f"i.batch_id = any({given(batches)}::bigint[])")
        return _of_items(facts)
    if batches is None:
        return _of_places(places, facts) if places else _of_items(facts)
    if places and what.by_state:
        of = f"i.batch_id = any({given(batches)}::bigint[])"
        return _of_places(places, [of, *facts])
    each = _of_items(["i.batch_id = b.id", *facts, *_in_places(places)])
    return _newest(
        f"select k.id from unnest({given(batches)}::bigint[]) b(id)"
        f" cross join lateral ({each}) k"
    )


def _places(what: Listing, given: Parameters) -> list[tuple[str, str]]:
    """Where such items stand: tables and conditions; nothing when it is not asked."""
    sought = what.sought
    if what.state is not None:
        states: Sequence[str] = (what.state,)
    elif sought.code:
        states = CODED
    elif sought.stage or sought.since:
        states = tuple(STATES)
    else:
        return []
    code, stage, since = sought.code, sought.stage, sought.since
    places = [place for state in states for place in STATES[state]]
    if code:
        coded = set(states) <= set(CODED)
        places = [p for p in places if coded and p[0] != NO_CODE]
        if not re.match(WAIT_CODE, code):
            places = [p for p in places if p[0] != "waiting"]
    if not places:
        return [("ready", "false")]  # whatever is there has none
    stage = given(stage) if stage else ""
    at = given(since) if since else ""
    found = []
    for table, here in places:
        facts = [here]
        if code:
            facts.append(_of_code(table, code, given))
        if stage:
            now = STAGE_NOW if table == "running" else "x.stage"
            facts.append(f"{now} = {stage}")
        if at:
            facts.append(f"x.{SINCE.get(table, 'since')} >= {at}")
        found.append((table, all_of(facts)))
    return found


def _of_code(table: str, code: str, given: Parameters) -> str:
    if table != "waiting":
        return f"x.code = {given(code)}"
    if code == SIGNAL:
        return f"x.code = '{SIGNAL}'"  # as its index says it
    return f"x.code = '' and x.why = {given(code)}"


def _of_items(facts: Sequence[str]) -> str:
    """From the items, by the index that begins with the first of these facts."""
    where = all_of([*facts, "i.id < $1", "i.id >= $3"])
    return _newest(f"select i.id from waybill.items i where {where}")


def _of_places(places: Sequence[tuple[str, str]], facts: Sequence[str]) -> str:
    """From the tables of states."""
    items = beside("x.item_id", facts)
    found = (
        "("
        + _newest(
            f"select x.item_id as id from waybill.{table} x where "
            + all_of([here, "x.item_id < $1", "x.item_id >= $3", *items])
        )
        + ")"
        for table, here in places
    )
    return _newest(f"select p.id from ({' union all '.join(found)}) p")


def _in_places(places: Sequence[tuple[str, str]]) -> list[str]:
    """That an item `i` is in one of these."""
    here = (
        f"(select true from waybill.{table} x where x.item_id = i.id and {fact})"
        for table, fact in places
    )
    return [f"coalesce({', '.join(here)}, false)"] if places else []


def _newest(select: str) -> str:
    return f"{select} order by 1 desc limit $2"
