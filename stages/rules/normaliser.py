"""
Undo disguises: text as it is heard, with a way back to the original.

`normalise` lower-cases, folds lookalike letters, drops what cannot be seen, joins
letters that were spaced or dotted apart, reads digits and symbols inside words
as the letters that they stand for, and shortens stretched letters.  Where more
than one reading is possible, the likeliest goes into `text` and the rest into
`other`.  Every character knows the place in the original that it came from, so a
match can always be shown where it was written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product, takewhile
from typing import NamedTuple

MAX_READINGS = 16  # of one word; more would be guessing
MAX_PASSES = 8  # undoing one disguise may uncover another; two do in practice

# Lookalikes that Unicode's own compatibility mapping leaves alone: Cyrillic,
# Greek, Armenian, small capitals, stroked letters, quotes and dashes.  Upper and
# lower case stand apart, for a capital eta looks like H and a small one like n.
_LOOKALIKES = (
    ("авбгдезікмнопрстухцьяүѕјһԁԛԝѵӏ", "abbrdezikmhonpctyxubrysjhdqwvl"),
    ("АВСЕНІЈКМОРЅТХУԌԚԜҮӀ", "ABCEHIJKMOPSTXYGQWYl"),
    ("αβγδεζηικλμνορστυχωϲϳ", "abydeznikluvopotuxwcj"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹͿ", "ABEZHIKMNOPTYXCJ"),
    ("աոսօհցզքյ", "wnuohgqpj"),
    ("ɑɓɔɖɗəɛɡɩıɪɴɵɾʀʁʂʏʟʙɢʜⱪᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢ", "abcddeegiiinorrrsylbghkacdejkmoptuvwz"),
    ("øØđĐħĦłŁŧŦƀƁɨɇɍŋðƒ", "oOdDhHlLtTbBierndf"),
    ("‘’‚‛ʼʹ′`´‵＇", "'''''''''''"),
    ("‐‑‒–—―−﹘﹣⁃_", "-----------"),
    ("⁄∕❘∣ǀ", "//|||"),
)
_BOXED = [(0x1F150, 26), (0x1F170, 26), (0x1F1E6, 26)]  # 🅐 🅰 🇦 and on to z
_FOLDS: Mapping[int, str] = {
    **{
        ord(a): b
        for seen, meant in _LOOKALIKES
        for a, b in zip(seen, meant, strict=True)
    },
    **{first + n: chr(97 + n) for first, count in _BOXED for n in range(count)},
    ord("æ"): "ae",
    ord("Æ"): "ae",
    ord("œ"): "oe",
    ord("Œ"): "oe",
    ord("þ"): "th",
    ord("Þ"): "th",
    ord("¡"): "!",
}

# What stands for a letter inside a word, likeliest first.
_LEET: Mapping[str, str] = {
    "0": "o",
    "1": "il",
    "3": "e",
    "4": "a",
    "5": "s",
    "6": "gb",
    "7": "t",
    "8": "b",
    "9": "g",
    "@": "a",
    "$": "s",
    "!": "il",
    "|": "il",
    "+": "t",
    "*": "uioae",
    "€": "e",
    "¢": "c",
}
_PUNCTUATION = frozenset("!+*|")  # these also stand between two whole words

_ODD = re.compile(r"[^\x20-\x5e\x60-\x7e\t\n\r\f\v]")
_SINGLE = re.compile(
    r"(?<![\w@$])[^\W_](?!\w)|(?<!\S)[@$!](?=\s)|(?<=[^\w'])'(?=[^\w'])"
)
_SEPARATOR = re.compile(r"[^\w\n]{1,3}|\n")
_BROKEN = re.compile(r"(?<=[^\W\d_])-[^\S\n]*\n\s*(?=[^\W\d_])")
_QUOTE = re.compile(r"(?<=[^\W\d_])'(?=[^\W\d_])")
_BLANK = re.compile(r"\s{2,}|[^\S ]")
_INNER = re.compile(r"(?<=[^\W\d_])[0-9@$!|+*€¢]{1,3}(?=[^\W\d_])")
_LEAD = re.compile(r"(?<![\w@$.])[@$](?=[^\W\d_]{2})")
_TAIL = re.compile(r"(?<=[^\W\d_])\${2}(?![\w$])|(?<=[^\W\d_]{2})\$(?![\w$])")
_EDGE = re.compile(r"\b[0-9]{1,2}(?=[^\W\d_])|(?<=[^\W\d_])[0-9]{1,2}\b")
_BAR = re.compile(r"(?<!\S)\|(?= [^\W\d_])")
_STRETCHED = re.compile(r"([^\W\d_])\1{2,}")


class Edit(NamedTuple):
    """Put `new` in the place of `text[start:end]`."""

    start: int
    end: int
    new: str


@dataclass(frozen=True, slots=True)
class Normalised:
    """
    A text without its disguises.

    Attributes:
        text: What is matched: lower case, single spaces.
        starts, ends: For each character of `text`, the [start, end) of the
            original that it stands for.
        other: Offset in `text` to other readings of that character.
        loose: [start, end) ranges of `text` that were written letter by letter,
            where a word may begin and end anywhere.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    other: Mapping[int, tuple[str, ...]]
    loose: tuple[tuple[int, int], ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The [start, end) of the original behind `text[start:end]`, not empty."""
        return self.starts[start], self.ends[end - 1]

    def readings(self, start: int, end: int) -> tuple[str, ...]:
        """What the word `text[start:end]` may say, likeliest first."""
        word = self.text[start:end]
        if len(word) == 1 and word in "l1":
            return (word, "i")  # how readers of scans see a lone capital I
        found = [word]
        if self.other and any(i in self.other for i in range(start, end)):
            ways = [(self.text[i], *self.other.get(i, ())) for i in range(start, end)]
            # The first is the word itself; a bounded number of the rest.
            tries = takewhile(lambda n: n[0] < MAX_READINGS, enumerate(product(*ways)))
            found = ["".join(letters) for _, letters in tries]
        # Two strokes too close together: a scan's `rn` was often an m.
        for seen, meant in (("rn", "m"), ("vv", "w")):
            if seen in word:
                found.append(word.replace(seen, meant))
        return tuple(found)


class _Draft:
    """A text being rewritten, which remembers where each character came from."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = list(range(len(text)))
        self.ends = list(range(1, len(text) + 1))
        # Kept by place in the original, so that later edits leave them right.
        self.other: dict[int, tuple[str, ...]] = {}
        self.loose: set[int] = set()

    def apply(self, edits: Iterable[Edit]) -> bool:
        """Make `edits`, in order and apart; was there any?"""
        texts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        at = 0
        for start, end, new in edits:
            texts += (self.text[at:start], new)
            starts += self.starts[at:start]
            ends += self.ends[at:start]
            if len(new) == end - start:
                starts += self.starts[start:end]
                ends += self.ends[start:end]
            else:
                starts += [self.starts[start]] * len(new)
                ends += [self.ends[end - 1]] * len(new)
            at = end
        if not at:
            return False
        self.text = "".join((*texts, self.text[at:]))
        self.starts = starts + self.starts[at:]
        self.ends = ends + self.ends[at:]
        return True

    def also(self, at: int, letters: Iterable[str]) -> None:
        """Note other readings of the character at `at`."""
        key = self.starts[at]
        old = self.other.get(key, ())
        if new := tuple(c for c in letters if c not in old):
            self.other[key] = old + new

    def finish(self) -> Normalised:
        """The result, with notes moved from the original's places to its own."""
        other: dict[int, tuple[str, ...]] = {}
        if self.other:
            other = {
                i: self.other[start]
                for i, start in enumerate(self.starts)
                if start in self.other
            }
        loose: list[tuple[int, int]] = []
        if self.loose:
            for i, start in enumerate(self.starts):
                if start not in self.loose or not self.text[i].isalnum():
                    continue
                if loose and loose[-1][1] == i:
                    loose[-1] = (loose[-1][0], i + 1)
                else:
                    loose.append((i, i + 1))
        return Normalised(self.text, self.starts, self.ends, other, tuple(loose))


def fold(text: str) -> Normalised:
    """
    Lower case, lookalikes folded, unseen characters dropped, and nothing more:
    digits, symbols, spaces and line breaks stay as they are.
    """
    return _folded(text).finish()


def normalise(text: str) -> Normalised:
    """`text` without its disguises; what is already plain is left as it is."""
    draft = _folded(text)
    draft.apply(Edit(*m.span(), "") for m in _BROKEN.finditer(draft.text))
    for _ in range(MAX_PASSES):
        # A list, not any(...) over a generator: every step has its turn.
        changed = [
            draft.apply(_joined(draft)),
            draft.apply(Edit(*m.span(), "") for m in _QUOTE.finditer(draft.text)),
            draft.apply(Edit(*m.span(), " ") for m in _BLANK.finditer(draft.text)),
            draft.apply(_unleeted(draft)),
            draft.apply(_shortened(draft)),
        ]
        if not any(changed):
            break
    _note_edges(draft)
    return draft.finish()


def _folded(text: str) -> _Draft:
    draft = _Draft(text)
    draft.apply(
        Edit(*m.span(), new)
        for m in _ODD.finditer(text)
        if (new := _fold_character(m[0])) != m[0]
    )
    draft.text = draft.text.lower()  # only ASCII is left to lower: same length
    return draft


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    """One character's plain form: none, one or several characters."""
    folded = character
    for _ in range(4):  # a fold may yield what folds again; twice is the most seen
        before = folded
        folded = unicodedata.normalize("NFKD", folded.translate(_FOLDS))
        folded = "".join(c for c in folded if c.isspace() or _seen(c))
        folded = folded.translate(_FOLDS).casefold().lower()
        if folded == before:
            break
    return folded


def _seen(character: str) -> bool:
    """Neither an accent on its neighbour nor invisible."""
    return unicodedata.category(character) not in ("Mn", "Me", "Cf", "Cc")


def _joined(draft: _Draft) -> list[Edit]:
    """Take out what stands between letters written apart: k i l l, k.i.l.l."""
    text = draft.text
    at = [m.start() for m in _SINGLE.finditer(text)]
    edits: list[Edit] = []
    first = 0
    while first < len(at) - 2:
        apart = text[at[first] + 1 : at[first + 1]]
        last = first
        inside: list[Edit] = []
        if not _SEPARATOR.fullmatch(apart):
            first += 1
            continue
        while last + 1 < len(at):
            between = text[at[last] + 1 : at[last + 1]]
            if between == apart:
                inside.append(Edit(at[last] + 1, at[last + 1], ""))
            elif not between.isspace() or (
                apart.isspace() and len(between) <= len(apart)
            ):
                break
            last += 1
        places = at[first : last + 1]
        if _spelled([text[i] for i in places], len(inside)):
            edits += inside
            draft.loose.update(draft.starts[i] for i in places)
            first = last + 1
        else:
            first = max(last, first + 1)
    return edits


def _spelled(letters: list[str], joins: int) -> bool:
    """Is it a word spelled out?  A list of numbers, a sum or `P.S.` is not."""
    if not joins or len(letters) < 3:
        return False
    return sum(c.isalpha() for c in letters) * 3 >= 2 * len(letters)


def _unleeted(draft: _Draft) -> list[Edit]:
    """Read digits and symbols between letters as letters: h4te, k!ll, @buse."""
    edits: list[Edit] = []
    for pattern in (_INNER, _LEAD, _TAIL):
        for match in pattern.finditer(draft.text):
            run = match[0]
            if pattern is _INNER and _stands_apart(draft.text, match.start(), run):
                continue
            if all(c in _LEET for c in run):
                new = "".join(_LEET[c][0] for c in run)
                edits.append(Edit(*match.span(), new))
                for i, c in enumerate(run, match.start()):
                    draft.also(i, _LEET[c][1:])
    # A lone upright before a word is how readers of scans see a capital I.
    edits += [Edit(*m.span(), "i") for m in _BAR.finditer(draft.text)]
    return sorted(edits)


def _stands_apart(text: str, at: int, run: str) -> bool:
    """Is it punctuation with a forgotten space, as in `stop!please`?"""
    if _PUNCTUATION.isdisjoint(run):
        return False
    left, right = text[max(0, at - 3) : at], text[at + len(run) : at + len(run) + 3]
    whole = [len(side) == 3 and side.isalpha() for side in (left, right)]
    return len(run) > 1 or all(whole)


def _shortened(draft: _Draft) -> list[Edit]:
    """Bring stretched letters down to one; two is the other reading."""
    edits: list[Edit] = []
    for match in _STRETCHED.finditer(draft.text):
        edits.append(Edit(*match.span(), match[1]))
        draft.also(match.start(), (match[1] * 2,))
    return edits


def _note_edges(draft: _Draft) -> None:
    """A digit at a word's edge may be a letter (5ex) or a number (4th): note it."""
    for match in _EDGE.finditer(draft.text):
        for i, c in enumerate(match[0], match.start()):
            draft.also(i, _LEET.get(c, ""))
