"""The supervisor: a part for each reader, then one field for each type of clause."""

from __future__ import annotations

from typing import Any

from pipeline.model import Advance, Hold, Outcome
from pipeline.parts import Part
from pipeline.stage import Context, Retry, stage

DOUBT = "CLAUSES_IN_DOUBT"


@stage(timeout_s=600, retry=Retry(attempts=20, cap_s=2), window=200)
async def clauses(contract: Any, ctx: Context) -> Outcome:
    """Where readers do not agree a lawyer is asked, and asked again if need be."""
    parts = [
        Part(
            f"{number}-{reader}",
            {
                "text": contract.text,
                "of": ctx.item.name,
                "clause": clause,
                "reader": reader,
                "page": page,
            },
        )
        for number, (clause, page) in enumerate(sorted(contract.places.items()))
        for reader in ("a" if clause in contract.single else "ab")
    ]
    await ctx.spawn(parts, at="reader")
    found: dict[str, list[dict[str, Any]]] = {}
    for kin in await ctx.join(need=[part.name for part in parts]):
        found.setdefault(kin.values["clause"], []).append(kin.values["finding"])
    doubts = {
        clause: said
        for clause, said in found.items()
        if clause not in contract.rulings and not _agree(said)
    }
    if doubts:
        why = f"readers do not agree on {len(doubts)} of {len(found)} types of clause"
        return Hold(DOUBT, why, evidence={"doubts": doubts}, ask=("rulings",))
    return Advance(
        fields={
            clause: _field(said, contract.rulings.get(clause))
            for clause, said in found.items()
        }
    )


def _agree(said: list[dict[str, Any]]) -> bool:
    kinds = {(one["verdict"], one["quote"], one["value"]) for one in said}
    return len(kinds) == 1 and "unclear" not in {one["verdict"] for one in said}


def _field(said: list[dict[str, Any]], ruling: dict[str, Any] | None) -> dict[str, Any]:
    """What stands in the record, and where it comes from."""
    chosen = ruling or said[0]
    return {
        "verdict": chosen["verdict"],
        "quote": chosen["quote"],
        "page": said[0]["page"],
        "ruled": ruling is not None,
        "from": [[one["reader"], one["item"], one["step"]] for one in said],
    }
