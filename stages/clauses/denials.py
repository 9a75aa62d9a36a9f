"""
What a sentence denies: `neither party is required to maintain insurance`.

Who denies a clause says it in the clause's own words.  What is denied is therefore
taken out of a sentence, from the words that deny to the end of what they govern, and
rules are asked again of what remains.  A denial under a condition (`unless`, `more
than`) denies nothing for certain, and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

# What a clause of a type does: gives a right or a duty, binds by forbidding, forbids
# and gives at once, or does neither, as a disclaimer.  What denies it depends on it.
Sense = Literal["grants", "forbids", "both", "any"]

_GAP = r"[^.;:]{0,60}?"
_WILL = r"(?:shall|will|may|can|does|do|did|must|is|are|be)"
_ACTS = (
    r"(?:grants?|granted|confers?|conferred|creates?|gives?|given|imposes?|imposed"
    r"|constitutes?|establish(?:es)?|provides? for|contains?|requires?|obligates?"
    r"|obliges?|appoints?)"
)
_BARS = (
    r"(?:prohibit|restrict|prevent|preclude|bar|limit|forbid)(?:s|d|ed|red|den)?(?! to)"
)
_NOTHING = r"\bnothing (?:in|herein|contained|under|set|hereunder|shall|will|is)"
# No duty.
_DUTY = (
    r"\bnot (?:\w{2,12} )?(?:be )?(?:required|obligated|obliged|bound)\b",
    rf"\b(?:neither|no|none) {_GAP}\b"
    r"(?:required|obligated|obliged|any (?:obligation|duty))\b",
    r"\b(?:no|not (?:\w{2,6} )?(?:any|an?)|without (?:any )?) ?"
    r"(?:obligation|duty|requirement|commitment)s?"
    r" (?:to|that|for|of|on|upon|hereunder)\b",
    r"\bneed not\b",
)
# No right.
_RIGHT = (
    r"\bnot (?:\w{2,12} )?(?:be )?(?:entitled|permitted|allowed)\b",
    rf"\b(?:neither|no|none) {_GAP}\b(?:entitled|any (?:right|option|power))\b",
    r"\b(?:no|not (?:\w{2,6} )?(?:any|an?|the)) (?:right|option|entitlement)s? to\b",
    r"\bwaives? (?:any|its|all|the) rights? to\b",
    r"\b(?:neither|no) party (?:shall|will|may|can)\b",
    r"\b(?:may|can|shall|will) not (?:\w{2,12}ly )?(?:be )?"
    r"(?:terminate|audit|inspect|examine|renew|extend)(?:e?d)?\b",
)
# Nothing given.
_GIVEN = (
    rf"\b{_WILL} not (?:hereby )?(?:be )?"
    rf"(?:(?:construed|deemed|interpreted|intended) (?:to|as) )?{_ACTS}\b",
    rf"{_NOTHING}{_GAP}\b{_ACTS}\b",
    rf"\bneither {_GAP}\b{_ACTS}\b",
    r"\bthere (?:is|are|shall be|will be) no\b",
    r"\b(?:makes?|contains?|includes?|imposes?|creates?|grants?|gives?|confers?"
    r"|provides?|assumes?|undertakes?|(?:has|have)(?= no (?!liabilit))) no\b",
    r"\b(?:do|does|did) not\b",
    r"\bno (?:[\w%$.,-]{1,20} ){1,6}(?:is|are|shall be|will be|has been) (?:hereby )?"
    r"(?:required|granted|conferred|given|imposed|provided|due|payable|owed|implied)\b",
)
# Nothing forbidden.
_BARRED = (
    rf"{_NOTHING}{_GAP}\b{_BARS}\b",
    rf"\b{_WILL} not (?:be )?(?:construed to |deemed to |in any way )?{_BARS}\b",
    rf"\b(?:neither|no|none) {_GAP}\b(?:is|are|be) {_BARS}\b",
    r"\bno (?:restriction|prohibition)s?\b",
    r"\b(?:be|is|are|remains?) free to\b",
)
# The word before stands first: `insurance is not required`, and no `to` behind.
_PASSIVE = re.compile(
    r"\b(?:is|are|be) not (?:hereby )?(?:be )?(?:required|granted|given|permitted"
    r"|conferred|provided|included|allowed)\b(?! (?:to|by law)\b)"
)
_OF: dict[Sense, re.Pattern[str]] = {
    "grants": re.compile("|".join((*_DUTY, *_RIGHT, *_GIVEN))),
    "forbids": re.compile("|".join((*_DUTY, *_BARRED))),
    "both": re.compile("|".join((*_DUTY, *_GIVEN, *_BARRED))),
}
# Where that which is denied is over, and the sentence says something of its own.
_OVER = re.compile(
    r"[;:]|\. |,? (?:but|however|provided|whereas|although|though)\b"
    r"|,? (?:and|or) (?:\w{2,20} ){0,4}(?:shall|will|may|must|agrees?|hereby)\b(?! not)"
)
# What makes it depend.
_DEPENDS = re.compile(
    r"\b(?:except|unless|until|other than|save|beyond|excess|more|less|fewer|fail|prior"
    r"|without (?:the|prior|written|consent|notice|approval)|only|solely|greater"
    r"|otherwise|merely|after|before|if|in the event)\b"
)
# Of what binds and gives at once: to deny it to others is to give it to one.
_OTHERS = re.compile(
    r"\b(?:(?:any|to) (?:other|third)|others|anyone|similar|competing)\b"
)
# Before it: `if Supplier does not insure …` denies nothing.
_WHERE = re.compile(
    r"\b(?:if|unless|event|case|extent|when|where|which|who|whether|that)\b[^.;:]{0,200}\Z"
)
DENIED_CHARS = 300  # that a denial governs at most


@lru_cache(maxsize=4096)
def undenied(plain: str, sense: Sense) -> str:
    """A sentence's plain form without what it denies; itself where that is nothing."""
    if sense == "any" or not _DENIES(plain):
        return plain
    kept, at = [], 0
    for start, end in _denied(plain, sense):
        if start >= at:
            kept.append(plain[at:start])
            at = end
    return " ".join(" ".join((*kept, plain[at:])).split()) if at else plain


_DENIES = re.compile(r"\b(?:not|no|nothing|neither|none|without|free|waives?)\b").search


def _denied(plain: str, sense: Sense) -> Iterator[tuple[int, int]]:
    at = 0
    while (found := _OF[sense].search(plain, at)) is not None:
        start, end = found.start(), _end(plain, found.end())
        if _PASSIVE.search(plain, max(0, start - 8), found.end() + 8):
            start = _begin(plain, start)
        if not (
            _DEPENDS.search(plain, start, min(len(plain), end + 20))
            or (sense == "both" and _OTHERS.search(plain, start, end))
            or _WHERE.search(plain, max(0, start - 220), start)
        ):
            yield start, end
        at = max(end, found.end())


def _end(plain: str, start: int) -> int:
    over = _OVER.search(plain, start, start + DENIED_CHARS)
    return over.start() if over else min(len(plain), start + DENIED_CHARS)


def _begin(plain: str, end: int) -> int:
    """Where the part of the sentence begins that ends at `end`."""
    return max((one.end() for one in _OVER.finditer(plain, 0, end)), default=0)
