"""
What a vendor's answer means: its JSON, or which class of failure it is.

What a vendor's own table says (`errors` in vendors.toml) goes before what is known
of all.  No message carries the text of an answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.calls import CallClass
from pipeline.spoken import as_written, has_twice, once_or_twice
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.failures import CallError, failure, garbage
from pipeline.vendors.pacing import RETRY_AFTER_MAX_S

# Refusals whose body tells a quota from a no, and a throttle from an outage, and what
# was too long from what is wrong.
TELLING = frozenset((400, 402, 403, 413, 429, 503))


def declared_class(spec: VendorSpec, status: int, text: str) -> CallClass | None:
    """What the vendor's own table makes of an answer; None: it says nothing."""
    word = _declared_word(spec, status, text)
    return spec.errors.get(f"{status}:{word}" if word else str(status))


def _declared_word(spec: VendorSpec, status: int, text: str) -> str:
    """The word of the vendor's table that such an answer has; "" where none."""
    small = text.lower()
    for key in spec.errors:
        code, _, word = key.partition(":")
        if code == str(status) and word and word.lower() in small:
            return word
    return ""


def is_declared(spec: VendorSpec, status: int) -> bool:
    """Whether the vendor's table looks at the body of such an answer."""
    return any(key.startswith(f"{status}:") for key in spec.errors)


def refusal(
    spec: VendorSpec, status: int, wait_s: float | None, text: str
) -> CallError:
    """
    What an answer that is no success does to the item.

    `text` is its body, of those of `TELLING` and those that the vendor's table looks
    at: several vendors say there what others say with 429.
    """
    kind = declared_class(spec, status, text) or known_class(status, wait_s, text)
    said, hint = _WORDS[kind]
    code = ""
    if kind is CallClass.TRANSIENT and status in (408, 504):
        said, code = "gave up waiting", "VENDOR_TIMEOUT"
    if kind is CallClass.PERMANENT and spec.kind in ("openai", "anthropic"):
        said, code, hint = _of_model(text) or (said, code, hint)
    if kind is CallClass.PERMANENT and 300 <= status < 400:
        hint = "redirects are not followed: set url to the final address"
    if kind is CallClass.PERMANENT and spec.model:
        hint = "check its url and model in vendors.toml, and what the stage asks"
    if word := _declared_word(spec, status, text):
        said += f", as it says by {word}"
    if kind is CallClass.AUTH and spec.key:
        hint = f"check the key that it is called with, {spec.key}"
    error = failure(
        kind,
        spec,
        f"{said} ({status})",
        code=code,
        hint=hint,
        retry_after_s=wait_s,
        # Who answers a request with 5xx may have carried it out.
        in_doubt=status >= 500 and kind is CallClass.TRANSIENT,
    )
    error.status = status
    return error


def known_class(status: int, wait_s: float | None, text: str) -> CallClass:
    """What such an answer means, whoever gives it."""
    if status == 402 or (status in (400, 403, 429, 503) and _QUOTA.search(text)):
        return CallClass.QUOTA
    if status == 429 or (status == 503 and wait_s is not None):
        return CallClass.THROTTLED
    if status in (400, 403) and _THROTTLE.search(text):
        return CallClass.THROTTLED
    if status == 400 and _BUSY.search(text):
        return CallClass.TRANSIENT
    if status in (401, 403):
        return CallClass.AUTH
    if status in (408, 421, 423, 425) or (status >= 500 and status not in (501, 505)):
        return CallClass.TRANSIENT
    return CallClass.PERMANENT


# "Limit" alone is not enough: a prompt over the model's token limit is refused
# with the same word, and waiting would not make it shorter.
_QUOTA = re.compile(
    r"quota|REQUEST_LIMIT_EXCEEDED|daily.{0,6}limit|credit.balance|billing"
    r"|(?:usage|spend)\w{0,3}.{0,6}limit|limit.{0,40}per.(?:day|month)",
    re.IGNORECASE,
)
_THROTTLE = re.compile(
    r"throttl|too.many.requests|resource.exhausted"
    r"|(?:rate|request)\w{0,3}.{0,6}limit"
    r"|limit.{0,40}per.(?:second|minute|hour)",
    re.IGNORECASE,
)
_BUSY = re.compile(r"UNABLE_TO_LOCK_ROW|SERVER_UNAVAILABLE|overloaded", re.IGNORECASE)

