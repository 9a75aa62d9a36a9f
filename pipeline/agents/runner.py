"""
The calls of an answer that may run: side by side, each a step, writes kept for the end.

What a tool brings is from outside, and stands between marks, unless the tool itself
says of it that it is trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from pipeline.agents.talk import PLANNED, fence
from pipeline.agents.tools import ToolContext, Trusted, canonical, shown
from pipeline.agents.vetting import Vetted
from pipeline.cancellation import is_cancellation
from pipeline.errors import Permanent
from pipeline.messages import CallEnd, ToolCall, ToolResult
from pipeline.stage import Context
from pipeline.state import encode

READS_AT_ONCE = 8


class Runner:
    """
    Runs the calls of one conversation.

    Args:
        name: Of the conversation.
        facts: What its tools may look at.
    """

    def __init__(self, ctx: Context, name: str, facts: Any) -> None:
        self._ctx = ctx
        self._name = name
        self._facts = facts
        self._writes: dict[str, tuple[str, dict[str, Any]]] = {}

    @property
    def unsent(self) -> tuple[str, ...]:
        """Names of the writes that were called for, in the order of their calls."""
        return tuple(sorted(self._writes, key=_place))

    async def run(self, number: int, runs: Sequence[Vetted]) -> dict[str, ToolResult]:
        """
        The results of these calls of answer `number`, by their ids; a few at once.

        One that fails ends the try, and not the others: what they pay for is kept.
        """
        if len(runs) == 1:  # as most are: a task of its own costs as much as its step
            return {runs[0].call.id: await self._one(number, runs[0])}
        found: dict[str, ToolResult] = {}
        failed: dict[str, BaseException] = {}
        room = anyio.CapacityLimiter(READS_AT_ONCE)

        async def one(vetted: Vetted) -> None:
            async with room:
                try:
                    found[vetted.call.id] = await self._one(number, vetted)
                except BaseException as error:  # of a tool: whatever it is
                    if is_cancellation(error):
                        raise
                    failed[vetted.call.id] = error

        async with anyio.create_task_group() as tasks:
            for vetted in runs:
                tasks.start_soon(one, vetted)
        for vetted in runs:
            if (error := failed.get(vetted.call.id)) is not None:
                raise error
        return found

    async def plan(self) -> None:
        """
        Plan the writes, when the conversation has given its answer, and not before.

        Each time the stage runs: it is kept with the stage's outcome, and one effect by
        its key.
        """
        for name in self.unsent:
            sink, payload = self._writes[name]
            await self._ctx.effect(name, sink, payload)

    async def _one(self, number: int, vetted: Vetted) -> ToolResult:
        tool, call = vetted.tool, vetted.call
        assert tool is not None
        place = call.id.rpartition("_")[2]
        step = f"{self._name}/call-{number}.{place}"
        kept = await self._ctx.step(f"{step}:{tool.name}", self._ran, step, vetted)
        if tool.effect == "read" or kept.end is not CallEnd.RESULT:
            return kept
        self._writes[f"{self._name}-{call.id}"] = (tool.sink, _json_object(kept.text))
        return kept.model_copy(update={"text": PLANNED})

    async def _ran(self, step: str, vetted: Vetted) -> ToolResult:
        """What one call brought, or why it failed."""
        tool, call = vetted.tool, vetted.call
        assert tool is not None
        around = ToolContext(self._ctx, self._facts, step)
        try:
            made = await tool.run(around, **vetted.given)
        except Permanent as error:
            said = shown(f"{error.code}: {error.message}", tool.result_bytes)
            return self._brought(call, step, CallEnd.FAILED, said)
        if tool.effect == "write":
            return result(call, CallEnd.RESULT, _payload(tool.name, made))
        text = shown(made, tool.result_bytes)
        if isinstance(made, Trusted):
            return result(call, CallEnd.RESULT, text)
        return self._brought(call, step, CallEnd.RESULT, text)

    def _brought(
        self, call: ToolCall, step: str, end: CallEnd, text: str
    ) -> ToolResult:
        """From outside, also where it failed: its words may be a vendor's."""
        fenced = fence(f"{self._ctx.item.id}/{step}", text)
        code = "TOOL_FAILED" if end is CallEnd.FAILED else ""
        return result(call, end, fenced, code=code, untrusted=True)


def result(
    call: ToolCall, end: CallEnd, text: str, *, code: str = "", untrusted: bool = False
) -> ToolResult:
    """What became of a call."""
    return ToolResult(
        call=call.id, name=call.name, end=end, text=text, code=code, untrusted=untrusted
    )


def _place(write: str) -> tuple[int, ...]:
    """Where in its conversation a write was called for: 10 comes after 2."""
    return tuple(map(int, write.rpartition("-c")[2].split("_")))


def _json_object(text: str) -> dict[str, Any]:
    """A kept payload."""
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def _payload(name: str, made: Any) -> str:
    """
    What a write tool returned, as it is kept: told to be none before another answer of
    the model is paid for, and not when the effect is planned.
    """
    if not isinstance(made, Mapping):
        raise _no_payload(name, "no mapping")
    try:
        return encode(json.loads(canonical(made)))
    except (Permanent, TypeError, ValueError, RecursionError):
        raise _no_payload(name, "what has no JSON") from None


def _no_payload(name: str, what: str) -> Permanent:
    return Permanent(
        f"the tool {name} writes, and returned {what}",
        code="TOOL_PAYLOAD",
        hint="a write tool returns the payload of its effect; the loop plans it",
    )
