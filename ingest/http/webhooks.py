"""
Signatures of Standard Webhooks (standardwebhooks.com): who sent this, and when.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping

TOLERANCE_S = 300.0  # as the standard has it: what is older was recorded and replayed
PREFIX = "whsec_"
# Of whoever has no secret: a wrong name takes as long to refuse as a wrong signature.
NOBODYS = secrets.token_bytes(32)


def is_signed(
    headers: Mapping[str, str], body: bytes, keys: Iterable[str], now: float
) -> bool:
    """
    Whether one of these keys signed the request, about `now` (seconds since 1970).

    Args:
        headers: `webhook-id`, `webhook-timestamp` and `webhook-signature`.
        keys: As the standard writes them: `whsec_` and base64; several while one is
            replaced by another.
    """
    said, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = [
        signature
        for version, _, signature in (
            each.partition(",")
            for each in headers.get("webhook-signature", "").split(" ")
        )
        if version == "v1"
    ]
    signed = f"{said}.{at}.".encode("latin-1") + body
    # Each with each, whatever fits: how long it takes says nothing.
    known = [key for key in map(_key, keys) if key] or [NOBODYS]
    fits = [
        hmac.compare_digest(signature.encode("latin-1"), _signature(key, signed))
        for key in known
        for signature in given
    ]
    fresh = at.isascii() and at.isdigit() and len(at) < 12
    return bool(said) and fresh and abs(now - int(at)) <= TOLERANCE_S and any(fits)


def _signature(key: bytes, signed: bytes) -> bytes:
    return b64encode(hmac.digest(key, signed, "sha256"))


def _key(line: str) -> bytes:
    """The key on a line of secrets; b"" where it is none."""
    try:
        return b64decode(line.strip().removeprefix(PREFIX), validate=True)
    except ValueError:
        return b""
