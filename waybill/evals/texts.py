"""
Labelled texts: what a person must see and what not, from a file of JSON lines.

Two forms are known, line by line; whatever else stands in a line is not looked at:

    {"text": …, "label": "care" | "innocent", "kind": …}
    {"text": …, "flagged": true | false, "categories": […], "source": …}

In the second, a flagged text is of the kinds that its categories name, and another one
of the kind of its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Usage
from waybill.evals.labels import type_name
from waybill.evals.lines import bad_cases, read_lines

LABELS = {True: "care", False: "innocent"}  # whether a person must see the text


class Label(NamedTuple):
    """Whether a person must see a text, and the kinds it is of, in one spelling."""

    care: bool
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text, what is known of it, and the number of its line, from 1."""

    line: int
    label: Label
    text: str = field(repr=False)


class Texts(NamedTuple):
    """The texts of a file, each once, and how many lines had one of them again."""

    texts: tuple[LabelledText, ...]
    repeated: int


def read_texts(file: Path) -> Texts:
    """
    The labelled texts of a file; identical ones count once, as the first.  Blocking.

    Raises:
        Usage: BAD_CASES, it cannot be read, a line has no known form or label, or two
            have the same text and other labels; the message names the line and quotes
            no text.
    """
    found: dict[str, LabelledText] = {}
    repeated = 0
    for number, _, said in read_lines(file, bad):
        if said is None:
            continue
        try:
            one = LabelledText(number, _label(said), _text(said))
        except ValueError as error:
            raise bad(f"line {number}: {error}") from None
        first = found.setdefault(one.text, one)
        if first.label.care != one.label.care:
            raise bad(
                f"line {number} says {LABELS[one.label.care]} of the text of line "
                f"{first.line}, which says {LABELS[first.label.care]}"
            )
        repeated += first is not one
    if not found:
        raise bad(f"{file} has no text")
    return Texts(tuple(found.values()), repeated)


def _text(said: Mapping[str, Any]) -> str:
    text = said.get("text")
    if not isinstance(text, str):
        raise ValueError("it has no text")
    return text


def _label(said: Mapping[str, Any]) -> Label:
    if "label" in said:
        label, kind = said["label"], said.get("kind")
        if label not in LABELS.values():
            known = " nor ".join(LABELS.values())
            raise ValueError(f"the label {str(label)[:40]!r} is neither {known}")
        return Label(label == LABELS[True], _kinds([] if kind is None else [kind]))
    flagged = said.get("flagged")
    if not isinstance(flagged, bool):
        raise ValueError("it has no label, and no flagged that is true or false")
    source = said.get("source")
    others = [] if source is None else [source]
    named = said.get("categories", []) if flagged else others
    if not isinstance(named, list):
        raise ValueError("its categories are no list")
    return Label(flagged, _kinds(named))


def _kinds(named: list[Any]) -> tuple[str, ...]:
    """Kinds in one spelling: `self-harm` and `Self harm` are `self_harm`."""
    kinds = [type_name(kind) if isinstance(kind, str) else "" for kind in named]
    if not all(kinds):
        raise ValueError("a kind has no letter and no figure")
    return tuple(dict.fromkeys(kinds))


def bad(why: str) -> Usage:
    """What is wrong with a file of labelled texts."""
    return bad_cases(why, "docs/moderation.md has the forms of a labelled text")
