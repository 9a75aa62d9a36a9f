"""
What a call takes of which limits.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.pacing import OPEN, LimitSpec


class Use(NamedTuple):
    """
    What a call takes of a limit.

    Attributes:
        key: `vendor/NAME/requests`, `vendor/NAME/tenant/T/tokens`, …
        weight: Calls, or tokens.
        rank: Of the declaration: of several the highest stands; None: who started
            last has declared it.
    """

    key: str
    spec: LimitSpec
    weight: int = 1
    rank: int | None = None


def uses_of(spec: VendorSpec, tenant: str, tokens: int) -> list[Use]:
    """What a call of a vendor takes that is worth so many `tokens`, at most."""
    of_all, of_one = spec.limits, spec.limits_per_tenant
    service, own = f"vendor/{spec.name}", f"vendor/{spec.name}/tenant/{tenant}"
    # That of requests is there in any case: a vendor may ask for a pause.
    requests = OPEN if of_all.requests is None else LimitSpec(*of_all.requests)
    found = [Use(f"{service}/requests", requests)]
    if of_one.requests is not None:
        found.append(Use(f"{own}/requests", LimitSpec(*of_one.requests)))
    for prefix, limits in ((service, of_all), (own, of_one)):
        if limits.tokens is not None and tokens > 0:
            rate = LimitSpec(*limits.tokens)
            found.append(Use(f"{prefix}/tokens", rate, tokens))
        if limits.concurrency is not None:
            at_once = LimitSpec(concurrency=limits.concurrency)
            found.append(Use(f"{prefix}/concurrency", at_once))
    return found
