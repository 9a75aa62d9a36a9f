"""Callbacks: who may answer, and what whoever may not is told."""

from __future__ import annotations

import hashlib
import hmac
import json
import string
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from ingest.http.callbacks import NOTED_MAX, Mailbox
from ingest.http.server import Request, Response
from ingest.http.webhooks import TOLERANCE_S, is_signed
from pipeline.errors import StoreUnavailable
from pipeline.model import State
from pipeline.signals import Callback, Callbacks
from pipeline.store.signals import REFUSALS_MAX
from tests.unit.ingest.test_signals import Door

NOW = 1_800_000_000.0
KEY = b"k" * 24
SECRET = f"whsec_{b64encode(KEY).decode()}"
JSON = {"content-type": "application/json; charset=utf-8"}
FAR = 2_000_000_000


def signed(body: bytes, key: bytes = KEY, said: str = "msg_1", at: int = int(NOW)):
    """Headers of Standard Webhooks, made as their text says it."""
    what = f"{said}.{at}.".encode() + body
    signature = b64encode(hmac.new(key, what, hashlib.sha256).digest()).decode()
    return {
        **JSON,
        "webhook-id": said,
        "webhook-timestamp": f"{at}",
        "webhook-signature": f"v1a,xx v1,AAAA v1,{signature}",
    }


class Post(Door):
    """A mailbox over a store with one item that waits."""

    def __init__(self) -> None:
        super().__init__()
        self.urls = Callbacks(b"service key", "https://example.test/waybill/")
        self.notes: list[tuple[Any, ...]] = []
        self.box = Mailbox(
            self.store,
            self.artifacts,
            self.urls,
            lambda tenant: [SECRET] if tenant == "acme" else [],
            now=lambda: NOW,
        )

        async def note(*facts: Any, tenant: str = "") -> None:
            self.notes.append((*facts, tenant))

        self.store.note_refused = note  # type: ignore[method-assign]

    def token(self, **facts: Any) -> str:
        """The path of a callback URL."""
        said = {"tenant": "acme", "item": 1, "name": "proof-read", "until": FAR}
        return self.urls.url(Callback(**(said | facts))).removeprefix(
            "https://example.test/waybill"
        )

    async def post(self, path: str, said: Any, **headers: str) -> Response:
        """What is answered."""
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        return await self.box.handle(Request("POST", path, {**JSON, **headers}, body))


GOOD = {"good": True}


async def test_who_has_the_url_answers() -> None:
    """Once; again it is acknowledged, and another answer is refused."""
    post = Post()
    await post.open()
    path = post.token()

    first = await post.post(path, GOOD)
    again = await post.post(path, GOOD)
    other = await post.post(path, {"good": False})

    assert first == (200, {"taken": "now"}, 0)
    assert again == (200, {"taken": "again"}, 0)
    assert (other.status, other.said["error"]) == (409, "SIGNAL_ANSWERED")
    assert (await post.store.item(1)).state is State.READY
    [row] = await post.store.signals(1)
    assert row.author == "callback"


async def test_a_delivery_may_say_that_it_is_the_same() -> None:
    """By the header of either custom."""
    post = Post()
    await post.open()

    await post.post(post.token(), GOOD, **{"idempotency-key": "7"})
    again = await post.post(post.token(), {"good": False}, **{"webhook-id": "7"})

    assert again.said == {"taken": "again"}


async def test_late_and_bad_ones_are_told_so() -> None:
    """A status each; nothing of the answer comes back."""
    post = Post()
    await post.open()

    bad = await post.post(post.token(), {"good": "secret"})
    no_json = await post.post(post.token(), b"secret")
    early = await post.post(post.token(name="other"), "early")
    await post.store.cancel([1], "ann")
    late = await post.post(post.token(name="third"), GOOD)

    assert [r.status for r in (bad, no_json, early, late)] == [422, 422, 200, 410]
    assert "secret" not in f"{bad} {no_json}"
    assert early.said == {"taken": "kept"}


SPOILT = ("cut", "changed", "other key", "none", "expired", "other end", "blank")
DIGITS = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"


@pytest.mark.parametrize("what", SPOILT)
async def test_foreign_urls_look_alike(what: str) -> None:
    """Of an item that there is and of one that there is not."""
    post = Post()
    await post.open()
    path = post.token()
    first = post.token(item=2).rpartition(".")[0]
    path = {
        "cut": path[:-1],
        "changed": f"{first}.{path.rpartition('.')[2]}",
        "other key": Callbacks(b"x", "").url(Callback("acme", 1, "proof-read", FAR)),
        "none": post.token(item=99),
        "expired": post.token(until=1),
        # The same bytes, written in a way in which nobody writes them.
        "other end": path[:-1] + DIGITS[DIGITS.index(path[-1]) + 1],
        "blank": f"{path[:-1]}!{path[-1]}",
    }[what]

    said = await post.post(path, GOOD)

    assert said == (404, {"error": "SIGNAL_FOREIGN"}, 0)
    assert (await post.store.item(1)).state is State.WAITING


