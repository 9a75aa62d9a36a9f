"""What moderation let pass and held, counted; PostgreSQL alone makes reports."""

from __future__ import annotations

import json
from typing import Any

from pipeline.model import Entry, Finish, ItemId, State, WorkerId
from pipeline.store.moderated import SampledRow
from tests.store.world import World, finished, parked

SAMPLE = {
    "code": "QUALITY_SAMPLE",
    "role": "quality",
    "needs": (),
    "shown": json.dumps({"evidence": {"odds": 0.05}, "state": {}}),
}


async def held(world: World, worker: WorkerId, item: ItemId, **more: Any) -> None:
    move = parked(stage="moderation", after="judge", **more)
    await world.store.commit(worker, [Entry(item, None, move)])


async def rule(world: World, item: ItemId, verb: str, **channels: str) -> None:
    hold = await world.store.hold_of(item)
    update = None if verb == "reject" else json.dumps(channels)
    await world.decide(hold, verb, update=update)


async def test_what_passed_and_what_was_held_is_counted(postgres: World):
    """
    Samples count as passed; of the held those are right that a person did not let go
    on as they were, and a cancelled item's hold is nobody's ruling.
    """
    names = ("passed", "ended", "right", "alarm", "answered", "open", "cancelled")
    drawn = ("fine", "found", "lost", "unread")
    worker, items = await postgres.take(*names, *drawn)
    of = dict(zip((*names, *drawn), items, strict=True))
    store = postgres.store
    await store.commit(
        worker, [Entry(of["passed"], finished(0, "moderation", "judge"))]
    )
    end = Finish(State.REJECTED, "moderation", "HATE")
    await store.commit(worker, [Entry(of["ended"], finished(0, "moderation", ""), end)])
    for name in names[2:]:
        await held(postgres, worker, of[name])
    for name in drawn:
        await held(postgres, worker, of[name], **SAMPLE)
    await rule(postgres, of["right"], "reject")
    await rule(postgres, of["alarm"], "approve")
    await rule(postgres, of["answered"], "edit", answer_by="machine")
    await store.cancel([of["cancelled"]], "ann")
    await rule(postgres, of["fine"], "approve")
    await rule(postgres, of["found"], "edit", missed="disclosure")
    await rule(postgres, of["lost"], "reject")

    [week] = await store.moderated("QUALITY_SAMPLE")
    sampled = await store.sampled("QUALITY_SAMPLE")
    nothing = await store.moderated("QUALITY_SAMPLE", tenant="nobody")
    other = await store.sampled("QUALITY_SAMPLE", pipeline="another")

    assert week[1:] == (5, 1, 4, 1, 1)
    assert sampled == [
        SampledRow(week.week, 0.05, None, verb, missed, None)
        for verb, missed in (
            ("approve", ""),
            ("edit", "disclosure"),
            ("reject", ""),
            ("", ""),
        )
    ]
    assert nothing == other == []


async def test_lines_of_roles_say_what_is_due_first(postgres: World):
    """How many are open in each, the most urgent line first."""
    await postgres.hold()
    await postgres.hold(role="quality", within_s=600.0)
    grave = await postgres.hold(role="safeguarding", within_s=60.0)
    await postgres.hold(role="safeguarding", within_s=90.0)

    lines = await postgres.store.role_lines()

    assert [(line.role, line.holds) for line in lines] == [
        ("safeguarding", 2),
        ("quality", 1),
    ]
    assert lines[0].due_at == grave.due_at
    assert await postgres.store.role_lines("nobody") == []
