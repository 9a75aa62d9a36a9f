"""
What a contract says of itself at its beginning and its end: title, parties, dates.

These are no sentences, so each has two routes of its own: the words around it in the
opening paragraph, and the place where contracts set it, a title's line or the block of
signatures.  The two agree where they come to the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.clauses.hits import Hit, Routes, same
from stages.clauses.names import companies
from stages.clauses.parties import MAX_NAMES, OPENING_CHARS, OVER
from stages.clauses.rulebook import ClauseRules
from stages.clauses.sentences import Prepared
from stages.clauses.signings import signings
from stages.clauses.values import dates

TITLE_CHARS = 3_000  # from the beginning, where a title stands


# -- title -----------------------------------------------------------------------------

_KINDS = (
    "Agreement|Contract|Amendment|Addendum|Lease|License|Licence|Plan|Deed|Charter"
    "|Statement of Work|Terms and Conditions|Memorandum of Understanding|Indenture"
    "|Letter of Intent|Guaranty|Guarantee|Note"
)
_SMALL = "of|and|for|to|the|in|with|on|by|or|a|an|&|-|–"
_GLUE = r"(?:[ \t]{1,3}|[ \t]{0,3}\n[ \t]{0,60})"
# `This` begins a sentence, and is no word of a title above it.
_NAME_WORD = (
    r"(?<![\w’'])(?!(?:This|THIS)\b)[A-Z0-9][\w’'&/-]{0,30}(?:\.\w{1,5}){0,2},?"
)
_TITLE_LINE = re.compile(
    # A word is read in one way and not tried in another: `A` would be both.
    rf"(?P<title>{_NAME_WORD}{_GLUE}(?:(?>{_NAME_WORD}|{_SMALL}){_GLUE}){{0,13}}"
    rf"(?:{_KINDS}|{_KINDS.upper()})"
    rf"(?:[ \t]{{1,3}}(?:No\.?|NO\.?|Number|#)[ \t]{{0,3}}[\w-]{{1,12}})?)(?![\w’'])"
)
_THIS_TITLE = re.compile(
    r"\b(?:This|THIS|this)[ \t\n]{1,4}"
    # A full stop ends a word of a title where it is an abbreviation's alone.
    r"(?P<title>(?:[\w’'&/-]{1,30}(?:\.[\w’'&/-]{1,30}){0,4}"
    r"(?:(?<=\b[A-Z])\.|(?<=Inc|Ltd)\.)?,?[ \t\n]{1,4}){0,12}?"
    rf"(?:{_KINDS}|{_KINDS.upper()}))(?=[ \t\n]{{0,4}}(?:\(|,|is\b|dated|made|entered"
    r"|shall|effective|between|by|as of|No\.|and\b))"
)
_OWN = re.compile(
    r"(?i)^(?:execution[ \t]+(?:version|copy)|exhibit[ \t]+[\w.-]+|table[ \t]+of"
    r"[ \t]+contents|confidential|draft|final|form[ \t]+of|the|page[ \t]+\d+"
    # a page's number, alone on its line
    r"|ex[-\d.]+|-?[ \t]?\d{1,3}[ \t]?-?[ \t]*(?=\n))\s+"
)
_LINE_ENDS = re.compile(r"[ \t]{0,60}\n\s{0,60}")
_BARE = re.compile(r"(?i)^(?:agreement|contract|amendment|license|plan|note|lease)$")


def title(rules: ClauseRules, text: Prepared) -> Routes:
    """The title's line at the top, and what the first paragraph calls the contract."""
    top = text.text[:TITLE_CHARS]
    lines = _titles(_TITLE_LINE, top)
    words = _titles(_THIS_TITLE, text.text[:OPENING_CHARS])
    named = {hit.key for hit in words}
    # The line that the first paragraph repeats, or else the first in capitals.
    lines.sort(key=lambda hit: (hit.key not in named, hit.start))
    return lines[:1], words[:1]


def _titles(pattern: re.Pattern[str], top: str) -> list[Hit]:
    found: list[Hit] = []
    for match in pattern.finditer(top):
        start, end = match.span("title")
        end = _once(top, start, end)
        while own := _OWN.match(top[start:end]):
            start += own.end()
        # A company's name on the line above is no part of it.
        above = next(companies(top, start, end), None)
        if above and above.start == start:
            line = _LINE_ENDS.match(top, above.end, end)
            start = line.end() if line else start
        end = _once(top, start, end)
        words = " ".join(top[start:end].split())
        if _BARE.match(words) or len(words) > 150 or not words[:1].isupper():
            continue
        if words.lower().startswith(("this ", "of ", "and ")):
            continue
        found.append(Hit(start, end, same(words)))
    return found


def _once(top: str, start: int, end: int) -> int:
    """Where a title ends that is said twice: on a cover and above the first line."""
    words = list(re.finditer(r"\S+", top[start:end]))
    half = len(words) // 2
    said = [same(word[0]) for word in words]
    if half >= 2 and said[:half] == said[half:]:
        return start + words[half - 1].end()
    return end


# -- dates -----------------------------------------------------------------------------

