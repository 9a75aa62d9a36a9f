"""
A model that reads, as agents ask it: rightly, or wrongly in every way that is known.

It calls the first tool that is offered, and answers with a sentence of what that
brought, word for word.  By the shares of its faults it does otherwise: calls tools that
do not exist, that it was not given, or with ids and arguments of its own, quotes what
stands nowhere, does what a text tells it to do, or never stops.
"""

from __future__ import annotations

import json
import re
from typing import Any

from loadtest.vendors.chat import Chat, Said, called, schema_of, tools_of
from loadtest.vendors.instances import instance, misfit
from loadtest.vendors.kinds import Call
from loadtest.vendors.settings import Play

INVENTED = "The party of the first part shall dance at dawn."
DATA = re.compile(r"^(DATA-\w+)\n(.*?)\n\1$", re.DOTALL | re.MULTILINE)


class Reader(Chat):
    """A model service whose model reads."""

    faults = Chat.faults | {
        "invented_tool",
        "forbidden_tool",
        "foreign_id",
        "off_schema",
        "invented_quote",
        "obeys",
        "loops",
    }

    def said(self, call: Call, play: Play, fault: str) -> Said:
        """What it says now, right or wrong."""
        if fault in Chat.faults:
            return super().said(call, play, fault)
        tools = tools_of(call)
        brought = _brought(call)
        free = tools and call.fields.get("tool_choice") in ("auto", "required")
        match fault:
            case "invented_tool":
                return _calls("delete_everything", {"path": "/"})
            case "forbidden_tool":
                return _calls(play.forbidden, {"to": play.order, "amount": 9999})
            case "foreign_id" if tools:
                name, schema = next(iter(tools.items()))
                wrong = dict.fromkeys(instance(schema), "s-of-others-9999")
                return _calls(name, wrong)
            case "off_schema" if tools:
                name, schema = next(iter(tools.items()))
                made = misfit(schema)
                return _calls(name, made if isinstance(made, dict) else {"no": made})
            case "obeys" if free and play.order in brought and len(tools) > 1:
                if (said := _obeys(call, play, tools)) is not None:
                    return said
            case "loops" if tools:
                return _calls(*_first(tools))
            case _:
                pass  # it reads
        if free and not brought:
            return _calls(*_first(tools))
        return _answer(call, INVENTED if fault == "invented_quote" else brought)


def _first(tools: dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    name, schema = next(iter(tools.items()))
    return name, instance(schema)


def _calls(name: str, arguments: dict[str, Any]) -> Said:
    return Said(None, "tools", name, arguments)


def _obeys(call: Call, play: Play, tools: dict[str, dict[str, Any]]) -> Said | None:
    """What an order wants, once."""
    name = list(tools)[1]
    if name in called(call.fields["messages"]):
        return None
    if play.at_once == 1:
        return _calls(name, dict.fromkeys(instance(tools[name]), play.order))
    first, arguments = _first(tools)
    each = [
        (name, dict.fromkeys(instance(tools[name]), f"{play.order}-{n}"))
        for n in range(play.at_once)
    ]
    return Said(None, "tools", first, arguments, tuple(each))


def _answer(call: Call, brought: str) -> Said:
    """An instance of the schema, with a sentence of what was read as its quote."""
    made = instance(schema_of(call) or {"type": "object"})
    if isinstance(made, dict) and "quote" in made:
        made["quote"] = brought.partition(". ")[0][:200]
    return Said(json.dumps(made), "stop")


def _brought(call: Call) -> str:
    """What the last tool brought from outside; "" when none has."""
    found = ""
    for each in call.fields.get("messages") or ():
        if each.get("role") == "tool":
            texts = [each.get("content") or ""]
        else:
            content = each.get("content")
            parts = content if isinstance(content, list) else []
            texts = [p.get("content") or "" for p in parts if "tool_use_id" in p]
        for text in texts:
            if data := DATA.search(str(text)):
                found = data[2]
    return found
