"""Signatures of webhooks in the form of Standard Webhooks, made and looked at."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

TOLERANCE_S = 300.0


def signed(secret: str, identity: str, at: float, body: bytes) -> dict[str, str]:
    """The headers of a delivery; `secret` is `whsec_` and base64."""
    stamp = str(int(at))
    return {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{_mac(secret, identity, stamp, body)}",
    }


def verified(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether one of its signatures is right, and not old."""
    identity = headers.get("webhook-id", "")
    stamp = headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "")
    if not identity or not stamp.isdecimal() or abs(now - int(stamp)) > TOLERANCE_S:
        return False
    right = f"v1,{_mac(secret, identity, stamp, body)}"
    return any(hmac.compare_digest(right, each) for each in given.split())


def _mac(secret: str, identity: str, stamp: str, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = secret.encode()
    content = f"{identity}.{stamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
