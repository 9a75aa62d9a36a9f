"""
The result of a trial: what its items have found, scored, as data that is kept.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from pydantic_core import from_json

from pipeline.errors import Integrity, NotFound, Permanent, Usage
from pipeline.holds.parking import whole
from pipeline.model import Batch, State
from pipeline.state import update_of
from pipeline.store.rows import EffortRow, Standing
from waybill.compose import App
from waybill.evals.findings import CHANNELS, Found, findings_of
from waybill.evals.scoring import (
    Share,
    Tally,
    agreement,
    as_data,
    graded,
    plain,
    rounded,
    shares,
    spread,
)
from waybill.evals.trial import Try, Trying, ended

LOOKED_AT = {*CHANNELS, "text"}
ENDED_BADLY = {State.FAILED, State.REJECTED, State.CANCELLED}
GOOD_PRECISION, GOOD_RECALL = 0.8, 0.5  # of a type that is found well; arbitrary
NAMED_MAX = 1000  # of items that are held or failed; arbitrary


@dataclass(slots=True)
class Scored:
    """What is counted while tries are looked at, by repeat and type."""

    tallies: dict[int, dict[str, Tally]] = field(default_factory=dict)
    said: dict[tuple[int, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    held: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    beside: Counter[str] = field(default_factory=Counter)
    ends: Counter[tuple[int, str]] = field(default_factory=Counter)
    answered: bool = False  # whether any item has left findings


async def scored(app: App, what: Trying, batch: Batch, tries: list[Try]) -> Scored:
    """
    Every try, graded.

    Raises:
        Usage: NO_FINDINGS, no item that did not fail has left any.
    """
    s = Scored()
    whole_ones = 0
    async for tried, standing in ended(app, batch, tries):
        found, document = None, None
        state, code = State.FAILED, tried.code
        if standing is not None:
            state, code = standing.row.state, standing.row.code
            with suppress(Integrity, NotFound, Permanent):
                if state not in ENDED_BADLY:
                    found, document = await _answer(app, what, standing)
        named = {"case": tried.case.number, "name": tried.case.name}
        named |= {"repeat": tried.repeat, "item": tried.item, "code": code}
        if document is None:
            s.ends[tried.repeat, "failed"] += 1
            s.failed.append(named)
        else:
            whole_ones += 1
            s.answered |= found is not None
            if state is not State.DONE:
                s.ends[tried.repeat, "held"] += 1
                s.held.append(named)
        _grade(s, tried, found or {}, document)
    if whole_ones and not s.answered:
        raise Usage(
            f"the pipeline {what.pipeline.name} leaves no findings to score",
            code="NO_FINDINGS",
            hint="a channel `findings`, or `findings` in `facts`; see docs/eval.md",
        )
    return s


def _grade(
    s: Scored, tried: Try, found: Mapping[str, Found], document: str | None
) -> None:
    of = s.tallies.setdefault(tried.repeat, {})
    for type_, label in tried.case.labels.items():
        one = found.get(type_)
        of.setdefault(type_, Tally()).add(graded(label, one, document))
        verdict = "failed" if document is None else one.verdict if one else "absent"
        s.said[tried.case.number, type_].append(verdict)
    for type_ in found.keys() - tried.case.labels.keys():
        s.beside[type_] += found[type_].verdict == "present"


async def _answer(
    app: App, what: Trying, standing: Standing
) -> tuple[dict[str, Found] | None, str]:
    """What stands in the item's state, and the text that quotes must stand in."""
    channels = what.pipeline.channels
    updates = [await update_of(c, app.artifacts) for c in standing.updates]
    begins = from_json(standing.input)
    state = channels.fold(begins, updates, LOOKED_AT)
    if standing.row.state is State.HELD:
        # What the machine proposes is its answer: nobody rules on it here.
        hold = await whole(await app.store.hold_of(standing.row.id), app.artifacts)
        proposed = {n: v for n, v in hold.proposal.items() if n in LOOKED_AT}
        state = channels.apply(state, channels.validate(proposed))
    there = LOOKED_AT & set(type(state).model_fields)
    data = state.model_dump(mode="json", include=there)
    text = data.get("text")
    text = text if isinstance(text, str) else ""
    if str(begins.get("media_type", "")).startswith("text/"):
        with suppress(UnicodeDecodeError):
            text = (await app.artifacts.get(begins["source"])).decode("utf-8")
    return findings_of(data), plain(text)


