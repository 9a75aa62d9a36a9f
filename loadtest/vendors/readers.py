"""
A model that reads, as agents ask it: rightly, or wrongly in every way that is known.

It calls the first tool that is offered until it has read what it looks for, then those
that its `calls` name, with the arguments given there, and answers word for word: what
its labels say of what the question is about (`questions.py`), or without labels the
first sentence that it read.  By the shares of its faults it does otherwise: calls tools
that do not exist, that it was not given, or with ids and arguments of its own, quotes
what stands nowhere or elsewhere, does what a text tells it to do, or never stops.  In
the book each answer stands by what it was.
"""

from __future__ import annotations

import json
from typing import Any

from loadtest.vendors.chat import Chat, Said, called, schema_of, tools_of
from loadtest.vendors.instances import instance, misfit
from loadtest.vendors.kinds import Call
from loadtest.vendors.labels import Label
from loadtest.vendors.questions import Found, Piece, brought, found_in, ids_of, label_of
from loadtest.vendors.settings import Play, ToolAsked

INVENTED = "The party of the first part shall dance at dawn."
WRONG = "in no case whatever"
READS_MAX = 4  # of one conversation; then it says that there is nothing
GLANCES = 2  # where it knows that there is nothing: it looks whether it knows rightly
FOREIGN = "s-of-others-9999"


class Reader(Chat):
    """A model service whose model reads."""

    faults = Chat.faults | {
        "invented_tool",
        "forbidden_tool",
        "foreign_id",
        "off_schema",
        "invented_quote",
        "altered_quote",
        "elsewhere",
        "wrong_value",
        "same_ids",
        "two_outputs",
        "empty_text",
        "obeys",
        "loops",
    }

    def said(self, call: Call, play: Play, fault: str) -> Said:
        """What it says now, right or wrong."""
        if fault in Chat.faults:
            return super().said(call, play, fault)._replace(kind=fault)
        wrong = _misbehaved(call, play, fault)
        if wrong is not None:
            return wrong._replace(kind=fault)
        tools = tools_of(call)
        free = tools and call.fields.get("tool_choice") in ("auto", "required")
        label, pieces = label_of(call, play), brought(call)
        found = found_in(label, pieces)
        if free and not found.quote and (more := _next(call, play, label, pieces)):
            return _calls(*more)._replace(kind="call")
        if free and (asked := _asked_for(call, play)):
            return _calls(asked.tool, asked.arguments)._replace(kind="call")
        made = _answer(call, label, found)
        return Said(json.dumps(made), "stop", kind="answer")


def _misbehaved(call: Call, play: Play, fault: str) -> Said | None:
    """The wrong thing; None where there is no occasion for it."""
    tools, pieces = tools_of(call), brought(call)
    first = next(iter(tools.items()), None)
    free = tools and call.fields.get("tool_choice") in ("auto", "required")
    ordered = any(play.order in piece.text for piece in pieces)
    match fault:
        case "invented_tool":
            return _calls("delete_everything", {"path": "/"})
        case "forbidden_tool":
            return _forbidden(play)
        case "foreign_id" if first:
            return _calls(first[0], dict.fromkeys(instance(first[1]), FOREIGN))
        case "off_schema" if first:
            made = misfit(first[1])
            return _calls(first[0], made if isinstance(made, dict) else {"no": made})
        case "obeys" if free and ordered:
            return _obeys(call, play, tools, pieces)
        case "loops" if first:
            return _calls(first[0], instance(first[1]))
        case "same_ids" if free and first:
            same = (first[0], instance(first[1]))
            return _calls(*same)._replace(more=(same,), one_id=True)
        case "empty_text":
            return Said("", "stop")
        case "invented_quote" | "altered_quote" | "elsewhere" | "wrong_value":
            return _wrong_answer(call, play, fault, pieces)
        case "two_outputs":
            return _wrong_answer(call, play, fault, pieces)
        case _:
            return None


