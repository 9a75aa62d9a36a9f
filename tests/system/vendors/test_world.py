"""The simulated world as a process: over the wire, steered, counted, and ended."""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from loadtest.vendors.playing import Steered, playing

AT_ONCE = 300
WAIT_S = 20.0


@pytest.fixture(scope="module")
def world() -> Iterator[Steered]:
    with playing(for_s=120) as found:
        yield found


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=WAIT_S) as found:
        yield found


def connected(world: Steered, path: str) -> socket.socket:
    """A connection on which a request was sent."""
    address = urlsplit(world.shown["url"])
    asked = f"POST {path} HTTP/1.1\r\nhost: it\r\nidempotency-key: k\r\n"
    stream = socket.create_connection((address.hostname, address.port), WAIT_S)
    stream.sendall(f"{asked}content-length: 2\r\n\r\n{{}}".encode())
    return stream


def answered(world: Steered, path: str, *, then: bytes = b"") -> tuple[bytes, bytes]:
    """Head and body of an answer; read on until `then` came as well."""
    with connected(world, path) as stream:
        found = b""
        while not whole(found) or then not in found:
            got = stream.recv(1 << 20)
            assert got, f"the connection ended after {found[-200:]!r}"
            found += got
    head, _, body = found.partition(b"\r\n\r\n")
    return head, body


def whole(found: bytes) -> bool:
    head, parted, body = found.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(parted) and length is not None and len(body) >= int(length[1])


def until(true: Callable[[], bool]) -> None:
    """Wait for it, and not for long."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline


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
    read_s = 0.3 if error is httpx.ReadTimeout else WAIT_S

    timeout = httpx.Timeout(WAIT_S, read=read_s)
    with httpx.Client(timeout=timeout) as client, pytest.raises(error):
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
    """Only gzip itself knows better."""
    world.set("echo", script=["cut_gzip"])

    head, body = answered(world, "/echo")

    assert b"content-encoding: gzip" in head
    assert f"content-length: {len(body)}".encode() in head
    with pytest.raises(EOFError):
        gzip.decompress(body)


def test_a_second_answer_follows_on_the_connection(world: Steered) -> None:
    """To a question that nobody asked."""
    world.set("echo", script=["two_answers"])

    head, body = answered(world, "/echo", then=b"of another call")

    assert (head + body).count(b"HTTP/1.1 200") == 2


def test_an_answer_may_drip_and_may_flood(world: Steered) -> None:
    """A byte at a time; or more than anybody wants, with its length told."""
    world.set("echo", script=["drip", "flood"], drip_s=0.001, flood_bytes=1 << 20)

    start = time.monotonic()
    _, slow = answered(world, "/echo")
    took_s = time.monotonic() - start
    head, long = answered(world, "/echo")

    assert json.loads(slow)["method"] == "POST"
    assert took_s > 0.001 * len(slow)
    assert b"content-length: 1048576" in head
    assert len(long) == 1 << 20


def test_hundreds_may_wait_at_once(world: Steered) -> None:
    """Calls that take long cost a connection each and no more."""
    world.reset()
    world.set("echo", faults={"hang": 1}, script=[])

    waiting = [connected(world, "/echo") for _ in range(AT_ONCE)]
    until(lambda: world.counts("echo").get("under_way") == AT_ONCE)
    quick = httpx.get(f"{world.url('erp')}/items/AB-1", timeout=WAIT_S)
    for each in waiting:
        each.close()

    until(lambda: world.counts("echo")["under_way"] == 0)
    world.set("echo", faults={})
    assert quick.status_code == 200
    assert world.counts("echo")["failed"] == AT_ONCE


def test_who_hangs_up_was_accepted_all_the_same(
    world: Steered, client: httpx.Client
) -> None:
    """What a killed client had sent is done, and it does not count as under way."""
    world.reset()
    world.set("echo", latency=60, script=[])
    with connected(world, "/echo"):
        until(lambda: world.counts("echo").get("accepted") == 1)
    until(lambda: world.counts("echo")["under_way"] == 0)
    world.set("echo", latency=0)

    key = {"idempotency-key": "k"}
    again = client.post(world.url("echo"), content=b"{}", headers=key)

    counts = world.counts("echo")
    assert again.headers["idempotent-replayed"] == "true"
    assert (counts["accepted"], counts["repeated"], counts["billed"]) == (1, 1, 1)


# -- steered and counted --------------------------------------------------------------


def test_an_outage_comes_and_goes_by_the_clock(
    world: Steered, client: httpx.Client
) -> None:
    """Declared while the world runs: not yet, now, and over."""
    world.reset()
    statuses = []
    for in_s in (3600, 0, -3600):
        world.outage("erp", in_s=in_s, for_s=1800, status=502)
        found = client.get(f"{world.url('erp')}/items/AB-1")
        statuses.append(found.status_code)
    world.set("erp", outage=[])

    assert statuses == [200, 502, 200]
    assert world.counts("erp")["outage"] == 1


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
    assert started.wait(timeout=WAIT_S) == 0
    until(lambda: not _listens(address.hostname, address.port))


def _listens(host: str | None, port: int | None) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except ConnectionError:
        return False
    return True
