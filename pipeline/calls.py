"""
Calls of vendors: what is asked, what came back, and what it took.

A stage writes a `Request` and reads an `Answer`; which vendor answered, at what
price, and after how many tries, stands in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
Kind = Literal["openai", "anthropic", "http", "moderation", "ocr"]  # its shape


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


class Usage(BaseModel):
    """
    What a call of a model used, in tokens; the fields are disjoint.

    Vendors count otherwise: OpenAI's `prompt_tokens` hold the cached ones and its
    `completion_tokens` the reasoning ones, Anthropic's `input_tokens` hold neither.
    """

    model_config = ConfigDict(frozen=True)

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

    model_config = ConfigDict(frozen=True)

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


KEPT_HEADERS = ("content-type", "etag", "location", "last-modified", "link")