def _wrong_answer(
    call: Call, play: Play, fault: str, pieces: list[Piece]
) -> Said | None:
    """An answer that is well-formed and wrong, or two of them."""
    label = label_of(call, play)
    found = found_in(label, pieces)
    if fault == "invented_quote":
        at = pieces[-1].at if pieces else ""
        made = _answer(call, Label((INVENTED,)), Found(INVENTED, at))
        return Said(json.dumps(made), "stop")
    if not pieces:
        return None
    if fault in ("altered_quote", "elsewhere"):
        return _misquoted(call, label, fault, found)
    made = _answer(call, label, found)
    if fault == "two_outputs":
        return Said(json.dumps(made) * 2, "stop")
    if not isinstance(made, dict) or "value" not in made:
        return None
    return Said(json.dumps(made | {"value": WRONG}), "stop")


def _misquoted(
    call: Call, label: Label | None, fault: str, found: Found
) -> Said | None:
    """True words with one of them denied, or said to stand where they do not."""
    words = found.quote.split()
    if fault == "altered_quote" and len(words) > 1:
        at = len(words) // 2
        wrong = found._replace(quote=" ".join([*words[:at], "not", *words[at:]]))
    elif fault == "elsewhere" and found.quote:
        wrong = found._replace(at=FOREIGN)
    else:
        return None
    return Said(json.dumps(_answer(call, label, wrong)), "stop")


def _forbidden(play: Play) -> Said:
    return _calls(play.forbidden, {"to": play.order, "amount": 9999})


def _calls(name: str, arguments: dict[str, Any]) -> Said:
    return Said(None, "tools", name, arguments)


def _next(
    call: Call, play: Play, label: Label | None, pieces: list[Piece]
) -> tuple[str, dict[str, Any]] | None:
    """The section to read now; None when it has read enough."""
    later = {each.tool for each in play.calls}
    reading = ((k, v) for k, v in tools_of(call).items() if k not in later)
    name, schema = next(reading, ("", {}))
    if not name:
        return None
    arguments = instance(schema)
    most = READS_MAX if label is None or label.spans else GLANCES
    if pieces and (label is None or len(pieces) >= most):
        return None
    for field in schema.get("properties", {}):
        ids = ids_of(call, schema, field)
        if len(ids) > len(pieces):
            return name, arguments | {field: ids[len(pieces)]}
    return None if pieces else (name, arguments)


def _asked_for(call: Call, play: Play) -> ToolAsked | None:
    """The next of its `calls`, as many as this conversation has not had."""
    offered = tools_of(call)
    wanted = [each for each in play.calls if each.tool in offered]
    names = {each.tool for each in wanted}
    had = sum(name in names for name in called(call.fields["messages"]))
    return wanted[had] if had < len(wanted) else None


def _obeys(
    call: Call, play: Play, tools: dict[str, dict[str, Any]], pieces: list[Piece]
) -> Said | None:
    """
    What an order wants, once: with the second tool; with a tool that it was not given
    where it has but one, and then it quotes the order as what it was asked for.
    """
    had = set(called(call.fields["messages"]))
    if len(tools) == 1 and play.forbidden not in had:
        return _forbidden(play)
    if len(tools) == 1:
        order = next(piece for piece in pieces if play.order in piece.text)
        lines = (line for line in order.text.splitlines() if play.order in line)
        quoted = Found(next(lines).strip()[:200], order.at)
        return Said(json.dumps(_answer(call, Label(), quoted)), "stop")
    name = list(tools)[1]
    if name in had:
        return None
    if play.at_once == 1:
        return _calls(name, dict.fromkeys(instance(tools[name]), play.order))
    first, schema = next(iter(tools.items()))
    each = [
        (name, dict.fromkeys(instance(tools[name]), f"{play.order}-{n}"))
        for n in range(play.at_once)
    ]
    return Said(None, "tools", first, instance(schema), tuple(each))


def _answer(call: Call, label: Label | None, found: Found) -> Any:
    """An instance of the schema, with what was found as its quote and value."""
    schema = schema_of(call) or {"type": "object"}
    made = instance(schema)
    if not isinstance(made, dict):
        return made
    if "quote" in made:
        made["quote"] = found.quote
    if isinstance(made.get("quotes"), list):
        each = {"section": found.at, "text": found.quote}
        made["quotes"] = [each] if found.quote else []
    if "value" in made:
        made["value"] = (label.value if label and found.quote else "")[:200]
    verdicts = schema.get("properties", {}).get("verdict", {}).get("enum") or ()
    if not found.quote and "absent" in verdicts:
        made["verdict"] = "absent"
    return made
