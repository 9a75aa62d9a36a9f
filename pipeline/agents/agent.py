"""
Agents: a prompt, a model, tools, the schema of an answer, checks in code, a budget.

    reader = Agent(
        "clause_reader",
        prompt="prompts/clause.md",
        models=("reader",),
        tools=(read_section,),
        output=Finding,
        checks=(quotes_are_verbatim,),
        budget=Budget(asks=6, calls=12),
    )

    answer = await ask(ctx, reader, question, name="one", facts=contract)

`ask` stands in `loop.py`; what is decided about a call, before any runs, in
`vetting.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, assert_never

from pydantic import BaseModel, ValidationError

from pipeline.agents.tools import Tool, misfit, unkept
from pipeline.errors import Usage
from pipeline.lapse import EXPIRED, Lapse
from pipeline.messages import Finish, Message, Said
from pipeline.model import Hold
from pipeline.spoken import Ambiguous, said_as

NAME = re.compile(r"[A-Za-z0-9][\w-]{0,100}", re.ASCII)
OUTPUT_NAME = "answer"  # what a model is told that its answer is called
Check = Callable[[Any, Any], str | None]  # of (answer, facts): what is wrong with it


@dataclass(frozen=True, slots=True)
class Budget:
    """
    What one conversation may take; what it takes with all others of its item, and of
    what was made of it, is bounded by `[budget]` of the pipeline.

    Attributes:
        asks: Of the model, the last one among them.
        calls: Of tools; refused ones count.
        faults: Answers that were none, or did not pass a check.
        same_call: How often the same tool may be called with the same arguments.
        tokens, cost: Of all asks; the cost in the currency of the vendor's price.
    """

    asks: int = 8
    calls: int = 24
    faults: int = 3
    same_call: int = 2
    tokens: int = 200_000
    cost: Decimal | None = None

    def __post_init__(self) -> None:
        """Said where it is declared, and not when the first ask is paid."""
        numbers = (self.asks, self.calls, self.faults, self.same_call, self.tokens)
        if any(type(number) is not int or number < 1 for number in numbers):
            raise _bad("a budget", "asks, calls, faults, … are numbers from 1")
        if self.cost is not None and not isinstance(self.cost, Decimal):
            raise _bad("a budget", 'its cost is a Decimal("0.20")')


class Ended(StrEnum):
    """How a conversation ended."""

    OUTPUT = "output"
    APPROVAL = "approval"  # calls wait for a person
    BUDGET = "budget"
    LOOP = "loop"  # the same call again and again
    FAULTS = "faults"
    REFUSED = "refused"  # by the model, or its vendor's filter


APPROVAL = "AGENT_APPROVAL"  # of a hold that lists calls
HOLDS: Mapping[Ended, str] = {
    Ended.APPROVAL: APPROVAL,
    Ended.BUDGET: "AGENT_BUDGET",
    Ended.LOOP: "AGENT_LOOP",
    Ended.FAULTS: "AGENT_FAULTS",
    Ended.REFUSED: "AGENT_REFUSED",
}


def sentence(
    ended: Ended, agent: str, spent: Spending, lacks: Sequence[str] = ()
) -> str:
    """
    Why a conversation ended, for a person; "" where nobody needs to know.

    Args:
        lacks: Keys of the pipeline's `[budget]` that came to their end.
    """
    took = f"{spent.asks} asks, {spent.calls} calls, {spent.faults} faults"
    match ended:
        case Ended.OUTPUT | Ended.APPROVAL:
            return ""
        case Ended.BUDGET:
            whose = " and ".join(lacks)
            whose = f"{whose} of its item" if lacks else "its budget"
            return f"{agent} came to the end of {whose}: {took}"
        case Ended.LOOP:
            return f"{agent} made the same call again and again: {took}"
        case Ended.FAULTS:
            # What did not fit may be a sentence of the document: it is evidence.
            return f"{agent} gave no answer that fits: {took}"
        case Ended.REFUSED:
            return f"{agent} was refused an answer: {took}"
        case _:
            assert_never(ended)


class PendingCall(BaseModel):
    """
    A call that a person must agree to, before any call of its answer runs.

    Attributes:
        digest: Of tool, version, arguments, tenant and grant; what a ruling is bound
            to.
        why: Why a person is asked.
        accepts: The JSON schema of the tool's arguments, for whoever changes them.
    """

    call: str
    tool: str
    arguments: dict[str, Any]
    digest: str
    why: str
    accepts: dict[str, Any] = {}


class Ruling(BaseModel):
    """
    A person's word on one call.

    Attributes:
        verdict: `expired` is said where nobody ruled in time.
        arguments: In the place of the model's.
        reason: Told to the model when it is denied.
    """

    verdict: str  # approve, deny, EXPIRED
    arguments: dict[str, Any] | None = None
    reason: str = ""


class Spending(BaseModel):
    """What a conversation took."""

    asks: int = 0
    calls: int = 0
    faults: int = 0
    refused: dict[str, int] = {}
    tokens: int = 0
    cost: Decimal = Decimal(0)


class Closing(BaseModel):
    """What is kept of a conversation that ended, or waits: a step of the item."""

    agent: str
    ended: Ended
    spent: Spending


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What came of a conversation.

    Attributes:
        output: Of the agent's model; where a budget ended, the work so far, or None.
        why: One sentence for a person.
        pending: Calls that wait for one.
        unsent: Writes that are not planned, for it gave no answer.
        fault: What was wrong with its last answer; may repeat what that says.
        talk: All that was said, to go on with or to be shown.
        lacks: Keys of the pipeline's `[budget]` that came to their end.
    """

    ended: Ended
    output: Any = None
    why: str = ""
    pending: tuple[PendingCall, ...] = ()
    unsent: tuple[str, ...] = ()
    fault: str = ""
    spent: Spending = field(default_factory=Spending)
    talk: tuple[Message, ...] = ()
    lacks: tuple[str, ...] = ()

    def hold(self, *ask: str, lapse_s: float | None = None, **updates: Any) -> Hold:
        """
        What a stage returns when a person must go on: with the work so far.

        Args:
            ask: Channels that the person answers, and the stage runs again with; for
                calls the one that its rulings are in.
            lapse_s: Seconds after which it goes on without a person: of calls each is
                ruled `expired`, which is no denial.  None: it waits.

        Raises:
            Usage: AGENT_ENDED, there is nothing to ask a person.
        """
        code = HOLDS.get(self.ended)
        if code is None:
            raise Usage("the agent has its answer", code="AGENT_ENDED")
        evidence = {
            "spent": self.spent.model_dump(mode="json"),
            "output": self.output.model_dump(mode="json")
            if isinstance(self.output, BaseModel)
            else self.output,
            "calls": [call.model_dump(mode="json") for call in self.pending],
            "unsent": list(self.unsent),
            "lacks": list(self.lacks),
            "fault": self.fault,
            "talk": [message.model_dump(mode="json") for message in self.talk[-20:]],
        }
        lapse = None
        if lapse_s is not None:
            word = {"verdict": EXPIRED}
            rulings = {call.digest: word for call in self.pending}
            given: dict[str, Any] = {}
            if ask and rulings:
                channel, dot, key = ask[0].partition(".")
                given[channel] = {key: rulings} if dot else rulings
            lapse = Lapse(lapse_s, updates=given)
        return Hold(code, self.why, evidence=evidence, ask=ask, lapse=lapse, **updates)


