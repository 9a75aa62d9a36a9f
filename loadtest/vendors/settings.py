"""
What a simulated world is made of: its vendors, and how each behaves.

    seed = 1

    [vendor.llm]
    kind = "chat"
    latency = {median_s = 0.8, sigma = 0.6}    # or {low_s, high_s}, or seconds
    limits = [{requests = "600/min", tokens = "200_000/min", concurrency = 50},
              {requests = "5/s", per = "tenant", retry_after = "date"}]
    faults = {lost = 0.02, cut = 0.01}         # shares of all calls
    outage = [{at_s = 5, for_s = 60}]          # after the start of the clock

Everything may be changed while the world is running, a key at a time.
"""

from __future__ import annotations

import random
import re
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from loadtest.vendors.wire import HANG_S

KindName = Literal[
    "chat",
    "reader",
    "judge",
    "moderation",
    "ocr",
    "crm",
    "erp",
    "print",
    "mail",
    "hook",
    "echo",
]
_PER_S = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"([\d_]+)\s*/\s*([\d.]*)\s*(s|min|h|d)", re.ASCII)


class Rate(NamedTuple):
    """At most `most` in any `per_s` seconds."""

    most: int
    per_s: float


def _rate(value: Any) -> Any:
    if isinstance(value, str):
        found = _RATE.fullmatch(value.strip())
        if found is None:
            raise ValueError('write it as "600/min", "100/s" or "5000/24h"')
        most, times, unit = found.groups()
        return Rate(int(most.replace("_", "")), float(times or 1) * _PER_S[unit])
    return value


