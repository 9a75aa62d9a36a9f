"""The vendor door, against a server that misbehaves on command."""

from __future__ import annotations

import ipaddress
import logging
import resource
import threading
import time
from typing import Any

import anyio
import pytest

from loadtest import vendors
from loadtest.vendors import Answer, serving
from pipeline.calls import Request
from pipeline.errors import Permanent, Throttled, Transient, Usage, WaybillError
from pipeline.vendors import door as door_module
from pipeline.vendors.addresses import reachable
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.door import Door
from tests.system.vendors.wires import saying, whole

KEY = "sk-secret-0123456789"
LOCAL = ("127.0.0.1",)


async def post(
    door: Door, url: str, body: Any, *, key: str = "", timeout_s: float
) -> Any:
    """What a vendor at this URL answers to a JSON body."""
    spec = VendorSpec(name="vendor", url=url)
    reply = await door.send(spec, Request(json=body), key=key, timeout_s=timeout_s)
    return reply.data


async def outcome_of(answer: Answer, *, timeout_s: float = 5.0) -> WaybillError:
    """The error that a call against a server with this answer ends in."""
    async with (
        serving([answer], then=answer) as server,
        Door(allow_hosts=LOCAL) as vendor,
    ):
        with pytest.raises(WaybillError) as caught:
            await post(vendor, server.url, {}, key=KEY, timeout_s=timeout_s)
    return caught.value


async def test_what_the_first_call_needs_is_loaded_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once: on a busy machine it takes seconds, and a loop would stand still."""
    threads: list[int] = []
    load = door_module._load

    def loaded(certificates: bool) -> None:
        threads.append(threading.get_ident())
        load(certificates)

    monkeypatch.setattr(door_module, "_load", loaded)
    async with saying(whole(b"{}")) as wires, Door() as door:
        for _ in range(2):
            await door.send(wires.spec(), Request(), timeout_s=2)

    assert len(threads) == 1
    assert threads != [threading.get_ident()]


async def test_a_good_answer_comes_back_decoded() -> None:
    """JSON in, JSON out; gzip is unpacked; the key travels as a bearer token."""
    async with (
        serving([vendors.written(), vendors.packed()]) as server,
        Door(allow_hosts=LOCAL) as vendor,
    ):
        url = f"{server.url}/chat/completions"
        plain = await post(vendor, url, {"a": "é"}, key=KEY, timeout_s=5)
        packed = await post(vendor, url, {"b": 2}, timeout_s=5)

    assert plain == packed
    assert plain["choices"][0]["finish_reason"] == "stop"
    first, second = server.requests
    assert (first.path, first.body) == ("/chat/completions", {"a": "é"})
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert "authorization" not in second.headers
    assert first.headers["host"] == server.url.removeprefix("http://")


@pytest.mark.parametrize(
    ("answer", "kind", "code", "wait_s"),
    [
        (vendors.throttled(7), Throttled, "THROTTLED", 7),
        (vendors.throttled("7.5"), Throttled, "THROTTLED", 7.5),
        (vendors.throttled(None), Throttled, "THROTTLED", None),
        (vendors.throttled(10**8), Throttled, "THROTTLED", 3600),
        (vendors.throttled("soon"), Throttled, "THROTTLED", None),
        (vendors.throttled("-5"), Throttled, "THROTTLED", None),
        (vendors.throttled("Thu, 01 Jan 1970 00:00:00 GMT"), Throttled, "THROTTLED", 0),
        (vendors.throttled(3, status=503), Throttled, "THROTTLED", 3),
        (vendors.refused(400, "Rate limit reached"), Throttled, "THROTTLED", None),
        (vendors.refused(403, "quota exceeded"), Throttled, "QUOTA", None),
        (
            vendors.refused(400, "prompt exceeds the token limit"),
            Permanent,
            "VENDOR_REFUSED",
            None,
        ),
        (vendors.failing(500), Transient, "VENDOR_DOWN", None),
        (vendors.failing(503), Transient, "VENDOR_DOWN", None),
        (vendors.failing(504), Transient, "VENDOR_TIMEOUT", None),
        (vendors.refused(401), Permanent, "VENDOR_AUTH", None),
        (vendors.refused(403), Permanent, "VENDOR_AUTH", None),
        (vendors.refused(404), Permanent, "VENDOR_REFUSED", None),
        (vendors.redirect("http://10.0.0.1/"), Permanent, "VENDOR_REFUSED", None),
        (vendors.not_json(), Transient, "VENDOR_GARBAGE", None),
        (vendors.html(), Transient, "VENDOR_GARBAGE", None),
        (Answer(body=b"[" * 100_000), Transient, "VENDOR_GARBAGE", None),
        (Answer(body=b"NaN"), Transient, "VENDOR_GARBAGE", None),
        (
            Answer(body=b"{}", headers=(("content-encoding", "br"),)),
            Transient,
            "VENDOR_GARBAGE",
            None,
        ),
        (
            Answer(body=b"{}", headers=(("content-encoding", "gzip"),)),
            Transient,
            "VENDOR_GARBAGE",
            None,
        ),
        (vendors.truncated(), Transient, "VENDOR_DOWN", None),
    ],
)
async def test_every_answer_says_what_happens_to_the_item(
    answer: Answer, kind: type[WaybillError], code: str, wait_s: float | None
) -> None:
    """Throttles and their disguises, trouble, refusals and garbage, each apart."""
    error = await outcome_of(answer)

    assert isinstance(error, kind)
    assert (error.code, error.retry_after_s) == (code, wait_s)
    assert error.hint


async def test_a_retry_after_date_is_understood() -> None:
    """HTTP dates are as good as seconds."""
    error = await outcome_of(vendors.throttled_until(30))

    assert isinstance(error, Throttled)
    assert error.retry_after_s == pytest.approx(30, abs=2)


async def test_a_wrong_clock_does_not_change_a_date() -> None:
    """A date is measured from the answer's own Date."""
    headers = (
        ("date", "Sat, 01 Jan 2000 00:00:00 GMT"),
        ("retry-after", "Sat, 01 Jan 2000 00:01:30 GMT"),
    )

    error = await outcome_of(Answer(status=429, headers=headers))

    assert error.retry_after_s == 90


