"""
Mended code for items on their way: they go on with the pipeline as it stands now.

An item keeps the version that it began with, unless somebody says otherwise.  Then
its checkpoints must fold into the state of the new version and the stage where it
stands must be in it; where not, it stays as it is, and it is said why.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from pipeline.errors import Integrity, NotFound, Permanent
from pipeline.folder import Pipeline
from pipeline.model import Checkpoint, ItemId, State
from pipeline.state import update_of
from pipeline.store.rows import ItemRow, Mark
from waybill.compose import App

SLICE = 100  # items whose checkpoints are in memory at once; arbitrary
CURRENT = "current"  # the folder of an item's own pipeline, among WAYBILL_PIPELINES

SENTENCES = {
    "ready": "ready",
    "joining": "pinned; it still waits for its children",
    "moved": "it moved meanwhile: say it again",
    "done": "done items are not retried",
    "not final": "it is still on its way: only what has ended is retried",
}


async def bring_on(app: App, items: Sequence[ItemId], source: str) -> dict[ItemId, str]:
    """
    Pin items to a pipeline folder as it stands now, and put them back in line.

    Args:
        source: `CURRENT`, or a pipeline's name or folder.

    Returns:
        Per item "ready", or a sentence that says why it stays as it was.

    Raises:
        Usage: the folder is not in order.
    """
    said: dict[ItemId, str] = {}
    folders: dict[str, tuple[int, Pipeline]] = {}
    names: dict[int, str] = {}
    for at in range(0, len(items), SLICE):
        rows = await app.store.rows(items[at : at + SLICE])
        by_name: defaultdict[str, dict[ItemId, ItemRow]] = defaultdict(dict)
        for item, row in rows.items():
            number = row.pipeline_id
            if number not in names:
                names[number] = (await app.store.pipeline(number)).name
            by_name[names[number]][item] = row
        for name, mine in by_name.items():
            if name not in folders:
                folders[name] = await app.publish(name if source == CURRENT else source)
            said |= await _pin(app, name, mine, *folders[name])
    return {item: said[item] for item in items if item in said}


async def _pin(
    app: App, name: str, rows: Mapping[ItemId, ItemRow], number: int, new: Pipeline
) -> dict[ItemId, str]:
    """Pin items of the pipeline `name`; per item, what became of it."""
    history = await app.store.history(list(rows))
    inputs = await app.store.inputs(list(rows))
    said, marks = {}, {}
    for item, row in rows.items():
        why = _stays(row, name, new)
        why = why or await _unfoldable(app, inputs[item], history[item], new)
        if why:
            said[item] = why
        else:
            seen = history[item]
            marks[item] = Mark(row.stage, seen[-1].seq if seen else -1)
    author = app.settings.reviewer
    for item, word in (await app.store.pin(marks, number, author)).items():
        said[item] = await _moved(app, item) if word == "moved" else SENTENCES[word]
    return said


def _stays(row: ItemRow, name: str, new: Pipeline) -> str:
    """Why an item cannot go on with `new`, from where it stands; "" when it can."""
    if new.name != name:
        return f"it is of the pipeline {name}, not of {new.name}"
    if row.state is State.DONE:
        return SENTENCES["done"]
    if row.state is State.RUNNING:
        return (
            "a worker has it: it is not touched; say it again when it waits or failed"
        )
    if row.stage not in new.stages:
        there = ", ".join(new.stages)
        return f"its stage {row.stage!r} is not in the folder any more ({there})"
    return ""


async def _unfoldable(
    app: App, facts: str, history: Sequence[Checkpoint], new: Pipeline
) -> str:
    """Why checkpoints do not make a state of `new`; "" when they do."""
    try:
        updates = [await update_of(c, app.artifacts) for c in history if c.step is None]
        new.channels.fold(json.loads(facts), updates)
    except (Permanent, NotFound, Integrity) as error:
        return f"its checkpoints do not fold into the state of now: {error.message}"
    return ""


async def _moved(app: App, item: ItemId) -> str:
    row = await app.store.item(item)
    if row.state is State.HELD:
        hold = await app.store.hold_of(item)
        if hold.claimed_by is not None:
            return f"{hold.claimed_by} is looking at its hold h{hold.id}"
    return SENTENCES["moved"]
