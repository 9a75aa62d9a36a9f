"""
What a vendor's answer says: its JSON, or what a refusal does to the item.

No message carries the text of an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.errors import Permanent, Throttled, Transient, WaybillError
from pipeline.vendors.limits import RETRY_AFTER_MAX_S


def refusal(status: int, host: str, wait_s: float | None, text: str) -> WaybillError:
    """
    What an answer that is not 2xx does to the item.

    `text` is its body, of 400 and 403 only: several vendors say there what
    others say with 429.
    """
    if status == 429 or (status == 503 and wait_s is not None):
        return Throttled(
            f"{host} asks us to slow down ({status})",
            hint="lower the rate of this limit in pipeline.toml if it happens often",
            retry_after_s=wait_s,
        )
    if status in (400, 403) and _QUOTA.search(text):
        return Throttled(
            f"{host} says that our quota is used up ({status})",
            code="QUOTA",
            hint="raise the quota at the vendor, or lower the rate of this limit",
            retry_after_s=wait_s,
        )
    if status in (408, 504):
        return Transient(
            f"{host} gave up waiting ({status})",
            code="VENDOR_TIMEOUT",
            hint="look at the vendor's status page",
            retry_after_s=wait_s,
        )
    if status >= 500 or status == 425:
        return Transient(
            f"{host} is in trouble ({status})",
            code="VENDOR_DOWN",
            hint="look at the vendor's status page",
            retry_after_s=wait_s,
        )
    if status in (401, 403):
        return Permanent(
            f"{host} does not accept our key ({status})",
            code="VENDOR_AUTH",
            hint="check the service's key: WAYBILL_LLM_KEY, WAYBILL_VISION_KEY",
        )
    return Permanent(
        f"{host} refused the request ({status})",
        code="VENDOR_REFUSED",
        hint="redirects are not followed: set url to the final address"
        if 300 <= status < 400
        else "check url and model in pipeline.toml",
    )


# "Limit" alone is not enough: a prompt over the model's token limit is refused
# with the same word, and waiting would not make it shorter.
_QUOTA = re.compile(
    r"quota|throttl|too.many.requests|resource.exhausted"
    r"|(?:rate|request|usage|billing|spend)\w{0,3}.{0,6}limit"
    r"|limit.{0,40}per.(?:second|minute|hour|day|month)",
    re.IGNORECASE,
)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    Seconds a vendor asks us to wait, from 0 to an hour; None when it does not.

    A date is measured from the answer's own Date where it has one, so that a
    wrong clock, theirs or ours, does not matter.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value, re.ASCII):
        return min(float(value), RETRY_AFTER_MAX_S)
    until = _http_date(value)
    if until is None:
        return None
    wait_s = (until - (_http_date(headers.get("date", "")) or now)).total_seconds()
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)


def _http_date(value: str) -> datetime | None:
    if not value or len(value) > 64:
        return None
    try:
        parsed = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    # HTTP dates are GMT, also when they say so in a way the parser calls naive.
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def parsed(data: bytes, host: str) -> Any:
    """
    The JSON of an answer.

    Raises:
        Transient: VENDOR_GARBAGE.
    """
    try:
        return json.loads(data, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise garbage(host, "something that is not JSON") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def garbage(host: str, what: str) -> Transient:
    """The failure of a vendor that answered with `what`."""
    return Transient(
        f"{host} sent {what}",
        code="VENDOR_GARBAGE",
        hint="check that url is the service's base URL; a proxy may be in between",
    )
