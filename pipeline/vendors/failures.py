"""
How a call of a vendor fails: one class of failure, and what it does to the item.

    throttled, quota       CallThrottled    waits, uncharged
    transient, garbage     CallTransient    tried again
    permanent, auth        CallPermanent    never

A message names the vendor as it was declared, and carries no text of an answer, no
key and no URL.
"""

from __future__ import annotations

from typing import assert_never

from pipeline.calls import CallClass
from pipeline.errors import Permanent, Throttled, Transient, WaybillError
from pipeline.vendors.declared import VendorSpec


class CallError(WaybillError):
    """
    A call that brought no answer that can be used.

    Attributes:
        kind: What it means.
        vendor: Whose call it was.
        in_doubt: Whether the vendor may have done what was asked: False when it
            never got the call, or said that it will not do it.
        status: Of its answer, where that came whole; 0: there was none.
    """

    kind: CallClass
    vendor: str
    in_doubt: bool
    status: int = 0


class CallThrottled(CallError, Throttled):
    """Not now."""


class CallTransient(CallError, Transient):
    """It may well work next time."""


class CallPermanent(CallError, Permanent):
    """Not like this."""


CALL_CODES = {
    CallClass.THROTTLED: "THROTTLED",
    CallClass.QUOTA: "QUOTA",
    CallClass.TRANSIENT: "VENDOR_DOWN",
    CallClass.PERMANENT: "VENDOR_REFUSED",
    CallClass.AUTH: "VENDOR_AUTH",
    CallClass.GARBAGE: "VENDOR_GARBAGE",
}


def failure(
    kind: CallClass,
    spec: VendorSpec,
    what: str,
    *,
    hint: str,
    code: str = "",
    retry_after_s: float | None = None,
    in_doubt: bool = False,
) -> CallError:
    """The error of a call: the vendor's name, then `what`."""
    match kind:
        case CallClass.THROTTLED | CallClass.QUOTA:
            made: type[CallError] = CallThrottled
        case CallClass.TRANSIENT | CallClass.GARBAGE:
            made = CallTransient
        case CallClass.PERMANENT | CallClass.AUTH:
            made = CallPermanent
        case _:
            assert_never(kind)
    error = made(
        f"{spec.name or 'the vendor'} {what}",
        code=code or CALL_CODES[kind],
        hint=hint,
        retry_after_s=retry_after_s,
    )
    error.kind, error.vendor, error.in_doubt = kind, spec.name, in_doubt
    return error


def garbage(spec: VendorSpec, what: str) -> CallError:
    """The failure of a vendor that sent `what`; it may have done what was asked."""
    return failure(
        CallClass.GARBAGE,
        spec,
        f"sent {what}",
        hint="check that url is the service's base URL; a proxy may be in between",
        in_doubt=True,
    )


def unsendable(spec: VendorSpec, what: str) -> CallError:
    """The failure of a stage that gave `what`; nobody was called."""
    return failure(
        CallClass.PERMANENT,
        spec,
        f"was not called: the stage gave {what}",
        code="VENDOR_REQUEST",
        hint="mend the Request that the stage makes",
    )
