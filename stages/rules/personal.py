"""
Personal data in a text: telephone numbers, addresses, cards and the like.

`find_personal` reports places and kinds.  Documents are full of addresses, so
whether a kind matters is for the pipeline to say.  Numbers with a check digit
are checked; the rest are shapes, which miss some and mistake some.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from stdnum import iban, luhn

from stages.rules.normaliser import fold

MAX_FOUND = 200  # in one text: nobody writes a directory


class Found(NamedTuple):
    """A place in the original text and the kind of data that stands there."""

    start: int
    end: int
    kind: str


def find_personal(text: str) -> list[Found]:
    """
    Personal data in `text`, in its order, without overlaps.

    Kinds: email, iban, card, ssn, national-insurance, phone, postcode-uk,
    postcode-us, postcode-de, street, po-box.  Where two kinds claim the same
    place, the one named first here has it.
    """
    folded = fold(text)
    taken: list[Found] = []
    for kind, pattern, check in _KINDS:
        for match in pattern.finditer(folded.text):
            start, end = folded.span(*match.span())
            length = check(match[0], text[start:end])
            if not length:
                continue
            start, end = folded.span(match.start(), match.start() + length)
            if all(end <= t.start or t.end <= start for t in taken):
                taken.append(Found(start, end, kind))
            if len(taken) >= MAX_FOUND:
                return sorted(taken)
    return sorted(taken)


# A check is given a match as folded and as written; it says how much of the folded
# match is the thing itself, 0 for nothing.
_Check = Callable[[str, str], int]


def _any(folded: str, written: str) -> int:
    return len(folded)


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())


def _phone(folded: str, written: str) -> int:
    """Seven to fifteen digits (E.164's most), and not a date."""
    if _DATE.fullmatch(folded) or not 7 <= len(_digits(folded)) <= 15:
        return 0
    return len(folded)


def _card(folded: str, written: str) -> int:
    """The Luhn digit is right and the number begins as one of the big issuers'."""
    number = _digits(folded)
    long_enough = 13 <= len(number) <= 19 or (len(number) == 12 and number[0] in "56")
    issued = number[0] in "23456" or number.startswith("1800")
    if not (long_enough and issued and len(set(number)) > 1):
        return 0
    return len(folded) if luhn.is_valid(number) else 0


IBAN_CHARS = range(34, 14, -1)  # the longest of any country, the shortest


def _iban(folded: str, written: str) -> int:
    """Check digits, length and form are its country's; words may follow it."""
    places = [i for i, c in enumerate(folded) if c.isalnum()]
    number = "".join(folded[i] for i in places)
    for length in IBAN_CHARS:
        # Not the rules of a country's banks: they lag behind their accounts.
        if length <= len(number) and iban.is_valid(
            number[:length], check_country=False
        ):
            return places[length - 1] + 1
    return 0


def _capital(folded: str, written: str) -> int:
    """Written in capitals, as codes are: not a stray `me 10 at`."""
    letters = [c for c in written if c.isalpha()]
    return len(folded) if all(c.isupper() for c in letters) else 0


def _town(folded: str, written: str) -> int:
    """Five digits and a name: the word that follows has a capital."""
    return len(folded) if written[-1].islower() and _NAMED.search(written) else 0


def _street(folded: str, written: str) -> int:
    """A kind of street that is also a plain word wants a capital, as names do."""
    words = folded.rstrip(".").split()
    if not _SMALL_WORDS.isdisjoint(words[1:-1]):
        return 0
    word = words[-1]
    if _PLAIN_WORDS.fullmatch(word):
        last = written.rstrip(".").rpartition(" ")[2]
        return len(folded) if last[:1].isupper() else 0
    return len(folded)


_PLAIN_WORDS = re.compile(
    r"(?:way|place|drive|close|court|park|hill|view|row|walk|green|end)"
)
_SMALL_WORDS = frozenset(
    ["a", "and", "at", "by", "for", "in", "is", "it", "my", "of", "on", "the", "to"]
)
_NAMED = re.compile(r"\d\s[A-ZÄÖÜ]")
_DATE = re.compile(r"\d{4}[-/. ]\d{1,2}[-/. ]\d{1,2}|\d{1,2}[-/. ]\d{1,2}[-/. ]\d{4}")
_STREETS = (
    "street|st|road|rd|avenue|ave|av|lane|ln|boulevard|blvd|crescent|cres|terrace"
    "|square|gardens|grove|mews|highway|hwy|parkway|turnpike|alley|drive|way|place"
    "|close|court|park|hill|view|row|walk|green|end"
)
_STATES = (
    "al|ak|az|ar|ca|co|ct|de|fl|ga|hi|id|il|in|ia|ks|ky|la|me|md|ma|mi|mn|ms|mo|mt"
    "|ne|nv|nh|nj|nm|ny|nc|nd|oh|ok|or|pa|ri|sc|sd|tn|tx|ut|vt|va|wa|wv|wi|wy|dc"
    "|aa|ae|ap"
)


def _kind(name: str, pattern: str, check: _Check = _any) -> _Kind:
    return _Kind(name, re.compile(pattern), check)


class _Kind(NamedTuple):
    name: str
    pattern: re.Pattern[str]
    check: _Check


def _kinds() -> Iterator[_Kind]:
    # Every repetition is bounded, so each pattern is linear in the text.
    yield _kind(
        "email",
        r"(?<![\w.+-])[\w.+-]{1,64}\s?@\s?[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}",
    )
    yield _kind("iban", r"\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]){11,40}\b", _iban)
    yield _kind("card", r"(?<![\d.,-])\d(?:[ -]?\d){11,18}(?![\d-])", _card)
    yield _kind(
        "ssn", r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"
    )
    yield _kind(
        "national-insurance",
        r"\b[a-ceghj-prstw-z][a-ceghj-nprstw-z] ?\d{2} ?\d{2} ?\d{2} ?[a-d]\b",
        _capital,
    )
    yield _kind(
        "phone",
        r"(?<![\w.-])(?<!\d[ ,])(?:"
        r"\+\d(?:[ ()./-]{0,2}\d){6,14}"  # +44 7700 900123
        r"|\(?0\d{1,5}\)?(?:[ ./-]{0,2}\d){5,10}"  # 07700 900 123
        r"|(?:1[ .-])?\(?\d{3}\)?[ .-]{0,2}\d{3}[ .-]\d{4}"  # (541) 714-1388
        r"|\d{3}[ .-]\d{4}"  # 555-0123
        r"|\(\d{2,4}\) ?\d{3}[ -]\d{3,4}"  # (37) 788-063
        r"|\d{2}([ .-])\d{2}\1\d{2}\1\d{2}(?:\1\d{2})?"  # 60-56-85-91
        r")(?!\w|-\d)",
        _phone,
    )
    yield _kind("postcode-uk", r"\b[a-z]{1,2}\d[a-z\d]? ?\d[a-z]{2}\b", _capital)
    yield _kind(
        "postcode-us", rf"\b(?:{_STATES})\.?,? \d{{5}}(?:-\d{{4}})?\b", _capital
    )
    yield _kind("postcode-de", r"\b(?:d-)?\d{5} [^\W\d_]{2,30}\b", _town)
    yield _kind(
        "street",
        r"\b\d{1,5}[a-z]?,? (?:[nsew]\.? )?(?:[^\W_]{1,20}\.? ){1,3}"
        rf"(?:{_STREETS})\b\.?",
        _street,
    )
    yield _kind(
        "street",
        r"\b[^\W\d_]{2,30}(?:strasse|str\.|weg|platz|allee|gasse) \d{1,4}[a-z]?\b",
    )
    yield _kind("po-box", r"\bp\.? ?o\.? ?box,? \d{1,8}\b")


_KINDS = tuple(_kinds())
