"""How effects call vendors: at the moments of their permits, whatever comes between."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest

from pipeline.calls import Moment, Request
from pipeline.errors import LimitWait
from pipeline.run import sending
from pipeline.run.sending import VendorCaller
from pipeline.vendors.declared import VendorLimits, VendorSpec
from pipeline.vendors.limits import FleetLimits
from tests.unit.vendors.fleet import fleet, most_in_a_window

CRM = VendorSpec.model_validate(
    {
        "name": "crm",
        "url": "http://127.0.0.1:1",
        "inside": True,
        "limits": {"requests": "10/s"},
    }
)


@contextmanager
def ticket() -> Iterator[Any]:
    yield SimpleNamespace(probe=False, still=lambda: None)


def caller_of(spec: VendorSpec, limits: FleetLimits, send: Any) -> VendorCaller:
    """Of a world in which this vendor is called by `send`."""

    async def admit(spec: VendorSpec) -> Any:
        return ticket()

    outside = SimpleNamespace(
        breakers=SimpleNamespace(admit=admit), permits=limits, send=send
    )
    services = SimpleNamespace(vendors={"crm": spec}, artifacts=None)
    return VendorCaller(cast("Any", services), cast("Any", outside))


@pytest.mark.parametrize(("most_s", "away_s"), [(0.05, 0.0), (0.3, 0.0), (0.0, 0.8)])
async def test_no_window_is_overfilled_though_writing_takes_now_longer_now_shorter(
    monkeypatch: pytest.MonkeyPatch, most_s: float, away_s: float
) -> None:
    """That an effect is sending is committed before its moment, and not after it."""
    monkeypatch.setattr(sending, "key_of", lambda *_: "")
    times: list[float] = []

    async def send(*_: object, when: Moment | None, **__: object) -> None:
        if when is not None:
            await when()
        times.append(anyio.current_time())
        await anyio.sleep(0.2)

    async def begin() -> None:
        busy_s = away_s - anyio.current_time() % 10  # the database is, now and then
        await anyio.sleep(max(0.0, busy_s) + random.uniform(0, most_s))

    async with fleet() as [limits]:
        caller = caller_of(CRM, limits, send)
        at_once = anyio.Semaphore(8)

        async def one() -> None:
            async with at_once:
                request = Request("x", "POST", json={})
                await caller.send(
                    "crm", "t", request, key="k", timeout_s=30, begin=begin
                )

        async with anyio.create_task_group() as tasks:
            for _ in range(300):
                tasks.start_soon(one)

    assert len(times) == 300
    assert most_in_a_window(sorted(times), 1.0) <= 10


@pytest.mark.parametrize("limits_of", [{"concurrency": 1}, {"requests": "10/min"}])
async def test_nobody_waits_for_room_with_what_is_sending(
    monkeypatch: pytest.MonkeyPatch, limits_of: dict[str, Any]
) -> None:
    """A deadline in the midst of its call would leave in doubt what had just begun."""
    monkeypatch.setattr(sending, "key_of", lambda *_: "")
    spec = CRM.model_copy(update={"limits": VendorLimits.model_validate(limits_of)})
    waited: list[float] = []

    async with fleet() as [limits]:
        at_once = anyio.Semaphore(8)

        async def one() -> None:
            begun = [math.inf]

            async def begin() -> None:
                await anyio.sleep(0.05)
                begun.append(anyio.current_time())

            async def when_sent(*_: object, when: Moment | None, **__: object) -> None:
                if when is not None:
                    await when()
                waited.append(anyio.current_time() - begun[-1])
                await anyio.sleep(random.uniform(20, 45))

            mine = caller_of(spec, limits, when_sent)
            request = Request("x", "POST", json={})
            while True:
                async with at_once:
                    try:
                        await mine.send(
                            "crm", "t", request, key="k", timeout_s=60, begin=begin
                        )
                        return
                    except LimitWait as wait:
                        again_s = wait.retry_after_s or 1.0
                await anyio.sleep(again_s)

        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(one)

    assert len(waited) == 40
    assert max(waited) < 3.5
