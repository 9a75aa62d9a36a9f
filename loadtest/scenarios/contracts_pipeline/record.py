"""Hand the record over: one upsert of one record, by the contract's name."""

from __future__ import annotations

from typing import Any

from loadtest.scenarios.chaos_stages import note
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, stage

FIELD_CHARS = 255


@stage(timeout_s=60)
async def record(contract: Any, ctx: Context) -> Outcome:
    """A field for each type of clause: its words, or nothing."""
    note(ctx, "record", "-")
    payload = {"Waybill_Key__c": ctx.item.name, "Name": ctx.item.name}
    for number, (_, field) in enumerate(sorted(contract.fields.items())):
        payload[f"Clause_{number}__c"] = field["quote"][:FIELD_CHARS]
    await ctx.effect("record", "crm", payload)
    return Advance()
