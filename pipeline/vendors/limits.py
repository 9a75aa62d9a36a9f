"""
Named limits: how often and how many at once we may call a vendor, and whether.

A limit is two things.  Pacing says how often a call may begin: at most `rate`
in any `per_s` seconds, whichever window you pick.  A capacity says how many may
be under way.  A vendor's Retry-After pauses the whole limit and not the one
call that was told, or the next call would ask the same tired vendor again.

aiolimiter paces on asyncio.  It cannot run on trio, where a leaky bucket of ours
with the same meaning stands in, so that forecasts and tests in virtual time obey
the same limits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import anyio
from aiolimiter import AsyncLimiter

from pipeline.errors import Usage
from pipeline.vendors.declared import VendorSpec

RETRY_AFTER_MAX_S = 3600.0  # a vendor that asks for a day is asked again after an hour

# A bucket is full this much above its brim: levels are floats, and for a level of
# 1e-17 too much a waiter would wait a time that is no time, again and again.
SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """
    At most `rate` calls in any `per_s` seconds, `concurrency` of them at once.

    `burst` calls may begin together after a quiet while.  Since no window may
    hold more than `rate`, the pace between bursts is that much slower:
    `(rate - burst + 1) / per_s`.  With a burst of 1 calls are evenly spaced.

    Raises:
        Usage: LIMIT_SPEC, for numbers that make no limit.
    """

    rate: float = math.inf
    per_s: float = 1.0
    burst: int = 1
    concurrency: int | None = None

    def __post_init__(self) -> None:
        if not (self.rate > 0 and math.isfinite(self.per_s) and self.per_s > 0):
            raise _bad_spec("rate and per_s must be positive numbers")
        if math.isinf(self.rate) and self.concurrency is None:
            raise _bad_spec("a limit needs a rate or a concurrency")
        if self.burst < 1 or (self.burst > 1 and self.burst > self.rate):
            raise _bad_spec("burst must be from 1 to rate")
        if self.concurrency is not None and self.concurrency < 1:
            raise _bad_spec("concurrency must be 1 or more")

    @property
    def pace(self) -> float:
        """Calls a second between bursts."""
        return (self.rate - self.burst + 1) / self.per_s


class Use(NamedTuple):
    """What a call takes of one limit: `weight` permits, tokens mostly."""

    key: str
    spec: LimitSpec
    weight: int = 1


def uses_of(spec: VendorSpec, tenant: str, tokens: int) -> list[Use]:
    """All limits that a call of this vendor obeys: the service's, and the tenant's."""
    found: list[Use] = []
    for prefix, limits in (
        (f"vendor/{spec.name}", spec.limits),
        (f"vendor/{spec.name}/tenant/{tenant}", spec.limits_per_tenant),
    ):
        if limits.concurrency is not None:
            of = LimitSpec(concurrency=limits.concurrency)
            found.append(Use(f"{prefix}/concurrency", of))
        if limits.requests is not None:
            found.append(Use(f"{prefix}/requests", LimitSpec(*limits.requests)))
        if limits.tokens is not None:
            of = LimitSpec(*limits.tokens)
            found.append(Use(f"{prefix}/tokens", of, max(1, tokens)))
    return found


class Limits:
    """
    All limits of one version of a pipeline in one session, by name.

        async with limits.hold("llm"):
            answer = await vendor.post_json(...)

    Waiting is first come, first served, and is given up by cancellation alone:
    the caller's scope carries the deadline.
    """

    def __init__(self, specs: Mapping[str, LimitSpec]) -> None:
        self._limits = {name: _Limit(spec) for name, spec in specs.items()}

    def __repr__(self) -> str:
        each = [f"{name}: {limit}" for name, limit in sorted(self._limits.items())]
        return f"<Limits {', '.join(each) or 'none'}>"

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """
        Wait for a permit; it is given back when the block ends.

        Raises:
            Usage: LIMIT_UNKNOWN.
        """
        limit = self._find(name)
        who = object()  # not the task: one task may hold a limit twice
        await limit.enter(who)
        try:
            yield
        finally:
            limit.leave(who)

    def queues(self, name: str) -> bool:
        """Whether somebody waits for a permit now, or nobody gets one for a while."""
        return self._find(name).queues()

    def pause(self, name: str, for_s: float) -> None:
        """
        Let nobody begin for `for_s` seconds, at most an hour.

        A shorter pause never ends a longer one.  Calls under way go on.

        Raises:
            Usage: LIMIT_UNKNOWN.
        """
        self._find(name).pause(for_s)

    def _find(self, name: str) -> _Limit:
        try:
            return self._limits[name]
        except KeyError:
            raise Usage(
                f"there is no limit named {name!r}",
                code="LIMIT_UNKNOWN",
                hint=f"add [limit.{name}] to pipeline.toml",
            ) from None


class _Limit:
    """One limit: a capacity, then a line, at whose head one caller is paced."""

    def __init__(self, spec: LimitSpec) -> None:
        self._spec = spec
        self._pacer: _Pacer | None = None
        self._line = anyio.Lock()
        self._capacity = (
            None
            if spec.concurrency is None
            else anyio.CapacityLimiter(spec.concurrency)
        )
        self._paused_until = -math.inf
        self._waiting = 0
        self._in_use = 0

    def __str__(self) -> str:
        left_s = max(0.0, self._paused_until - anyio.current_time())
        pause = f", paused for {left_s:.1f} s" if left_s else ""
        return f"{self._in_use} in use, {self._waiting} waiting{pause}"

    async def enter(self, who: object) -> None:
        self._waiting += 1
        try:
            # Capacity first: a permit to begin must be used at once, or saved-up
            # permits would all begin together when capacity comes free.
            if self._capacity is not None:
                await self._capacity.acquire_on_behalf_of(who)
            try:
                await self._paced()
            except BaseException:
                if self._capacity is not None:
                    self._capacity.release_on_behalf_of(who)
                raise
        finally:
            self._waiting -= 1
        self._in_use += 1

    def queues(self) -> bool:
        full = self._capacity is not None and self._capacity.available_tokens < 1
        # One that is being paced alone gets its permit, as a rule, at once.
        paused = self._paused_until > anyio.current_time()
        return full or paused or self._waiting > 0

    def leave(self, who: object) -> None:
        self._in_use -= 1
        if self._capacity is not None:
            self._capacity.release_on_behalf_of(who)

    async def _paced(self) -> None:
        async with self._line:
            if self._pacer is None:
                self._pacer = _pacer(self._spec)
            while True:
                await anyio.sleep_until(self._paused_until)
                await self._pacer.acquire()
                # A pause that came while we were being paced holds us too.  The
                # permit is spent: used after the pause, it would crowd the
                # window with those that follow.
                if anyio.current_time() >= self._paused_until:
                    return

    def pause(self, for_s: float) -> None:
        if math.isnan(for_s):
            return
        until = anyio.current_time() + min(max(for_s, 0.0), RETRY_AFTER_MAX_S)
        self._paused_until = max(self._paused_until, until)


class _Pacer(Protocol):
    async def acquire(self) -> None:
        """Return when the next call may begin."""
        ...


def _pacer(spec: LimitSpec) -> _Pacer:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # trio
        return _LeakyBucket(spec.burst, spec.pace)
    return AsyncLimiter(spec.burst, spec.burst / spec.pace)


class _LeakyBucket:
    """What aiolimiter does, on anyio's clock; one caller at a time."""

    def __init__(self, brim: int, pace: float) -> None:
        self._brim = brim
        self._pace = pace
        self._level = 0.0
        self._at = -math.inf

    async def acquire(self) -> None:
        while True:
            now = anyio.current_time()
            self._level = max(0.0, self._level - (now - self._at) * self._pace)
            self._at = now
            if self._level + 1 <= self._brim + SLACK:
                self._level += 1
                return
            await anyio.sleep((self._level + 1 - self._brim) / self._pace)


def _bad_spec(message: str) -> Usage:
    return Usage(
        message, code="LIMIT_SPEC", hint="mend the [limit.NAME] in pipeline.toml"
    )
