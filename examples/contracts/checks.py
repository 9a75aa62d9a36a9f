"""
Checks: clauses held against each other, and a lawyer asked about what is doubtful.

Reads   `clauses` and `gaps`, left by the supervisor; `rulings`, by a person.
Writes  `clauses`, as a person has them, and `checks`.
Steps   none: the same findings and answers come to the same.
Limits  none.
Ends    Advance; Hold CLAUSES_DOUBTFUL, which asks for `rulings` and runs again with
        them.
"""

from pydantic import Field

from pipeline.stage import Advance, Context, Hold, Outcome, Settings, stage
from stages.abstracts.boxes import with_boxes
from stages.abstracts.doubts import evidence, sentence
from stages.abstracts.forms import structure_of
from stages.abstracts.weighing import weighed


class ChecksSettings(Settings):
    """Keys of `[stage.checks]`."""

    hold: bool = True
    hold_below: float = Field(default=0.5, ge=0, le=1)


@stage(settings=ChecksSettings, timeout_s=300)
async def checks(contract, ctx: Context) -> Outcome:
    """Whether the clauses agree, and a lawyer's word where nobody is sure."""
    structure = structure_of(await ctx.artifacts.get(contract.structure))
    text, settings = contract.text, ctx.settings
    now = weighed(
        structure, contract.clauses, contract.rulings, text, settings.hold_below
    )
    placed = await with_boxes(now.clauses, contract.read, ctx, contract.text)
    if now.doubts and settings.hold:
        return Hold(
            "CLAUSES_DOUBTFUL",
            sentence(now.doubts, len(contract.gaps)),
            evidence=evidence(
                now.doubts,
                placed,
                structure.types,
                now.checks,
                text,
                gaps=contract.gaps,
                refused=now.refused,
            ),
            ask=("rulings",),
        )
    return Advance(clauses=placed, checks=now.checks)
