"""
An item's state, and what an update would change of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from pipeline.errors import Usage
from pipeline.loading import IMPORT_S
from pipeline.model import Checkpoint, ItemId
from pipeline.state import Channels, update_of
from waybill.compose import App


class Change(NamedTuple):
    """A channel, or a key of one (`clauses.date`), before and after; None: nothing."""

    channel: str
    old: Any
    new: Any


async def state_of(
    app: App, item: ItemId, history: Sequence[Checkpoint], at: str = ""
) -> tuple[Channels, BaseModel]:
    """
    The fold of the item's checkpoints, to the end or to after stage `at`.

    Raises:
        Usage: its pipeline has no stage `at`.
    """
    pipeline_id, facts = await app.store.facts(item)
    pipeline = await app.catalogue.get(pipeline_id, app.store, IMPORT_S)
    if at and at not in pipeline.stages:
        raise Usage(
            f"the pipeline {pipeline.name} has no stage {at!r}",
            hint=f"its stages: {', '.join(pipeline.stages)}",
        )
    updates = []
    for c in history:
        if c.step is not None:
            continue
        updates.append(await update_of(c, app.artifacts))
        if c.stage == at:
            break
    return pipeline.channels, pipeline.channels.fold(json.loads(facts), updates)


def shown(state: BaseModel) -> dict[str, Any]:
    """A state as JSON data, without what was never set."""
    return state.model_dump(mode="json", exclude_defaults=True)


async def changes(app: App, item: ItemId, update: str) -> list[Change]:
    """
    What this update, JSON text, would change of the item's state as it is now.

    Raises:
        Permanent: BAD_UPDATE, a reducer cannot join it to what is there.
    """
    history = (await app.store.history([item]))[item]
    channels, before = await state_of(app, item, history)
    after = channels.apply(before, channels.decode(update))
    return list(differences(shown(before), shown(after)))


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], within: str = ""
) -> Iterator[Change]:
    """Of two states, or mappings in one, by channel; of a mapping by its keys."""
    for name in {**old, **new}:
        was, becomes = old.get(name), new.get(name)
        if was == becomes:
            continue
        if not within and isinstance(becomes, dict) and isinstance(was, dict | None):
            yield from differences(was or {}, becomes, f"{name}.")
        else:
            yield Change(within + name, was, becomes)
