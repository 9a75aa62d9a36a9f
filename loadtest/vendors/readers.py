"""
A model that reads, as agents ask it: rightly, or wrongly in every way that is known.

It calls the first tool that is offered until it has read what it looks for, then those
that its `calls` name, with the arguments given there, and answers word for word: what
its labels say of the document and type that the question names, or without labels the
first sentence that it read.  By the shares of its faults it does otherwise: calls tools
that do not exist, that it was not given, or with ids and arguments of its own, quotes
what stands nowhere, does what a text tells it to do, or never stops.  In the book each
answer stands by what it was.
"""

from __future__ import annotations

import json
import re
from typing import Any

from loadtest.vendors.chat import Chat, Said, called, schema_of, texts_of, tools_of
from loadtest.vendors.instances import instance, misfit
from loadtest.vendors.kinds import Call
from loadtest.vendors.labels import Label, as_it_stands, read_labels, topic_of
from loadtest.vendors.settings import Play, ToolAsked

INVENTED = "The party of the first part shall dance at dawn."
WRONG = "in no case whatever"
READS_MAX = 4  # of one conversation; then it says that there is nothing
DATA = re.compile(r"^(DATA-\w+)\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)


class Reader(Chat):
    """A model service whose model reads."""

    faults = Chat.faults | {
        "invented_tool",
        "forbidden_tool",
        "foreign_id",
        "off_schema",
        "invented_quote",
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
        label, brought = _label(call, play), _brought(call)
        found = _found(label, brought)
        if free and not found and (more := _next(call, play, label, brought)):
            return _calls(*more)._replace(kind="call")
        if free and (asked := _asked_for(call, play)):
            return _calls(asked.tool, asked.arguments)._replace(kind="call")
        made = _answer(call, label, brought[-1] if brought else "", found)
        return Said(json.dumps(made), "stop", kind="answer")


def _misbehaved(call: Call, play: Play, fault: str) -> Said | None:
    """The wrong thing; None where there is no occasion for it."""
    tools, brought = tools_of(call), _brought(call)
    first = next(iter(tools.items()), None)
    free = tools and call.fields.get("tool_choice") in ("auto", "required")
    match fault:
        case "invented_tool":
            return _calls("delete_everything", {"path": "/"})
        case "forbidden_tool":
            return _calls(play.forbidden, {"to": play.order, "amount": 9999})
        case "foreign_id" if first:
            return _calls(
                first[0], dict.fromkeys(instance(first[1]), "s-of-others-9999")
            )
        case "off_schema" if first:
            made = misfit(first[1])
            return _calls(first[0], made if isinstance(made, dict) else {"no": made})
        case "obeys" if free and len(tools) > 1 and play.order in "".join(brought):
            return _obeys(call, play, tools)
        case "loops" if first:
            return _calls(first[0], instance(first[1]))
        case "same_ids" if free and first:
            same = (first[0], instance(first[1]))
            return _calls(*same)._replace(more=(same,), one_id=True)
        case "empty_text":
            return Said("", "stop")
        case "invented_quote" | "wrong_value" | "two_outputs":
            return _wrong_answer(call, play, fault, brought)
        case _:
            return None


def _wrong_answer(
    call: Call, play: Play, fault: str, brought: list[str]
) -> Said | None:
    """An answer that is well-formed and wrong, or two of them."""
    label = _label(call, play)
    read = brought[-1] if brought else ""
    if fault == "invented_quote":
        made = _answer(call, Label((INVENTED,)), INVENTED, INVENTED)
        return Said(json.dumps(made), "stop")
    if not brought:
        return None
    made = _answer(call, label, read, _found(label, brought))
    if fault == "two_outputs":
        return Said(json.dumps(made) * 2, "stop")
    if not isinstance(made, dict) or "value" not in made:
        return None
    return Said(json.dumps(made | {"value": WRONG}), "stop")


def _calls(name: str, arguments: dict[str, Any]) -> Said:
    return Said(None, "tools", name, arguments)


def _next(
    call: Call, play: Play, label: Label | None, brought: list[str]
) -> tuple[str, dict[str, Any]] | None:
    """The section to read now; None when it has read enough."""
    later = {each.tool for each in play.calls}
    reading = ((k, v) for k, v in tools_of(call).items() if k not in later)
    name, schema = next(reading, ("", {}))
    if not name:
        return None
    arguments = instance(schema)
    if not brought:
        return name, arguments
    if label is None or len(brought) >= READS_MAX:
        return None
    for field, wanted in schema.get("properties", {}).items():
        ids = wanted.get("enum") or ()
        if len(ids) > len(brought):
            return name, arguments | {field: ids[len(brought)]}
    return None


def _asked_for(call: Call, play: Play) -> ToolAsked | None:
    """The next of its `calls`, as many as this conversation has not had."""
    offered = tools_of(call)
    wanted = [each for each in play.calls if each.tool in offered]
    names = {each.tool for each in wanted}
    had = sum(name in names for name in called(call.fields["messages"]))
    return wanted[had] if had < len(wanted) else None


def _label(call: Call, play: Play) -> Label | None:
    """What it knows of what it is asked about; None without labels."""
    if not play.labels:
        return None
    asked = [m for m in call.fields.get("messages") or () if m.get("role") == "user"]
    topic = topic_of(texts_of(asked[:1]))
    return read_labels(play.labels).get(topic, Label())


def _found(label: Label | None, brought: list[str]) -> str:
    """What it looks for, as it stands in what it has read; "" if it has not."""
    if label is None:
        return brought[-1].partition(". ")[0][:200] if brought else ""
    for span in label.spans:
        for text in brought:
            if quote := as_it_stands(span, text):
                return quote
    return ""


def _obeys(call: Call, play: Play, tools: dict[str, dict[str, Any]]) -> Said | None:
    """What an order wants, once."""
    name = list(tools)[1]
    if name in called(call.fields["messages"]):
        return None
    if play.at_once == 1:
        return _calls(name, dict.fromkeys(instance(tools[name]), play.order))
    first, schema = next(iter(tools.items()))
    each = [
        (name, dict.fromkeys(instance(tools[name]), f"{play.order}-{n}"))
        for n in range(play.at_once)
    ]
    return Said(None, "tools", first, instance(schema), tuple(each))


def _answer(call: Call, label: Label | None, read: str, found: str) -> Any:
    """An instance of the schema, with what was found as its quote and value."""
    schema = schema_of(call) or {"type": "object"}
    made = instance(schema)
    if not isinstance(made, dict):
        return made
    if "quote" in made:
        made["quote"] = found
    if "value" in made:
        made["value"] = (label.value if label and found else "")[:200]
    verdicts = schema.get("properties", {}).get("verdict", {}).get("enum") or ()
    if not found and "absent" in verdicts:
        made["verdict"] = "absent"
    return made


def _brought(call: Call) -> list[str]:
    """What it was given to read from outside: by tools, or with its question."""
    found = []
    for each in call.fields.get("messages") or ():
        content = each.get("content")
        if isinstance(content, list):
            texts = [p.get("content") or p.get("text") or "" for p in content]
        else:
            texts = [content or ""]
        if each.get("role") in ("tool", "user"):
            found += [data[2] for text in texts if (data := DATA.search(str(text)))]
    return found
