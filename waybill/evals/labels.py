"""
Labels: what is known of one type in one document, and the words that are compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

WORD = re.compile(r"\w+")
HALF = 0.5  # so many of a labelled span's words must stand in a quote
PIECE_WORDS_MIN = 3  # of a span in pieces; what is shorter says too little by itself


class Label(NamedTuple):
    """
    Whether a type is in a document; its `spans` each in the pieces that it stands in.

    `value` is None where none was labelled.
    """

    present: bool
    spans: tuple[tuple[str, ...], ...] = ()
    value: Any = None


class Line(NamedTuple):
    """What a form makes of a line: the document by `text`, `artifact` or `places`."""

    labels: Mapping[str, Label]
    places: tuple[str, ...] = ()
    text: str | None = None
    artifact: str = ""
    name: str = ""


def type_name(title: str) -> str:
    """`Governing Law` is `governing_law`, `Rofr/Rofo/Rofn` is `rofr_rofo_rofn`."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


def by_name(labels: Iterable[tuple[str, Label]]) -> dict[str, Label]:
    """
    Labels by the names of their types.

    Raises:
        ValueError: a title has no letter and no figure, two are one name (nobody knows
            which of them counts), or what is present has no word to be known by.
        TypeError: a quote is no text.
    """
    found: dict[str, Label] = {}
    for title, label in labels:
        name = type_name(title)
        pieces = [piece for span in label.spans for piece in span]
        if not all(isinstance(piece, str) for piece in pieces):
            raise TypeError(f"{title[:40]}: a quote is no text")
        if label.present and not any(map(WORD.search, pieces)):
            raise ValueError(f"{title[:40]} is present, and no quote has a word")
        if not name:
            raise ValueError(f"{title[:40]!r} names no type")
        if name in found:
            raise ValueError(f"{name[:40]} is labelled twice")
        found[name] = label
    return found


def object_of(said: Any, what: str) -> dict[str, Any]:
    """
    What stands in a line where an object must.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(said, dict):
        raise TypeError(f"{what} is no object")
    return said


def list_of(said: Any, what: str) -> list[Any]:
    """
    What stands in a line where a list must: a text is none, though it has letters.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(said, list):
        raise TypeError(f"{what} are no list")
    return said


def touches(quote: str, spans: Iterable[tuple[str, ...]]) -> bool:
    """Whether the quote has half the words of a labelled span, or of a piece of one."""
    there = _words(quote)
    return any(
        wanted and (wanted & there).total() >= HALF * wanted.total()
        for span in spans
        for wanted in _pieces(span)
    )


def same_value(one: Any, other: Any) -> bool:
    """Whether two values say the same: as data, or by their text, case and spaces."""
    if isinstance(one, str) and isinstance(other, Mapping):
        other = other.get("text")
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold().split() == other.casefold().split()
    return bool(one == other)


def _pieces(span: tuple[str, ...]) -> list[Counter[str]]:
    pieces = [_words(piece) for piece in span]
    long = [piece for piece in pieces if piece.total() >= PIECE_WORDS_MIN]
    return long or pieces


def _words(text: str) -> Counter[str]:
    return Counter(WORD.findall(text.casefold()))
