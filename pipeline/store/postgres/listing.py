"""
Lists of items: each begins at the index that has the fewest rows to look at.

Items are filtered one by one, by look-ups of their keys: scalar queries, which the
planner cannot turn into a walk over a whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.model import ItemId

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


class Listing(NamedTuple):
    """
    What is listed: items of these batches (None: of all), found in `parent`, in a
    state.

    `by_state` says that fewer items are in the state than in the batches.
    """

    batches: list[int] | None = None
    parent: ItemId | None = None
    state: str | None = None
    by_state: bool = True


def statement(what: Listing) -> tuple[str, list[Any]]:
    """
    The ids, newest first, below $1 and at most $2; and the parameters from $3 on.
    """
    places = STATES[what.state] if what.state else ()
    if what.parent is not None:
        facts = ["i.parent_id = $3", *_in_places(places)]
        if what.batches is None:
            return _of_items(facts), [what.parent]
        return _of_items([*facts, "i.batch_id = any($4::bigint[])"]), [
            what.parent,
            what.batches,
        ]
    if what.batches is None:
        return (_of_places(places, "true") if places else _of_items([])), []
    if places and what.by_state:
        mine = "(select i.batch_id from waybill.items i where i.id = x.item_id)"
        return _of_places(places, f"{mine} = any($3::bigint[])"), [what.batches]
    each = _of_items(["i.batch_id = b.id", *_in_places(places)])
    return _newest(
        f"select k.id from unnest($3::bigint[]) b(id) cross join lateral ({each}) k"
    ), [what.batches]


def _of_items(facts: Sequence[str]) -> str:
    """From the items, by the index that begins with the first of these facts."""
    where = " and ".join([*facts, "i.id < $1"])
    return _newest(f"select i.id from waybill.items i where {where}")


def _of_places(places: Sequence[tuple[str, str]], fact: str) -> str:
    """From the tables of a state."""
    found = (
        "("
        + _newest(
            f"select x.item_id as id from waybill.{table} x"
            f" where {here} and x.item_id < $1 and {fact}"
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
