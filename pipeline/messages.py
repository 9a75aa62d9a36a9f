"""
What passes between an agent and a model, in words of our own.

A vendor's shape is translated at its edge (`agents/shapes.py`), and nowhere else.
Everything here is data, frozen and JSON, and bounded by the door before it comes here.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from pipeline.calls import Usage
from pipeline.purse import Draw, Drawn, Most


class Value(BaseModel):
    """One frozen value; what a model wrote stands in no error's text."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )


class Finish(StrEnum):
    """Why a model stopped."""

    STOP = "stop"  # it said what it had to say
    CALLS = "calls"  # it asks for tools
    LENGTH = "length"  # cut off by its bound of tokens: whatever it said is no answer
    FILTER = "filter"  # its vendor withheld the answer
    REFUSAL = "refusal"  # the model declined


class ToolCall(Value):
    """
    What a model asks for, before anybody looked at it.

    Attributes:
        id: By position, `c<ask>_<n>` from 1; a vendor's own id is forgotten.
        arguments: As the model wrote them: JSON, or not.
    """

    id: str
    name: str
    arguments: str


class CallEnd(StrEnum):
    """How a call ended; every call of an answer has exactly one end."""

    RESULT = "result"
    REFUSED = "refused"  # never run: no such tool, not granted, off its schema, …
    DENIED = "denied"  # by a person
    EXPIRED = "expired"  # nobody ruled in time
    INTERRUPTED = "interrupted"  # begun, and nobody knows how it ended
    FAILED = "failed"


class ToolResult(Value):
    """
    What became of one call, as the model is told.

    Attributes:
        call: The `ToolCall.id`.
        code: A stable word where it was no result: `TOOL_UNKNOWN`, `TOOL_DENIED`, …
        text: What the model reads; fenced by the loop where `untrusted`.
    """

    call: str
    name: str
    end: CallEnd
    text: str = ""
    code: str = ""
    untrusted: bool = False


class Asked(Value):
    """
    What the agent says to the model: the question, or what was wrong.

    Attributes:
        untrusted: Some of it came from outside, and stands between marks.
    """

    role: Literal["asked"] = "asked"
    text: str
    untrusted: bool = False


class Said(Value):
    """What the model said."""

    role: Literal["said"] = "said"
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: Finish = Finish.STOP


class Results(Value):
    """What became of all calls of the answer before, in their order."""

    role: Literal["results"] = "results"
    results: tuple[ToolResult, ...]


Message = Annotated[Asked | Said | Results, Field(discriminator="role")]


class ToolSpec(Value):
    """A tool as the model is told of it; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class ModelRequest(Value):
    """
    One ask of a model.

    Attributes:
        output: The JSON schema of the answer; None for plain text.
        max_tokens: Of the answer; 0: as the model is declared.
        temperature: None: as the model is declared.
        tools_allowed: False: the tools are shown for the history's sake, and none
            may be called; the last ask of a budget.
    """

    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tools_allowed: bool = True
    output: dict[str, Any] | None = None
    output_name: str = "answer"
    max_tokens: int = Field(default=0, ge=0)
    temperature: float | None = None


class Beside(NamedTuple):
    """
    What an ask took beside its answer: answers that were paid for, and were none, or
    were passed by for another model's.

    Attributes:
        answered: Whether the ask has an answer, and nobody is asked any more.
    """

    asks: int = 0
    tokens: int = 0
    cost: Decimal = Decimal(0)
    answered: bool = False

    def plus(self, asks: int, tokens: int, cost: Decimal) -> Beside:
        """With so much more."""
        return Beside(
            self.asks + asks, self.tokens + tokens, self.cost + cost, self.answered
        )


class ModelAnswer(Value):
    """
    One answered ask, as it is kept with its step.

    Attributes:
        declared: The `[model.NAME]` that answered, who may be a fallback.
        model: The model that really answered, as the vendor says.
        because: Why those before it did not: `throttled`, `length`, … in order.
        beside: What else was paid for until it answered.
    """

    said: Said
    declared: str
    vendor: str = ""
    model: str = ""
    usage: Usage = Usage()
    cost: Decimal = Decimal(0)
    because: tuple[str, ...] = ()
    beside: Beside = Beside()


class Model(Protocol):
    """A declared model: `[model.NAME]` of `vendors.toml`."""

    @property
    def name(self) -> str:
        """As it was asked for."""

    @property
    def longest(self) -> int:
        """The most tokens of an answer, of whoever may give it; 0: nobody says."""

    def beside(self, step: str) -> Beside:
        """What this ask has taken by its steps, so far, for answers that were none."""
        ...

    async def ask(
        self, step: str, request: ModelRequest, *, number: int = 1
    ) -> ModelAnswer:
        """
        Ask it, or a fallback in its place; each call is kept as a step.

        After a crash kept answers are returned, and the chain goes on where it was.

        Args:
            number: Which ask of its conversation this is; names the calls of tools.

        Raises:
            Throttled, Transient: nobody of the chain answers now.
            Permanent: VENDOR_REFUSED, or MODEL_CONTEXT: it is too long for the last of
                them.  What its filter withholds is an answer, whose finish says so.
            WaybillError: BUDGET_USED_UP, CALLS_LIMIT.
        """
        ...


class Granted(NamedTuple):
    """
    What is granted to an agent of a stage, for a tenant.

    Attributes:
        digest: Changes with every change of it.
    """

    tools: frozenset[str]
    digest: str


class Talking(Protocol):
    """What a stage may say to models, and let them call."""

    def granted(self, agent: str) -> Granted:
        """The tools that `[grant]` of the pipeline gives to an agent of this stage."""
        ...

    def remembered(self, step: str) -> Any:
        """What a step of this stage was kept as, plain data; None: it has not run."""
        ...

    @property
    def most(self) -> Most:
        """What agents may take for this item, and all that is made of it."""

    async def draw(self, step: str, draw: Draw) -> Drawn:
        """
        Take from the purse of the item's family, and keep what came of it as a step.

        Raises:
            WaybillError: the item is not this worker's any more.
        """
        ...

    def model(self, name: str, *others: str) -> Model:
        """
        A declared model; with others named, those stand in for it in this order, and
        not its declared fallbacks.

        Raises:
            Usage: MODEL_UNKNOWN.
        """
        ...
