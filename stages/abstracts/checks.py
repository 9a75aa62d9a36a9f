"""
Cross-checks: what readers found of one clause, held against the others.

Each reader sees its own clause; only here do dates meet terms, and names signatures.
A check that lacks what it needs is not made, and says so; it never guesses.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta

from stages.abstracts.forms import Check, Clause
from stages.clauses.names import no_party, role
from stages.clauses.parties import called
from stages.clauses.sections import Section, spaced
from stages.clauses.signings import signers
from stages.clauses.values import amounts, dates, durations

Clauses = Mapping[str, Clause]

# Types by what they say; of several the first that is present.
BEGINS = ("effective_date", "agreement_date")
ENDS = ("expiration_date", "initial_term", "term")
PARTIES = "parties"
COMPANIES_MAX = 20
OVER_A_NAME = re.compile(
    r"^(?:(?:ACCEPTED|AGREED|AND|TO|BY|FOR|OF|the|The|THE|ON|BEHALF|for|by|of|and"
    r"|SIGNED|Signed|EXECUTED|Executed)\s)+"
)
# A name in capitals or with them, and the form of a company behind it.
COMPANY = re.compile(
    r"(?<![\w.])(?P<name>(?:[A-Z0-9][\w&.'’-]{0,30},?[ \t]{1,3}"
    r"(?:(?:of|and|for|the|&)[ \t]{1,3})?){1,7}?"
    r"(?:(?:Inc|INC|Corp|CORP|Co|CO|Ltd|LTD|L\.L\.C|L\.P|S\.A|N\.V|B\.V)\b\.?"
    r"|(?:LLC|LLP|LP|PLC|plc|GmbH|GMBH|AG|Limited|LIMITED|Corporation|CORPORATION"
    r"|Incorporated|INCORPORATED|Company|COMPANY)\b))"
)

# What a company's name may be written with or without.
FORMS = frozenset(
    (
        *("inc", "incorporated", "llc", "llp", "lp", "ltd", "limited", "corp", "co"),
        *("corporation", "company", "plc", "gmbh", "ag", "sa", "nv", "bv"),
        *("the", "and", "of", "by", "a"),
    )
)
NAMED_MAX = 5  # names in a sentence
BEFORE_CHARS = 60  # of a duration, where what it is said to be stands
BEHIND_CHARS = 40
SAID_OF_ANOTHER = re.compile(r"(?i)[,;.]|\b(?:and|unless)\b")
IS_A_TERM = re.compile(r"(?i)\b(?:term|period|continu|remain|in effect)").search
NOT_A_TERM = re.compile(r"(?i)notice|renew|extend|extension|successive").search
DURATION = re.compile(r"P(\d{1,4})([YMWD])")
UNITS = {"Y": "year", "M": "month", "W": "week", "D": "day", "H": "hour"}


def checks(clauses: Clauses, text: str, sections: Sequence[Section]) -> list[Check]:
    """Every check, in the order in which an abstract shows them."""
    return [
        quotes_stand(clauses, text),
        two_parties(clauses),
        expiry_agrees(clauses),
        signers_agree(clauses, text, sections),
        one_currency(clauses),
    ]


def quotes_stand(clauses: Clauses, text: str) -> Check:
    """Every quote is the document's text at its place."""
    wrong = [
        name
        for name, clause in clauses.items()
        if any(text[q.start : q.end] != q.text for q in clause.quotes)
    ]
    count = sum(len(clause.quotes) for clause in clauses.values())
    if wrong:
        return Check(
            name="quotes_verbatim",
            ok=False,
            why=f"quotes of {_listed(wrong)} are not the document's words",
            about=tuple(wrong),
        )
    return Check(
        name="quotes_verbatim",
        ok=True,
        why=f"all {count} quotes are the document's words",
    )


