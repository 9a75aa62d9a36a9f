"""
What a rule looks for in a sentence: a phrase, in words that a lawyer can edit.

A phrase is an expression over a sentence's plain form, with three signs of its own:
`~` ends a word in any way (`assign~`: assigns, assignment), ` .. ` stands for up to 40
characters and ` ... ` for up to 120.  It begins and ends at words.  Which words it
cannot do without is read from it, so that a phrase whose words a contract does not
have costs nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from stages.clauses.sentences import Prepared
from stages.rules.patterns import too_slow

MAX_PHRASE_CHARS = 8_000
GAPS = {" .. ": 40, " ... ": 120}  # characters


@dataclass(frozen=True, slots=True)
class Part:
    """What stands between two gaps, and how many characters may come before it."""

    within: int  # 0 of the first
    pattern: re.Pattern[str]


class BadPhraseError(ValueError):
    """A phrase that cannot be looked for, and why."""


@dataclass(frozen=True)
class Phrase:
    """
    One phrase; `without` where it is written with a `!` before.

    Its expressions are made when a sentence may have it: of a thousand phrases a
    contract needs a third, and a process may live for one contract.
    """

    written: str
    without: bool

    def stands_in(self, plain: str) -> bool:
        """Whether a sentence's plain form has it; raises as `chains` does."""
        return any(_runs_through(chain, plain) for chain in self.chains)

    @cached_property
    def chains(self) -> tuple[tuple[Part, ...], ...]:
        """
        Ways to be there, compiled.

        Raises:
            BadPhraseError: it is no expression, or could take long.
        """
        straight, chains = [], []
        for way in _choices(self.written):
            pieces = _pieces(way)
            if len(pieces) == 1:
                straight.append(way)
            else:
                chains.append(_chain(pieces, self.written))
        if straight:
            # Choices without a gap are looked for at once.
            _check(straight, self.written)
            chains.append((Part(0, _compiled("|".join(straight), self.written)),))
        return tuple(chains)

    @cached_property
    def needs(self) -> Sequence[Sequence[Sequence[str]]]:
        """Ways to be there: of each, groups of words of which one must stand."""
        return [list(_groups(way)) for way in _choices(self.written)]

    def candidates(self, text: Prepared) -> set[int] | None:
        """The sentences it may stand in; None where any may hold it."""
        found: set[int] = set()
        for way in self.needs:
            if not way:
                return None
            here: set[int] | None = None
            for group in way:
                having: set[int] = set()
                for word in group:
                    having.update(_having(text, word))
                here = having if here is None else here & having
                if not here:
                    break
            found |= here or set()
        return found


def phrase(written: str) -> Phrase:
    """
    Read one phrase, without its expressions.

    Raises:
        BadPhraseError: it is too short or too long.
    """
    without = written.startswith("!")
    bare = written[1:] if without else written
    if not 2 <= len(bare) <= MAX_PHRASE_CHARS:
        raise BadPhraseError(
            f"{written!r} has fewer than 2 or over {MAX_PHRASE_CHARS} signs"
        )
    return Phrase(bare, without)


def _chain(pieces: Sequence[str], written: str) -> tuple[Part, ...]:
    """Parts of `a .. b ... c`, split at its gaps."""
    _check(pieces[::2], written)
    parts = [Part(0, _compiled(pieces[0], written))]
    for gap, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        parts.append(Part(GAPS[gap], _compiled(piece, written)))
    return tuple(parts)


def _check(pieces: Sequence[str], written: str) -> None:
    for piece in pieces:
        if ".." in re.sub(r" \.{2,3} ", " ", piece):
            raise BadPhraseError(f"{written!r}: a gap wants a blank on either side")
        # The end of a word is matched once and never tried shorter: it costs nothing.
        if (why := too_slow(_with_gaps(piece.replace("~", "")))) is not None:
            raise BadPhraseError(f"{written!r}: {why}")


def _compiled(piece: str, written: str) -> re.Pattern[str]:
    try:
        return re.compile(expression(piece))
    except re.error as error:
        raise BadPhraseError(f"{written!r} is no expression: {error}") from None


