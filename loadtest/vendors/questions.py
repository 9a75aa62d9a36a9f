"""
What a reader was asked, and what it was given to read, out of a request.

A question names what it is about on lines of its own (`document: …`, `clause: …`), or
begins with the title of a type of clause: `Governing Law: Which law …`.  Then it may
list the sections that there are, a line each: `s1: 12. Notices`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from loadtest.vendors.chat import texts_of, tools_of
from loadtest.vendors.kinds import Call
from loadtest.vendors.labels import Label, as_it_stands, labelled, topic_of
from loadtest.vendors.settings import Play

DATA = re.compile(r"^(DATA-\w+)\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)
LISTED = re.compile(r"^(\w+): (.*)$", re.MULTILINE)
WORD = re.compile(r"[a-z]{4,}")


class Piece(NamedTuple):
    """A text that was read, and the id by which it was asked for; "" where by none."""

    at: str
    text: str


class Found(NamedTuple):
    """What is looked for, as it stands in what was read; "" where it does not."""

    quote: str = ""
    at: str = ""


def label_of(call: Call, play: Play) -> Label | None:
    """What it knows of what it is asked about; None without labels."""
    if not play.labels:
        return None
    return labelled(play.labels, topic_of(texts_of(_question(call))))


def brought(call: Call) -> list[Piece]:
    """
    What it was given to read from outside: by tools, or with its question.

    Where there are tools, what stands in the question says what they may be asked for.
    """
    asked: dict[str, str] = {}
    found = []
    lists = bool(tools_of(call))
    for number, each in enumerate(call.fields.get("messages") or ()):
        asked |= dict(_asked_for(each))
        if each.get("role") not in ("tool", "user") or (lists and number <= _at(call)):
            continue
        content = each.get("content")
        for part in content if isinstance(content, list) else [each]:
            text = part.get("content") or part.get("text") or ""
            of = part.get("tool_use_id") or part.get("tool_call_id") or ""
            if data := DATA.search(str(text)):
                found.append(Piece(asked.get(of, ""), data[2]))
    return found


def ids_of(call: Call, schema: dict[str, Any], field: str) -> list[str]:
    """The ids that an argument may have, those that promise most first."""
    listed = dict(_listed(call))
    ids = schema.get("properties", {}).get(field, {}).get("enum") or list(listed)
    wanted = set(WORD.findall(topic_of(texts_of(_question(call))).clause.lower()))

    def promise(name: str) -> int:
        return len(wanted & set(WORD.findall(listed.get(name, "").lower())))

    return sorted(ids, key=promise, reverse=True)


def found_in(label: Label | None, pieces: list[Piece]) -> Found:
    """What it looks for; without labels the first sentence of what it read last."""
    if label is None:
        last = pieces[-1] if pieces else Piece("", "")
        return Found(last.text.partition(". ")[0][:200], last.at)
    for span in label.spans:
        for piece in pieces:
            if quote := as_it_stands(span, piece.text):
                return Found(quote, piece.at)
    return Found()


def _at(call: Call) -> int:
    """The place of the question: of the first that a user says."""
    messages = call.fields.get("messages") or ()
    users = (n for n, each in enumerate(messages) if each.get("role") == "user")
    return next(users, -1)


def _question(call: Call) -> list[dict[str, Any]]:
    at = _at(call)
    return [] if at < 0 else [call.fields["messages"][at]]


def _listed(call: Call) -> Iterator[tuple[str, str]]:
    for text in texts_of(_question(call)):
        for data in DATA.finditer(text):
            yield from LISTED.findall(data[2])


def _asked_for(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Calls of a message, each with the first text among its arguments."""
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        yield call.get("id", ""), _first(json.loads(function.get("arguments") or "{}"))
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        if part.get("type") == "tool_use":
            yield part["id"], _first(part.get("input"))


def _first(arguments: Any) -> str:
    given = arguments.values() if isinstance(arguments, dict) else ()
    return next((value for value in given if isinstance(value, str)), "")
