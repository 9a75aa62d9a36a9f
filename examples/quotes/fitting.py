"""
Fitting: which parts each line is made of, with the reason of every rule.

Reads   `enquiry`, `found`; `answers` and `vouched`, by a person; rule files.
Writes  `chosen`, a hose and two ends a line; as product `findings` of what is refused.
Steps   none: the same parts and rules come to the same.
Limits  one jailed process.
Ends    Advance; Reject NOTHING_FITS, which names the rule; Hold PARTS_AMBIGUOUS, which
        asks for `answers`, and FIT_UNKNOWN, which asks for `vouched`.
"""

import json

from pipeline.stage import Advance, Context, Hold, Outcome, Reject, Settings, stage
from stages.quoting import asking, choosing
from stages.quoting.forms import Chosen, Open, Why
from stages.quoting.jailed import rules_of

FINDINGS = "FINDINGS.json"


class FittingSettings(Settings):
    """Keys of `[stage.fitting]`."""

    rules: str = "rules/*.toml"
    prefer: tuple[str, ...] = ()


@stage(settings=FittingSettings, timeout_s=600)
async def fitting(request, ctx: Context) -> Outcome:
    """Choose the least that bears it; what no rule passes is not quoted."""
    found = {one.line: one for one in request.found}
    pairs = [
        [line.model_dump(mode="json"), found[line.number].model_dump(mode="json")]
        for line in request.enquiry.lines
    ]
    asked = await ctx.artifacts.put(json.dumps(pairs).encode())
    made = await ctx.jailed(
        choosing.choose,
        lines=str(ctx.artifacts.path(asked)),
        rules=await rules_of(ctx, ctx.settings.rules),
        prefer=list(ctx.settings.prefer),
        answers=asking.plain(request.answers),
    )
    numbers = [line.number for line in request.enquiry.lines]
    against = {n: one for n, one in zip(numbers, made, strict=True) if one["against"]}
    if against:
        return await refused(against, ctx)
    open_ = [Open.model_validate(q) for one in made for q in one["open"]]
    if open_:
        return Hold(
            "PARTS_AMBIGUOUS",
            asking.sentence(open_),
            evidence=asking.evidence(open_, request.text),
            ask=("answers",),
        )
    chosen = []
    for number, one in zip(numbers, made, strict=True):
        word = str(request.vouched.get(str(number), "")).strip()
        unsure = one["unsure"] and Chosen.model_validate(one["unsure"])
        if unsure and not word:
            return unknown(unsure)
        if unsure:
            said = (*unsure.assumed, f"vouched for by a person: {word}")
            unsure = unsure.model_copy(update={"assumed": said})
        chosen.append(unsure or Chosen.model_validate(one["chosen"]))
    return Advance(chosen=chosen)


def unknown(unsure: Chosen) -> Hold:
    """No rule speaks of it, and a person must."""
    open_ = [one for one in unsure.reasons if one.fits != "yes"]
    return Hold(
        "FIT_UNKNOWN",
        f"line {unsure.line}: {open_[0].rule}: {open_[0].why}",
        evidence={
            "parts": {place: choosing.apart(p) for place, p in unsure.parts.items()},
            "reasons": [one.model_dump(mode="json") for one in open_],
            "answer": {f"vouched.{unsure.line}": "why it holds"},
        },
        ask=(f"vouched.{unsure.line}",),
    )


async def refused(against: dict[int, dict], ctx: Context) -> Outcome:
    """Nothing passes: which rule forbids it, and what would pass instead."""
    data = json.dumps(against, indent=1, sort_keys=True, ensure_ascii=False).encode()
    kept = await ctx.artifacts.put(data)
    ctx.product("findings", kept, file=FINDINGS)
    number, first = next(iter(against.items()))
    why = Why.model_validate(first["against"][0])
    said = f"line {number}: {why.rule}: {why.why}"
    said += f" ({', '.join(why.parts)}; {why.at})" if why.at else ""
    said += f"; instead: {first['instead'][0]}" if first["instead"] else ""
    return Reject("NOTHING_FITS", said)