def _with_gaps(piece: str) -> str:
    """The gaps within brackets as the expressions that they stand for."""
    for gap, most in GAPS.items():
        piece = piece.replace(gap, rf"\b.{{1,{most}}}\b")
    return piece


def expression(piece: str) -> str:
    """The regular expression that a part of a phrase stands for."""
    pattern = _with_gaps(piece).replace("~", r"\w{0,30}+")
    # Signs of money and shares stand against their figures: `$5`, `5%`.
    return rf"(?:(?<!\w)|(?=%))(?:{pattern})(?:(?!\w)|(?<=\$))"


def _runs_through(chain: Sequence[Part], plain: str) -> bool:
    """Whether the parts follow one another: one pass a part, nothing tried again."""
    if len(chain) == 1:
        return chain[0].pattern.search(plain) is not None
    ends: list[int] = []
    for part in chain:
        found = [match.span() for match in part.pattern.finditer(plain)]
        if part.within:
            found = [
                (start, end)
                for start, end in found
                if (before := bisect_left(ends, start))
                and start - ends[before - 1] <= part.within
            ]
        if not found:
            return False
        ends = [end for _, end in found]
    return True


@dataclass(frozen=True, slots=True)
class Condition:
    """Phrases that one sentence must have, and must not."""

    phrases: tuple[Phrase, ...]

    def find(self, text: Prepared, among: Sequence[int] | None = None) -> list[int]:
        """The sentences that meet it, ascending; of `among` where that is given."""
        left: set[int] | None = None if among is None else set(among)
        wanted = [one for one in self.phrases if not one.without]
        for one in wanted:
            here = one.candidates(text)
            if here is not None:
                left = here if left is None else left & here
            if left is not None and not left:
                return []
        places = range(len(text.sentences)) if left is None else sorted(left)
        return [n for n in places if self.holds(text.sentences[n].plain)]

    def holds(self, plain: str) -> bool:
        """Whether a sentence's plain form meets it."""
        return all(one.stands_in(plain) != one.without for one in self.phrases)


def _having(text: Prepared, word: str) -> Iterator[int]:
    if word.endswith("~"):
        for whole in text.beginning(word[:-1]):
            yield from text.having[whole]
    else:
        yield from text.having.get(word, ())


_PLAIN_WORD = re.compile(r"[a-z0-9$%]{2,}~?\Z|[a-z]\Z")


def _choices(written: str) -> list[str]:
    """The alternatives of an expression, those outside of brackets."""
    ways, depth, begin = [], 0, 0
    for place, sign in enumerate(written):
        depth += (sign in "([") - (sign in ")]")
        if sign == "|" and depth == 0:
            ways.append(written[begin:place])
            begin = place + 1
    ways.append(written[begin:])
    return ways


def _pieces(way: str) -> list[str]:
    """Of one alternative: parts and gaps in turn, gaps within brackets left alone."""
    pieces = [""]
    for token in _tokens(way):
        if f" {token} " in GAPS:
            pieces += [f" {token} ", ""]
        else:
            pieces[-1] += f" {token}" if pieces[-1] else token
    return pieces


def _groups(way: str) -> Iterator[list[str]]:
    """Of one alternative: words, of each group of which one must stand."""
    for token in _tokens(way):
        if _PLAIN_WORD.match(token):
            yield [token]
        elif token.startswith("(") and token.endswith(")") and token[1:2] != "?":
            firsts: list[str] = []
            for choice in _choices(token[1:-1]):
                words = [w for w in choice.split() if _PLAIN_WORD.match(w)]
                if not words or "(" in choice:
                    break
                firsts.append(max(words, key=len))
            else:
                yield firsts


def _tokens(way: str) -> Iterator[str]:
    """Split at blanks, those outside of brackets."""
    depth, token = 0, ""
    for sign in way:
        depth += (sign in "([") - (sign in ")]")
        if sign == " " and depth == 0:
            yield token
            token = ""
        else:
            token += sign
    yield token