# -- as data ---------------------------------------------------------------------------


def result_of(
    what: Trying, batch: Batch, s: Scored, efforts: Iterable[EffortRow], wall_s: float
) -> dict[str, Any]:
    """What is printed and kept; docs/eval.md has every field."""
    answers: dict[str, list[list[str]]] = defaultdict(list)
    for (_, type_), verdicts in s.said.items():
        answers[type_].append(verdicts)
    types = {}
    for type_ in what.cases.types:
        by_repeat = [s.tallies[n].get(type_, Tally()) for n in sorted(s.tallies)]
        types[type_] = _rates(by_repeat, answers[type_])
    sums = []
    for n in sorted(s.tallies):
        total = Tally()
        for tally in s.tallies[n].values():
            total.add(tally)
        sums.append(total)
    return {
        "pipeline": what.pipeline.name,
        "version": what.version,
        "batch": f"{batch.tenant}/{batch.name}",
        "cases": len(what.cases.cases),
        "cases_file": str(what.cases.file),
        "cases_digest": what.cases.digest,
        "repeat": what.repeat,
        "wall_s": round(wall_s, 1),
        "all": {
            **_rates(sums, list(s.said.values())),
            **_ends(what, s),
            **_effort(what, list(efforts)),
        },
        "good_types": sum(map(_is_good, types.values())),
        "types": types,
        "not_labelled": dict(sorted(s.beside.items())),
        "held_items": s.held[:NAMED_MAX],
        "failed_items": s.failed[:NAMED_MAX],
    }


def _rates(by_repeat: list[Tally], answers: list[list[str]]) -> dict[str, Any]:
    """Of all repeats together; of several also how far they lie apart."""
    total = Tally()
    for tally in by_repeat:
        total.add(tally)
    rates = {**asdict(total), **as_data(shares(total))}
    if len(by_repeat) < 2:
        return rates
    each = [shares(tally) for tally in by_repeat]
    spreads = {name: spread(of[name].rate for of in each) for name in each[0]}
    return {
        **rates,
        "agreement": rounded(agreement(answers).rate),
        "spread": {name: ends for name, ends in spreads.items() if ends},
    }


def _ends(what: Trying, s: Scored) -> dict[str, Any]:
    """How many of the items were held, and failed."""
    found: dict[str, Any] = {}
    for word in ("held", "failed"):
        each = [s.ends[n, word] for n in range(what.repeat)]
        found[f"{word}_items"] = sum(each)
        found[word] = rounded(Share(sum(each), what.total).rate)
        if what.repeat > 1:
            of = len(what.cases.cases)
            found[f"{word}_spread"] = spread(n / of for n in each)
    return found


def _effort(what: Trying, efforts: list[EffortRow]) -> dict[str, Any]:
    """What the items took; money is text, for no float holds it."""
    cost: dict[str, Decimal] = defaultdict(Decimal)
    for row in efforts:
        for currency, amount in row.cost.items():
            cost[currency] += amount
    seconds = sum(row.seconds for row in efforts)
    return {
        "calls": sum(row.calls for row in efforts),
        "cost": {currency: str(amount) for currency, amount in sorted(cost.items())},
        "cost_per_item": {c: float(a) / what.total for c, a in sorted(cost.items())},
        "seconds_per_item": round(seconds / what.total, 4),
    }


def _is_good(rates: Mapping[str, Any]) -> bool:
    precision, recall = rates["precision"] or 0.0, rates["recall"] or 0.0
    return bool(precision >= GOOD_PRECISION and recall >= GOOD_RECALL)
