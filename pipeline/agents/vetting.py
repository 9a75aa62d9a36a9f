"""
What is decided about the calls of one answer, all of them before any runs.

Deny by default: a call runs when its tool exists, is granted, its arguments fit, every
id in them is ours, and no bound is reached.  What would write after the model has read
something from outside waits for a person, whatever the model says of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline import lapse
from pipeline.agents.agent import Budget, Ruling
from pipeline.agents.ids import named
from pipeline.agents.tools import Tool, canonical, read_arguments
from pipeline.messages import CallEnd, Granted, ToolCall, ToolResult

NAME_CHARS_MAX = 60  # of an invented name, as it is repeated


class Setting(NamedTuple):
    """
    Where a conversation takes place.

    Attributes:
        conversation: Item and name of it; the stage stands in what is granted.
        version: Of the pipeline, and so of every tool.
    """

    conversation: str
    tenant: str
    version: str
    granted: Granted
    tools: Mapping[str, Tool]
    refs: Mapping[str, Mapping[str, Any]]
    budget: Budget


class Vetted(NamedTuple):
    """
    A call, and what is to become of it.

    Attributes:
        arguments: As the model gave them, ids as ids.
        given: What the tool gets: what the ids name.
        refusal: Why it does not run; None where it may.
        person: Why a person must agree; "" where nobody must.
    """

    call: ToolCall
    tool: Tool | None
    arguments: Mapping[str, Any]
    given: Mapping[str, Any]
    refusal: ToolResult | None = None
    person: str = ""
    digest: str = ""
    repeated: bool = False


class Vetting:
    """Vets the calls of one conversation, and counts them."""

    def __init__(self, setting: Setting, rulings: Mapping[str, Ruling]) -> None:
        self._setting = setting
        self._rulings = dict(rulings)
        self._every = 0
        self._of_tool: Counter[str] = Counter()
        self._same: Counter[tuple[str, str]] = Counter()
        self.refused: Counter[str] = Counter()
        self.used: dict[str, Ruling] = {}  # by digest: what persons said, and counts

    @property
    def calls(self) -> int:
        """How many there were, refused ones among them; what is beyond is refused."""
        return min(self._every, self._setting.budget.calls)

    def recall(self, kept: Mapping[str, Ruling]) -> None:
        """What persons said before, and counted: it goes before what is said now."""
        self.used |= kept
        self._rulings |= kept

    def vet(self, calls: Sequence[ToolCall], *, tainted: bool) -> list[Vetted]:
        """Every call of an answer; `tainted`: the agent has read from outside."""
        found = [self._one(call, tainted) for call in calls]
        for one in found:
            if one.refusal is not None:
                self.refused[one.refusal.code] += 1
        return found

    def bounded(self, vetted: Sequence[Vetted], room: int) -> list[Vetted]:
        """The same, of which the first `room` may run, and the others no more."""
        made = list(vetted)
        for place, one in enumerate(made[room:], room):
            if one.refusal is None:
                why = "no more calls for this item: give your answer"
                made[place] = _refused(one.call, "TOOL_BOUND", why)
                self.refused["TOOL_BOUND"] += 1
        return made

    def _one(self, call: ToolCall, tainted: bool) -> Vetted:
        setting = self._setting
        self._every += 1
        if self._every > setting.budget.calls:
            return _refused(call, "TOOL_BOUND", "no more calls: give your answer")
        found = setting.tools.get(call.name)
        names = ", ".join(sorted(setting.tools.keys() & setting.granted.tools))
        if found is None:
            said = call.name[:NAME_CHARS_MAX]
            there = f"there are {names}" if names else "there are none"
            why = f"there is no tool {said!r}; {there}"
            return _refused(call, "TOOL_UNKNOWN", why)
        if call.name not in setting.granted.tools:
            why = f"{call.name} is not granted to you; {names or 'nothing'} is"
            return _refused(call, "TOOL_NOT_GRANTED", why)
        arguments, wrong = read_arguments(found, call.arguments)
        if wrong:
            return _refused(
                call, "TOOL_ARGUMENTS", f"its arguments do not fit: {wrong}"
            )
        return self._fitting(call, found, arguments, tainted)

    def _fitting(
        self, call: ToolCall, found: Tool, arguments: dict[str, Any], tainted: bool
    ) -> Vetted:
        given, strange = self._named(found, arguments)
        if strange:
            why = f"{strange} names nothing of ours"
            return _refused(call, "TOOL_NOT_OURS", why)
        self._of_tool[found.name] += 1
        if self._of_tool[found.name] > found.max_calls:
            why = f"{found.name} was called {found.max_calls} times, which is the most"
            return _refused(call, "TOOL_BOUND", why)
        text = canonical(arguments)
        self._same[found.name, text] += 1
        if self._same[found.name, text] > self._setting.budget.same_call:
            why = "you have called it with these arguments before, and know the result"
            return _refused(call, "TOOL_REPEATED", why)._replace(repeated=True)
        digest = self._digest(call, found, text)
        person = ""
        if found.needs_person(arguments):
            person = f"{found.name} is never called without a person"
        elif found.effect == "write" and tainted:
            person = "it would write, after it has read what came from outside"
        may = Vetted(call, found, arguments, given, person=person, digest=digest)
        return self._ruled(may) if person else may

    def _named(
        self, found: Tool, arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """What the tool gets, and the argument that names nothing of ours."""
        given = dict(arguments)
        for field, kind in found.refs.items():
            try:
                given[field] = named(given[field], self._setting.refs.get(kind, {}))
            except KeyError:
                return given, field
        return given, ""

    def _digest(self, call: ToolCall, found: Tool, arguments: str) -> str:
        """What a ruling is bound to."""
        s = self._setting
        of = [s.conversation, call.id, found.name, s.version, arguments, s.tenant]
        text = json.dumps([*of, s.granted.digest])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _ruled(self, one: Vetted) -> Vetted:
        """What a person said of it, bound to exactly this call."""
        word = self._rulings.get(one.digest)
        call, found = one.call, one.tool
        assert found is not None
        match None if word is None else word.verdict:
            case "approve":
                assert word is not None
                if word.arguments is None:
                    self.used[one.digest] = word
                    return one._replace(person="")
                arguments, wrong = read_arguments(found, canonical(word.arguments))
                given, strange = ({}, "") if wrong else self._named(found, arguments)
                if wrong or strange:
                    why = f"what a person put in does not fit: {wrong or strange}"
                    return one._replace(person=why)
                self.used[one.digest] = word
                return one._replace(person="", arguments=arguments, given=given)
            case "deny":
                assert word is not None
                self.used[one.digest] = word
                why = f"a person denied it: {word.reason or 'without a reason'}"
                return _ended(call, CallEnd.DENIED, "TOOL_DENIED", why)
            case lapse.EXPIRED:
                assert word is not None
                self.used[one.digest] = word
                why = "nobody ruled on it in time; it was not denied"
                return _ended(call, CallEnd.EXPIRED, "TOOL_EXPIRED", why)
            case _:
                return one


def _refused(call: ToolCall, code: str, why: str) -> Vetted:
    return _ended(call, CallEnd.REFUSED, code, why)


def _ended(call: ToolCall, end: CallEnd, code: str, why: str) -> Vetted:
    said = ToolResult(call=call.id, name=call.name, end=end, code=code, text=why)
    return Vetted(call, None, {}, {}, said)
