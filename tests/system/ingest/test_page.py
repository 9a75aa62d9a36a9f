"""The page behind a signed link, over HTTP: asked, answered, used, wrong, over."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from functools import partial
from html import unescape
from typing import NamedTuple
from urllib.parse import urlencode

import anyio

from ingest.http.callbacks import Mailbox
from ingest.http.server import Server
from ingest.signals import BYTES_MAX
from pipeline.signals import Callback, Callbacks
from pipeline.store.memory import MemoryStore
from stages.quoting.asking import answers_to
from stages.quoting.forms import Open
from tests.unit.ingest.test_signals import SCHEMA, Door
from waybill.callbacks import at, listen

HOSTILE = 'which <script>alert("x")</script> is it'
OPEN = [
    Open(about="bar", line=1, why="the working pressure is not said"),
    Open(about="ends", line=2, why=HOSTILE, choices=("male", "female")),
]
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Seen(NamedTuple):
    """What a browser got."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def title(self) -> str:
        found = re.search("<h1>(.*)</h1>", self.text)
        return unescape(found[1]) if found else ""


def seen(url: str, **fields: str) -> Seen:
    """The page at a URL; with fields: what a form's button brings."""
    body = urlencode(fields).encode() if fields else None
    request = urllib.request.Request(url, body, FORM if fields else {})
    try:
        answer = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return Seen(answer.status, dict(answer.headers), answer.read().decode())


class Served(Door):
    """A mailbox that is reached over HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: Callbacks | None = None

    def link(self, until: int = 2_000_000_000) -> str:
        assert self.urls is not None
        return self.urls.url(Callback("acme", 1, "proof-read", until))


def served(work, schema=None) -> None:
    """Run `work` against a server over a store with one item that asks."""
    asked = schema or answers_to(OPEN).model_json_schema()

    async def main() -> None:
        door = Served()
        async with await listen("127.0.0.1:0") as listener:
            base = f"http://{at('127.0.0.1:0', listener)}"
            door.urls = Callbacks(b"key", base)
            box = Mailbox(door.store, door.artifacts, door.urls, lambda tenant: [])
            server = Server(box.handle, bytes_max=BYTES_MAX)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, listener)
                early = await anyio.to_thread.run_sync(seen, door.link())
                assert (early.status, early.title) == (503, "In a minute")
                await door.open(asked)
                await work(door)
                tasks.cancel_scope.cancel()

    anyio.run(main)


async def look(url: str, **fields: str) -> Seen:
    return await anyio.to_thread.run_sync(partial(seen, url, **fields))


async def said(store: MemoryStore) -> object:
    [row] = await store.signals(1)
    return row.payload and json.loads(row.payload)


def test_a_buyer_answers_by_browser_once() -> None:
    """Looking changes nothing, a question is no markup, the first answer counts."""

    async def work(door: Served) -> None:
        link = door.link()
        page = await look(link)
        again = await look(link)
        unsaid = await look(link, f0="  ", f1="", f9="x")
        before = await said(door.store)
        thanks = await look(link, f0="200 bar", other="x")
        twice = await look(link, f0="200 bar")
        other = await look(link, f0="60 bar")
        used = await look(link)

        assert (page.status, page.title) == (200, "2 questions for you")
        assert page.text == again.text
        assert "line 1, the working pressure: " in page.text
        assert "One of: male; female." in page.text
        assert "<script" not in page.text
        assert page.text.count("<input ") == 2
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["referrer-policy"] == "no-referrer"
        assert (unsaid.status, before) == (422, None)
        assert "Nothing was said" in unsaid.text
        assert (thanks.status, thanks.title) == (200, "Thank you")
        assert (twice.status, twice.title) == (200, "Thank you")
        assert (other.status, other.title) == (409, "Answered already")
        assert (used.status, used.title) == (409, "Answered already")
        assert await said(door.store) == {"answers": {"1.bar": "200 bar"}}

    served(work)


def test_wrong_and_late_links_say_the_same_and_take_nothing() -> None:
    async def work(door: Served) -> None:
        link = door.link()
        late = door.link(until=1_000_000_000)
        pages = [
            await look(url, **fields)
            for url in (f"{link[:-2]}xx", late)
            for fields in ({}, {"f0": "200 bar"})
        ]

        assert {(one.status, one.title) for one in pages} == {
            (404, "This link is not valid")
        }
        assert await said(door.store) is None

    served(work)


def test_what_no_form_can_answer_has_none() -> None:
    """A stage that asks for more than texts is answered by JSON, as before."""

    async def work(door: Served) -> None:
        page = await look(door.link())

        assert page.status == 405
        assert json.loads(page.text) == {"error": "POST_ONLY"}

    served(work, SCHEMA)
