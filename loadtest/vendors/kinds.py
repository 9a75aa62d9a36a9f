"""
What a kind of vendor is: it reads a call and says what it did about it.

The kinds stand in modules of their own; a vendor of a world has one, with a memory of
its own, and knows nothing of limits, latency, outages and spoilt answers.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote

from loadtest.vendors.book import Taken
from loadtest.vendors.limits import Headers, Remaining, openai_headers
from loadtest.vendors.settings import Play


class Call:
    """
    One request, as a vendor reads it.

    Attributes:
        path: Below the vendor's own URL.
        asked: The query as it came; `query` is the same, read.
    """

    def __init__(
        self, method: str, path: str, headers: dict[str, str], body: bytes, url: str
    ) -> None:
        self.path, _, self.asked = path.partition("?")
        self.method = method
        self.parts = tuple(unquote(part) for part in self.path.strip("/").split("/"))
        self.query = {k: v[-1] for k, v in parse_qs(self.asked).items()}
        self.headers = headers
        self.body = body
        self.url = url  # of the vendor

    @cached_property
    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def fields(self) -> dict[str, Any]:
        """The body where it is a JSON object, else nothing."""
        return self.json if isinstance(self.json, dict) else {}

    @cached_property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        text = self.body.decode("utf-8", "replace")
        return {k: v[-1] for k, v in parse_qs(text).items()}

    @property
    def credential(self) -> str:
        """The token or key that it bears."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return bearer or self.headers.get("x-api-key", "")


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What a vendor did about a call.

    Attributes:
        data: Sent as JSON; bytes as they are.
        tokens: Of the request and of the answer, where it bills by them.
        taken: What was really done; the book lists it.
        later: Sent by itself afterwards.
        refused: What a refusal is in the book.
    """

    status: int = 200
    data: Any = None
    headers: Headers = ()
    media_type: str = "application/json"
    tokens: tuple[int, int] = (0, 0)
    taken: list[Taken] = field(default_factory=list)
    later: tuple[Delivery, ...] = ()
    refused: str = "refused"

    @property
    def body(self) -> bytes:
        """As it is sent."""
        if isinstance(self.data, bytes):
            return self.data
        return b"" if self.data is None else json.dumps(self.data).encode()

    @property
    def accepted(self) -> bool:
        """Whether it was done, and not refused."""
        return self.status < 400


@dataclass(frozen=True, slots=True)
class Delivery:
    """A signed callback: sent `after_s` after the answer, again until it is taken."""

    url: str
    id: str
    body: bytes
    after_s: float
    secret: str


class Kind(Protocol):
    """A kind of vendor."""

    faults: frozenset[str]  # what else it can get wrong

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """Do it, or refuse; `fault` is one of `faults`, or one of others' to ignore."""
        ...

    def error(self, call: Call, status: int, message: str) -> Reply:
        """An error in this vendor's own form."""
        ...

    def free(self, call: Call) -> bool:
        """Whether it needs no credential: somebody logs in."""
        ...

    def tokens(self, call: Call, play: Play) -> int:
        """What the call is worth against a limit of tokens."""
        ...

    def remaining(self, call: Call, remaining: list[Remaining]) -> Headers:
        """The headers that say how much is left."""
        ...


class Plain:
    """What most kinds have in common: errors as OpenAI writes them, no tokens."""

    faults: frozenset[str] = frozenset()

    def error(self, call: Call, status: int, message: str) -> Reply:
        """`{"error": {"message", "type", "code"}}`."""
        kinds = {429: "rate_limit_exceeded", 401: "invalid_api_key", 404: "not_found"}
        code = kinds.get(status, "server_error" if status >= 500 else "invalid_request")
        error = {"message": message, "type": code, "param": None, "code": code}
        return Reply(status, {"error": error})

    def free(self, call: Call) -> bool:
        """Never."""
        return False

    def tokens(self, call: Call, play: Play) -> int:
        """None."""
        return 0

    def remaining(self, call: Call, remaining: list[Remaining]) -> Headers:
        """`x-ratelimit-*`."""
        return openai_headers(remaining)


BYTES_MAX = 64 << 20


class Echo(Plain):
    """
    An HTTP service that does something once for every call, and says what.

        GET  /bytes/N           N bytes that are no JSON, to be downloaded
    """

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """What was asked; a GET does nothing."""
        if call.method == "GET" and call.parts[0] == "bytes":
            size = min(int(call.parts[-1]), BYTES_MAX)
            block = bytes(range(256)) * (size // 256 + 1)
            return Reply(data=block[:size], media_type="application/octet-stream")
        said = {
            "method": call.method,
            "path": call.path,
            "query": call.query,
            "headers": call.headers,
            "json": call.json,
            "bytes": len(call.body),
        }
        key = call.headers.get(play.key_header, "")
        done = [] if call.method == "GET" else [Taken("call", key, call.body)]
        return Reply(data=said, taken=done)