class _Set(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Latency(_Set):
    """How long an answer takes: fixed, uniform or lognormal, at most `max_s`."""

    fixed_s: float = Field(default=0.0, ge=0, le=HANG_S)
    low_s: float = Field(default=0.0, ge=0)
    high_s: float = Field(default=0.0, ge=0)
    median_s: float = Field(default=0.0, ge=0)
    sigma: float = Field(default=0.5, ge=0, le=5)
    max_s: float = Field(default=60.0, ge=0, le=HANG_S)

    def drawn(self, dice: random.Random) -> float:
        """The next one, in seconds."""
        if self.median_s:
            drawn = self.median_s * dice.lognormvariate(0, self.sigma)
        elif self.high_s:
            drawn = dice.uniform(self.low_s, self.high_s)
        else:
            return self.fixed_s
        return min(drawn, self.max_s)


def _latency(value: Any) -> Any:
    return {"fixed_s": value} if isinstance(value, int | float) else value


class Limit(_Set):
    """
    What a vendor allows, and how it says so.

    Attributes:
        per: Whose calls are counted together: all, those of one tenant (by the
            header `tenant_header`), or of one credential.
        retry_after: Seconds, a date, milliseconds (`retry-after-ms`), or nothing.
    """

    requests: Annotated[Rate | None, BeforeValidator(_rate)] = None
    tokens: Annotated[Rate | None, BeforeValidator(_rate)] = None
    concurrency: int | None = Field(default=None, ge=1)
    per: Literal["service", "tenant", "credential"] = "service"
    retry_after: Literal["seconds", "date", "ms", "none"] = "seconds"
    status: int = Field(default=429, ge=400, le=599)


class Outage(_Set):
    """
    Nothing is accepted from `at_s` on, for `for_s` seconds.

    Attributes:
        how: An error with `status`, silence, or a connection that is cut.
    """

    at_s: float = 0.0
    for_s: float = Field(gt=0)
    how: Literal["error", "hang", "reset"] = "error"
    status: int = Field(default=503, ge=400, le=599)


class ToolAsked(_Set):
    """A call that a reader makes: the tool's name, and the arguments as they are."""

    tool: str = Field(min_length=1)
    arguments: dict[str, Any] = Field(default_factory=dict)


class Play(_Set):
    """
    How one vendor behaves.

    Attributes:
        faults: Shares of calls that go wrong, by the names in `faults.py` and those
            that its kind adds.
        script: What becomes of the first calls in turn: a fault's name, or "ok".
        credential: What a call must bear: a bearer token or an API key; "": anything.
        key_header: Where a client's idempotency key stands.
        dedupe: A key that was seen is answered from memory, and not billed again.
        reply: What a model says; "": what the request's schema asks for.
        tokens: Of a completion; `cached` of the prompt's, `reasoning` of the answer's.
        api_max: Calls that the CRM allows a day; `page_size`: records of a page.
        done_after_s: How long an asynchronous job takes.
        labels: A file of what a reader finds in documents, OCR reads, moderation flags
            or a judge thinks (`labels.py`); "": a reader quotes the first sentence of
            what it read.
        calls: What a reader calls in every conversation when it has read, in turn and
            each once, where the tool is offered; then it answers.
        forbidden: The tool that a reader calls although it was not given it.
        order: The word by which a reader that obeys knows an order in what it reads.
        at_once: How often it then calls the second tool, in one answer; above 1 the
            first one as well.
        port: Of a mail server's SMTP; 0: any free one.
        secret: Signs callbacks and is expected on webhooks, Standard Webhooks' form.
    """

    kind: KindName
    latency: Annotated[Latency, BeforeValidator(_latency)] = Latency()
    limits: tuple[Limit, ...] = ()
    faults: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    script: tuple[str, ...] = ()
    outage: tuple[Outage, ...] = ()
    credential: str = ""
    tenant_header: str = "x-tenant"
    key_header: str = "idempotency-key"
    dedupe: bool = True
    drip_s: float = Field(default=0.05, gt=0)
    flood_bytes: int = Field(default=64 << 20, ge=1 << 16, le=4 << 30)
    redirect_to: str = "http://10.0.0.1/"
    reply: str = ""
    model: str = ""
    tokens: int = Field(default=100, ge=1)
    cached: float = Field(default=0.0, ge=0, le=1)
    reasoning: float = Field(default=0.0, ge=0, le=1)
    api_max: int = Field(default=15_000, ge=1)
    page_size: int = Field(default=2000, ge=1, le=2000)
    done_after_s: float = Field(default=0.2, ge=0, le=HANG_S)
    labels: str = ""
    calls: tuple[ToolAsked, ...] = ()
    forbidden: str = "pay"
    order: str = "mallory"
    at_once: int = Field(default=1, ge=1, le=20)
    port: int = Field(default=0, ge=0, le=65535)
    secret: str = "whsec_c2ltdWxhdGVkLXZlbmRvcnMtc2VjcmV0"  # noqa: S105  # of a toy

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("the shares of all faults are more than one")
        if self.calls and self.kind != "reader":
            raise ValueError(f"calls are made by a reader, and this is a {self.kind}")
        return self


WORLD: dict[str, Any] = {
    "llm": {"kind": "chat"},
    "claude": {"kind": "chat", "model": "claude-simulated"},
    "vision": {"kind": "chat"},
    "moderation": {"kind": "moderation"},
    "ocr": {"kind": "ocr"},
    "crm": {"kind": "crm", "dedupe": False},
    "erp": {"kind": "erp"},
    "print": {"kind": "print"},
    "print-c": {"kind": "print", "dedupe": False},
    "mail": {"kind": "mail", "dedupe": False, "key_header": "message-id"},
    "hook": {"kind": "hook", "key_header": "webhook-id"},
    "echo": {"kind": "echo"},
}


class World(_Set):
    """All vendors by name; the names are the first part of their paths."""

    seed: int = 1
    vendor: dict[str, Play] = Field(max_length=100)

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, raw: Any) -> Any:
        given: dict[str, Any] = {n: {} for n in WORLD} | dict(raw.get("vendor") or {})
        vendor = {n: {**WORLD.get(n, {}), **play} for n, play in given.items()}
        return {**raw, "vendor": vendor}
