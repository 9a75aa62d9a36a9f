"""
Evidence for a person: what a stage laid before its hold, as lines to read.

Keys come in the order in which the stage gave them.  What means nothing to a person
stays out: an artifact's name (the file is called by the name it gets on the desk) and
boxes in pixels.  A mapping with a `text` and its `marked` places is that text, marked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

ARTIFACT = re.compile(r"[0-9a-f]{64}")
BOX = re.compile(r"(?:.*_)?b?box(?:es)?")
PLAIN = re.compile(r"[\w.-]{1,20}")  # of a list, what may share a line
LONG = 60  # characters; a longer text has lines of its own
BRIEF_MAX = 200  # characters of a value on one line; --json has it all
NAMED_MAX = 6  # entries of a list on one line
SOME_FILE = "a file"
ACCEPTS = "accepts"  # of a call: a schema, which commands read


class Span(NamedTuple):
    """A place in a text: characters `start` to before `end`."""

    start: int
    end: int


class Line(NamedTuple):
    """A line to print: how far in it stands, and the places marked in its text."""

    depth: int
    text: str
    marked: tuple[Span, ...] = ()


def lines(evidence: Any, files: Mapping[str, str] | None = None) -> list[Line]:
    """
    Evidence of any shape; [] when there is none.

    Args:
        files: Artifact -> the name it has on the desk.
    """
    return list(_lines(evidence, files or {}, 0)) if evidence else []


def _lines(value: Any, files: Mapping[str, str], depth: int) -> Iterator[Line]:
    match value:
        case dict():
            yield from _mapping(value, files, depth)
        case list():
            for row in value:
                yield from _bullet(_lines(row, files, depth + 1))
        case str():
            name = _file(value, files)
            for line in (name or value).splitlines():
                yield Line(depth, line)
        case _:
            yield Line(depth, _word(value))


def _mapping(
    given: dict[str, Any], files: Mapping[str, str], depth: int
) -> Iterator[Line]:
    """What is short shares lines; what is long or deep stands beneath its key."""
    text = given.get("text")
    marked = spans(text if isinstance(text, str) else "", _pairs(given.get("marked")))
    row = ""
    for key, value in given.items():
        if key == ACCEPTS and isinstance(value, dict) and "properties" in value:
            continue
        if _is_noise(key, value, files) or (key == "marked" and marked):
            continue
        alone = _is_deep(value) or (key == "text" and marked)
        word = "" if alone else _word(_file(value, files) or value)
        if word and len(word) <= LONG and "\n" not in word:
            if row and len(row) + len(key) + len(word) > LONG + 10:
                yield Line(depth, row)
                row = ""
            row += f"{'  ' * bool(row)}{key}: {word}"
            continue
        if row:
            yield Line(depth, row)
            row = ""
        yield Line(depth, f"{key}:")
        if key == "text" and marked:
            # One line, and no character moves: the marks are places in it.
            yield Line(depth + 1, re.sub(r"\s", " ", value), tuple(marked))
        else:
            yield from _lines(value, files, depth + (not isinstance(value, list)))
    if row:
        yield Line(depth, row)


def _bullet(row: Iterator[Line]) -> Iterator[Line]:
    """The lines of a list's entry, the first with a dash."""
    for number, line in enumerate(row):
        if number:
            yield line
        else:
            moved = tuple(Span(start + 2, end + 2) for start, end in line.marked)
            yield Line(line.depth - 1, f"- {line.text}", moved)


def brief(value: Any, files: Mapping[str, str] | None = None) -> str:
    """A value on one line, its beginning and its end where it is long."""
    text = _brief(value, files or {}, 0)
    # The end is kept: what is appended stands there.
    return text if len(text) <= BRIEF_MAX else f"{text[:60]} … {text[-120:]}"


def _brief(value: Any, files: Mapping[str, str], depth: int) -> str:
    match value:
        case dict():
            if depth > 1:
                return f"{len(value)} values"
            parts = [
                f"{key} {_brief(inner, files, depth + 1)}"
                for key, inner in value.items()
                if not _is_noise(key, inner, files)
            ]
            return ", ".join(parts) or "nothing"
        case list():
            rows = [row for row in value if not isinstance(row, dict)]
            if len(value) == 1:
                return _brief(value[0], files, depth)
            if rows != value or len(value) > NAMED_MAX:
                return f"{len(value)} entries"
            return " and ".join(_brief(row, files, depth + 1) for row in rows)
        case str():
            if ARTIFACT.fullmatch(value):
                return files.get(value, SOME_FILE)
            bare = depth and len(value) <= LONG
            return value if bare else json.dumps(value, ensure_ascii=False)
        case _:
            return _word(value)


def _word(value: Any) -> str:
    """A value that is no mapping and no list of some."""
    match value:
        case None | dict():
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case list():
            return ", ".join(map(_word, value)) or "nothing"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _is_deep(value: Any) -> bool:
    if isinstance(value, list):
        return any(
            isinstance(v, dict | list) or not PLAIN.fullmatch(_word(v)) for v in value
        )
    return isinstance(value, dict) and bool(value)


def _is_noise(key: str, value: Any, files: Mapping[str, str]) -> bool:
    """Whether a person can do nothing with it."""
    if value is None or value in ("", [], {}):
        return True
    if isinstance(value, str) and ARTIFACT.fullmatch(value):
        return value not in files
    return BOX.fullmatch(key) is not None and isinstance(value, list)


def _file(value: Any, files: Mapping[str, str]) -> str:
    """What the artifact that `value` names is called; "" when it names none."""
    if not isinstance(value, str) or not ARTIFACT.fullmatch(value):
        return ""
    return files.get(value, SOME_FILE)


# -- marks ---------------------------------------------------------------------------


def spans(text: str, found: Sequence[tuple[int, int]]) -> list[Span]:
    """Places in order, within the text, and apart: what overlaps is one."""
    marked: list[Span] = []
    at = 0
    for first, last in sorted(found):
        start, end = max(at, first), min(last, len(text))
        if start < end:
            if marked and start == marked[-1].end:
                start = marked.pop().start
            marked.append(Span(start, end))
            at = end
    return marked


def places(found: Any) -> list[tuple[int, int]]:
    """Start and end of a verdict's spans, of those that have both."""
    rows = found if isinstance(found, list) else []
    return _pairs([[s.get("start"), s.get("end")] for s in rows if isinstance(s, dict)])


def _pairs(value: Any) -> list[tuple[int, int]]:
    """`[3, 5]` or `[[3, 5], [8, 9]]`; what is neither is none."""
    rows = value if isinstance(value, list) else []
    if rows and not isinstance(rows[0], list):
        rows = [rows]
    return [
        (row[0], row[1])
        for row in rows
        if isinstance(row, list) and len(row) == 2 and all(type(n) is int for n in row)
    ]
