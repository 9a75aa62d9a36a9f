"""
The loop of an agent: ask, vet every call, run those that may run, ask again.

It is a replay: what was asked and what came of each call are steps of the item, named
by their place, and from those the conversation is built anew each time the stage runs.
So a call has one result, by construction, wherever a worker died.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import anyio
from pydantic import BaseModel, ValidationError

from pipeline.agents.agent import (
    OUTPUT_NAME,
    Agent,
    Answer,
    Ended,
    PendingCall,
    Ruling,
)
from pipeline.agents.meter import Meter
from pipeline.agents.talk import (
    AGAIN,
    LAST,
    PLANNED,
    RULES,
    continued,
    fence,
    is_tainted,
    question_of,
    results_of,
)
from pipeline.agents.tools import (
    ToolContext,
    Untrusted,
    canonical,
    schema_of,
    shown,
)
from pipeline.agents.vetting import (
    NAME_CHARS_MAX,
    Setting,
    Vetted,
    Vetting,
)
from pipeline.errors import Permanent, WaybillError
from pipeline.messages import (
    Asked,
    CallEnd,
    Finish,
    Message,
    ModelRequest,
    Results,
    Said,
    ToolCall,
    ToolResult,
)
from pipeline.stage import Context

READS_AT_ONCE = 8


async def ask(
    ctx: Context,
    agent: Agent,
    question: str | Untrusted | Sequence[str | Untrusted],
    *,
    name: str,
    facts: Any = None,
    refs: Mapping[str, Mapping[str, Any]] | None = None,
    rulings: Mapping[str, Ruling | Mapping[str, Any]] | None = None,
    history: Sequence[Message] = (),
) -> Answer:
    """
    Converse until there is an answer, a person must agree, or a budget ends.

    Every ask and every call is a step named by its place (`one/ask-1`,
    `one/call-1.2:find`): after a crash the conversation goes on where it was.

    Args:
        question: What is `Untrusted` in it stands between marks and is data, as what a
            tool brings from outside.
        name: Of this conversation; no other of its stage has it.
        facts: What checks and tools may look at.
        refs: Our ids that arguments may name, by kind: id -> what it names.
        rulings: What persons said of calls, by digest.
        history: What was said before, in an earlier conversation.

    Raises:
        Permanent: TOOL_PAYLOAD, a tool that writes returned no payload.
        WaybillError: what asking a model raises.
    """
    talk = _Conversation(agent, ctx, name, facts, refs or {}, rulings or {})
    return await talk.run(question, history)


class _Conversation:
    """One conversation of an agent, in one stage of one item."""

    def __init__(
        self,
        agent: Agent,
        ctx: Context,
        name: str,
        facts: Any,
        refs: Mapping[str, Mapping[str, Any]],
        rulings: Mapping[str, Ruling | Mapping[str, Any]],
    ) -> None:
        granted = ctx.granted(agent.name)
        self._of = f"{ctx.item.id}/{name}"
        own = {tool.name: tool for tool in agent.tools}
        self._agent = agent
        self._ctx = ctx
        self._name = name
        self._facts = facts
        self._refs = refs
        self._tools = [tool for tool in agent.tools if tool.name in granted.tools]
        self._specs = tuple(tool.spec(refs) for tool in self._tools)
        self._system = f"{ctx.folder.text(agent.prompt).strip()}\n\n{RULES}"
        setting = Setting(
            self._of,
            ctx.item.tenant,
            ctx.folder.version,
            granted,
            own,
            refs,
            agent.budget,
        )
        self._vetting = Vetting(setting, _read_rulings(rulings))
        self._meter = Meter(agent.budget, agent.max_tokens)
        self._spent = self._meter.spent
        self._talk: list[Message] = []
        self._writes: dict[str, tuple[str, dict[str, Any]]] = {}
        self._bare = _bytes(self._request(last=False))

    async def run(
        self,
        question: str | Untrusted | Sequence[str | Untrusted],
        history: Sequence[Message],
    ) -> Answer:
        """Until it ends; see `ask`."""
        self._talk = [*continued(history), question_of(self._of, question)]
        end: Ended | None = None
        for number in count(1):
            size = self._bare + sum(map(_bytes, self._talk))
            if end is None and self._meter.is_last(size):
                end = Ended.BUDGET
            if not self._meter.fits(size):
                return self._answer(end or Ended.BUDGET, None, "")
            said = await self._asked(number, size, last=end is not None)
            self._talk.append(said)
            if said.finish in (Finish.FILTER, Finish.REFUSAL):
                return self._answer(Ended.REFUSED, None, "the model declined")
            if said.calls and end is None:
                done = await self._called(number, said)
                if isinstance(done, Answer):
                    return done
                end = done
                continue
            if said.calls:
                self._close(said)
            output, fault = self._agent.read(said, self._facts)
            if not fault and end is not None and self._tools:
                return self._answer(end, output, "")
            if not fault:
                await self._plan()
                return self._answer(Ended.OUTPUT, output, "")
            if end is not None:
                return self._answer(end, None, fault)
            self._spent.faults += 1
            if self._spent.faults >= self._agent.budget.faults:
                return self._answer(Ended.FAULTS, None, fault)
            self._talk.append(Asked(text=AGAIN.format(fault=fault)))
        raise AssertionError("it counts without end")

    # -- asking ----------------------------------------------------------------------

    def _request(self, *, last: bool) -> ModelRequest:
        agent = self._agent
        output = agent.output
        talk = tuple(self._talk)
        if last and self._tools:
            talk += (Asked(text=LAST),)
        return ModelRequest(
            system=self._system,
            messages=talk,
            tools=self._specs,
            tools_allowed=not last,
            output=None if output is None else schema_of(output),
            output_name=OUTPUT_NAME,
            max_tokens=agent.max_tokens,
        )

    async def _asked(self, number: int, size: int, *, last: bool) -> Said:
        model = self._ctx.model(*self._agent.models)
        request = self._request(last=last)
        answer = await model.ask(f"{self._name}/ask-{number}", request, number=number)
        self._meter.took(size, answer)
        return answer.said

    # -- calls -----------------------------------------------------------------------

    async def _called(self, number: int, said: Said) -> Answer | Ended | None:
        """
        Vetting all calls of an answer, then run them; None: the conversation goes on.
        """
        tainted = any(map(is_tainted, self._talk))
        vetted = self._vetting.vet(said.calls, tainted=tainted)
        self._spent.calls = self._vetting.calls
        self._spent.refused = dict(self._vetting.refused)
        if any(one.person for one in vetted):
            waiting = [_pending(one) for one in vetted if one.person]
            why = f"{len(waiting)} of {len(vetted)} calls need a person's word"
            return self._answer(Ended.APPROVAL, None, why, waiting)
        found = {one.call.id: one.refusal for one in vetted if one.refusal is not None}
        if found:
            refused = [
                (r.call, r.name[:NAME_CHARS_MAX], r.code) for r in found.values()
            ]
            await self._ctx.step(f"{self._name}/refused-{number}", _kept, refused)
        runs = [one for one in vetted if one.refusal is None]
        found |= await self._run(number, runs)
        self._talk.append(Results(results=tuple(results_of(said.calls, found))))
        if any(one.repeated for one in vetted):
            return Ended.LOOP
        if self._vetting.calls >= self._agent.budget.calls:
            return Ended.BUDGET
        return None

    async def _run(self, number: int, runs: Sequence[Vetted]) -> dict[str, ToolResult]:
        """
        Side by side, a few at once; each is a step.

        One that fails ends the try, and not the others: what they pay for is kept.
        """
        found: dict[str, ToolResult] = {}
        failed: dict[str, WaybillError] = {}
        room = anyio.CapacityLimiter(READS_AT_ONCE)

        async def one(vetted: Vetted) -> None:
            async with room:
                try:
                    found[vetted.call.id] = await self._one(number, vetted)
                except WaybillError as error:
                    failed[vetted.call.id] = error

        async with anyio.create_task_group() as tasks:
            for vetted in runs:
                tasks.start_soon(one, vetted)
        for vetted in runs:
            if (error := failed.get(vetted.call.id)) is not None:
                raise error
        return found

    async def _one(self, number: int, vetted: Vetted) -> ToolResult:
        tool, call = vetted.tool, vetted.call
        assert tool is not None
        place = call.id.rpartition("_")[2]
        step = f"{self._name}/call-{number}.{place}"
        around = ToolContext(self._ctx, self._facts, step)

        async def ran() -> ToolResult:
            try:
                made = await tool.run(around, **vetted.given)
            except Permanent as error:
                said = shown(f"{error.code}: {error.message}", tool.result_bytes)
                return _result(call, CallEnd.FAILED, said, code="TOOL_FAILED")
            if tool.effect == "write":
                if not isinstance(made, Mapping):
                    raise _no_payload(tool.name)
                return _result(call, CallEnd.RESULT, canonical(made))
            text = shown(made, tool.result_bytes)
            if not isinstance(made, Untrusted):
                return _result(call, CallEnd.RESULT, text)
            fenced = fence(f"{self._ctx.item.id}/{step}", text)
            return _result(call, CallEnd.RESULT, fenced, untrusted=True)

        kept = await self._ctx.step(f"{step}:{tool.name}", ran)
        if tool.effect == "read" or kept.end is not CallEnd.RESULT:
            return kept
        self._writes[f"{self._name}-{call.id}"] = (tool.sink, json_object(kept.text))
        return kept.model_copy(update={"text": PLANNED})

    async def _plan(self) -> None:
        """
        What it has written is planned when it has given its answer, and not before.

        Each time the stage runs: it is kept with the stage's outcome, and one effect by
        its key.
        """
        for name, (sink, payload) in sorted(self._writes.items(), key=_place):
            await self._ctx.effect(name, sink, payload)

    def _close(self, said: Said) -> None:
        """Calls where none was allowed: each has its result all the same."""
        refused = {
            call.id: _result(call, CallEnd.REFUSED, "no more calls", code="TOOL_BOUND")
            for call in said.calls
        }
        self._talk.append(Results(results=tuple(results_of(said.calls, refused))))

    def _answer(
        self,
        ended: Ended,
        output: Any,
        fault: str,
        pending: Sequence[PendingCall] = (),
    ) -> Answer:
        name, spent = self._agent.name, self._spent
        took = f"{spent.asks} asks, {spent.calls} calls, {spent.faults} faults"
        why = {
            Ended.OUTPUT: "",
            Ended.APPROVAL: fault,
            Ended.BUDGET: f"{name} came to the end of its budget: {took}",
            Ended.LOOP: f"{name} made the same call again and again: {took}",
            # What did not fit may be a sentence of the document: it is evidence.
            Ended.FAULTS: f"{name} gave no answer that fits: {took}",
            Ended.REFUSED: f"{name} was refused an answer: {took}",
        }[ended]
        done = ended in (Ended.OUTPUT, Ended.APPROVAL)
        planned = sorted(self._writes.items(), key=_place)
        return Answer(
            ended,
            output,
            why,
            tuple(pending),
            () if ended is Ended.OUTPUT else tuple(name for name, _ in planned),
            "" if done else fault,
            spent,
            tuple(self._talk),
        )


def _bytes(value: BaseModel) -> int:
    """About as a vendor is sent it."""
    return len(value.model_dump_json().encode())


def _place(write: tuple[str, Any]) -> tuple[int, ...]:
    """Where in its conversation a write was called for: 10 comes after 2."""
    return tuple(map(int, write[0].rpartition("-c")[2].split("_")))


def _read_rulings(
    given: Mapping[str, Ruling | Mapping[str, Any]],
) -> dict[str, Ruling]:
    """A ruling that does not fit is none: whoever made it is asked again."""
    found = {}
    for digest, one in given.items():
        with suppress(ValidationError):
            found[digest] = Ruling.model_validate(one)
    return found


def json_object(text: str) -> dict[str, Any]:
    """A kept payload."""
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


async def _kept(refused: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """What was refused of an answer, on record: call, tool and code."""
    return refused


def _result(
    call: ToolCall, end: CallEnd, text: str, *, code: str = "", untrusted: bool = False
) -> ToolResult:
    return ToolResult(
        call=call.id, name=call.name, end=end, text=text, code=code, untrusted=untrusted
    )


def _pending(one: Vetted) -> PendingCall:
    assert one.tool is not None
    return PendingCall(
        call=one.call.id,
        tool=one.tool.name,
        arguments=dict(one.arguments),
        digest=one.digest,
        why=one.person,
    )


def _no_payload(name: str) -> Permanent:
    return Permanent(
        f"the tool {name} writes, and returned no mapping",
        code="TOOL_PAYLOAD",
        hint="a write tool returns the payload of its effect; the loop plans it",
    )
