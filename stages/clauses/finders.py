"""
The two routes to a clause, and what finds what is no sentence: titles, names, dates.

A finder returns the hits of the route by headings and those of the route by words,
best first.  The two look at different things, so that agreement means something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stages.clauses import opening, parties
from stages.clauses.denials import undenied
from stages.clauses.hits import Hit, Routes
from stages.clauses.phrases import Condition
from stages.clauses.rulebook import ClauseRules
from stages.clauses.sections import Section
from stages.clauses.sentences import Prepared

SAYING_WORDS = 5  # left of a sentence below, where nothing is asked of it
UNDER_MAX = 40  # sentences below one heading that are looked at


def by_rules(rules: ClauseRules, text: Prepared) -> Routes:
    """The routes of a rule file: below its headings, and by its words."""
    return _hits(_by_heading(rules, text), text), _hits(_by_words(rules, text), text)


def _by_words(rules: ClauseRules, text: Prepared) -> list[int]:
    """Sentences that say it; those that do in more ways first."""
    ways: dict[int, int] = {}
    for condition in rules.says:
        for number in condition.find(text):
            if _read_there(rules, text, number) and _said(
                rules, text, number, condition
            ):
                ways[number] = ways.get(number, 0) + 1
    return sorted(ways, key=lambda number: (-ways[number], number))


def _by_heading(rules: ClauseRules, text: Prepared) -> list[int]:
    """Sentences of sections so headed that meet what is asked of them."""
    if rules.headings is None:
        return []
    headed = [
        number
        for number, section in enumerate(text.sections)
        if rules.headings.holds(section.heading.lower())
    ]
    found: list[int] = []
    for section in headed:
        numbers = _below(text, section)[:UNDER_MAX]
        if rules.under:
            met = {
                n
                for one in rules.under
                for n in one.find(text, numbers)
                if _said(rules, text, n, one)
            }
        else:
            met = {n for n in numbers[:1] if _said(rules, text, n, None)}
        found += [n for n in sorted(met) if _read_there(rules, text, n)]
    return found


def _said(
    rules: ClauseRules, text: Prepared, number: int, condition: Condition | None
) -> bool:
    """Whether a sentence still meets a condition when what it denies is left out."""
    plain = text.sentences[number].plain
    left = undenied(plain, rules.form.sense)
    if left is plain:
        return True
    if condition is None:
        return len(left.split()) >= SAYING_WORDS
    return condition.holds(left)


def _below(text: Prepared, section: int) -> range:
    """The sentences of a section but its heading, where that stands alone."""
    numbers = text.within(section)
    over = _heading_end(text.sections[section])
    while numbers and text.sentences[numbers[0]].end <= over:
        numbers = numbers[1:]
    return numbers


def _read_there(rules: ClauseRules, text: Prepared, number: int) -> bool:
    sentence = text.sentences[number]
    section = text.sections[sentence.section]
    if sentence.end <= _heading_end(section) or section.kind in rules.form.unread:
        return False
    return rules.never.holds(sentence.plain)


def _heading_end(section: Section) -> int:
    """Where a heading is over that stands alone."""
    if section.kind == "front":
        return section.start
    return section.start + len(section.number) + len(section.heading) + 12


def _hits(numbers: Sequence[int], text: Prepared) -> list[Hit]:
    return [Hit(text.sentences[n].start, text.sentences[n].end) for n in numbers]


FINDERS: dict[str, Callable[[ClauseRules, Prepared], Routes]] = {
    "clause": by_rules,
    "title": opening.title,
    "parties": parties.parties,
    "agreement_date": opening.agreement_date,
    "effective_date": opening.effective_date,
    "signatories": opening.signatories,
}