async def test_garbage_is_no_token() -> None:
    """Whatever it is; nothing is raised."""
    post = Post()
    await post.open()
    for token in ("", ".", "a.b", "ä.ä", "%00", "A" * 5000, "MQ.MQ", "/", "MQo.x"):
        said = await post.post(f"/signals/{quote(token, safe='%')}", GOOD)
        assert said.status == 404


async def test_who_has_the_tenants_secret_answers() -> None:
    """Signed as Standard Webhooks has it."""
    post = Post()
    await post.open()
    body = json.dumps(GOOD).encode()
    path = "/signals/acme/1/proof-read"

    first = await post.post(path, body, **signed(body))
    again = await post.post(path, body, **signed(body))

    assert first == (200, {"taken": "now"}, 0)
    assert again == (200, {"taken": "again"}, 0)
    assert (await post.store.signals(1))[0].delivery == "msg_1"


BODY = json.dumps(GOOD).encode()
OLD = int(NOW - TOLERANCE_S - 1)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("acme/1/proof-read", signed(BODY, b"other")),
        ("acme/1/proof-read", signed(b"other")),
        ("acme/1/proof-read", signed(BODY, at=OLD)),
        ("acme/1/proof-read", signed(BODY, at=int(NOW + TOLERANCE_S + 1))),
        ("acme/1/proof-read", JSON),
        ("acme/1/proof-read", signed(BODY, said="")),
        ("acme/1/proof-read", {**signed(BODY), "webhook-timestamp": "x"}),
        (
            "acme/1/proof-read",
            {**signed(BODY), "webhook-signature": "\xff,\xff v1,\xff"},
        ),
        ("other/1/proof-read", signed(BODY)),
        ("acme/2/proof-read", signed(BODY)),
        ("acme/99999999999999999999/proof-read", signed(BODY)),
        ("acme/x/proof-read", signed(BODY)),
        ("/1/proof-read", signed(BODY)),
    ],
)
async def test_foreign_webhooks_look_alike(path: str, headers: Any) -> None:
    """No secret, another one, a replay, another's item, no item."""
    post = Post()
    await post.open()

    said = await post.post(f"/signals/{path}", BODY, **headers)

    assert said == (401, {"error": "SIGNAL_FOREIGN"}, 0)
    assert (await post.store.item(1)).state is State.WAITING


def test_secrets_are_replaced_by_others() -> None:
    """Several count at a time; a line that is none counts for nothing."""
    new = f"whsec_{b64encode(b'new').decode()}"

    for key in (KEY, b"new"):
        headers = signed(BODY, key)
        assert is_signed(headers, BODY, [SECRET, "no base64!", new], NOW)
    assert not is_signed(signed(BODY, b""), BODY, ["whsec_", ""], NOW)


async def test_strangers_leave_a_trace_and_cannot_fill_a_table() -> None:
    """At the item that they meant, if it is this tenant's, so often a minute."""
    post = Post()
    await post.open()
    forged = Callbacks(b"x", "").url(Callback("acme", 1, "proof-read", FAR))
    for _ in range(50):
        await post.post(forged, GOOD)
        await post.post("/signals/acme/1/proof-read", GOOD)
    assert len(post.notes) == NOTED_MAX < REFUSALS_MAX
    assert set(post.notes) == {
        (1, "proof-read", "SIGNAL_FOREIGN", "callback", "acme"),
        (1, "proof-read", "SIGNAL_FOREIGN", "webhook", "acme"),
    }
    await anyio.sleep(61)
    await post.post(forged, GOOD)
    assert len(post.notes) == NOTED_MAX + 1


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/signals/x", {}, 404),
        ("PUT", "/signals/x", JSON, 405),
        ("GET", "/signals/a/1/b", JSON, 405),
        ("POST", "/signals/x", {"content-type": "text/plain"}, 415),
        ("POST", "/signals/x", {**JSON, "content-encoding": "gzip"}, 415),
        ("POST", "/signals/x", {}, 415),
        ("POST", "/signals", JSON, 404),
        ("POST", "/signals/a/1", JSON, 404),
        ("POST", "/", JSON, 404),
        ("POST", "*", JSON, 404),
        ("POST", "/health", {}, 405),
        ("GET", "/health", {}, 200),
        ("GET", "/health?x=1", {}, 200),
    ],
)
async def test_what_is_not_asked_for(method, path, headers, status) -> None:
    """Other methods, other bodies, other places."""
    post = Post()
    await post.open()

    said = await post.box.handle(Request(method, path, headers, b"1"))

    assert said.status == status


async def test_a_database_that_is_away_is_told_so() -> None:
    """Send it again: nothing was taken."""
    post = Post()
    await post.open()

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    post.store.answer = away  # type: ignore[method-assign]
    said = await post.post(post.token(), GOOD)
    post.store.signals = away  # type: ignore[method-assign]
    health = await post.box.handle(Request("GET", "/health", {}, b""))

    assert (said.status, said.retry_after_s) == (503, 5)
    assert health.status == 503
