"""
Who a contract is between: whom its opening names, and who signs below it.

A party is somebody's name.  What it is called for short (`“Client”`), what it is in law
(`a Nevada Limited Liability Company`) and where it sits (`at 12 Elm Street, Ohio`)
stand beside the name, and are no parties.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.clauses.hits import Hit, Routes, same
from stages.clauses.names import (
    DEFINED,
    called_by,
    companies,
    no_party,
    role,
    unformed,
)
from stages.clauses.rulebook import ClauseRules
from stages.clauses.sentences import Prepared
from stages.clauses.signings import signed_from, signings

OPENING_CHARS = (
    6_000  # covers a cover page, a table of contents and the first paragraph
)
PARTIES_CHARS = 3_000  # of the paragraph that names the parties
BEHIND_CHARS = 200  # of a name, where what it is called for short stands
LISTED_CHARS = 60  # behind a name of a list, where the next one begins
MAX_NAMES = 40

_BETWEEN = re.compile(
    r"(?i)\b(?:by[ \t\n]{1,4}and[ \t\n]{1,4})?(?:between|among|amongst)\b|\bparties?\b"
    r"|\bwith\b"
)
# Where the recitals begin, and the first paragraph is over.
OVER = re.compile(
    r"\b(?:WHEREAS|Whereas|WITNESSETH|W I T N E S S|RECITALS?|Recitals?|Background"
    r"|BACKGROUND|NOW,? THEREFORE|Now,? [Tt]herefore|agree as follows|PREAMBLE"
    r"|Preamble)"
)
# Where the first paragraph is over at the latest: `1. Supply`, `ARTICLE I`.
_FIRST_CLAUSE = re.compile(
    r"\n[ \t]{0,20}(?:1[.)][ \t]|(?:ARTICLE|Article|SECTION|Section)[ \t]{1,3}[1I]\b)"
)
_NEW_SENTENCE = re.compile(
    r"(?<=[a-z\d)][a-z\d)])\.[ \t\n]{1,4}[A-Z][\w’']{0,20}[ \t\n]{1,3}[a-z]"
)
# `(the “Goods”)`: a thing has an article, and a name has none.
_A_THING = re.compile(
    r"(?i)\b(?:the|an?|each|such|these|collectively)[ \t\n]{0,3}[\"“'‘]"
)


def parties(rules: ClauseRules, text: Prepared) -> Routes:
    """Who signs below, and whom the first paragraph names."""
    words = _opening_names(text)
    signed = _signing_names(text)
    keys = {hit.key for hit in signed}
    words.sort(key=lambda hit: (hit.key not in keys, hit.start))
    return signed, words


def called(text: str, end: int) -> str:
    """What the name that ends at `end` is called for short; "" where nothing says."""
    until = min(len(text), end + BEHIND_CHARS)
    found = DEFINED.search(text, end, until)
    if found is None or next(companies(text, end, found.start()), None) is not None:
        return ""
    return found["name"] or ""


def _opening_names(text: Prepared) -> list[Hit]:
    """Whom the first paragraph names; of a short contract not who signs below it."""
    first = _BETWEEN.search(text.text, 0, OPENING_CHARS)
    after = first.end() if first else 0
    stop = signed_from(text.text, text.sections, after)
    return named(text.text, stop) or named(text.text, len(text.text))


def named(text: str, stop: int) -> list[Hit]:
    """Whom the opening names, of what stands before `stop`."""
    region = text[: min(OPENING_CHARS, stop)]
    top_end = min(stop, _region_end(text, 0))
    # What is defined in a clause is no party, though two terms may stand there.
    clause = _FIRST_CLAUSE.search(region)
    opening_end = clause.start() if clause else len(text)
    above = len({hit.key for hit in companies(text, 0, top_end)})
    for match in _BETWEEN.finditer(region):
        start = match.end()
        end = min(stop, _region_end(text, start))
        if next(companies(text, start, end), None) is None:
            # Companies above are the parties, and this is what they are together.
            if above >= 2:
                break
            end = min(end, opening_end)
        found = list(names(text, start, end))
        # `with` and `the parties` stand in many sentences: two companies behind them
        # are a list of parties, and anything less may be another thing.
        weak = match[0].lower() in ("with", "party", "parties")
        sure = list(companies(text, start, end)) if weak else found
        if len({hit.key for hit in sure}) >= 2:
            return found
    if not above:
        top_end = min(top_end, opening_end)
    return list(names(text, 0, top_end))


def _region_end(text: str, start: int) -> int:
    over = OVER.search(text, start, start + PARTIES_CHARS)
    return over.start() if over else min(len(text), start + PARTIES_CHARS // 2)


def names(text: str, begin: int, stop: int) -> Iterator[Hit]:
    """
    The names in `[begin, stop)`, each once.

    Companies by their form, and who is called something for short; where fewer than
    two have a name, also what the others are called, unless that is a role.
    """
    firms = list(companies(text, begin, stop))
    others, short = _of_definitions(text, begin, stop, firms)
    found: dict[str, Hit] = {}
    for hit in sorted([*firms, *others]):
        found.setdefault(hit.key, hit)
    if len(found) < 2:
        for hit in short:
            found.setdefault(hit.key, hit)
    yield from list(found.values())[:MAX_NAMES]


def _of_definitions(
    text: str, begin: int, stop: int, firms: list[Hit]
) -> tuple[list[Hit], list[Hit]]:
    """Names without a company's form, and short ones whose name was not read."""
    others: list[Hit] = []
    short: list[Hit] = []
    known: set[str] = set()  # short names of those that are found
    # What is defined behind the first sentence is no party, if it has no form.
    over = _NEW_SENTENCE.search(text, begin, stop)
    since, place = begin, 0
    for match in DEFINED.finditer(text, begin, over.start() if over else stop):
        firm = None
        while place < len(firms) and firms[place].start < match.start():
            firm = firms[place]
            place += 1
        alias = match["name"] or match["bare"]
        after = max(since, firm.end) if firm else since
        hit = unformed(text, after, match.start())
        # `Qualified Holders (“Qualified Holders”)` is a term and nobody's name.
        if hit is not None and hit.key == same(alias):
            hit = None
        its_own = hit is not None and called_by(alias, text[hit.start : hit.end])
        if firm and (not its_own or called_by(alias, text[firm.start : firm.end])):
            hit = None
        elif match["bare"] and not its_own:
            continue  # `(ABC)` that is made of no name's words defines nothing
        count = len({one.key for one in firms[:place]}) + len(others)
        listed = hit is not None and hit.start - since <= LISTED_CHARS
        if hit is not None and not no_party(alias) and (count < 2 or listed or firm):
            others.append(hit)
        elif not (
            firm or hit or no_party(alias) or role(alias) or alias in known
        ) and not _A_THING.search(match[0]):
            short.append(Hit(*match.span("name"), same(alias)))
        if hit or firm:
            known.add(alias)
        since = match.end()
    return others, short


def _signing_names(text: Prepared) -> list[Hit]:
    found: dict[str, Hit] = {}
    for start, end in signings(text.text, text.sections):
        for hit in companies(text.text, start, end):
            found.setdefault(hit.key, hit)
    return list(found.values())[:MAX_NAMES]
