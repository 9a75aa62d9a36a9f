"""`Door.send`: what goes over the wire, and what may come back."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from pipeline.artifacts.durable import new_part
from pipeline.artifacts.files import FileArtifacts
from pipeline.calls import CallClass, FilePart, Request, Usage
from pipeline.errors import LimitWait
from pipeline.vendors.allowance import Allowance
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.door import Door
from pipeline.vendors.failures import CallError
from pipeline.vendors.wire import REST_S
from tests.system.vendors.wires import JSON, Wires, saying, whole

KEY = "sk-secret-0123456789"
GOOD = whole(b'{"ok": 1}')
OTHER = whole(b'{"ok": "somebody else\'s"}')
PACKED = gzip.compress(b'{"ok": 1}')
GZIP = JSON + b"content-encoding: gzip\r\n"
TWICE = JSON + b"content-encoding: gzip, gzip\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
HTML = b"content-type: text/html\r\n"


async def failed(
    wires: Wires, request: Request | None = None, **spec: Any
) -> CallError:
    """The failure of one call."""
    async with Door() as door:
        with pytest.raises(CallError) as caught:
            await door.send(
                wires.spec(**spec), request or Request(), key=KEY, timeout_s=2
            )
    return caught.value


# -- what is sent ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "first", "holds"),
    [
        (
            Request("a/b c", "GET", query={"q": "SELECT Id&x"}),
            "GET /base/a/b%20c?q=SELECT%20Id%26x HTTP/1.1",
            "",
        ),
        (Request("/x", "PUT", json={"é": 1}), "PUT /base/x HTTP/1.1", '{"\\u00e9": 1}'),
        (Request("x", "PATCH", form={"a": "1 2"}), "PATCH /base/x HTTP/1.1", "a=1+2"),
        (
            Request("", "POST", content=b"raw", headers={"Content-Type": "text/csv"}),
            "POST /base HTTP/1.1",
            "content-type: text/csv\r\n",
        ),
        (Request("x/7", "DELETE"), "DELETE /base/x/7 HTTP/1.1", ""),
        (
            Request(
                form={"purpose": "ocr"},
                files=(FilePart("file", 'a"\r\nb.pdf', b"%PDF", "application/pdf"),),
            ),
            "POST /base HTTP/1.1",
            'name="file"; filename="a%22%0D%0Ab.pdf"\r\n'
            "Content-Type: application/pdf\r\n\r\n%PDF\r\n",
        ),
    ],
)
async def test_what_a_stage_asks_is_sent(
    request_: Request, first: str, holds: str
) -> None:
    async with saying(GOOD) as wires, Door() as door:
        reply = await door.send(
            wires.spec(idempotency_header="Idempotency-Key"),
            request_,
            key=KEY,
            timeout_s=2,
            idempotency_key="k-1",
        )

    asked = wires.asked[0].decode()
    assert asked.startswith(first + "\r\n")
    assert holds in asked
    assert f"authorization: Bearer {KEY}\r\n" in asked.replace("Auth", "auth")
    assert "idempotency-key: k-1\r\n" in asked.lower()
    assert f"host: 127.0.0.1:{wires.port}\r\n" in asked.lower()
    assert (reply.status, reply.data) == (200, {"ok": 1})


async def test_a_header_may_be_latin() -> None:
    async with saying(GOOD) as wires, Door() as door:
        await door.send(wires.spec(), Request(headers={"x": "é"}), timeout_s=2)

    assert b"x: \xe9\r\n" in wires.asked[0].lower()


async def test_a_model_is_asked_by_its_declared_name_in_its_kinds_way() -> None:
    async with saying(GOOD) as wires, Door() as door:
        spec = wires.spec(kind="anthropic", model="m-1")
        await door.send(spec, Request("/messages", json={}), key=KEY, timeout_s=2)

    asked = wires.asked[0].decode().lower()
    assert f"x-api-key: {KEY}\r\n" in asked
    assert "anthropic-version: " in asked
    assert "authorization" not in asked
    assert json.loads(asked.partition("\r\n\r\n")[2]) == {"model": "m-1"}


@pytest.mark.parametrize(
    "request_",
    [
        Request(headers={"Host": "other"}),
        Request(headers={"authorization": "Bearer mine"}),
        Request(headers={"Content-Length": "0"}),
        Request(headers={"x": "a\r\nauthorization: mine"}),
        Request(headers={"x y": "a"}),
        Request(headers={"x": "\u2028"}),
        Request(headers={"x": " a"}),
        Request(headers={"x": "a\t"}),
        Request("..;/admin"),
        Request("a/%2e%2e;x=1/admin"),
        Request("../admin"),
        Request("a/%2e%2e/admin"),
        Request("a\\..\\admin"),
        Request("a?b=c"),
        Request("a\r\nX: y"),
        Request(json={}, form={}),
        Request(json={"a": float("nan")}),
        Request(json={"a": {1, 2}}),
        Request(files=(FilePart("f", "n", b"", "a/b\r\nX: y"),)),
    ],
)
async def test_what_cannot_be_sent_is_the_stages_fault(request_: Request) -> None:
    """A path that climbs, a header within a header, two bodies: never sent."""
    async with saying(GOOD) as wires:
        error = await failed(wires, request_)

    assert (error.code, error.kind, error.in_doubt) == (
        "VENDOR_REQUEST",
        CallClass.PERMANENT,
        False,
    )
    assert wires.connections == []


# -- what comes back -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (whole(PACKED[:-4], more=GZIP), "VENDOR_GARBAGE"),
        (whole(PACKED[:-9], more=GZIP), "VENDOR_GARBAGE"),
        (whole(PACKED + b"more", more=GZIP), "VENDOR_GARBAGE"),
        (whole(PACKED + PACKED, more=GZIP), "VENDOR_GARBAGE"),
        (whole(b"", more=GZIP), "VENDOR_GARBAGE"),
        (whole(PACKED, more=TWICE), "VENDOR_GARBAGE"),
        (whole(b""), "VENDOR_GARBAGE"),
        (whole(b'{"ok": 1'), "VENDOR_GARBAGE"),
        (whole(b'{"ok": 1e999}'), "VENDOR_GARBAGE"),
        (whole(b'{"ok": "\xed\xa0\x80"}'), "VENDOR_GARBAGE"),
        (whole(b'{"ok": ' + b"9" * 5000 + b"}"), "VENDOR_GARBAGE"),
        (whole(b'{"ok": 1}', status="206 Partial Content"), "VENDOR_GARBAGE"),
        (whole(b'{"ok": 1}', more=b"content-length: 5\r\n"), "VENDOR_GARBAGE"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "VENDOR_GARBAGE"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n{}", "VENDOR_GARBAGE"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 2000 + b"\r\n{}", "VENDOR_GARBAGE"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100 + GOOD, "VENDOR_GARBAGE"),
        (GOOD[:-3], "VENDOR_DOWN"),
        (GOOD[:10], "VENDOR_DOWN"),
        (CHUNKS + b"zz\r\n{}", "VENDOR_GARBAGE"),
        (CHUNKS + b"2\r\n{}\r\n", "VENDOR_DOWN"),
        (CHUNKS + b"1\r\n \r\n" * 6000 + b"2\r\n{}\r\n0\r\n\r\n", "VENDOR_GARBAGE"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "VENDOR_GARBAGE"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_none_is_told_from_a_good_one(
    answer: bytes, code: str
) -> None:
    async with saying(answer, hangs_up=True) as wires:
        error = await failed(wires, Request("x", "GET"))

    assert error.code == code
    assert error.message.startswith("crm ")
    assert len(wires.asked) == 1  # nothing is asked again by itself


@pytest.mark.parametrize(
    ("answer", "method", "data"),
    [
        (whole(PACKED, more=GZIP), "GET", {"ok": 1}),
        (whole(b'\xef\xbb\xbf{"ok": 1}', more=HTML), "GET", {"ok": 1}),
        (HINTS + GOOD, "POST", {"ok": 1}),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "PATCH", None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n", "HEAD", None),
        (b'HTTP/1.0 200 OK\r\n\r\n{"ok": 1}', "GET", {"ok": 1}),
        (whole(b'{"ok": 1}', status="201 Created"), "POST", {"ok": 1}),
    ],
)  # fmt: skip
async def test_an_odd_answer_that_is_whole_is_taken(
    answer: bytes, method: Any, data: Any
) -> None:
    async with saying(answer, hangs_up=b"1.0" in answer) as wires, Door() as door:
        reply = await door.send(wires.spec(), Request("", method), timeout_s=2)

    assert reply.data == data


async def test_a_connection_is_used_again() -> None:
    async with saying(GOOD) as wires, Door() as door:
        for _ in range(3):
            await door.send(wires.spec(), Request(), timeout_s=2)
            await anyio.sleep(REST_S + 0.01)

    assert [len(each) for each in wires.connections] == [3]


@pytest.mark.parametrize("late", [b"", OTHER, b"\0", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_connection_that_brought_more_than_one_answer_is_not_used_again(
    late: bytes,
) -> None:
    """The second answer, at once or later, is nobody's: not the next call's."""
    answer = GOOD if late else GOOD + OTHER
    async with saying(answer, late=late) as wires, Door() as door:
        for _ in range(3):
            reply = await door.send(wires.spec(), Request(), timeout_s=2)
            assert reply.data == {"ok": 1}
            await anyio.sleep(REST_S + 0.01)

    assert [len(each) for each in wires.connections] == [1, 1, 1]


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})])
async def test_a_second_answer_on_the_heels_of_the_first_is_nobodys() -> None:
    """In segments of their own, read at once or later: uvloop reads ahead."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=_twice, args=(server,), daemon=True).start()
        port = server.getsockname()[1]
        spec = VendorSpec(name="crm", url=f"http://127.0.0.1:{port}", inside=True)
        async with Door() as door:
            for _ in range(400):
                reply = await door.send(spec, Request(), timeout_s=5)
                assert reply.data == {"ok": 1}