# A model that refuses so is not asked wrongly: another one may answer.
_CONTEXT = re.compile(
    r"context_length_exceeded|maximum context length|prompt is too long"
    r"|exceeds? (?:the )?(?:available )?context|request_too_large",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.(?:filter|policy|management.policy)", re.IGNORECASE)


def _of_model(text: str) -> tuple[str, str, str] | None:
    """What is said, its code and what to do, where a model refuses what it is asked."""
    if _CONTEXT.search(text):
        hint = "ask about less of the document, or declare a model that takes more"
        return "says that what it is asked is too long", "MODEL_CONTEXT", hint
    if _FILTERED.search(text):
        hint = "look at what it was asked, or declare another model"
        return "withheld its answer by its filter", "MODEL_FILTER", hint
    return None


_STATUS = "look at the vendor's status page"
_WORDS = {
    CallClass.THROTTLED: (
        "asks us to slow down",
        "lower its requests in vendors.toml if it happens often",
    ),
    CallClass.QUOTA: (
        "says that our quota is used up",
        "raise the quota at the vendor, or lower its limits in vendors.toml",
    ),
    CallClass.TRANSIENT: ("is in trouble", _STATUS),
    CallClass.PERMANENT: (
        "refused the request",
        "check its url in vendors.toml, and what the stage asks",
    ),
    CallClass.AUTH: (
        "does not accept our key",
        'give it one: key = "secret:NAME" in vendors.toml, or WAYBILL_LLM_KEY',
    ),
    CallClass.GARBAGE: ("sent what its table calls garbage", _STATUS),
}


# -- when to come again ----------------------------------------------------------------


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    Seconds a vendor asks us to wait, from 0 to an hour; None when it does not.

    A date is measured from the answer's own Date where it has one, so that a
    wrong clock, theirs or ours, does not matter.
    """
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        return min(float(value), RETRY_AFTER_MAX_S)  # of any length: it may be infinite
    until = _http_date(value)
    if until is None:
        return None
    wait_s = (until - clock_of(headers, now)).total_seconds()
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)


def clock_of(headers: Mapping[str, str], now: datetime) -> datetime:
    """The vendor's own clock where it tells it; else ours."""
    return _http_date(headers.get("date", "")) or now


def _http_date(value: str) -> datetime | None:
    if not value or len(value) > 64:
        return None
    try:
        parsed = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    # HTTP dates are GMT, also when they say so in a way the parser calls naive.
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


# -- what it says ----------------------------------------------------------------------


def text_of(data: bytes, spec: VendorSpec) -> str:
    """
    An answer as text.

    Raises:
        CallTransient: VENDOR_GARBAGE, it is no UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise garbage(spec, "something that is not UTF-8") from None


def parsed(data: bytes, spec: VendorSpec) -> Any:
    """
    The JSON of an answer.

    Raises:
        CallTransient: VENDOR_GARBAGE, also where a vendor of a model says with
            success that it failed.
    """
    try:
        value = json.loads(
            text_of(data, spec),
            object_pairs_hook=once_or_twice,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if spec.kind in ("openai", "anthropic"):
            value = _with_odd_calls(value)
    except (ValueError, RecursionError):
        raise garbage(spec, "something that is not JSON") from None
    if spec.kind in ("openai", "anthropic") and isinstance(value, dict):
        failed = value.get("error")
        if failed or value.get("type") == "error":
            said = json.dumps(failed)[:4096]
            if _QUOTA.search(said) or _THROTTLE.search(said):
                raise refusal(spec, 429, None, said)
            raise garbage(spec, "an error in the clothes of an answer")
    return value


def _with_odd_calls(value: Any) -> Any:
    """
    A model's answer; arguments of its calls in which a key stands twice stay the text
    that they are, for whoever vets them (agents/tools.py) refuses them by name.
    """
    match value:
        case {"content": list(blocks)}:
            of, key = blocks, "input"
        case {"choices": [{"message": {"tool_calls": list(calls)}}, *_]}:
            of = [call["function"] for call in calls if _has_function(call)]
            key = "arguments"
        case _:
            return value
    for call in of:
        if isinstance(call, dict) and has_twice(call.get(key)):
            call[key] = as_written(call[key])
    return value


def _has_function(call: Any) -> bool:
    return isinstance(call, dict) and isinstance(call.get("function"), dict)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number that is too large")
    return number
