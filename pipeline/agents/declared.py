"""
Models, as vendors.toml declares them on its vendors.

    [model.reader]
    vendor = "llm"              # whose URL, key, limits, price and breaker
    model = "large-2"           # else the vendor's own
    output = "json_schema"      # or json_object, tool
    max_tokens = 2000
    context = 128_000           # tokens; what is surely longer goes to the next
    fallbacks = ["reader-b"]    # asked in this order, where one of these is why:
    on = ["throttled", "open", "transient", "length", "filter", "refusal"]
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.agents.shapes import MaxTokensField, Output
from pipeline.errors import Usage, WaybillError
from pipeline.messages import Finish, ModelRequest
from pipeline.misfits import misfit_of, read_toml
from pipeline.vendors.declared import NAME, VendorSpec

CHARS_A_TOKEN = 4  # English prose; what is longer by this count is surely too long
MODEL_KINDS = ("openai", "anthropic")


class Cause(StrEnum):
    """Why another model is asked."""

    THROTTLED = "throttled"  # the vendor, or one of our own limits, says not now
    OPEN = "open"  # its breaker is open: nobody calls it
    TRANSIENT = "transient"  # no answer, or none that is one
    LENGTH = "length"  # its answer was cut off, or the question is too long for it
    FILTER = "filter"
    REFUSAL = "refusal"


CAUSES: Mapping[str, Cause] = {
    "THROTTLED": Cause.THROTTLED,
    "QUOTA": Cause.THROTTLED,
    "LIMIT_WAIT": Cause.THROTTLED,
    "VENDOR_OPEN": Cause.OPEN,
    "VENDOR_DOWN": Cause.TRANSIENT,
    "VENDOR_TIMEOUT": Cause.TRANSIENT,
    "VENDOR_GARBAGE": Cause.TRANSIENT,
    "VENDOR_AUTH": Cause.TRANSIENT,
    "RETRY_BUDGET": Cause.TRANSIENT,
    "MODEL_CONTEXT": Cause.LENGTH,
    "MODEL_FILTER": Cause.FILTER,
}
FINISHES: Mapping[Finish, Cause] = {
    Finish.LENGTH: Cause.LENGTH,
    Finish.FILTER: Cause.FILTER,
    Finish.REFUSAL: Cause.REFUSAL,
}


class ModelSpec(BaseModel):
    """
    One declared model.

    Attributes:
        model: As its vendor knows it; "": the vendor's own.
        context: What fits into it, in tokens; 0: nobody says.
        fallbacks: Models that are asked, in this order, after one of the causes `on`;
            their own fallbacks are not.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, hide_input_in_errors=True
    )

    name: str = ""
    vendor: str
    model: str = Field(default="", max_length=200)
    output: Output = Output.JSON_SCHEMA
    max_tokens: int = Field(default=2_000, ge=1, le=1_000_000)
    max_tokens_field: MaxTokensField = "max_tokens"
    temperature: float | None = Field(default=None, ge=0, le=2)
    context: int = Field(default=0, ge=0, le=1_000_000_000)
    fallbacks: tuple[str, ...] = Field(default=(), max_length=8)
    on: frozenset[Cause] = frozenset(Cause)

    def on_vendor(self, spec: VendorSpec) -> VendorSpec:
        """The vendor, asked for this model."""
        return spec.model_copy(update={"model": self.model}) if self.model else spec

    def asked(self, request: ModelRequest) -> ModelRequest:
        """The request, with what it leaves to the model."""
        return request.model_copy(
            update={
                "max_tokens": request.max_tokens or self.max_tokens,
                "temperature": self.temperature
                if request.temperature is None
                else request.temperature,
            }
        )

    def too_long(self, request: ModelRequest) -> bool:
        """Whether it surely does not fit, by the characters of its messages."""
        if not self.context:
            return False
        chars = len(request.system) + sum(
            len(message.model_dump_json()) for message in request.messages
        )
        return self.context < chars // CHARS_A_TOKEN + request.max_tokens


def cause_of(error: WaybillError) -> Cause | None:
    """Why another model may answer in the place of one that failed so; None: none."""
    return CAUSES.get(error.code)


class _Models(BaseModel):
    model_config = ConfigDict(extra="ignore", defer_build=True)

    model: dict[str, ModelSpec] = Field(default_factory=dict, max_length=200)


def read_models(
    path: Path,
    vendors: Mapping[str, VendorSpec],
    beside: Mapping[str, ModelSpec] | None = None,
) -> dict[str, ModelSpec]:
    """
    The models that a file declares, by name; none where there is no file.

    Args:
        beside: Models that are declared elsewhere; they may stand in for these.

    Raises:
        Usage: MODELS_FILE, naming the key and what it may be.
    """
    try:
        raw = read_toml(path)
    except ValueError as error:
        raise _bad(str(error)) from None
    try:
        found = _Models.model_validate(raw).model
    except ValidationError as error:
        misfit = misfit_of(error, _Models)
        raise _bad(f"{path}: {misfit.said}", misfit.hint) from None
    for name, spec in found.items():
        if wrong := _wrong(name, spec, {**(beside or {}), **found}, vendors):
            raise _bad(f"{path}: model.{name}: {wrong}")
    return {
        name: spec.model_copy(update={"name": name}) for name, spec in found.items()
    }


def _wrong(
    name: str,
    spec: ModelSpec,
    models: Mapping[str, ModelSpec],
    vendors: Mapping[str, VendorSpec],
) -> str:
    if not NAME.fullmatch(name):
        return "no name: a-z, 0-9, `_` and `-`"
    vendor = vendors.get(spec.vendor)
    if vendor is None:
        return f"there is no vendor {spec.vendor!r}"
    if vendor.kind not in MODEL_KINDS:
        return f"its vendor {spec.vendor} is of kind {vendor.kind}, which has no models"
    if not (spec.model or vendor.model):
        return f"name its `model`: the vendor {spec.vendor} has none of its own"
    for other in spec.fallbacks:
        if other == name or other not in models:
            return f"there is no other model {other!r}"
    return ""


def _bad(message: str, hint: str = "") -> Usage:
    hint = hint or "docs/agents.md has every key of a model"
    return Usage(message, code="MODELS_FILE", hint=hint)
