"""
What a contract says of itself at its beginning and its end: title, parties, dates.

These are no sentences, so each has two routes of its own: the words around it in the
opening paragraph, and the place where contracts set it, a title's line or the block of
signatures.  The two agree where they come to the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.clauses.hits import Hit, Routes
from stages.clauses.rulebook import ClauseRules
from stages.clauses.sentences import Prepared
from stages.clauses.signings import signed_from, signings
from stages.clauses.values import dates

TITLE_CHARS = 3_000  # from the beginning, where a title stands
OPENING_CHARS = (
    6_000  # covers a cover page, a table of contents and the first paragraph
)
PARTIES_CHARS = 3_000  # of the paragraph that names the parties
MAX_NAMES = 40


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
    r"|ex[-\d.]+)\s+"
)
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
        words = " ".join(top[start:end].split())
        if _BARE.match(words) or len(words) > 150 or not words[:1].isupper():
            continue
        if words.lower().startswith(("this ", "of ", "and ")):
            continue
        found.append(Hit(start, end, _same(words)))
    return found


def _once(top: str, start: int, end: int) -> int:
    """Where a title ends that is said twice: on a cover and above the first line."""
    words = list(re.finditer(r"\S+", top[start:end]))
    half = len(words) // 2
    said = [_same(word[0]) for word in words]
    if half >= 2 and said[:half] == said[half:]:
        return start + words[half - 1].end()
    return end


def _same(words: str) -> str:
    """Words without case, signs and blanks, to see whether two say the same."""
    return re.sub(r"[\W_]+", " ", words).strip().lower()


# -- parties ---------------------------------------------------------------------------

_SUFFIX = (
    r"(?:Inc|INC|Incorporated|INCORPORATED|LLC|L\.L\.C|Ltd|LTD|Limited|LIMITED|Corp|CORP"
    r"|Corporation|CORPORATION|Company|COMPANY|Co|CO|L\.P|LP|LLP|L\.L\.P|GmbH|GMBH|AG"
    r"|S\.A|SA|S/A|N\.V|B\.V|PLC|plc|Plc|N\.A|Trust|TRUST|Bank|BANK|University"
    r"|UNIVERSITY|Partnership|PARTNERSHIP|S\.p\.A|Pty|PTY|AB|KG|G\.I\.E|Foundation"
    r"|Association|ASSOCIATION|Fund|FUND|Institute|Hospital|Partners|PARTNERS|Group)"
)
# No word of a name ends its sentence: `U.S.`, `St.` and `Alibaba.com` are none such.
_OF_A_NAME = (
    r"(?:(?:[A-Z]\.){1,4}|[A-Z][a-z]{1,2}\."
    r"|[A-Z0-9][\w’'&/()-]{0,30}(?:\.[\w’'&/()-]{1,30}){0,4})"
)
_COMPANY = re.compile(
    rf"(?P<name>(?<![\w$.,]){_OF_A_NAME}"
    r"(?:,?[ \t\n]{1,4}(?:(?:of|and|for|the|&|de|of the)[ \t\n]{1,4})?"
    rf"[(]?{_OF_A_NAME}){{0,9}}?"
    rf",?[ \t\n]{{1,4}}{_SUFFIX}(?:,?[ \t]{{1,3}}{_SUFFIX})?)(?!\w)\.?"
)
# A title on the line above is no part of the name, nor is an exhibit's number.
_TITLE_ABOVE = re.compile(
    r"(?i)\b(?:agreement|contract|exhibit[ \t]{1,3}[\w.-]{1,12})[ \t]{0,3}\n\s{0,6}"
)
_DEFINED = re.compile(
    r"\([^()]{0,60}?[\"“'‘](?P<name>[A-Z][\w’&. -]{1,40}?)[\"”'’][^()]{0,120}?\)"
)
_BETWEEN = re.compile(
    r"(?i)\b(?:by[ \t\n]{1,4}and[ \t\n]{1,4})?(?:between|among|amongst)\b|\bparties?\b"
    r"|\bwith\b"
)
_OVER = re.compile(
    r"\b(?:WHEREAS|Whereas|WITNESSETH|W I T N E S S|RECITALS?|Recitals?|Background"
    r"|BACKGROUND|NOW,? THEREFORE|Now,? [Tt]herefore|agree as follows|PREAMBLE"
    r"|Preamble)"
)
# Where the first paragraph is over at the latest: `1. Supply`, `ARTICLE I`.
_FIRST_CLAUSE = re.compile(
    r"\n[ \t]{0,20}(?:1[.)][ \t]|(?:ARTICLE|Article|SECTION|Section)[ \t]{1,3}[1I]\b)"
)
_NO_PARTY = re.compile(
    r"(?i)^(?:the )?(?:agreement|contract|effective date|parties|party|this|exhibit.*"
    r"|services?|products?|term|territory|.*\bagreement|execution date|date)$"
)


def parties(rules: ClauseRules, text: Prepared) -> Routes:
    """Who signs below, and whom the first paragraph names."""
    words = _opening_names(text)
    signed = _signing_names(text)
    keys = {hit.key for hit in signed}
    words.sort(key=lambda hit: (hit.key not in keys, hit.start))
    return signed, words


def _opening_names(text: Prepared) -> list[Hit]:
    """Whom the first paragraph names; of a short contract not who signs below it."""
    first = _BETWEEN.search(text.text, 0, OPENING_CHARS)
    after = first.end() if first else 0
    stop = signed_from(text.text, text.sections, after)
    return _named(text.text, stop) or _named(text.text, len(text.text))


def _named(text: str, stop: int) -> list[Hit]:
    region = text[: min(OPENING_CHARS, stop)]
    top_end = min(stop, _region_end(text, 0))
    # What is defined in a clause is no party, though two terms may stand there.
    clause = _FIRST_CLAUSE.search(region)
    opening_end = clause.start() if clause else len(text)
    companies = len({_same(m["name"]) for m in _COMPANY.finditer(text, 0, top_end)})
    for match in _BETWEEN.finditer(region):
        start = match.end()
        end = min(stop, _region_end(text, start))
        if not _COMPANY.search(text, start, end):
            # Companies above are the parties, and this is what they are together.
            if companies >= 2:
                break
            end = min(end, opening_end)
        names = list(_names(text, start, end))
        if len({hit.key for hit in names}) >= 2:
            return names
    if not companies:
        top_end = min(top_end, opening_end)
    return list(_names(text, 0, top_end))


def _region_end(text: str, start: int) -> int:
    over = _OVER.search(text, start, start + PARTIES_CHARS)
    return over.start() if over else min(len(text), start + PARTIES_CHARS // 2)


def _names(text: str, begin: int, stop: int) -> Iterator[Hit]:
    """Companies and what they are called here, each once."""
    seen: set[str] = set()
    count = 0
    for pattern in (_COMPANY, _DEFINED):
        for match in pattern.finditer(text, begin, stop):
            start, end = match.span("name")
            for above in _TITLE_ABOVE.finditer(text, start, end):
                start = above.end()
            name = text[start:end]
            key = _same(name)
            if key in seen or _NO_PARTY.match(name) or count >= MAX_NAMES:
                continue
            seen.add(key)
            count += 1
            yield Hit(start, end, key)


def _signing_names(text: Prepared) -> list[Hit]:
    found: dict[str, Hit] = {}
    for start, end in signings(text.text, text.sections):
        for hit in _names(text.text, start, end):
            found.setdefault(hit.key, hit)
    return list(found.values())[:MAX_NAMES]


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
        Hit(start + match.start(), start + match.end(), _same(match[0]) or "open")
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
    recitals = _OVER.search(text, 300, OPENING_CHARS)
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

_SIGNATORY = re.compile(
    r"(?:\bName|\bNAME|\bBy|\bBY)[ \t]{0,3}:[ \t_/sS]{0,60}"
    r"(?P<name>[A-Z][a-z’'.-]{0,20}(?:[ \t]{1,3}[A-Z][\w’'.-]{0,20}){1,3})"
)


def signatories(rules: ClauseRules, text: Prepared) -> Routes:
    """Names beside `By` and `Name`: in the block of signatures, and anywhere late."""
    named = [
        Hit(*match.span("name"), _same(match["name"]))
        for start, end in signings(text.text, text.sections)
        for match in _SIGNATORY.finditer(text.text, start, end)
    ]
    late = [
        Hit(*match.span("name"), _same(match["name"]))
        for match in _SIGNATORY.finditer(text.text, len(text.text) // 3)
    ]
    return named[:MAX_NAMES], late[:MAX_NAMES]
