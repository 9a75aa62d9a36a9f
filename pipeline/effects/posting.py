"""
Effects over HTTP: posted to a vendor, signed where it is a webhook.

A call goes by the vendor's declared name through whoever calls vendors, with the
effect's key; what is sent is a function of the effect alone, so that each time it is
sent it is the same to the byte.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from pydantic import SecretStr

from pipeline.calls import CallClass, Moment, Request
from pipeline.effects.declared import KEY, PostSpec, WebhookSpec
from pipeline.effects.sink import (
    Absent,
    Confirmed,
    NotSent,
    Outcome,
    Parcel,
    Refused,
    Unknown,
)
from pipeline.errors import Usage, WaybillError
from pipeline.vendors.failures import CallError
from pipeline.vendors.hearing import Reply

AUTH_AGAIN_S = 60.0  # a key that is not accepted is our mistake, and every effect's
Secret = Callable[[str, str], SecretStr]  # (its reference, a tenant) -> its value
JSON = {"content-type": "application/json"}


class Caller(Protocol):
    """Whoever calls vendors: within their limits, and by their breaker."""

    async def send(
        self,
        vendor: str,
        tenant: str,
        request: Request,
        *,
        key: str,
        timeout_s: float,
        begin: Moment | None = None,
    ) -> Reply:
        """
        One call of a declared vendor, once.

        Args:
            begin: Heard when the vendor's limits let it in, before it is sent; what it
                raises ends the call unsent.

        Raises:
            CallError: how it failed, and whether it may have been done all the same.
            WaybillError: it was not sent.
        """
        ...


class PostSink:
    """Posts an effect's JSON to a vendor."""

    together = 1

    def __init__(self, spec: PostSpec | WebhookSpec, caller: Caller) -> None:
        self.name, self.facts = spec.name, spec.facts
        self.at_once, self.timeout_s = spec.at_once, spec.timeout_s
        self._spec = spec
        self._caller = caller

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} to {self._spec.vendor}>"

    async def send(self, parcels: Sequence[Parcel], begin: Moment) -> list[Outcome]:
        """Post it."""
        [parcel] = parcels
        body = content(parcel)
        try:
            headers = JSON | self.headers(parcel, body)
            request = Request(
                self._spec.path, content=body, headers=headers, answer="text"
            )
            reply = await self._call(parcel, request, parcel.effect.key, begin)
        except WaybillError as error:
            return [outcome_of(error)]
        return [Confirmed(answer_of(reply))]

    async def ask(self, parcel: Parcel) -> Outcome:
        """Look its key up."""
        if not isinstance(self._spec, PostSpec) or not self._spec.ask:
            # It could be, when it was sent: its sink is declared otherwise by now.
            return Unknown("SINK_CHANGED: its receiver cannot be asked any more")
        path = self._spec.ask.replace(KEY, parcel.effect.key)
        request = Request(path, method="GET", answer="text")
        try:
            # Without the key: under it the vendor knows another request.
            reply = await self._call(parcel, request, "")
        except CallError as error:
            if error.status in (404, 410):
                return Absent()
            return Unknown(said(error))
        except WaybillError as error:
            return NotSent(said(error))
        return Confirmed(answer_of(reply))

    def headers(self, parcel: Parcel, body: bytes) -> dict[str, str]:
        """What proves whose it is; the vendor's own key is added by its door."""
        return {}

    async def _call(
        self, parcel: Parcel, request: Request, key: str, begin: Moment | None = None
    ) -> Reply:
        try:
            return await self._caller.send(
                self._spec.vendor,
                parcel.effect.tenant,
                request,
                key=key,
                timeout_s=self.timeout_s,
                begin=begin,
            )
        except CallError as error:
            # A success that came whole and is no text, such as a picture, is one.
            if error.kind is CallClass.GARBAGE and 200 <= error.status < 300:
                return Reply(error.status)
            raise


class WebhookSink(PostSink):
    """
    Posts signed webhooks, as Standard Webhooks has them.

    Args:
        secret: Finds what is signed with, of a tenant or else of the service.
    """

    def __init__(
        self,
        spec: WebhookSpec,
        caller: Caller,
        secret: Secret,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(spec, caller)
        self._reference = spec.secret
        self._secret = secret
        self._now = now

    def headers(self, parcel: Parcel, body: bytes) -> dict[str, str]:
        """
        Its id, the time of this delivery, and the signature of both with the body.

        Raises:
            Usage: there is no such secret.
        """
        secret = self._secret(self._reference, parcel.effect.tenant)
        return signed(secret, parcel.effect.key, self._now(), body)


def signed(
    secret: SecretStr, identity: str, at: datetime, body: bytes
) -> dict[str, str]:
    """The headers of a delivery; the secret is `whsec_` and base64, or plain text."""
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:  # also where it is no ASCII
        key = text.encode()
    if not key:
        raise Usage(
            "the secret that webhooks are signed with is empty",
            code="VENDOR_KEY",
            hint="put a key behind its whsec_",
        )
    stamp = str(int(at.timestamp()))
    mac = hmac.digest(key, f"{identity}.{stamp}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


def content(parcel: Parcel) -> bytes:
    """What is posted of an effect: the same whenever it is asked for."""
    effect, payload = parcel
    said: dict[str, Any] = {
        "id": effect.key,
        "type": f"{effect.stage}.{effect.name}",
        "timestamp": effect.planned_at.astimezone(UTC).isoformat(),
        "data": payload,
    }
    if effect.artifacts:
        said["artifacts"] = effect.artifacts
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def outcome_of(error: WaybillError) -> Outcome:
    """What an error of a call says of the effect that was sent by it."""
    if not isinstance(error, CallError):
        return NotSent(said(error), error.retry_after_s or 0.0)
    if error.in_doubt:
        return Unknown(said(error))
    if error.kind is CallClass.PERMANENT:
        return Refused(said(error))
    wait_s = AUTH_AGAIN_S if error.kind is CallClass.AUTH else 0.0
    return NotSent(said(error), error.retry_after_s or wait_s)


def answer_of(reply: Reply) -> dict[str, Any]:
    """What is kept of an answer: its status, and its JSON where it is an object."""
    kept: dict[str, Any] = {"status": reply.status}
    try:
        data = json.loads(reply.data or "")
    except (ValueError, RecursionError):  # whatever it says: it was answered well
        return kept
    return kept | ({"data": data} if isinstance(data, dict) else {})


def said(error: WaybillError) -> str:
    """Its code and its sentence."""
    return f"{error.code}: {error.message}"
