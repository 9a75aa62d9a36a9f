"""
A scripted chat server on loopback: the vendor of a test, answer by answer.

A script is a sequence of answers, one a request; when it ends, `then` answers the
rest.  It lives in the loop of the test, and remembers what it was asked.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from loadtest.vendors.wire import HANG_S, Answer, Asked, listening

REPLY = {
    "greeting": "Dear friend,",
    "paragraphs": ["Your letter arrived, and the whole post office read it twice."],
    "closing": "With love from the North Pole",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent; the body as JSON where it is some, else as bytes."""

    path: str
    headers: dict[str, str]
    body: Any


# -- answers to put into a script ---------------------------------------------------


def chat(content: str, *, finish: str | None = "stop", after_s: float = 0.0) -> Answer:
    """A completion whose message is `content`, whatever that is."""
    return Answer(
        body=json.dumps(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": "scripted",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": finish,
                        "message": {"role": "assistant", "content": content},
                    }
                ],
                "usage": {
                    "prompt_tokens": 200,
                    "completion_tokens": 100,
                    "total_tokens": 300,
                },
            }
        ).encode(),
        after_s=after_s,
    )


def written(after_s: float = 0.0, **changes: Any) -> Answer:
    """A reply in the schema that generation asks for, with these fields changed."""
    return chat(json.dumps({**REPLY, **changes}), after_s=after_s)


def misshapen(times: int) -> list[Answer]:
    """`times` completions that miss a field, and then a right one."""
    wrong = chat(json.dumps({"greeting": "Dear friend,", "paragraphs": []}))
    return [wrong] * times + [written()]


def throttled(wait: float | str | None, status: int = 429) -> Answer:
    """Slow down: for seconds, until a date (any text), or without saying."""
    if wait is None:
        return _error(status, "slow down")
    return _error(status, "slow down", ("retry-after", str(wait)))


def throttled_until(in_s: float) -> Answer:
    """Slow down, until an HTTP date `in_s` seconds from now."""
    date = datetime.now(UTC) + timedelta(seconds=in_s)
    return throttled(format_datetime(date, usegmt=True))


def refused(status: int, message: str = "no") -> Answer:
    """An error with a message: a quota's 400 or 403, a wrong key's 401."""
    return _error(status, message)


def failing(status: int = 500) -> Answer:
    """The service is in trouble."""
    return _error(status, "internal")


def hanging() -> Answer:
    """Takes the request and never answers."""
    return Answer(after_s=HANG_S)


def dripping(drip_s: float = 0.05) -> Answer:
    """A right answer, a byte at a time: no read timeout ever strikes."""
    right = written()
    return Answer(body=right.body, drip_s=drip_s)


def flooding(size_bytes: int = 64 * 1024 * 1024) -> Answer:
    """An answer that is only long."""
    return Answer(body=b" " * 65536, times=size_bytes // 65536)


def bomb(size_bytes: int = 512 * 1024 * 1024) -> Answer:
    """A gzip answer a thousandth of the `size_bytes` it unpacks to."""
    pack = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = b" " * (1 << 20)
    body = b"".join(pack.compress(block) for _ in range(size_bytes >> 20))
    return Answer(
        body=body + pack.flush(),
        headers=(("content-encoding", "gzip"), ("content-type", "application/json")),
    )


def packed() -> Answer:
    """A right answer, gzipped as most services do."""
    return Answer(
        body=gzip.compress(written().body, mtime=0),
        headers=(("content-encoding", "gzip"), ("content-type", "application/json")),
    )


def truncated() -> Answer:
    """A body that is announced whole and ends in the middle."""
    right = written()
    return Answer(body=right.body, chop=len(right.body) // 2)


def not_json() -> Answer:
    """Complete, and cut in the middle of its JSON."""
    right = written()
    return Answer(body=right.body[: len(right.body) // 2])


def html() -> Answer:
    """A proxy's friendly page, with status 200."""
    return Answer(
        body=b"<!doctype html><title>Welcome</title>",
        headers=(("content-type", "text/html"),),
    )


def redirect(to: str, status: int = 307) -> Answer:
    """Go elsewhere: where a client must not follow with its key."""
    return Answer(status=status, body=b"", headers=(("location", to),))


def _error(status: int, message: str, *headers: tuple[str, str]) -> Answer:
    return Answer(
        status=status,
        body=json.dumps({"error": {"message": message}}).encode(),
        headers=(("content-type", "application/json"), *headers),
    )


# -- the server -----------------------------------------------------------------------


@dataclass(slots=True)
class ChatServer:
    """A running server: its base URL, and what it was asked so far."""

    url: str
    script: Iterator[Answer]
    then: Answer
    requests: list[Request] = field(default_factory=list)
    keep: int = 10_000  # requests remembered; a long run must not fill the memory

    def answer(self, asked: Asked) -> Answer:
        """The next answer of the script."""
        if len(self.requests) < self.keep:
            self.requests.append(Request(asked.target, asked.headers, _body(asked)))
        return next(self.script, self.then)

    def ended(self, asked: Asked) -> None:
        """Nothing to remember."""


@asynccontextmanager
async def serving(
    script: Iterable[Answer] = (), *, then: Answer | None = None, port: int = 0
) -> AsyncIterator[ChatServer]:
    """A `ChatServer` on 127.0.0.1 for as long as the block lasts."""
    server = ChatServer("", iter(script), written() if then is None else then)
    async with listening(server, port) as bound:
        server.url = f"http://127.0.0.1:{bound}"
        yield server


def _body(asked: Asked) -> Any:
    try:
        return json.loads(asked.body) if asked.body else None
    except ValueError:
        return asked.body