def two_parties(clauses: Clauses) -> Check:
    """Two or more parties are named: nobody makes a contract alone."""
    parties = _present(clauses, PARTIES)
    name, about = "two_parties", (PARTIES,)
    if parties is None:
        return Check(name=name, ok=None, why="not made: no parties were read")
    if parties.decision is not None:
        return Check(name=name, ok=True, why="a person has ruled on them", about=about)
    count = len(named_parties([quote.text for quote in parties.quotes]))
    if count < 2:
        read = "one party was read" if count else "no name of a party was read"
        why = f"{read}, and a contract has two or more"
        return Check(name=name, ok=False, why=why, about=about)
    return Check(name=name, ok=True, why=f"{count} parties were read", about=about)


def expiry_agrees(clauses: Clauses) -> Check:
    """The date of expiry is the effective date and the term, to the day before."""
    begins = _first(clauses, BEGINS)
    began = _date_in(begins) if begins else None
    ends = [c for name in ENDS if (c := _present(clauses, name)) is not None]
    said_so = term_in([quote.text for c in ends for quote in c.quotes])
    term = None if said_so is None else said_so[1]
    # A date that is not after the beginning is one of those that begin it.
    said = next(
        (d for c in ends if (d := _date_in(c)) and (began is None or d > began)), None
    )
    about = tuple(c.type for c in [*([begins] if begins else []), *ends])
    missing = [
        name
        for name, there in (
            ("effective date", began),
            ("term", term),
            ("date of expiry", said),
        )
        if there is None
    ]
    if began is None or term is None or said is None:
        why = f"not made: no {' and no '.join(missing)} was read"
        return Check(name="expiry_agrees", ok=None, why=why, about=about)
    due = after(began, term)
    ok = due is not None and due - timedelta(days=1) <= said <= due
    to = due.isoformat() if due else "no date"
    why = f"{began.isoformat()} and {spoken(term)} come to {to}; {said.isoformat()} is"
    why += " said"
    return Check(name="expiry_agrees", ok=ok, why=why, about=about)


def signers_agree(clauses: Clauses, text: str, sections: Sequence[Section]) -> Check:
    """
    Every company that signs is one of the parties.

    Looked for where the signatures stand; a person who signs may sign for anybody.
    """
    parties = _present(clauses, PARTIES)
    text = spaced(text)
    places = signers(text, sections)
    signing = companies("\n".join(text[start:end] for start, end in places))
    if parties is None or not signing:
        lacks = "parties were" if parties is None else "company was"
        there = "" if parties is None else " among the signatures"
        why = f"not made: no {lacks} read{there}"
        return Check(name="signers_are_parties", ok=None, why=why)
    named = [quote.text for quote in parties.quotes]
    # `IBM Corp.` signs, and is what the party above is called for short.
    named += [called(text, quote.end) for quote in parties.quotes]
    known = [words for name in named if (words := words_of(name))]
    strange = [
        said
        for said in signing
        if not any(words_of(said) <= one or one <= words_of(said) for one in known)
    ]
    if strange:
        verb = "signs, and is" if len(strange) == 1 else "sign, and are"
        why = f"{_listed(strange)} {verb} none of the parties"
    else:
        why = f"the companies that sign, {len(signing)}, are parties"
    return Check(
        name="signers_are_parties", ok=not strange, why=why, about=(parties.type,)
    )


def one_currency(clauses: Clauses) -> Check:
    """All amounts are in one currency."""
    found: dict[str, list[str]] = {}
    for clause in clauses.values():
        if clause.verdict != "present":
            continue
        said = {clause.value.currency} if clause.value else set()
        said |= {a.value.currency for q in clause.quotes for a in amounts(q.text)}
        for currency in sorted(filter(None, said)):
            found.setdefault(currency, []).append(clause.type)
    about = tuple(dict.fromkeys(name for names in found.values() for name in names))
    if not found:
        return Check(name="one_currency", ok=None, why="not made: no amount was read")
    if len(found) == 1:
        why = f"the amounts, {len(about)}, are in {next(iter(found))}"
        return Check(name="one_currency", ok=True, why=why, about=about)
    why = f"amounts are in {_listed(sorted(found))}"
    return Check(name="one_currency", ok=False, why=why, about=about)


