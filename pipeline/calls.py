"""
Calls of vendors: what is asked, what came back, and what it took.

A stage writes a `Request` and reads an `Answer`; which vendor answered, at what
price, and after how many tries, stands in the answer.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, Protocol, Self
from uuid import UUID, uuid4

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.purse import Most

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Kind = Literal["openai", "anthropic", "http", "moderation", "ocr"]  # its shape
Moment = Callable[[], Awaitable[None]]  # returns when a call may be sent


class CallClass(StrEnum):
    """What an answer that is no success means: what the vendor's table maps to."""

    THROTTLED = "throttled"  # slow down: the limit rests, nobody is charged
    QUOTA = "quota"  # used up: the limit rests for long, or a fallback answers
    TRANSIENT = "transient"  # theirs, and it may pass
    PERMANENT = "permanent"  # this request, for ever
    AUTH = "auth"  # our key, for every request
    GARBAGE = "garbage"  # an answer that is none


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file of a multipart body."""

    field: str
    name: str
    content: bytes
    media_type: str = "application/octet-stream"


TOKENS_MAX = 1_000_000_000  # nobody's call has more


@dataclass(frozen=True, slots=True)
class Request:
    """
    One call, without the vendor's address, key and model.

    A call may be made again when nobody knows whether it arrived.  What changes the
    world outside is an effect, and no call.

    At most one of `json`, `form` with `files`, and `content` is the body.

    Attributes:
        path: Below the vendor's URL.
        answer: What becomes of the body of the answer: "json" is decoded, "text"
            is UTF-8, "artifact" is streamed into the artifact store.
        tokens: What the request is worth in tokens, as far as the caller knows.
        max_tokens: The most that the answer can be worth; with it and the price the
            most that the call can cost is reserved.
    """

    path: str = ""
    method: Method = "POST"
    json: Any = None
    form: Mapping[str, str] | None = None
    files: tuple[FilePart, ...] = ()
    content: bytes | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    answer: Literal["json", "text", "artifact"] = "json"
    tokens: int = 0
    max_tokens: int = 0

    def __post_init__(self) -> None:
        """Refuse what would be reserved and cannot be; raises ValueError."""
        for name in ("tokens", "max_tokens"):
            if not 0 <= getattr(self, name) <= TOKENS_MAX:
                raise ValueError(f"{name} of a request is 0 to {TOKENS_MAX:,}")


class Usage(BaseModel):
    """
    What a call of a model used, in tokens; the fields are disjoint.

    Vendors count otherwise: OpenAI's `prompt_tokens` hold the cached ones and its
    `completion_tokens` the reasoning ones, Anthropic's `input_tokens` hold neither.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    input_tokens: int = Field(default=0, ge=0)
    cached_input_tokens: int = Field(default=0, ge=0)
    output_tokens: int = Field(default=0, ge=0)
    reasoning_tokens: int = Field(default=0, ge=0)

    @property
    def total(self) -> int:
        """All of them."""
        return (
            self.input_tokens
            + self.cached_input_tokens
            + self.output_tokens
            + self.reasoning_tokens
        )


