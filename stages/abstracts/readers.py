"""
What several readers of one clause come to together.

Rules always read; a model reads where one is declared.  Where they agree on the verdict
and the place the clause is surer than either; where they do not, a person looks.
"""

from __future__ import annotations

from collections.abc import Sequence

from stages.abstracts.forms import MODEL, Cited, Clause, Said, Verdict
from stages.abstracts.passages import Passage
from stages.abstracts.places import cited, place_of
from stages.abstracts.reading import said_of
from stages.clauses.values import Kind, value_of

# What agreement is worth.  Arbitrary, but for their order: a contract whose model is
# measured may be given others by `hold_below`.
BOTH = 0.97  # rules and model, one place, or neither finds it
APART = 0.8  # both say present, at different places
SPLIT = 0.4  # one says present, the other absent


def in_passage(text: str, passage: Passage, quote: str) -> tuple[int, int] | None:
    """`[start, end)` in `text` of a quote that stands within `passage`."""
    found = place_of(text[passage.start : passage.end], quote)
    if found is None:
        return None
    return found[0] + passage.start, found[1] + passage.start


def by_model(
    text: str, name: str, verdict: Verdict, places: Sequence[tuple[int, int]]
) -> Clause:
    """What a model found of a type: its verdict, and where its quotes stand."""
    return Clause(
        type=name,
        verdict=verdict,
        confidence=APART,
        quotes=tuple(cited(text, start, end, (MODEL,)) for start, end in places),
        opinions={MODEL: verdict},
    )


def together(rules: Clause, model: Clause, kind: Kind) -> Clause:
    """
    Both as one clause; its value is taken from quotes, and never from a model's word.

    A model that is not sure leaves what the rules have found; where they have found
    nothing it has seen something of the kind, and a person looks.
    """
    opinions = {**rules.opinions, **model.opinions}
    if model.verdict == "unclear":
        found: dict[str, object] = {"opinions": opinions}
        if rules.verdict == "absent":
            found |= {"verdict": "unclear", "confidence": SPLIT}
        return rules.model_copy(update=found)
    quotes = _joined(rules.quotes, model.quotes)
    verdict: Verdict
    if rules.verdict == model.verdict == "absent":
        verdict, confidence = "absent", BOTH
    elif model.verdict == "present" and _meet(rules.quotes, model.quotes):
        verdict, confidence = "present", BOTH
    elif rules.verdict == model.verdict:
        verdict, confidence = "present", APART
    else:
        verdict, confidence = "unclear", SPLIT
    return Clause(
        type=rules.type,
        verdict=verdict,
        confidence=confidence,
        quotes=quotes,
        value=rules.value or value_in(quotes, kind),
        opinions=opinions,
    )


def value_in(quotes: Sequence[Cited], kind: Kind) -> Said | None:
    """The first value of this kind that stands in the quotes."""
    if kind == "text" and quotes:
        return Said(kind="text", text=" ".join(quotes[0].text.split()))
    found = (value_of(kind, quote.text) for quote in quotes)
    return next((said_of(value) for value in found if value is not None), None)


def _meet(some: Sequence[Cited], others: Sequence[Cited]) -> bool:
    return any(_overlap(one, other) for one in some for other in others)


def _overlap(one: Cited, other: Cited) -> bool:
    return one.start < other.end and other.start < one.end


def _joined(some: Sequence[Cited], others: Sequence[Cited]) -> tuple[Cited, ...]:
    """Each place once, with all who came to it; those of several readers first."""
    found = list(some)
    for other in others:
        met = [n for n, one in enumerate(found) if _overlap(one, other)]
        if not met:
            found.append(other)
        for n in met:
            readers = tuple(dict.fromkeys((*found[n].readers, *other.readers)))
            found[n] = found[n].model_copy(update={"readers": readers})
    return tuple(sorted(found, key=lambda one: -len(one.readers)))