# -- dates and terms -------------------------------------------------------------------


def after(day: date, term: str) -> date | None:
    """`day` and an ISO 8601 duration of one unit; None where that is no date."""
    match = DURATION.fullmatch(term)
    if match is None:
        return None
    number, unit = int(match[1]), match[2]
    try:
        if unit in "WD":
            return day + timedelta(days=number * (7 if unit == "W" else 1))
        months = day.month - 1 + number * (12 if unit == "Y" else 1)
        year, month = day.year + months // 12, months % 12 + 1
        return date(year, month, min(day.day, monthrange(year, month)[1]))
    except (OverflowError, ValueError):
        return None


def spoken(term: str) -> str:
    """An ISO 8601 duration of one unit as people write it: `5 years`."""
    number, unit = term.strip("PT")[:-1], UNITS.get(term[-1:], "")
    return f"{number} {unit}{'' if number == '1' else 's'}" if unit else term


def _date_in(clause: Clause) -> date | None:
    """What its value says, else the first date of its quotes."""
    said = [clause.value.text] if clause.value and clause.value.kind == "date" else []
    found = (place for q in clause.quotes for place in dates(q.text))
    said += [place.value.text for place in found]
    return date.fromisoformat(said[0]) if said else None


def term_in(quotes: Sequence[str]) -> tuple[int, str] | None:
    """
    How long it is said to last: in years or months, and no time of notice.

    Returns:
        The number of the quote that says so, from 0, and an ISO 8601 duration.
    """
    for number, quote in enumerate(quotes):
        for place in durations(quote):
            before = quote[max(0, place.start - BEFORE_CHARS) : place.start]
            behind = quote[place.end : place.end + BEHIND_CHARS]
            # What is said of a renewal behind it is said of another time.
            own = before + " " + SAID_OF_ANOTHER.split(behind)[0]
            long = place.value.text[-1] in "YM"
            if long and IS_A_TERM(before + behind) and not NOT_A_TERM(own):
                return number, place.value.text
    return None


def _present(clauses: Clauses, name: str) -> Clause | None:
    clause = clauses.get(name)
    return clause if clause is not None and clause.verdict == "present" else None


def _first(clauses: Clauses, names: Sequence[str]) -> Clause | None:
    found = (_present(clauses, name) for name in names)
    return next((clause for clause in found if clause is not None), None)


# -- names -----------------------------------------------------------------------------


def companies(text: str) -> list[str]:
    """The companies that are named in `text`, each once."""
    found: dict[frozenset[str], str] = {}
    for match in COMPANY.finditer(spaced(text)):
        said = OVER_A_NAME.sub("", " ".join(match["name"].split()))
        if words_of(said):
            found.setdefault(words_of(said), said)
        if len(found) == COMPANIES_MAX:
            break
    return list(found.values())


def named_parties(quotes: Sequence[str]) -> list[str]:
    """Who the parties are: each once, without what they are called for short."""
    named: dict[frozenset[str], str] = {}
    for said in quotes:
        words = words_of(said)
        # Of a name in capitals and one that is not, the second is nicer to read.
        if words and (words not in named or named[words].isupper()):
            named[words] = said
    whole = [
        said
        for words, said in named.items()
        if len(said.split()) > 1 and not any(words < other for other in named)
    ]
    # A name without a company's form is one too; a role is what somebody is called.
    known = [s for s in whole if companies(s) or not (role(s) or no_party(s))]
    return known or whole or list(named.values())


def words_of(name: str) -> frozenset[str]:
    """The words that tell a name from another: no company's form, no punctuation."""
    return frozenset(_words(name)) - FORMS


def _words(name: str) -> Iterator[str]:
    for word in re.findall(r"[^\W_]+(?:\.[^\W_]+)*", name.casefold()):
        yield word.replace(".", "")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