class Answer(BaseModel):
    """
    An answered call, as it is kept with its step.

    Attributes:
        data: The decoded JSON, or the text; None where it is an artifact.
        artifact: Name of what was streamed into the artifact store.
        headers: Those of `KEPT_HEADERS`, in small letters.
        vendor: The declared vendor that answered, who may be a fallback.
        model: The model that really answered, as the vendor says.
        finish: Why a model stopped, in the vendor's word.
        cost: In the currency of the vendor's price.
        tries: Calls that this answer took, of all vendors.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    status: int
    data: Any = None
    artifact: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    vendor: str = ""
    model: str = ""
    finish: str = ""
    usage: Usage = Usage()
    cost: Decimal = Decimal(0)
    took_s: float = 0.0
    tries: int = 1


class Vendor(Protocol):
    """
    An outside service, as `vendors.toml` declares it.

    Every call obeys its limits, is written down with the most that it can cost before
    it is sent, and is kept as a step with what it did cost.  A vendor that does not
    answer is not asked again here: what is raised ends this try of the stage, and the
    worker tries again.  Its fallbacks answer in its place.
    """

    @property
    def name(self) -> str:
        """As it was asked for."""

    @property
    def kind(self) -> Kind:
        """The shape that it speaks."""

    @property
    def model(self) -> str:
        """The declared model; "" where it has none."""

    async def call(
        self,
        step: str,
        request: Request,
        *,
        check: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """
        Make one call, and keep its answer as the step of this name.

        After a crash the kept answer is returned and nobody is called.  The body of a
        model's request names the model that is declared, whatever it says.

        Args:
            check: Raises a `WaybillError` when the answer is none, such as
                `Transient(code="VENDOR_GARBAGE")`: then it counts as a failed call,
                and nothing is kept.

        Raises:
            Throttled: not now: the vendor or one of our limits says so, with
                `retry_after_s`; no attempt is charged.
            Transient: a lost connection, a timeout, 5xx, an answer that is none.
            Permanent: any other refusal.
            WaybillError: BUDGET_USED_UP, CALLS_LIMIT.
        """
        ...


KEPT_HEADERS = ("content-type", "etag", "location", "last-modified", "link")

# -- what calls cost ------------------------------------------------------------------

CALLS_MAX = 1000  # of one item, where its pipeline says nothing: a loop, no document
_MONEY = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s+([A-Z]{3})", re.ASCII)


class Money(NamedTuple):
    """An amount in a currency."""

    amount: Decimal
    currency: str

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"


def money(value: Any) -> Any:
    """`"10.00 USD"` as money; anything else is left to whoever validates it."""
    if isinstance(value, str):
        found = _MONEY.fullmatch(value.strip())
        if found is None:
            raise ValueError('write it as "10.00 USD"')
        return Money(Decimal(found[1].replace("_", "")), found[2])
    return value


Amount = Annotated[Money | None, BeforeValidator(money)]


Count = Annotated[int | None, Field(ge=1, le=2**53, strict=True)]


class WhenUsedUp(StrEnum):
    """What becomes of an item whose next call no budget pays for."""

    WAIT = "wait"  # and go on by itself when there is room again
    DEGRADE = "degrade"  # its stage may catch that and ask for less; else as `wait`
    STOP = "stop"  # it fails

    @classmethod
    def _missing_(cls, value: object) -> WhenUsedUp | None:
        # Folders that were pinned say `hold`, which is the word for a person's.
        return cls.WAIT if value == "hold" else None


class Budget(BaseModel):
    """
    `[budget]` of a pipeline: how often its items may call, and for how much.

    Attributes:
        calls_max: Calls of one item, those that failed among them; each time a person
            retries it, it may call as often again.
        item: For an item with everything that is found in it.
        batch: For all items of a batch.
        item_asks, item_tokens, item_calls, item_faults: Of all conversations of an
            item's agents, and of those of everything that is made of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    calls_max: int = Field(default=CALLS_MAX, ge=1, le=1_000_000)
    item: Amount = None
    batch: Amount = None
    when_used_up: WhenUsedUp = WhenUsedUp.WAIT
    item_asks: Count = None
    item_tokens: Count = None
    item_calls: Count = None
    item_faults: Count = None

    @property
    def purse(self) -> Most:
        """What a family's agents may take."""
        return Most(self.item_asks, self.item_tokens, self.item_calls, self.item_faults)

    @model_validator(mode="after")
    def _of_one_currency(self) -> Self:
        _same_currency(self.item, self.batch)
        return self


class ServiceBudget(BaseModel):
    """`[budget]` of `vendors.toml`: for each tenant, and for all of a day (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    tenant: Amount = None
    day: Amount = None

    @model_validator(mode="after")
    def _of_one_currency(self) -> Self:
        _same_currency(self.tenant, self.day)
        return self


def _same_currency(*amounts: Money | None) -> None:
    """A call has one currency, and every budget of it must pay."""
    if len({amount.currency for amount in amounts if amount}) > 1:
        raise ValueError("the budgets of a call must be of one currency")


UNBOUNDED = Budget()
UNBOUNDED_SERVICE = ServiceBudget()
NOTHING = Usage()


class CallId(NamedTuple):
    """A call in the ledger: which of its item's, from 1."""

    item_id: int
    number: int

    def __str__(self) -> str:
        return f"{self.item_id}/{self.number}"


@dataclass(frozen=True, slots=True)
class CallOpening:
    """
    A call that is about to be made: written down, and paid for, before.

    Attributes:
        tries: Which try of its chain this is, from 1.
        most: The most that it can cost, in `currency`.
        budget: Of the item's pipeline.
        service: Of the service.
        token: Makes the same opening, written again after a lost answer, one call.
    """

    item_id: int
    stage: str
    step: str
    vendor: str
    most: Decimal = Decimal(0)
    currency: str = "USD"
    tries: int = 1
    budget: Budget = UNBOUNDED
    service: ServiceBudget = UNBOUNDED_SERVICE
    token: UUID = field(default_factory=uuid4)

    def declared(self, scope: str) -> Money | None:
        """The bound that files declare for an item, a batch, a tenant or a day."""
        source: Budget | ServiceBudget = (
            self.budget if scope in ("item", "batch") else self.service
        )
        found: Money | None = getattr(source, scope)
        return found


@dataclass(frozen=True, slots=True)
class Settled:
    """
    How an opened call ended, and what it did cost.

    Attributes:
        cost: None where nobody knows: the most that it could have cost.
        code: Of the error; "" when it was answered.
        model, finish: As the vendor says.
    """

    call: CallId
    cost: Decimal | None
    usage: Usage = NOTHING
    model: str = ""
    finish: str = ""
    code: str = ""
    took_s: float = 0.0
