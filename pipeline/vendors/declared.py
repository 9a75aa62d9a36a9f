"""
`vendors.toml`: who is called, within which limits, and what it may cost.

    [vendor.llm]
    kind = "openai"
    url = "https://api.example.com/v1"
    key = "secret:llm"
    model = "small"
    fallbacks = ["llm-elsewhere"]

    [vendor.llm.limits]
    requests = "600/min"
    tokens = "200_000/min"
    concurrency = 50

    [vendor.llm.price]
    currency = "USD"
    input = "0.25"      # of a million tokens
    output = "2.00"

    [budget]            # of every tenant, and of all of a day (UTC)
    tenant = "50.00 USD"
    day = "200.00 USD"

A pipeline may tighten what is declared here and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from pipeline.calls import UNBOUNDED_SERVICE, CallClass, Kind, ServiceBudget, Usage
from pipeline.errors import Usage as UsageError
from pipeline.misfits import meant, misfit_of, read_toml
from pipeline.vendors.target import HEADER_NAME, HEADER_VALUE, OF_KEYS, OURS, target_of

NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}", re.ASCII)
MILLION = Decimal(1_000_000)
_PER_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(
    r"(\d[\d_]{0,20}(?:\.\d{1,9})?)\s*/\s*((?:\d{1,9}(?:\.\d{1,9})?)?)\s*(s|min|h|d)",
    re.ASCII,
)
_RATES = 'write it as "600/min", "100/s" or "5000/24h"'
RATE_MOST = 1e9
RATE_S_MOST = 366 * 86400.0
Amount = Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=12)]


class Rate(NamedTuple):
    """At most `most` in any `per_s` seconds."""

    most: float
    per_s: float


def rate_of(text: str) -> Rate:
    """`"600/min"`, `"100/s"`, `"5000/24h"` as a rate; raises ValueError."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        raise ValueError(_RATES)
    count, times, unit = found.groups()
    rate = Rate(float(count.replace("_", "")), float(times or 1) * _PER_S[unit])
    if not (0 < rate.most <= RATE_MOST and 0 < rate.per_s <= RATE_S_MOST):
        raise ValueError("a rate is above 0, at most 1e9, in at most 366d")
    return rate


def text_of(rate: Rate) -> str:
    """A rate as it is declared: `600/min`."""
    for unit, seconds in reversed(_PER_S.items()):
        times = rate.per_s / seconds
        if times >= 1 and times == int(times):
            return f"{rate.most:.15g}/{'' if times == 1 else int(times)}{unit}"
    return f"{rate.most:.15g}/{rate.per_s:.15g}s"


def _rate(value: Any) -> Any:
    if isinstance(value, str):
        return rate_of(value)
    if isinstance(value, Rate):
        return value
    raise ValueError(_RATES)


RateField = Annotated[
    Rate, BeforeValidator(_rate), PlainSerializer(text_of, when_used="json")
]


def _header(value: str) -> str:
    """A header's value as HTTP has it; what is not, would be the next header."""
    if not HEADER_VALUE.fullmatch(value):
        raise ValueError("a header's value is Latin-1, with no space around it")
    return value


def _header_name(name: str) -> str:
    if name and not HEADER_NAME.fullmatch(name):
        raise ValueError("a header's name is up to 100 of A-Z, a-z, 0-9 and -")
    if name.lower() in OURS - OF_KEYS:
        raise ValueError(f"{name} is the door's")
    return name


HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header)]


def _reference(text: str) -> str:
    """`secret:NAME`, or ""; raises ValueError, which never says what stood there."""
    if re.fullmatch(r"(secret:[a-z0-9][a-z0-9-]{0,62})?", text, re.ASCII):
        return text
    raise ValueError(
        'a key is named, never written down here: "secret:NAME" means the first line '
        "of secrets/NAME.txt in WAYBILL_HOME"
    )


Reference = Annotated[str, AfterValidator(_reference)]


