"""
Reading a contract by rules: is a clause there, and where does it say so.

Two routes read every type, one by the section's heading, one by the sentence's words.
Where both come to the same place the finding is sure; where one does, the type's rules
say whether that is enough.  No network, no model, and every quote is the text itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.clauses.finders import FINDERS
from stages.clauses.hits import Among, Hit, same
from stages.clauses.phrases import BadPhraseError
from stages.clauses.rulebook import ClauseRules, ClauseType, load_types
from stages.clauses.sections import Section, page_of, sections_of
from stages.clauses.sentences import Prepared, plain, prepared
from stages.clauses.values import Value, part_of, values_of

__all__ = [
    "ClauseRules",
    "ClauseType",
    "Finding",
    "Quote",
    "Section",
    "load_types",
    "read_clause",
    "read_clauses",
    "read_files",
    "sections_of",
]

Verdict = Literal["present", "absent", "unclear"]

# What agreement is worth: about the shares of findings that were right of contracts
# whose labels the rules were not written by, as tests/unit/clauses/test_contracts.py
# measures them.
SURE = 0.95  # both routes, one place
LIKELY = 0.8  # one route, which the type's rules trust
DOUBTFUL = 0.4  # one route that they do not
MISSING = 0.9  # none
INSTEAD_CHARS = 32  # before a value, where what makes it another thing stands
UNREAD = 0.0  # none, of a text that is too long to be read to its end


class Quote(BaseModel):
    """
    A place in the contract: `text` is `document_text[start:end]`, code points.

    Attributes:
        page: 1-based.
        readers: Which routes came to it: `heading`, `words`.
    """

    model_config = ConfigDict(frozen=True)

    start: int
    end: int
    text: str
    page: int
    readers: tuple[str, ...]


class Finding(BaseModel):
    """
    What was read of one type of clause.

    Attributes:
        type: The type's name.
        verdict: `unclear` where something was found that a person should look at.
        confidence: 0-1, of the verdict, by how the routes agree.
        quotes: The best first; none where it is absent.
        value: What the first quote that has one says, in one form.
    """

    model_config = ConfigDict(frozen=True)

    type: str
    verdict: Verdict
    confidence: float = Field(ge=0, le=1)
    quotes: tuple[Quote, ...] = ()
    value: Value | None = None


def read_clause(
    rules: ClauseRules, document_text: str, sections: Sequence[Section]
) -> Finding:
    """
    Read `document_text` for one type of clause; `sections` are its `sections_of`.

    The text is split once for all types that are read of it one after another.

    Raises:
        Usage: RULES_INVALID, a phrase that this text needs cannot be looked for.
    """
    return _read(rules, prepared(document_text, tuple(sections)))


def read_clauses(
    types: Iterable[ClauseRules], document_text: str, sections: Sequence[Section]
) -> list[Finding]:
    """`read_clause` of many types, in their order."""
    text = prepared(document_text, tuple(sections))
    return [_read(rules, text) for rules in types]


def read_files(
    files: Mapping[str, str], document_text: str, names: Sequence[str] = ()
) -> dict[str, Any]:
    """
    For the jail, plain values in and out: every type of rule `files`, or those named.

    Returns:
        `sections` and `findings`, as JSON of `Section` and `Finding`.
    """
    types = load_types(files)
    sections = sections_of(document_text)
    chosen = [types[name] for name in names] if names else list(types.values())
    findings = read_clauses(chosen, document_text, sections)
    return {
        "sections": [section.model_dump(mode="json") for section in sections],
        "findings": [finding.model_dump(mode="json") for finding in findings],
    }


def _read(rules: ClauseRules, text: Prepared) -> Finding:
    try:
        return _found(rules, text)
    except BadPhraseError as error:
        raise rules.broken(error) from None


def _found(rules: ClauseRules, text: Prepared) -> Finding:
    heading, words = FINDERS[rules.form.finder](rules, text)
    said = Among(words)
    both = [hit for hit in heading if said.meets(hit)]
    trust = rules.form.trust
    found: Sequence[Hit]
    verdict: Verdict
    if both and trust != "none":
        found, verdict, confidence = both, "present", SURE
    elif words and trust in ("words", "either"):
        found, verdict, confidence = words, "present", LIKELY
    elif heading and trust in ("heading", "either"):
        found, verdict, confidence = heading, "present", LIKELY
    else:
        perhaps = [
            Hit(sentence.start, sentence.end)
            for condition in rules.perhaps
            for n in condition.find(text)
            if rules.never.holds((sentence := text.sentences[n]).plain)
        ]
        found, verdict, confidence = (
            [*words, *heading, *perhaps],
            "unclear",
            DOUBTFUL,
        )
    if not found and not text.whole:
        # Nobody has looked at the rest: a person is told so, and not that it is absent.
        return Finding(type=rules.type.name, verdict="unclear", confidence=UNREAD)
    if not found:
        return Finding(type=rules.type.name, verdict="absent", confidence=MISSING)
    rest = words if verdict == "present" and trust in ("words", "either") else ()
    quotes = _quotes([*found, *rest], heading, words, rules, text)
    return Finding(
        type=rules.type.name,
        verdict=verdict,
        confidence=confidence,
        quotes=quotes,
        value=_value(rules, quotes),
    )


def _quotes(
    hits: Sequence[Hit],
    heading: Sequence[Hit],
    words: Sequence[Hit],
    rules: ClauseRules,
    text: Prepared,
) -> tuple[Quote, ...]:
    """Hits as quotes, each place once, at most as many as the rules say."""
    quotes: list[Quote] = []
    routes = {"heading": Among(heading), "words": Among(words)}
    for hit in hits:
        if len(quotes) >= rules.form.quotes:
            break
        if any(hit.start < q.end and q.start < hit.end for q in quotes):
            continue
        quotes.append(
            Quote(
                start=hit.start,
                end=hit.end,
                text=text.written[hit.start : hit.end],
                page=page_of(hit.start, text.breaks),
                readers=tuple(n for n, route in routes.items() if route.meets(hit)),
            )
        )
    return tuple(quotes)


def _value(rules: ClauseRules, quotes: Sequence[Quote]) -> Value | None:
    if rules.form.value in ("text", "names") and quotes:
        shown = quotes[:1] if rules.form.value == "text" else quotes
        said = (" ".join(quote.text.split()) for quote in shown)
        # In capitals above and in small letters below it is the same name.
        names = list({same(name): name for name in said}.values())
        return Value(kind=rules.form.value, text="; ".join(names))
    values = (_value_in(rules, quote.text) for quote in quotes)
    return next((value for value in values if value is not None), None)


def _value_in(rules: ClauseRules, text: str) -> Value | None:
    """Of several values that in the type's own words, and none that is another's."""
    found = [
        place
        for place in values_of(rules.form.value, text)
        if rules.instead.holds(plain(_before(text, place.start)))
    ]
    if not found:
        return None
    own = [p for p in found if rules.beside.holds(plain(part_of(text, p)))] or found
    # Of several in one part that which the words stand before.
    part = part_of(text, own[0])
    at = text.find(part)
    for place in own:
        if part_of(text, place) != part:
            break
        if rules.beside.holds(plain(text[at : place.start])):
            return place.value
        at = place.end
    return own[0].value


def _before(text: str, at: int) -> str:
    """Some whole words before a place."""
    start = max(0, at - INSTEAD_CHARS)
    return text[start:at].partition(" ")[2] if start else text[:at]
