"""
A scripted chat server on loopback: the vendor that misbehaves on command.

It speaks just enough HTTP/1.1 to serve `POST /chat/completions` as an
OpenAI-compatible service does, and everything else such a service does on a bad
day: throttles, failures, hangs, drips, floods, garbage.  A script is a sequence
of answers, one a request; when it ends, `then` answers the rest.

Everything is bounded: connections, request sizes, and how long a hang lasts.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 16 * 1024 * 1024
CONNECTIONS_MAX = 1024
IDLE_S = 60.0  # a kept-alive connection without a request
HANG_S = 600.0  # longer than any client should wait

REPLY = {
    "greeting": "Dear friend,",
    "paragraphs": ["Your letter arrived, and the whole post office read it twice."],
    "closing": "With love from the North Pole",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """
    One answer.

    Attributes:
        after_s: Wait this long before the first byte.
        drip_s: Send the body a byte at a time, this far apart.
        chop: Send only this many bytes of the body, then hang up.
        times: Send the body this often: a flood without the memory for it.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    after_s: float = 0.0
    drip_s: float = 0.0
    chop: int | None = None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent."""

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
                "model": "scripted",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": finish,
                        "message": {"role": "assistant", "content": content},
                    }
                ],
                "usage": {"prompt_tokens": 200, "completion_tokens": 100},
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


def mixed(seed: int, *, bad: float = 0.1, latency_s: float = 0.2) -> Iterator[Answer]:
    """Without end: right answers, `bad` of them spoilt in one of several ways."""
    dice = random.Random(seed)
    while True:
        after_s = dice.expovariate(1 / latency_s) if latency_s else 0.0
        if dice.random() >= bad:
            yield written(after_s=after_s)
        else:
            yield dice.choice(
                [
                    throttled(2),
                    throttled(None),
                    failing(500),
                    failing(503),
                    truncated(),
                    not_json(),
                    html(),
                    chat("I would rather not.", after_s=after_s),
                    chat('{"greeting": "Dear', finish="length", after_s=after_s),
                ]
            )


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

    def next_answer(self) -> Answer:
        """The next answer of the script."""
        return next(self.script, self.then)

    async def serve(self, stream: SocketStream) -> None:
        """One connection, until either side has had enough."""
        try:
            async with stream:
                buffer = b""
                while True:
                    got = await _request(stream, buffer)
                    if got is None:
                        return
                    request, buffer = got
                    if len(self.requests) < self.keep:
                        self.requests.append(request)
                    if not await _reply(stream, self.next_answer()):
                        return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # the client hung up, as a client may


@asynccontextmanager
async def serving(
    script: Iterable[Answer] = (), *, then: Answer | None = None, port: int = 0
) -> AsyncIterator[ChatServer]:
    """A `ChatServer` on 127.0.0.1 for as long as the block lasts."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    bound = listener.extra_attributes[SocketAttribute.local_port]()
    server = ChatServer(
        f"http://127.0.0.1:{bound}", iter(script), written() if then is None else then
    )
    room = anyio.CapacityLimiter(CONNECTIONS_MAX)

    async def handle(stream: SocketStream) -> None:
        async with room:
            await server.serve(stream)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield server
        tasks.cancel_scope.cancel()


async def _request(stream: SocketStream, buffer: bytes) -> tuple[Request, bytes] | None:
    """One request and what came after it; None when the client is done."""
    with anyio.move_on_after(IDLE_S):
        while b"\r\n\r\n" not in buffer:
            if len(buffer) > HEAD_BYTES_MAX:
                return None
            try:
                buffer += await stream.receive()
            except anyio.EndOfStream:
                return None
        head, _, rest = buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            return None
        while len(rest) < int(length):
            try:
                rest += await stream.receive()
            except anyio.EndOfStream:
                return None
        body, rest = rest[: int(length)], rest[int(length) :]
        path = "".join(first.split(" ")[1:2])
        try:
            return Request(path, headers, json.loads(body) if body else None), rest
        except ValueError:
            return None  # not a client of ours
    return None


async def _reply(stream: SocketStream, answer: Answer) -> bool:
    """Send it; whether the connection may serve another request."""
    if answer.after_s:
        await anyio.sleep(answer.after_s)
    length = len(answer.body) * answer.times
    headers = [*answer.headers, ("content-length", str(length))]
    head = f"HTTP/1.1 {answer.status} Scripted\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    await stream.send(head.encode("latin-1") + b"\r\n")
    if answer.chop is not None:
        await stream.send(answer.body[: answer.chop])
        return False
    if answer.drip_s:
        for place in range(length):
            await stream.send(answer.body[place : place + 1])
            await anyio.sleep(answer.drip_s)
        return True
    for _ in range(answer.times):
        await stream.send(answer.body)
    return True


async def serve_mixed(port: int, *, seed: int, bad: float, latency_s: float) -> None:
    """Serve a seeded mix of good and bad answers until cancelled."""
    mix = mixed(seed, bad=bad, latency_s=latency_s)
    async with serving(mix, port=port):
        await anyio.sleep_forever()
