"""
The loop of an agent: ask, vet every call, run those that may run, ask again.

It is a replay: what was asked and what came of each call are steps of the item, named
by their place, and from those the conversation is built anew each time the stage runs.
So a call has one result, by construction, wherever a worker died.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.agents.agent import (
    OUTPUT_NAME,
    Agent,
    Answer,
    Closing,
    Ended,
    PendingCall,
    Ruling,
    sentence,
)
from pipeline.agents.meter import Meter
from pipeline.agents.runner import Runner, result
from pipeline.agents.share import Share, kept
from pipeline.agents.talk import (
    AGAIN,
    LAST,
    RULES,
    continued,
    is_tainted,
    question_of,
    results_of,
)
from pipeline.agents.tools import Untrusted, schema_of
from pipeline.agents.vetting import NAME_CHARS_MAX, Setting, Vetted, Vetting
from pipeline.errors import Usage, WaybillError
from pipeline.messages import (
    Asked,
    Beside,
    CallEnd,
    Finish,
    Message,
    ModelRequest,
    Results,
    Said,
)
from pipeline.stage import Context

# Conversations that this one takes place in: a tool may ask an agent of its own.
_WITHIN: ContextVar[frozenset[str]] = ContextVar("_WITHIN", default=frozenset())


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
        Usage: CONVERSATION_NAME, a tool holds one by the name of that which called it.
        WaybillError: what asking a model raises.
    """
    within = _WITHIN.get()
    if name in within:
        raise Usage(
            f"the conversation {name!r} cannot be held within itself",
            code="CONVERSATION_NAME",
            hint="name it by `around.call`, which no other has",
        )
    talk = _Conversation(agent, ctx, name, facts, refs or {}, rulings or {})
    token = _WITHIN.set(within | {name})
    try:
        return await talk.run(question, history)
    finally:
        _WITHIN.reset(token)


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
        self._vetting = Vetting(setting, read_rulings(rulings))
        self._meter = Meter(agent.budget, agent.max_tokens)
        self._spent = self._meter.spent
        self._model = ctx.model(*agent.models)
        longest = agent.max_tokens or self._model.longest
        self._share = Share(ctx, name, self._meter, longest)
        self._talk: list[Message] = []
        self._called_for = 0  # calls that the family's purse was asked for
        self._runner = Runner(ctx, name, facts)
        self._known = _bytes(self._request(last=False))
        self._weighed = 0  # messages of the talk whose bytes are among them
        self._tainted = False  # by what was weighed

    async def run(
        self,
        question: str | Untrusted | Sequence[str | Untrusted],
        history: Sequence[Message],
    ) -> Answer:
        """Until it ends; see `ask`."""
        self._talk = [*continued(history), question_of(self._of, question)]
        end: Ended | None = None
        for number in count(1):
            size = self._size()
            beside = self._model.beside(f"{self._name}/ask-{number}")
            if not beside.answered:  # else what was decided before it was asked
                self._meter.took_beside(beside)
            if end is None and self._meter.is_last(size):
                end = Ended.BUDGET
            if not self._meter.fits(size):
                return await self._end(end or Ended.BUDGET, None, "")
            last = end is not None
            room = await self._share.ask(number, size, last=last, beside=beside)
            if room < 2:
                end = end or Ended.BUDGET
            if not room:
                return await self._end(end or Ended.BUDGET, None, "")
            end = await self._as_asked(number, end)
            said = await self._asked(number, size, beside, last=end is not None)
            self._talk.append(said)
            if said.finish in (Finish.FILTER, Finish.REFUSAL):
                return await self._end(Ended.REFUSED, None, "the model declined")
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
                return await self._end(end, output, "")
            if not fault:
                return await self._end(Ended.OUTPUT, output, "")
            if end is not None:
                return await self._end(end, None, fault)
            self._spent.faults += 1
            if self._spent.faults >= self._agent.budget.faults:
                return await self._end(Ended.FAULTS, None, fault)
            if not await self._share.fault(number):
                end = Ended.BUDGET
            self._talk.append(Asked(text=AGAIN.format(fault=fault)))
        raise AssertionError("it counts without end")

    # -- asking ----------------------------------------------------------------------

    def _size(self) -> int:
        """Bytes of the next ask; what was counted is not counted again."""
        new = self._talk[self._weighed :]
        self._known += sum(map(_bytes, new))
        self._tainted = self._tainted or any(map(is_tainted, new))
        self._weighed = len(self._talk)
        return self._known

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

    async def _asked(
        self, number: int, size: int, known: Beside, *, last: bool
    ) -> Said:
        """
        Args:
            known: What the ask had taken beside, when it was decided to ask.
        """
        request = self._request(last=last)
        step = f"{self._name}/ask-{number}"
        try:
            answer = await self._model.ask(step, request, number=number)
        except WaybillError:
            # What was paid for is counted now: perhaps nobody asks again.
            beside = self._model.beside(step)
            await self._share.ask(number, size, last=last, beside=beside)
            raise
        beside = answer.beside
        if not known.answered:
            beside = beside.plus(-known.asks, -known.tokens, -known.cost)
        self._meter.took_beside(beside)
        self._meter.took(size, answer)
        self._share.took(answer.usage.total, answer.beside)
        return answer.said

    async def _as_asked(self, number: int, end: Ended | None) -> Ended | None:
        """
        Why this ask is the last, or None: of one that was made, as it was made.

        A budget that was changed since makes no answer of what was the work so far.
        """
        last = f"{self._name}/last-{number}"
        if (known := self._ctx.remembered(last)) is not None:
            return Ended(known)
        if self._ctx.remembered(f"{self._name}/ask-{number}") is not None:
            return None
        if end is not None:
            await self._ctx.step(last, kept, end.value)
        return end

    # -- calls -----------------------------------------------------------------------

    async def _called(self, number: int, said: Said) -> Answer | Ended | None:
        """
        Vetting all calls of an answer, then run them; None: the conversation goes on.
        """
        vetted = await self._vetted(number, said, self._tainted)
        self._spent.calls = self._vetting.calls
        self._spent.refused = dict(self._vetting.refused)
        if any(one.person for one in vetted):
            waiting = [_pending(one, self._refs) for one in vetted if one.person]
            why = f"{len(waiting)} of {len(vetted)} calls need a person's word"
            return await self._end(Ended.APPROVAL, None, why, waiting)
        fresh = self._vetting.calls - self._called_for
        self._called_for = self._vetting.calls
        room = await self._share.calls(number, fresh)
        vetted = self._vetting.bounded(vetted, room)
        self._spent.refused = dict(self._vetting.refused)
        found = {one.call.id: one.refusal for one in vetted if one.refusal is not None}
        if found:
            refused = [
                (r.call, r.name[:NAME_CHARS_MAX], r.code) for r in found.values()
            ]
            await self._ctx.step(f"{self._name}/refused-{number}", kept, refused)
        runs = [one for one in vetted if one.refusal is None]
        found |= await self._runner.run(number, runs)
        self._talk.append(Results(results=tuple(results_of(said.calls, found))))
        if any(one.repeated for one in vetted):
            return Ended.LOOP
        over = room < fresh
        if over or self._vetting.calls >= self._agent.budget.calls:
            return Ended.BUDGET
        return None

    async def _vetted(self, number: int, said: Said, tainted: bool) -> list[Vetted]:
        """
        Vet the calls of an answer; what persons said of them is kept as steps.

        Whoever has been heard once is heard for good, whatever the state says later.
        """
        vetting, step = self._vetting, f"{self._name}/ruled-{number}.1"
        for place in count(2):
            if (found := self._ctx.remembered(step)) is None:
                break
            vetting.recall(read_rulings(found))
            step = f"{self._name}/ruled-{number}.{place}"
        before = set(vetting.used)
        vetted = vetting.vet(said.calls, tainted=tainted)
        new = {
            digest: word.model_dump(mode="json")
            for digest, word in vetting.used.items()
            if digest not in before
        }
        if new:
            await self._ctx.step(step, kept, new)
        return vetted

    def _close(self, said: Said) -> None:
        """Calls where none was allowed: each has its result all the same."""
        refused = {
            call.id: result(call, CallEnd.REFUSED, "no more calls", code="TOOL_BOUND")
            for call in said.calls
        }
        self._talk.append(Results(results=tuple(results_of(said.calls, refused))))

    async def _end(
        self,
        ended: Ended,
        output: Any,
        fault: str,
        pending: Sequence[PendingCall] = (),
    ) -> Answer:
        """What came of it, on record."""
        spent, done = self._spent, ended is Ended.OUTPUT
        if done:
            await self._runner.plan()
        waits = ended is Ended.APPROVAL
        closing = Closing(agent=self._agent.name, ended=ended, spent=spent)
        note = closing.model_dump(mode="json")
        if waits:  # and holds its share
            await self._ctx.step(f"{self._name}/waits-{spent.asks}", kept, note)
        else:
            await self._share.end(note)
        lacks = self._share.lacks if ended is Ended.BUDGET else ()
        return Answer(
            ended,
            output,
            fault if waits else sentence(ended, self._agent.name, spent, lacks),
            tuple(pending),
            () if done else self._runner.unsent,
            "" if done or waits else fault,
            spent,
            tuple(self._talk),
            lacks,
        )


def _bytes(value: BaseModel) -> int:
    """About as a vendor is sent it."""
    return len(value.model_dump_json().encode())


def read_rulings(
    given: Mapping[str, Ruling | Mapping[str, Any]],
) -> dict[str, Ruling]:
    """A ruling that does not fit is none: whoever made it is asked again."""
    found = {}
    for digest, one in given.items():
        with suppress(ValidationError):
            found[digest] = Ruling.model_validate(one)
    return found


def _pending(one: Vetted, refs: Mapping[str, Mapping[str, Any]]) -> PendingCall:
    assert one.tool is not None
    return PendingCall(
        call=one.call.id,
        tool=one.tool.name,
        arguments=dict(one.arguments),
        digest=one.digest,
        why=one.person,
        accepts=one.tool.spec(refs).parameters,
    )
