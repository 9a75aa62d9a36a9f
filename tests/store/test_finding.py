"""Items are found by what somebody knows of them; PostgreSQL alone makes lists."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from pipeline.model import Entry, Finish, State
from pipeline.store.rows import Found, Sought
from tests.store.world import World, done, finished, parked, waiting

# Name, where it stands: what each test finds by name.
REJECTED = Finish(State.REJECTED, "judge", "BLANK", "")
FAILED = Finish(State.FAILED, "read", "BROKEN", "")
MOVES = {
    "held.pdf": parked(),
    "waiting.pdf": waiting(60),
    "done.PDF": done("write"),
    "rejected.tif": REJECTED,
    "failed-Ü.tif": FAILED,
}


@pytest.fixture
async def standing(postgres: World) -> World:
    """An item in each state; those of bravo are ready."""
    worker, items = await postgres.take(*MOVES, "running.pdf")
    for item, move in zip(items, MOVES.values(), strict=False):
        await postgres.move(worker, item, move)
    await postgres.admit("ready.pdf", "ready-2.tif", tenant="bravo")
    return postgres


CASES = [
    ({"name": ".pdf"}, {"held", "waiting", "done", "running", "ready"}),
    ({"name": ".PDF", "state": "held"}, {"held"}),
    ({"name": "ü"}, {"failed-Ü"}),
    ({"name": ".tif", "tenant": "bravo"}, {"ready-2"}),
    ({"name": ".tif", "tenant": "bravo", "state": "ready"}, {"ready-2"}),
    ({"name": "zebra"}, set()),
    ({"code": "LOOK"}, {"held"}),
    ({"code": "BROKEN"}, {"failed-Ü"}),
    ({"code": "THROTTLED"}, {"waiting"}),
    ({"code": "THROTTLED", "state": "waiting"}, {"waiting"}),
    ({"code": "THROTTLED", "state": "held"}, set()),
    ({"code": "its own wish"}, set()),
    ({"code": "BROKEN", "tenant": "acme"}, {"failed-Ü"}),
    ({"code": "BROKEN", "tenant": "bravo"}, set()),
    ({"code": "BROKEN", "state": "rejected"}, set()),
    ({"code": "BROKEN", "state": "ready"}, set()),
    ({"stage": "judge"}, {"rejected"}),
    ({"stage": "write", "state": "done"}, {"done"}),
    ({"stage": "read", "name": ".pdf"}, {"held", "waiting", "running", "ready"}),
    ({"stage": "read", "tenant": "bravo"}, {"ready", "ready-2"}),
    ({"pipeline": "letters", "state": "waiting"}, {"waiting"}),
    ({"pipeline": "other"}, set()),
]


def names(found: Found) -> set[str]:
    return {row.name.rpartition(".")[0] for row in found.rows}


async def find(world: World, asked: dict[str, str]) -> Found:
    """What is found by these words."""
    beside = {key: asked[key] for key in asked if key in ("state", "tenant")}
    sought = {key: asked[key] for key in asked if key not in beside}
    return await world.store.find(**beside, sought=Sought(**sought))


async def test_items_are_found_by_what_is_known(standing: World):
    """A part of the name, and the words that a list shows; all of them must be so."""
    found = [await find(standing, asked) for asked, _ in CASES]

    said = [(asked, names(f)) for f, (asked, _) in zip(found, CASES, strict=True)]
    assert said == CASES
    assert {f.before for f in found} == {0}
    assert {row.pipeline for f in found for row in f.rows} == {"letters"}


async def test_a_running_item_is_found_at_the_stage_it_came_to(postgres: World):
    """Not at the one where it was claimed."""
    worker, [item] = await postgres.take("a")
    await postgres.store.commit(worker, [Entry(item, finished(0, "read", "judge"))])

    at = [await find(postgres, {"stage": stage}) for stage in ("read", "judge")]

    assert [names_of(found) for found in at] == [[], ["a"]]


def names_of(found: Found) -> list[str]:
    return [row.name for row in found.rows]


async def test_items_are_found_by_when_they_came_where_they_are(standing: World):
    """At that time or later, whatever their state."""
    rows = (await standing.store.find()).rows
    middle = sorted(row.since for row in rows)[len(rows) // 2]
    later = Sought(since=middle)

    found = await standing.store.find(sought=later)
    held = await standing.store.find(state="held", sought=later)
    never = await standing.store.find(sought=Sought(since=middle + timedelta(days=1)))

    assert names_of(found) == [row.name for row in rows if row.since >= middle]
    assert names_of(held) == [
        row.name for row in rows if row.since >= middle and row.state is State.HELD
    ]
    assert never == ([], 0)


async def test_a_search_goes_on_where_it_ended(
    postgres: World, owner: asyncpg.Connection
):
    """Through however many numbers, in slices; of a second's work a page is shown."""
    [first] = await postgres.admit("old.pdf")
    jump = "alter table waybill.items alter column id restart with"
    await owner.execute(f"{jump} {first + 350_000}")
    [last] = await postgres.admit("old-2.pdf")
    sought = Sought(name="old")

    every = await postgres.store.find(sought=sought)
    one = await postgres.store.find(sought=sought, limit=1)
    rest = await postgres.store.find(sought=sought, limit=1, before=one.before)
    hurried = await postgres.store.find(sought=sought, look_s=0)

    assert ([row.id for row in every.rows], every.before) == ([last, first], 0)
    assert ([row.id for row in one.rows], one.before) == ([last], last)
    assert [row.id for row in rest.rows] == [first]
    assert hurried == ([], last + 1)