@dataclass(frozen=True, slots=True)
class Agent:
    """
    A model-driven reader or writer; declared at the top of its stage's file.

    Attributes:
        prompt: A file of the pipeline folder.
        models: Asked in this order; one alone has its declared fallbacks behind it.
        output: The schema of its answer; None: text.
        max_tokens: Of an answer; 0: as the model is declared.
    """

    name: str
    prompt: str
    models: tuple[str, ...]
    tools: tuple[Tool, ...] = ()
    output: type[BaseModel] | None = None
    checks: tuple[Check, ...] = ()
    budget: Budget = Budget()
    max_tokens: int = 0

    def __post_init__(self) -> None:
        """
        Raises:
            Usage: AGENT_DECLARED.
        """
        names = [tool.name for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not NAME.fullmatch(self.name):
            raise _bad(repr(self.name), "its name is of a-z, A-Z, 0-9, `_`, `-`")
        if not self.models:
            raise _bad(self.name, "it names no model")
        if twice:
            raise _bad(self.name, f"two of its tools are named {twice[0]}")
        if OUTPUT_NAME in names:
            raise _bad(self.name, f"{OUTPUT_NAME} is its answer, and names no tool")

    def read(self, said: Said, facts: Any) -> tuple[Any, str]:
        """What a model said, as the answer, and what is wrong with it."""
        if said.finish is Finish.LENGTH:
            return None, "it was cut off: give a shorter one"
        if not said.text.strip():
            return None, "it was empty"
        found: Any = said.text
        if self.output is not None:
            try:
                found = said_as(self.output, said.text)
            except ValidationError as error:
                return None, misfit(error)
            except Ambiguous as error:
                return None, str(error)
            if wrong := unkept(found):
                return None, wrong
        for check in self.checks:
            if fault := check(found, facts):
                return None, fault
        return found, ""


def _bad(what: str, why: str) -> Usage:
    return Usage(f"{what} cannot be: {why}", code="AGENT_DECLARED")
