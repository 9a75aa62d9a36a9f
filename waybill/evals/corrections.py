"""
Corrections: what reviewers made of findings, as cases (`own.py` reads them again).

Whatever stands in the item's state after a decision is a label: what was corrected, and
what a person saw and left as it was.  What is unclear even then is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple

from pipeline.errors import Integrity, NotFound, Permanent, Usage
from pipeline.holds.parking import whole
from pipeline.loading import IMPORT_S
from pipeline.model import Checkpoint
from pipeline.state import Channels, update_of
from pipeline.store.rows import HoldRow
from waybill.compose import App
from waybill.evals.findings import CHANNELS, Found, findings_of
from waybill.evals.labels import WORD

LOOKED_AT = {*CHANNELS, "text"}
UNREADABLE = (Integrity, NotFound, Permanent, Usage)


class Documents(StrEnum):
    """How a case names its document."""

    ARTIFACT = "artifact"  # in this home's store, by its sha256
    TEXT = "text"  # in the line itself


class Exported(NamedTuple):
    """Cases, a line each; and holds that made none, with the reason."""

    lines: list[dict[str, Any]]
    left_out: dict[str, str]


async def exported(
    app: App, holds: Sequence[HoldRow], documents: Documents
) -> Exported:
    """A case for each item that was approved or edited, by its newest decision."""
    lines: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    seen = set()
    for hold in holds:
        if hold.decision is None or hold.item_id in seen:
            continue
        seen.add(hold.item_id)
        if hold.decision.verb == "reject":
            left_out[f"h{hold.id}"] = "rejected"
            continue
        try:
            line = await _line(app, hold, documents)
        except UNREADABLE as error:
            left_out[f"h{hold.id}"] = error.code
            continue
        if line is None:
            left_out[f"h{hold.id}"] = "no findings"
        else:
            lines.append(line)
    return Exported(lines, left_out)


async def _line(app: App, hold: HoldRow, documents: Documents) -> dict[str, Any] | None:
    number, begins = await app.store.facts(hold.item_id)
    channels = (await app.catalogue.get(number, app.store, IMPORT_S)).channels
    history = (await app.store.history([hold.item_id]))[hold.item_id]
    updates = [c for c in history if c.step is None]
    facts = json.loads(begins)
    state = await _state(app, channels, facts, updates)
    ruled = findings_of(state)
    if ruled is None:
        return None
    earlier = [c for c in updates if c.seq < hold.seq]
    proposed = (await whole(hold, app.artifacts)).proposal
    before = findings_of(await _state(app, channels, facts, earlier, proposed)) or {}
    assert hold.decision is not None
    return {
        "document": await _document(app, facts, state, documents),
        "name": hold.item_name,
        "expect": {
            type_: label for type_, one in ruled.items() if (label := _label(one))
        },
        "corrected": sorted(
            type_ for type_, one in ruled.items() if before.get(type_) != one
        ),
        "origin": {
            "hold": f"h{hold.id}",
            "item": hold.item_id,
            "pipeline": hold.pipeline,
            "stage": hold.stage,
            "verb": hold.decision.verb,
            "decided_at": hold.decision.decided_at.isoformat(),
        },
    }


async def _state(
    app: App,
    channels: Channels,
    facts: Mapping[str, Any],
    updates: Sequence[Checkpoint],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The channels that are looked at, after these updates and `more`."""
    texts = [await update_of(c, app.artifacts) for c in updates]
    state = channels.fold(facts, texts, LOOKED_AT)
    valid = channels.validate({n: v for n, v in (more or {}).items() if n in LOOKED_AT})
    state = channels.apply(state, valid)
    there = LOOKED_AT & set(type(state).model_fields)
    return state.model_dump(mode="json", include=there)


def _label(one: Found) -> dict[str, Any] | None:
    """What is expected; None where nobody knows, or no word says where it stands."""
    if one.verdict == "absent":
        return {"verdict": "absent"}
    if one.verdict == "unclear" or not any(map(WORD.search, one.quotes)):
        return None
    value = {"value": one.values[0]} if len(one.values) == 1 else {}
    return {"verdict": "present", "quotes": list(one.quotes), **value}


async def _document(
    app: App, facts: Mapping[str, Any], state: Mapping[str, Any], how: Documents
) -> dict[str, str]:
    source = str(facts.get("source", ""))
    if how is Documents.ARTIFACT:
        return {"artifact": source}
    if str(facts.get("media_type", "")).startswith("text/"):
        with suppress(UnicodeDecodeError):
            return {"text": (await app.artifacts.get(source)).decode("utf-8")}
    return {"text": str(state.get("text") or "")}