@pytest.mark.parametrize(
    "answer", [vendors.hanging(), vendors.dripping(0.02)], ids=["hang", "drip"]
)
async def test_the_timeout_is_total(answer: Answer) -> None:
    """Neither silence nor a byte now and then outlives `timeout_s`."""
    start = time.monotonic()

    error = await outcome_of(answer, timeout_s=0.4)

    assert error.code == "VENDOR_TIMEOUT"
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "answer", [vendors.flooding(), vendors.bomb()], ids=["flood", "gzip bomb"]
)
async def test_an_answer_is_bounded_as_it_is_unpacked(answer: Answer) -> None:
    """64 MB sent, or 512 MB packed into half a megabyte, never fill the memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    error = await outcome_of(answer)

    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert error.code == "VENDOR_GARBAGE"
    assert grown_kib < 48 * 1024


async def test_an_error_page_is_bounded_too() -> None:
    """A flood with status 400 is read no further than a quota's message needs."""
    error = await outcome_of(
        Answer(status=400, body=b"x" * 65536, times=1000), timeout_s=5
    )

    assert error.code == "VENDOR_REFUSED"


async def test_a_vendor_that_is_not_there_is_transient() -> None:
    """A refused connection is tried again, and no name is forgiven."""
    async with Door(allow_hosts=LOCAL) as vendor:
        with pytest.raises(Transient) as refused:
            await post(vendor, "http://127.0.0.1:9/", {}, timeout_s=5)
        with pytest.raises(Transient) as unknown:
            await post(vendor, "http://nowhere.invalid/", {}, timeout_s=5)

    assert (refused.value.code, unknown.value.code) == ("VENDOR_DOWN", "VENDOR_DOWN")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
async def test_addresses_inside_a_network_are_not_reached(url: str) -> None:
    """Without an operator's word the door opens to public addresses only."""
    async with serving() as server, Door() as vendor:
        target = url.format(port=server.url.rsplit(":", 1)[1])
        with pytest.raises(Permanent) as caught:
            await post(vendor, target, {}, timeout_s=5)

    assert caught.value.code == "VENDOR_FORBIDDEN"
    assert server.requests == []


@pytest.mark.parametrize(
    ("address", "openly", "allowed"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700::1111", True, True),
        ("10.0.0.1", False, True),
        ("::1", False, True),
        ("fd12::1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("fd00:ec2::254", False, False),
        ("100.100.100.200", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:7f00:1::", False, True),
        ("224.0.0.1", False, False),
        ("0.0.0.0", False, False),
    ],
)
def test_which_addresses_may_be_reached(
    address: str, openly: bool, allowed: bool
) -> None:
    """Clothes do not matter, and metadata services are nobody's vendor."""
    parsed = ipaddress.ip_address(address)

    assert (reachable(parsed, False), reachable(parsed, True)) == (openly, allowed)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("ftp://vendor.test/", ""),
        ("file:///etc/passwd", ""),
        ("https://", ""),
        (f"https://user:{KEY}@vendor.test/", ""),
        ("not a url", ""),
        ("https://vendor.test/", f"{KEY}\n"),
    ],
)
async def test_what_cannot_be_a_url_or_key_is_refused(url: str, key: str) -> None:
    """A usage error that repeats neither: people put keys into URLs."""
    async with Door() as vendor:
        with pytest.raises(Usage) as caught:
            await post(vendor, url, {}, key=key, timeout_s=5)

    assert KEY not in f"{caught.value} {caught.value.hint}"


async def test_the_key_stays_out_of_errors_and_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever goes wrong, nothing that is written down shows the key."""
    caplog.set_level(logging.DEBUG)
    seen = []
    for answer in (vendors.refused(401, KEY), vendors.truncated(), vendors.html()):
        error = await outcome_of(answer)
        seen.append(f"{error!r} {error} {error.hint} {error.__cause__!r}")

    assert KEY not in " ".join(seen) + caplog.text


async def test_cancelled_calls_leave_the_door_in_order() -> None:
    """After a hundred cancelled calls, connections are as before."""
    slow = vendors.written(after_s=0.2)
    async with (
        serving(then=slow) as server,
        Door(allow_hosts=LOCAL) as vendor,
    ):

        async def abandoned() -> None:
            await post(vendor, server.url, {}, timeout_s=5)

        with anyio.move_on_after(0.1):
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(abandoned)
        with anyio.fail_after(5):
            answer = await post(vendor, server.url, {}, timeout_s=4)

    assert answer["choices"]