def _twice(server: socket.socket) -> None:
    """Answer everybody twice, from a thread of its own; ends with the socket."""
    with contextlib.suppress(OSError):
        while True:
            Thread(target=_serve_twice, args=(server.accept()[0],), daemon=True).start()


def _serve_twice(end: socket.socket) -> None:
    with end, contextlib.suppress(OSError):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while end.recv(65536):
            end.sendall(GOOD)
            end.sendall(OTHER)


async def test_a_lost_reply_is_in_doubt_and_is_not_asked_again_by_itself() -> None:
    """Also a PUT, which HTTP calls idempotent: who asks decides that."""
    async with saying(GOOD, b"", hangs_up=False) as wires:
        wires.hangs_up = True
        wires.says = iter([b""] * 9)
        error = await failed(wires, Request("x", "PUT", json={}))

    assert (error.code, error.in_doubt, len(wires.asked)) == ("VENDOR_DOWN", True, 1)


async def test_a_refused_connection_is_in_no_doubt() -> None:
    async with saying(GOOD) as wires:
        spec = wires.spec()
    async with Door() as door:
        with pytest.raises(CallError) as caught:
            await door.send(spec, Request(), timeout_s=2)

    assert (caught.value.code, caught.value.in_doubt) == ("VENDOR_DOWN", False)