_BLANK_DATE = re.compile(
    r"(?:\bthe[ \t]{1,3})?(?:_{2,30}|\[[^\[\]]{0,12}\])[ \t\n]{0,4}(?:st|nd|rd|th)?"
    r"[ \t\n]{0,4}day[ \t\n]{1,4}of[ \t\n]{0,4}"
    r"(?:_{2,30}|\[[^\[\]]{0,12}\]|[A-Z][a-z]{2,9})?,?[ \t\n_]{0,20}"
    r"(?:(?:19|20)\d{2}|(?:19|20)_{1,4}|\[[^\[\]]{0,12}\])?"
    r"|\b(?:January|February|March|April|May|June|July|August|September|October|November"
    r"|December)[ \t]{1,3}(?:_{2,10}|\[[^\[\]]{0,12}\]),?[ \t]{1,3}(?:19|20)\d{2}"
)
_DATED = re.compile(
    r"(?i)\b(?:dated|made|entered|executed|effective|as[ \t\n]{1,4}of"
    r"|on[ \t\n]{1,4}this|this|date[ \t]{0,3}:|concluded|signed|commenc\w{1,5})\b"
    r"[^.;]{0,60}\Z"
)
_EFFECTIVE = re.compile(
    r"(?i)\b(?:effective|commenc\w{1,5}|with[ \t\n]{1,4}effect[ \t\n]{1,4}from"
    r"|begin(?:s|ning)?)\b[^.;]{0,60}\Z"
)
_EFFECTIVE_NAME = re.compile(
    r"(?i)\A[^.;]{0,60}[\"“'‘](?:the[ \t])?(?:effective|commencement)[ \t\n]{1,4}date"
)


def _dates_in(text: str, start: int, end: int) -> list[Hit]:
    """Dates, also those whose day or month was left open, in the text's order."""
    part = text[start:end]
    found = [
        Hit(start + place.start, start + place.end, place.value.text)
        for place in dates(part)
    ]
    found += [
        Hit(start + match.start(), start + match.end(), same(match[0]) or "open")
        for match in _BLANK_DATE.finditer(part)
    ]
    # What a filing's foot says of the filing is no date of the contract.
    return sorted(
        hit
        for hit in found
        if not _FOOT.search(text[max(0, hit.start - FOOT_CHARS) : hit.start])
    )


_FOOT = re.compile(r"\bSource:[^\n]{0,120}\Z")
FOOT_CHARS = 140  # more than it may be long, and what stands before it


def _opening_end(text: str) -> int:
    """Before the recitals, where those say when something else was agreed."""
    recitals = OVER.search(text, 300, OPENING_CHARS)
    return recitals.start() if recitals else OPENING_CHARS


def agreement_date(rules: ClauseRules, text: Prepared) -> Routes:
    """A date in the block of signatures, and the one of the first paragraph."""
    words = [
        hit
        for hit in _dates_in(text.text, 0, _opening_end(text.text))
        if _DATED.search(text.text[max(0, hit.start - 90) : hit.start])
    ]
    return _signing_dates(text), words[:1]


def _signing_dates(text: Prepared) -> list[Hit]:
    for start, end in signings(text.text, text.sections):
        if hits := _dates_in(text.text, start, end):
            return hits[:2]
    return []


def effective_date(rules: ClauseRules, text: Prepared) -> Routes:
    """Sentences that say when it begins, and the date that the opening calls so."""
    words = [
        hit
        for hit in _dates_in(text.text, 0, OPENING_CHARS)
        if _EFFECTIVE.search(text.text[max(0, hit.start - 90) : hit.start])
        or _EFFECTIVE_NAME.search(text.text[hit.end : hit.end + 90])
    ]
    sentences = [
        Hit(text.sentences[n].start, text.sentences[n].end, "")
        for condition in rules.says
        for n in condition.find(text)
        if rules.never.holds(text.sentences[n].plain)
    ]
    return sentences, words[:1]


# -- signatories -----------------------------------------------------------------------

# What stands beside a name, and is none of its words.
_BESIDE = (
    r"(?!(?:By|Name|Title|Its|Dated?|Signature|Signed|Print(?:ed)?|Authori[sz]ed|Attest"
    r"|Witness|Duly|President|Vice|Chief|Executive|Director|Manager|Managing|Secretary"
    r"|Treasurer|Officer|Member|Partner|Chairman|Agent|Owner|General|Senior|Company"
    r"|CEO|CFO|COO|CTO)\b|(?:BY|NAME|TITLE|ITS|DATED?|SIGNATURE|AUTHORI[SZ]ED)\b)"
)
_MORE_OF_IT = rf"(?:[ \t]{{1,3}}{_BESIDE}[A-Z][\w’'.-]{{0,20}}){{1,3}}"
_SIGNATORY = re.compile(
    rf"(?:\b(?:Name|NAME|By|BY)[ \t]{{0,3}}:[ \t_/sS]{{0,60}}{_BESIDE}"
    rf"(?P<name>[A-Z][a-z’'.-]{{0,20}}{_MORE_OF_IT})"
    # as one who has signed is written on a copy: /s/ Jo Alder, /s/ JO ALDER
    rf"|(?<![\w/])/?[sS]/[ \t]{{0,9}}{_BESIDE}"
    rf"(?P<signed>[A-Z][\w’'.-]{{0,20}}{_MORE_OF_IT}))"
)
_AGAIN = re.compile(
    r"(?P<first>[^ \t]{2,30})[ \t].{2,60}?(?P<at>[ \t]{1,3}(?P=first)\b)"
)


def signatories(rules: ClauseRules, text: Prepared) -> Routes:
    """Names beside `By` and `Name`: in the block of signatures, and anywhere late."""
    named = [
        hit
        for start, end in signings(text.text, text.sections)
        for hit in _signers(text.text, start, end)
    ]
    late = list(_signers(text.text, len(text.text) // 3, len(text.text)))
    return named[:MAX_NAMES], late[:MAX_NAMES]


def _signers(text: str, start: int, end: int) -> Iterator[Hit]:
    for match in _SIGNATORY.finditer(text, start, end):
        begin, stop = match.span("name" if match["name"] else "signed")
        # The hand and the print beside it: `/s/ Jo Alder Jo Alder`.
        if again := _AGAIN.match(text, begin, stop):
            stop = again.start("at")
        yield Hit(begin, stop, same(text[begin:stop]))