class Table(BaseModel):
    """A table of vendors.toml: no key that is not known, nothing taken for else."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _no_truths(cls, said: Any) -> Any:
        # `true` where a number stands is a slip; it would be taken for a 1.
        for key, value in said.items() if isinstance(said, Mapping) else ():
            field = cls.model_fields.get(key)
            if isinstance(value, bool) and field and field.annotation is not bool:
                raise ValueError(f"{key} is neither true nor false")
        return said


class VendorLimits(Table):
    """How often, how much and how many at once a vendor may be called."""

    requests: RateField | None = None
    tokens: RateField | None = None
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


def _currency(text: str) -> str:
    if re.fullmatch(r"[A-Z]{3}", text):
        return text
    raise ValueError("it is three capitals, such as EUR")


Currency = Annotated[str, AfterValidator(_currency)]


class Price(Table):
    """What a call costs: so much itself, and so much a million tokens."""

    currency: Currency = "USD"
    call: Amount = Decimal(0)
    input: Amount = Decimal(0)
    cached_input: Amount | None = None  # None: as `input`
    output: Amount = Decimal(0)
    reasoning: Amount | None = None  # None: as `output`

    @property
    def costs(self) -> bool:
        """Whether anything costs anything."""
        return self.most(1, 1) > 0

    def of(self, usage: Usage) -> Decimal:
        """What a call with this usage costs."""
        cached = self.input if self.cached_input is None else self.cached_input
        reasoning = self.output if self.reasoning is None else self.reasoning
        return (
            self.call
            + (
                usage.input_tokens * self.input
                + usage.cached_input_tokens * cached
                + usage.output_tokens * self.output
                + usage.reasoning_tokens * reasoning
            )
            / MILLION
        )

    def most(self, tokens: int, max_tokens: int) -> Decimal:
        """The most that a call can cost which sends and gets so many tokens."""
        dearest_in = max(self.input, self.cached_input or Decimal(0))
        dearest_out = max(self.output, self.reasoning or Decimal(0))
        return self.call + (tokens * dearest_in + max_tokens * dearest_out) / MILLION


class VendorTerms(Table):
    """
    `[vendor.NAME]` of a pipeline.toml: how its items call a vendor.

    Its limits are held beside the vendor's own; nothing may be looser than declared.
    """

    limits: VendorLimits = VendorLimits()
    timeout_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    answer_bytes_max: Annotated[int, Field(ge=1024, le=4 << 30)] | None = None


class BreakerPolicy(Table):
    """When nobody calls a vendor any more, and when somebody tries again."""

    after: int = Field(default=5, ge=1, le=1_000_000)  # failures in a row
    # Doubles with each probe that failed, up to the other.
    open_s: float = Field(default=5.0, gt=0, le=86400)
    max_s: float = Field(default=15.0, gt=0, le=86400)


def _status_word(text: str) -> str:
    if re.fullmatch(r"[1-5][0-9]{2}(:.{1,200})?", text, re.ASCII):
        return text
    raise ValueError('it is a status, or one and a word of the body: "403:WORD"')


StatusWord = Annotated[str, AfterValidator(_status_word)]


class VendorSpec(Table):
    """
    One declared vendor.

    Attributes:
        url: Its base; requests go below it.
        key: `secret:NAME`, a secret of the tenant or else of the service; "": none.
        key_header: The header that carries the key as it is; "": as its kind has it,
            `authorization: Bearer`, or `x-api-key` with anthropic.
        inside: It stands in our own network, on purpose.
        idempotency_header: Where the vendor looks for a key that makes a repeated
            call the same call; "": it has none.
        errors: `"403:REQUEST_LIMIT_EXCEEDED"`, a status and a word of the body, or
            `"409"` alone, and what it means; before what we know ourselves.
        fallbacks: Vendors of the same kind that are asked, in this order, while
            this one cannot answer.
        retry_share: Of first tries, how many more calls may be repeats of failed
            ones, of the whole fleet.
        limits, limits_per_tenant: Of the whole service, and of each tenant.
    """

    name: str = Field(default="", pattern=r"^([a-z][a-z0-9_-]{0,40})?$")
    kind: Kind = "http"
    url: str
    key: Reference = ""
    key_header: HeaderName = ""
    model: str = ""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    connect_s: float = Field(default=10.0, gt=0, le=120)
    answer_bytes_max: int = Field(default=4 << 20, ge=1024, le=4 << 30)
    inside: bool = False
    headers: dict[HeaderName, HeaderValue] = Field(default_factory=dict, max_length=50)
    idempotency_header: HeaderName = ""
    errors: dict[StatusWord, CallClass] = Field(default_factory=dict, max_length=200)
    fallbacks: tuple[str, ...] = Field(default=(), max_length=8)
    retry_share: float = Field(default=0.1, ge=0, le=1)
    limits: VendorLimits = VendorLimits()
    limits_per_tenant: VendorLimits = VendorLimits()
    price: Price = Price()
    breaker: BreakerPolicy = BreakerPolicy()

    def within(self, terms: VendorTerms) -> VendorSpec:
        """
        This vendor as a pipeline calls it; the terms' limits stay with the terms.

        Raises:
            Usage: VENDOR_LOOSER, naming the key.
        """
        tighter: dict[str, Any] = {}
        for key in ("timeout_s", "answer_bytes_max"):
            if (wanted := getattr(terms, key)) is not None:
                self._tighter(key, wanted, getattr(self, key))
                tighter[key] = wanted
        for key in ("requests", "tokens", "concurrency"):
            wanted, most = getattr(terms.limits, key), getattr(self.limits, key)
            if wanted is not None and most is not None:
                self._tighter(f"limits.{key}", _per_s(wanted), _per_s(most))
        return self.model_copy(update=tighter)

    def _tighter(self, key: str, wanted: float, most: float) -> None:
        if wanted > most:
            raise UsageError(
                f"[vendor.{self.name}] {key} of a pipeline is looser than declared",
                code="VENDOR_LOOSER",
                hint="a pipeline may tighten alone; raise it in vendors.toml",
            )


def _per_s(limit: Rate | int) -> float:
    return limit.most / limit.per_s if isinstance(limit, Rate) else float(limit)


class Vendors(Table):
    """All that are declared, by name."""

    vendor: dict[str, VendorSpec] = Field(default_factory=dict, max_length=200)
    budget: ServiceBudget = UNBOUNDED_SERVICE
    sink: dict[str, Any] = Field(default_factory=dict)  # read by effects/declared.py
    model: dict[str, Any] = Field(default_factory=dict)  # read by agents/declared.py

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, spec in self.vendor.items():
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name: a-z, 0-9, `_` and `-`")
            for other in spec.fallbacks:
                where = f"vendor.{name}.fallbacks"
                if other == name:
                    raise ValueError(f"{where}: {name} cannot stand in for itself")
                if other not in self.vendor:
                    near = meant(other, self.vendor)
                    raise ValueError(f"{where}: there is no vendor {other!r}{near}")
                if self.vendor[other].kind != spec.kind:
                    raise ValueError(f"{where}: {other} is of another kind")
            bound, price = self.budget.tenant or self.budget.day, spec.price
            if bound and price.costs and price.currency != bound.currency:
                raise ValueError(
                    f"vendor.{name}: its price is in {price.currency}, and [budget] in "
                    f"{bound.currency}"
                )
        return self

    def named(self) -> dict[str, VendorSpec]:
        """The vendors, each knowing its name."""
        return {
            name: spec.model_copy(update={"name": name})
            for name, spec in self.vendor.items()
        }


class Declared(NamedTuple):
    """Whom stages may call, by name; and what a tenant and a day may cost."""

    vendors: Mapping[str, VendorSpec]
    budget: ServiceBudget = UNBOUNDED_SERVICE


def read_vendors(path: Path) -> Declared:
    """
    What a file declares; nothing where there is no file.

    Raises:
        Usage: VENDORS_FILE, naming the key and what it may be.
    """
    try:
        raw = read_toml(path)
    except ValueError as error:
        raise _bad(str(error)) from None
    try:
        whole = Vendors.model_validate(raw)
    except ValidationError as error:
        misfit = misfit_of(error, Vendors)
        raise _bad(f"{path}: {misfit.said}", misfit.hint) from None
    found = whole.named()
    for spec in found.values():
        try:
            target_of(spec.url)
        except UsageError as error:
            raise _bad(f"{path}: vendor.{spec.name}.url: {error.message}") from None
        for name in (*spec.headers, spec.key_header, spec.idempotency_header):
            small = name.lower()
            carries = name == spec.key_header and small in OF_KEYS
            if small in OURS and not carries:
                said = f"{name} is the door's; a key is declared by `key`"
                raise _bad(f"{path}: vendor.{spec.name}.headers: {said}")
    return Declared(found, whole.budget)


def _bad(message: str, hint: str = "") -> UsageError:
    hint = hint or "docs/vendors.md has every key"
    return UsageError(message, code="VENDORS_FILE", hint=hint)
