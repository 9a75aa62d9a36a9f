"""
What is POSTed to us: answers to signals, by a signed URL or signed as a webhook.

    POST /signals/TOKEN                  the URL of `ctx.signal_url`
    GET  /signals/TOKEN                  a page with a form, where texts are asked for
    POST /signals/TENANT/ITEM/NAME       Standard Webhooks, with the tenant's secret
    GET  /health

2xx means that the answer is committed.  Whoever may not answer is told nothing: a wrong
signature, an item that there is not and one of somebody else look alike.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from urllib.parse import unquote

import anyio
import structlog

from ingest.http import page
from ingest.http.page import Page
from ingest.http.server import Request, Response
from ingest.http.webhooks import is_signed
from ingest.signals import deliver
from pipeline.errors import StoreUnavailable, Trouble, WaybillError
from pipeline.names import number_in
from pipeline.signals import Callback, Callbacks, is_name
from pipeline.stage import Artifacts
from pipeline.store.signals import SignalStore
from pipeline.threads import in_thread

log = structlog.get_logger()

STATUS = {
    "SIGNAL_ANSWERED": 409,
    "SIGNAL_FULL": 409,
    "SIGNAL_LATE": 410,
    "SIGNAL_SIZE": 413,
    "SIGNAL_SCHEMA": 422,
    "BAD_SIGNAL": 422,
}
ITEM_MAX = 2**63 - 1
AT_ONCE = 4  # in the database
HEALTHY_S = 5.0  # so long it is not asked again
NOTED_MAX, NOTED_S = 10, 60.0  # what strangers sent is noted so often, at most
FORM = "application/x-www-form-urlencoded"
POST_ONLY = Response(405, {"error": "POST_ONLY"})
NO_TOKEN = Response(404, {"error": "SIGNAL_FOREIGN"})
NO_SIGNATURE = Response(401, {"error": "SIGNAL_FOREIGN"})
Secrets = Callable[[str], Sequence[str]]


class Mailbox:
    """
    Takes answers in.

    Args:
        secrets: A tenant's webhook secrets, a line each; [] when it has none.
    """

    def __init__(
        self,
        store: SignalStore,
        artifacts: Artifacts,
        callbacks: Callbacks,
        secrets: Secrets,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._callbacks = callbacks
        self._secrets = secrets
        self._now = now
        self._turn = anyio.CapacityLimiter(AT_ONCE)
        self._noted: deque[float] = deque(maxlen=NOTED_MAX)
        self._healthy_at = -HEALTHY_S

    async def handle(self, request: Request) -> Response | Page:
        """Answer one request."""
        parts = [unquote(p) for p in request.path.partition("?")[0].split("/")[1:]]
        if parts == ["health"]:
            return await self._health(request)
        if len(parts) not in (2, 4) or parts[0] != "signals":
            return Response(404, {"error": "NOT_FOUND"})
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if len(parts) == 2 and (request.method == "GET" or kind == FORM):
            return await self._by_hand(parts[1], request)
        if request.method != "POST":
            return POST_ONLY
        if kind != "application/json" or "content-encoding" in request.headers:
            why = "say content-type: application/json, and send it unpacked"
            return Response(415, {"error": "JSON_ONLY", "why": why})
        try:
            async with self._turn:
                if len(parts) == 2:
                    return await self._by_token(parts[1], request)
                return await self._by_signature(parts[1:], request)
        except (StoreUnavailable, Trouble) as error:
            log.warning("signal_waits", code=error.code)
            return Response(503, {"error": "TRY_AGAIN"}, retry_after_s=5)

    async def _by_hand(self, token: str, request: Request) -> Response | Page:
        """A person with a browser: the form, or what became of it."""
        callback, ours = self._callbacks.read(token)
        if callback is None:
            return page.FOREIGN
        try:
            async with self._turn:
                if not ours or callback.until < self._now():
                    await self._note(callback, "form")
                    return page.FOREIGN
                rows = await self._store.signals(callback.item, callback.name)
                if not rows or not rows[0].stage:
                    return page.EARLY
                texts = page.texts_of(rows[0].schema)
                if not texts:
                    return POST_ONLY
                if request.method == "POST":
                    return await self._filled(callback, request.body, texts)
        except (StoreUnavailable, Trouble) as error:
            log.warning("signal_waits", code=error.code)
            return page.BUSY
        return page.form(texts) if rows[0].open else page.USED

    async def _filled(
        self, to: Callback, body: bytes, texts: Sequence[page.Asked]
    ) -> Page:
        said = page.said_in(body, texts)
        if said is None:
            return page.form(texts, page.NOTHING)
        taken = await self._take(to, said, "", "form", NO_TOKEN)
        if taken.status in page.BY_STATUS:
            return page.BY_STATUS[taken.status]
        return page.form(texts, page.UNFIT)

    async def _by_token(self, token: str, request: Request) -> Response:
        callback, ours = self._callbacks.read(token)
        if callback is None or not ours:
            if callback is not None:
                await self._note(callback, "callback")
            return NO_TOKEN
        said = request.headers.get("webhook-id") or request.headers.get(
            "idempotency-key", ""
        )
        return await self._take(callback, request.body, said, "callback", NO_TOKEN)

    async def _by_signature(self, parts: Sequence[str], request: Request) -> Response:
        tenant, number, name = parts
        callback = Callback(tenant, number_in(number) or 0, name, 0)
        keys = await in_thread(self._secrets, tenant)
        if not is_signed(request.headers, request.body, keys, self._now()):
            await self._note(callback, "webhook")
            return NO_SIGNATURE
        said = request.headers["webhook-id"]
        return await self._take(callback, request.body, said, "webhook", NO_SIGNATURE)

    async def _take(
        self, to: Callback, body: bytes, said: str, author: str, foreign: Response
    ) -> Response:
        try:
            taken = await deliver(
                self._store,
                self._artifacts,
                to.item,
                to.name,
                body,
                author=author,
                tenant=to.tenant,
                delivery=said,
                until=to.until or None,
            )
        except (StoreUnavailable, Trouble):
            raise
        except WaybillError as error:
            log.info("signal_refused", item=to.item, code=error.code, by=author)
            if error.code not in STATUS:
                return foreign
            return Response(
                STATUS[error.code], {"error": error.code, "why": error.message}
            )
        log.info("signal_taken", item=to.item, how=taken.name.lower(), by=author)
        return Response(200, {"taken": taken.name.lower()})

    async def _note(self, to: Callback, author: str) -> None:
        """Strangers leave a trace where they knocked, and cannot fill a table."""
        now = anyio.current_time()
        if len(self._noted) == NOTED_MAX and now - self._noted[0] < NOTED_S:
            return
        self._noted.append(now)
        log.warning("signal_foreign", by=author)
        if to.tenant and is_name(to.name) and 0 < to.item <= ITEM_MAX:
            note = self._store.note_refused
            await note(to.item, to.name, "SIGNAL_FOREIGN", author, tenant=to.tenant)

    async def _health(self, request: Request) -> Response:
        if request.method != "GET":
            return Response(405, {"error": "GET_ONLY"})
        async with self._turn:
            if anyio.current_time() - self._healthy_at >= HEALTHY_S:
                try:
                    await self._store.signals(0)
                except StoreUnavailable:
                    return Response(503, {"health": "database"}, retry_after_s=5)
                self._healthy_at = anyio.current_time()
        return Response(200, {"health": "ok"})
