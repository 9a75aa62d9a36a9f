"""The simulated world as a process: over the wire, steered, counted, and ended."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from loadtest.vendors.playing import Steered, playing

AT_ONCE = 500


@pytest.fixture(scope="module")
def world() -> Iterator[Steered]:
    with playing({"slow": {"kind": "echo", "latency": 0.3}}, for_s=120) as found:
        yield found


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5) as found:
        yield found


def raw(world: Steered, path: str, wait_s: float = 0.3) -> bytes:
    """Everything that comes on a connection until it rests for `wait_s`."""
    address = urlsplit(world.shown["url"])
    asked = f"POST {path} HTTP/1.1\r\nhost: it\r\ncontent-length: 2\r\n\r\n{{}}"
    found = b""
    with socket.create_connection((address.hostname, address.port), 5) as stream:
        stream.sendall(asked.encode())
        stream.settimeout(wait_s)
        try:
            while got := stream.recv(1 << 20):
                found += got
        except TimeoutError:
            found += b"<open>"
        except ConnectionResetError:
            found += b"<reset>"
    return found


# -- over the wire --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("lost", httpx.TransportError),
        ("reset", httpx.TransportError),
        ("cut", httpx.RemoteProtocolError),
        ("silent", httpx.ReadTimeout),
        ("hang", httpx.ReadTimeout),
        ("bad_gzip", httpx.DecodingError),
    ],
)
def test_a_client_is_left_without_an_answer(
    world: Steered, fault: str, error: type[Exception]
) -> None:
    """As a socket shows it: cut, silent, or in no encoding."""
    world.set("echo", script=[fault])

    with httpx.Client(timeout=0.3) as client, pytest.raises(error):
        client.post(world.url("echo"), json={})


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        ("bad_json", None),
        ("html", None),
        ("empty", None),
        ("wrong_envelope", {"status": "ok", "data": []}),
        ("cut_gzip", None),
    ],
)
def test_a_client_gets_what_it_did_not_ask_for(
    world: Steered, client: httpx.Client, fault: str, body: Any
) -> None:
    """Whole by its length, and not what it should be."""
    world.set("echo", script=[fault])

    answer = client.post(world.url("echo"), json={})

    assert answer.status_code == 200
    if body is None and fault != "cut_gzip":
        with pytest.raises(ValueError):  # noqa: PT011  # every decoder's own
            answer.json()
    if body is not None:
        assert answer.json() == body


def test_what_is_cut_in_its_gzip_is_whole_by_its_length(world: Steered) -> None:
    """The connection stays, and only gzip itself knows better."""
    world.set("echo", script=["cut_gzip"])

    head, _, body = raw(world, "/echo").partition(b"\r\n\r\n")

    assert b"content-encoding: gzip" in head
    assert f"content-length: {len(body) - len(b'<open>')}".encode() in head
    with pytest.raises(EOFError):
        gzip.decompress(body.removesuffix(b"<open>"))


def test_a_second_answer_follows_on_the_connection(world: Steered) -> None:
    """To a question that nobody asked."""
    world.set("echo", script=["two_answers"])

    came = raw(world, "/echo")

    assert came.count(b"HTTP/1.1 200") == 2
    assert b"of another call" in came
    assert came.endswith(b"<open>")


def test_an_answer_may_drip_and_may_flood(world: Steered) -> None:
    """A byte at a time; or more than anybody wants, with its length told."""
    world.set("echo", script=["drip", "flood"], drip_s=0.01, flood_bytes=1 << 20)

    slow, long = raw(world, "/echo", 0.05), raw(world, "/echo", 0.05)

    assert slow.endswith(b"<open>")
    assert json.loads(slow.partition(b"\r\n\r\n")[2].removesuffix(b"<open>"))
    assert len(long) > 1 << 20
    assert b"content-length: 1048576" in long


def test_thousands_may_wait_at_once(world: Steered) -> None:
    """Calls that take long cost a connection each and no more."""
    world.reset()
    address = urlsplit(world.shown["url"])
    asked = b"POST /slow HTTP/1.1\r\nhost: it\r\ncontent-length: 2\r\n\r\n{}"

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(asked)
        found = await reader.readuntil(b"\r\n")
        writer.close()
        await writer.wait_closed()
        return found

    async def every() -> list[bytes]:
        return await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    start = time.monotonic()
    found = asyncio.run(every())

    counts = world.counts("slow")
    assert set(found) == {b"HTTP/1.1 200 OK\r\n"}
    assert counts["accepted"] == counts["under_way_max"] == AT_ONCE
    assert counts["under_way"] == 0
    assert time.monotonic() - start < 5


def test_who_hangs_up_was_accepted_all_the_same(world: Steered) -> None:
    """What a killed client had sent is done, and it does not count as under way."""
    world.reset()
    with httpx.Client(timeout=0.1) as client, pytest.raises(httpx.ReadTimeout):
        client.post(world.url("slow"), json={}, headers={"idempotency-key": "k"})
    with httpx.Client(timeout=5) as client:
        again = client.post(
            world.url("slow"), json={}, headers={"idempotency-key": "k"}
        )

    counts = world.counts("slow")
    assert again.headers["idempotent-replayed"] == "true"
    assert (counts["accepted"], counts["repeated"], counts["under_way"]) == (1, 1, 0)


# -- steered and counted --------------------------------------------------------------


def test_an_outage_comes_and_goes_by_the_clock(
    world: Steered, client: httpx.Client
) -> None:
    """Declared while the world runs; afterwards everything is as before."""
    world.reset()
    world.outage("erp", for_s=0.4, status=502)
    during = client.get(f"{world.url('erp')}/items/AB-1").status_code
    start = time.monotonic()
    while client.get(f"{world.url('erp')}/items/AB-1").status_code != 200:
        assert time.monotonic() - start < 5

    world.set("erp", outage=[])

    assert during == 502
    assert 0.1 < time.monotonic() - start < 2
    assert world.counts("erp")["outage"] >= 2


def test_a_vendor_may_come_later(world: Steered, client: httpx.Client) -> None:
    """And a change that means nothing changes nothing, of all that came with it."""
    world.set("second", kind="chat", reply="I am the second")
    said = {"model": "m", "messages": [{"role": "user", "content": "Who?"}]}
    with pytest.raises(ValueError, match="knows no"):
        world.change({"second": {"reply": "changed"}, "echo": {"script": ["what"]}})

    url = f"{world.url('second')}/v1/chat/completions"
    answer = client.post(url, json=said).json()

    assert answer["choices"][0]["message"]["content"] == "I am the second"


def test_a_vendor_may_become_another(world: Steered, client: httpx.Client) -> None:
    """Its kind, its seed and its limits are what they are said to be, and stay."""
    world.set("turning", kind="echo", limits=[{"requests": "9/min"}])
    world.set("turning", kind="erp")
    world.set("echo", script=[])

    answer = client.get(f"{world.url('turning')}/items/AB-1")

    assert answer.json()["sku"] == "AB-1"
    assert answer.headers["x-ratelimit-remaining-requests"] == "8"
    assert len(client.get(f"{world.url('echo')}/bytes/70000").content) == 70_000


def test_the_book_can_be_asked(world: Steered, client: httpx.Client) -> None:
    """Who, what and when; bodies and credentials by their digest alone."""
    world.reset()
    headers = {"authorization": "Bearer sk-secret", "x-tenant": "acme"}
    client.post(f"{world.url('erp')}/orders", json={"reference": "r1"}, headers=headers)

    [row] = world.rows("select tenant, bytes, billed, credential from accepted")
    assert row[:3] == ("acme", 18, 1)
    assert world.rows("select what, key from taken") == [("order", "r1")]
    assert b"sk-secret" not in world.book.read_bytes()


# -- how it ends ----------------------------------------------------------------------


def test_it_ends_when_its_time_is_up_and_when_nobody_wants_it() -> None:
    """By itself, and with the process that started it."""
    command = [sys.executable, "-m", "loadtest.vendors", "--port", "0", "--json"]
    started = subprocess.Popen([*command, "--for", "0.1"], stdout=subprocess.DEVNULL)
    starter = (
        "import os, subprocess, sys;"
        f"it = subprocess.Popen({command!r} + ['--parent', str(os.getpid())],"
        " stdout=subprocess.PIPE); print(it.stdout.readline().decode())"
    )
    left = subprocess.run(
        [sys.executable, "-c", starter], capture_output=True, text=True, check=True
    )

    address = urlsplit(json.loads(left.stdout)["url"])
    assert started.wait(timeout=10) == 0
    deadline = time.monotonic() + 10
    while _listens(address.hostname, address.port):
        assert time.monotonic() < deadline


def _listens(host: str | None, port: int | None) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except ConnectionError:
        return False
    return True
