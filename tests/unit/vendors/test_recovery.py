"""How calls of a vendor come back, and the budget for repeats; in virtual time."""

from __future__ import annotations

from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from pipeline.errors import VendorAway
from pipeline.store.memory import MemoryStore
from pipeline.store.outside import REPEATS_FLOOR
from pipeline.vendors.declared import BreakerPolicy
from pipeline.vendors.known import BACK_PER_S
from pipeline.vendors.ramp import RAMP_S, Ramp
from tests.unit.vendors.outages import (
    BUSY,
    CRM,
    DOWN,
    NO,
    Other,
    call,
    come_back,
    fleet,
    go_down,
    refused,
)

# -- coming back -----------------------------------------------------------------------


async def test_recovery_brings_no_surge() -> None:
    """Of those that wait a few begin, then twice as many each second."""
    begun: list[float] = []
    under_way = 0
    async with fleet() as [breakers]:
        await go_down(breakers)
        await come_back(breakers)
        start = anyio.current_time()
        peaks: dict[int, int] = {}

        async def come() -> None:
            nonlocal under_way
            with await breakers.admit(CRM) as ticket:
                now = anyio.current_time() - start
                begun.append(now)
                under_way += 1
                peaks[int(now)] = max(peaks.get(int(now), 0), under_way)
                await anyio.sleep(0.5)
                under_way -= 1
                ticket.heard(None, 30)

        async with anyio.create_task_group() as tasks:
            for _ in range(2000):
                tasks.start_soon(come)

    assert len(begun) == 2000
    for second in range(6):
        assert 2**second <= peaks[second] <= 2 ** (second + 1.2) + 1
    assert max(begun) < RAMP_S


async def test_calls_that_take_long_come_back_as_quickly() -> None:
    """It is time that lets more of them begin, and not the end of others."""
    begun: list[float] = []
    async with fleet() as [breakers]:
        await go_down(breakers)
        await come_back(breakers)

        async def come() -> None:
            await breakers.admit(CRM)
            begun.append(anyio.current_time())

        async with anyio.create_task_group() as tasks:
            for _ in range(500):
                tasks.start_soon(come)
            await anyio.sleep(4)
            after_4_s = len(begun)

    assert 2**4 <= after_4_s <= 2**4.5
    assert len(begun) == 500
    assert max(late - soon for soon, late in pairwise(begun[8:])) < 0.3


async def test_who_waits_for_the_ramp_is_refused_when_it_opens_again() -> None:
    """At once: it is away again."""
    made, told = [], []
    async with fleet() as [breakers]:
        await go_down(breakers)
        await come_back(breakers)
        start = anyio.current_time()

        async def come() -> None:
            try:
                with await breakers.admit(CRM) as ticket:
                    await anyio.sleep(0.1)
                    made.append(ticket)
                    ticket.heard(DOWN, 30)
            except VendorAway as away:
                told.append(away.code)

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(come)
        took_s = anyio.current_time() - start

    assert len(made) < 6
    assert told == ["VENDOR_OPEN"] * (50 - len(made))
    assert took_s < 0.5


async def test_who_gives_up_leaves_its_place_in_the_line() -> None:
    """To the next one."""
    ramp = Ramp()
    ramp.since = anyio.current_time()
    await ramp.enter()
    with anyio.move_on_after(0):
        await ramp.enter()
    begun: list[int] = []

    async def come(number: int) -> None:
        await ramp.enter()
        begun.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(come, 1)
        await anyio.sleep(0.9)
        waited = begun == []
        await anyio.sleep(0.2)  # there is room for one more
        tasks.start_soon(come, 2)
        await anyio.sleep(0.1)
        overtaken = begun == [2]
        ramp.let_in()
        await anyio.sleep(0.1)
        ramp.leave()

    assert waited
    assert not overtaken
    assert begun == [1, 2]


async def test_those_that_are_refused_come_back_spread() -> None:
    """And whoever came first comes first; the next outage begins anew."""
    async with fleet() as [breakers]:
        await go_down(breakers)
        waits = [(await refused(breakers)).retry_after_s or 0 for _ in range(2000)]
        await come_back(breakers)
        await go_down(breakers)

        again = await refused(breakers)

    assert waits == sorted(waits)
    assert waits[-1] - waits[0] == pytest.approx(1999 / BACK_PER_S)
    assert (again.retry_after_s or 0) < 12


# -- repeats ---------------------------------------------------------------------------


async def test_repeats_are_a_share_of_first_tries() -> None:
    """While every call fails; and a few more for those that call seldom."""
    spec = CRM.model_copy(update={"breaker": BreakerPolicy(after=10**6)})
    made = 0
    told: list[VendorAway] = []
    async with fleet(2) as each:
        start = anyio.current_time()
        for number in range(1000):
            breakers = each[number % 2]
            await call(breakers, DOWN, spec=spec)
            try:
                await call(breakers, DOWN, repeat=True, spec=spec)
                made += 1
            except VendorAway as away:
                told.append(away)
        by_time = anyio.current_time() - start

    assert {away.code for away in told} == {"RETRY_BUDGET"}
    assert min(away.retry_after_s or 0 for away in told) > 0
    assert 90 <= made <= 100 + REPEATS_FLOOR + by_time


async def test_an_answered_repeat_costs_nothing() -> None:
    """Else those that failed when an outage began could never be finished."""
    async with fleet() as [breakers]:
        await call(breakers)
        for ends in (None, BUSY, NO) * 300:
            await call(breakers, ends, repeat=True)


async def test_a_repeat_that_was_not_made_is_given_back() -> None:
    """By whatever it was kept: a limit, an open breaker, a ramp."""
    store = MemoryStore()
    async with fleet(store=store) as [breakers]:
        await call(breakers)
        for _ in range(50):
            with await breakers.admit(CRM, repeat=True):
                pass
        await go_down(breakers)
        for _ in range(50):
            await refused(breakers, repeat=True)
        await anyio.sleep(0.2)
        [row] = await store.breakers()

    assert row.repeats >= REPEATS_FLOOR


async def test_a_repeat_whose_item_is_cancelled_meanwhile_is_given_back() -> None:
    """While the database is asked for it."""
    store = Other(slow_s=0.1)
    async with fleet(store=store) as [breakers]:
        await call(breakers)
        for _ in range(20):
            with anyio.move_on_after(0.05):
                with await breakers.admit(CRM, repeat=True):
                    await anyio.sleep(1)
        await anyio.sleep(1)
        [found] = await store.breakers()

    assert found.repeats >= REPEATS_FLOOR


async def test_a_failed_call_is_charged_while_it_may_be_repeated() -> None:
    """Not when the budget is used up, and not when the vendor is away."""
    patient = CRM.model_copy(update={"breaker": BreakerPolicy(after=10**6)})
    async with fleet() as [breakers]:
        await call(breakers, spec=patient)
        charged = breakers.verdict(patient, DOWN)
        never = breakers.verdict(patient, NO)
        for _ in range(int(REPEATS_FLOOR) + 1):
            try:
                await call(breakers, DOWN, repeat=True, spec=patient)
            except VendorAway:
                break
        waits = breakers.verdict(patient, DOWN)
    async with fleet() as [breakers]:
        await go_down(breakers)
        away = breakers.verdict(CRM, DOWN)

    assert charged is DOWN
    assert never is NO
    assert (waits.code, waits.disposition) == ("RETRY_BUDGET", BUSY.disposition)
    assert (away.code, away.disposition) == ("VENDOR_OPEN", BUSY.disposition)