async def test_a_vendors_own_table_goes_first() -> None:
    """By status, or by status and a word of the body, also of a success."""
    table = {
        "409": "transient",
        "403:INVALID_SESSION": "auth",
        "200:STATUS_FAILED": "permanent",
        "400": "garbage",
    }
    seen = []
    for status, body in [
        ("409 Conflict", b"{}"),
        ("403 Forbidden", b'[{"errorCode": "INVALID_SESSION_ID"}]'),
        ("403 Forbidden", b'[{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]'),
        ("200 OK", b'{"result": "status_failed"}'),
        ("400 Bad Request", b"{}"),
    ]:
        async with saying(whole(body, status=status)) as wires:
            seen.append((await failed(wires, errors=table)).kind)

    assert seen == ["transient", "auth", "quota", "permanent", "garbage"]


async def test_a_reply_says_what_it_took_and_what_is_left() -> None:
    body = {
        "model": "m-2",
        "choices": [{"finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }
    more = (
        JSON
        + b"x-ratelimit-remaining-requests: 7\r\nx-ratelimit-reset-requests: 6m0s\r\n"
    )
    async with (
        saying(whole(json.dumps(body).encode(), more=more)) as wires,
        Door() as door,
    ):
        reply = await door.send(
            wires.spec(kind="openai"), Request(json={}), timeout_s=2
        )

    assert reply.usage == Usage(input_tokens=6, cached_input_tokens=4, output_tokens=5)
    assert (reply.model, reply.finish) == ("m-2", "stop")
    assert reply.limits == (Allowance("requests", 7, None, 360),)
    assert reply.headers == {"content-type": "application/json"}
    assert reply.took_s > 0


async def test_an_error_in_the_clothes_of_an_answer_is_none() -> None:
    async with saying(whole(b'{"error": {"code": "x"}, "secret": "word"}')) as wires:
        error = await failed(wires, kind="openai")

    assert error.code == "VENDOR_GARBAGE"
    assert "word" not in f"{error!r} {error.hint}"


# -- downloads -------------------------------------------------------------------------


async def test_a_download_becomes_an_artifact(tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    packed = whole(gzip.compress(data), more=b"content-encoding: gzip\r\n")
    artifacts = FileArtifacts(tmp_path / "objects")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    async with saying(packed) as wires, Door(scratch=scratch) as door:
        spec = wires.spec(answer_bytes_max=len(data))
        reply = await door.send(
            spec,
            Request("x", "GET", answer="artifact"),
            timeout_s=5,
            artifacts=artifacts,
        )

    assert await artifacts.get(reply.artifact) == data
    assert (reply.data, list(scratch.iterdir())) == (None, [])


async def test_what_a_killed_process_was_loading_is_swept(tmp_path: Path) -> None:
    """And nothing that somebody is loading now, nor what is not ours."""
    with new_part(tmp_path) as loading:
        left = Path(loading.name)
        dead = tmp_path / ".tmpdead.part"
        other = tmp_path / "notes.txt"
        dead.write_bytes(b"half a picture")
        other.write_bytes(b"mine")

        async with Door(scratch=tmp_path):
            pass

        assert sorted(tmp_path.iterdir()) == sorted([left, other])


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (whole(b"x" * 2000), "VENDOR_GARBAGE"),
        (whole(gzip.compress(b"x" * 1000)[:-1], more=GZIP), "VENDOR_GARBAGE"),
        (whole(b"x" * 1000)[:-1], "VENDOR_DOWN"),
    ],
)
async def test_of_a_download_that_fails_nothing_is_left(
    tmp_path: Path, answer: bytes, code: str
) -> None:
    artifacts = FileArtifacts(tmp_path / "objects")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    async with saying(answer, hangs_up=True) as wires, Door(scratch=scratch) as door:
        with pytest.raises(CallError) as caught:
            await door.send(
                wires.spec(answer_bytes_max=1024),
                Request("x", "GET", answer="artifact"),
                timeout_s=2,
                artifacts=artifacts,
            )

    kept = [p for p in (tmp_path / "objects").rglob("*") if p.is_file()]
    assert caught.value.code == code
    assert (kept, list(scratch.iterdir())) == ([], [])


# -- at its moment ---------------------------------------------------------------------


async def test_a_call_is_made_ready_and_sent_when_it_may_be() -> None:
    """Its connection stands before; the wait is not the vendor's time."""
    seen: list[tuple[int, int]] = []

    async with saying(GOOD) as wires, Door() as door:

        async def when() -> None:
            await anyio.sleep(0.3)
            seen.append((len(wires.connections), len(wires.asked)))

        reply = await door.send(wires.spec(), Request(), timeout_s=0.2, when=when)

    assert reply.data == {"ok": 1}
    assert reply.took_s < 0.3
    assert seen == [(1, 0)]
    assert len(wires.asked) == 1


async def test_what_is_not_to_be_sent_is_not() -> None:
    """What `when` raises ends the call, and its connection."""
    async with saying(GOOD) as wires, Door() as door:

        async def when() -> None:
            raise LimitWait.of("vendor/crm/requests", 60.0, 60.0)

        with pytest.raises(LimitWait):
            await door.send(wires.spec(), Request(), timeout_s=2, when=when)
        await door.send(wires.spec(), Request(), timeout_s=2)

    assert [len(each) for each in wires.connections] == [0, 1]


async def test_a_connection_that_ends_while_its_call_waits_is_not_used() -> None:
    """The call goes over another one, once."""
    end = anyio.Event()
    asked: list[list[bytes]] = []

    async def serve(stream: SocketStream) -> None:
        asked.append([])
        async with stream:
            if len(asked) == 1:
                await end.wait()
                return
            asked[-1].append(await stream.receive())
            await stream.send(GOOD)

    async def when() -> None:
        end.set()
        await anyio.sleep(0.05)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    wires = Wires(listener.extra(SocketAttribute.local_port), iter(()))
    async with anyio.create_task_group() as tasks, Door() as door:
        tasks.start_soon(listener.serve, serve)
        reply = await door.send(wires.spec(), Request(), timeout_s=2, when=when)
        tasks.cancel_scope.cancel()
    await listener.aclose()

    assert reply.data == {"ok": 1}
    assert [len(each) for each in asked] == [0, 1]
