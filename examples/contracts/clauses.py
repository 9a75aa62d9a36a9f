"""
Clauses: the supervisor, which is code.  A child for each type of clause.

Reads   `structure`, left by sections.
Writes  `clauses`, what readers found, by type; `gaps` and `model`.
Steps   `spawn:parts` and `join`; what is done after the join is done again.
Limits  the children's own; a contract that waits for them costs one row.
Ends    Advance; held with PART_MISSING where a required type could not be read.
"""

from pipeline.stage import Advance, Context, Outcome, Part, stage
from stages.abstracts.boxes import with_boxes
from stages.abstracts.forms import Clause, Gap, Structure, structure_of
from stages.abstracts.record import NO_MODEL


@stage(timeout_s=1800, window=200)
async def clauses(contract, ctx: Context) -> Outcome:
    """Every type by a child of its own; a child that fails is a gap with its name."""
    structure = structure_of(await ctx.artifacts.get(contract.structure))
    types = structure.types
    await ctx.spawn([part(contract, structure, one.name) for one in types], at="clause")
    required = {one.name for one in types if one.required}
    kin = await ctx.join(need=required)

    read = [child for child in kin if child.state == "done"]
    found = {k.name: Clause.model_validate(k.values["found"]) for k in read}
    gaps = [
        Gap(type=k.name, why=k.code or str(k.state), required=k.name in required)
        for k in kin
        if k.state != "done"
    ]
    models = {k.values["model"] for k in read} - {NO_MODEL}
    return Advance(
        clauses=await with_boxes(found, contract.read, ctx, contract.text),
        gaps=gaps,
        model=", ".join(sorted(models)) or NO_MODEL,
    )


def part(contract, structure: Structure, name: str) -> Part:
    """A child: what rules found of its type goes with it, the contract by name."""
    found = structure.by_rules[name].model_dump(mode="json", exclude_defaults=True)
    same = {"source": contract.source, "structure": contract.structure}
    return Part(name, {**same, "clause": name, "found": found})
