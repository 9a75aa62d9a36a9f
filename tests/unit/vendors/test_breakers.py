"""Breakers: of several processes, in virtual time."""

from __future__ import annotations

from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from pipeline.errors import VendorAway, WaybillError
from pipeline.store.memory import MemoryStore
from pipeline.store.outside import REPEATS_FLOOR, BreakerRow, BreakerState
from pipeline.vendors.breakers import STALE_S, TELL_S, Breakers, Ticket
from pipeline.vendors.known import Known
from tests.unit.vendors.outages import (
    BUSY,
    CRM,
    DOWN,
    LATE,
    NO,
    SPREAD_S,
    Other,
    call,
    fleet,
    go_down,
    refused,
)

# -- closed and open -------------------------------------------------------------------


async def test_failures_in_a_row_open_it() -> None:
    """One answer between them is enough to keep it closed."""
    async with fleet() as [breakers]:
        for ends in (DOWN, DOWN, None, DOWN, DOWN, NO, DOWN, DOWN, BUSY, DOWN, DOWN):
            await call(breakers, ends)
        await call(breakers, DOWN)

        told = await refused(breakers)

    assert told.code == "VENDOR_OPEN"
    assert told.retry_after_s == pytest.approx(5, abs=SPREAD_S)


async def test_a_call_without_time_of_its_own_tells_nothing() -> None:
    """Its timeout was shorter than what is declared; one as long as that counts."""
    async with fleet() as [breakers]:
        for _ in range(9):
            await call(breakers, LATE, timeout_s=29)
        for _ in range(3):
            await call(breakers, LATE, timeout_s=30)

        assert (await refused(breakers)).code == "VENDOR_OPEN"


async def test_a_forgotten_call_tells_nothing() -> None:
    """It was not made: a limit had no room for it, or its item was cancelled."""
    async with fleet() as [breakers]:
        for _ in range(2):
            await call(breakers, DOWN)
        with await breakers.admit(CRM):
            pass
        await call(breakers, DOWN)

        assert (await refused(breakers)).code == "VENDOR_OPEN"


async def test_the_others_learn_of_it_within_a_second() -> None:
    """Without a question of their own while they call."""
    async with fleet(3) as [first, *others]:
        for breakers in others:
            await call(breakers)
        await go_down(first)
        await anyio.sleep(TELL_S)

        for breakers in others:
            told = await refused(breakers)
            assert told.retry_after_s == pytest.approx(5 - TELL_S, abs=0.3)


async def test_after_a_quiet_while_it_is_learnt_before_the_first_call() -> None:
    """What is known may be of before an outage."""
    async with fleet(2) as [first, other]:
        await call(other)
        await anyio.sleep(600)
        await go_down(first)

        assert (await refused(other)).code == "VENDOR_OPEN"


async def test_a_vendor_that_is_new_to_a_process_is_asked_for() -> None:
    """However fresh what it knows of the others is."""
    async with fleet(2) as [first, other]:
        await go_down(first)
        await call(other, spec=CRM.model_copy(update={"name": "llm"}))

        assert (await refused(other)).code == "VENDOR_OPEN"


async def test_nothing_is_asked_for_a_call() -> None:
    """A thousand of them in ten seconds ask ten times; a quiet service never does."""
    store = Other()
    async with fleet(store=store) as [breakers]:
        for _ in range(1000):
            await call(breakers)
            await anyio.sleep(0.01)
        busy, store.asked = store.asked, 0
        await anyio.sleep(60)
        store.asked = 0
        await anyio.sleep(3600)

    assert 8 <= busy <= 12
    assert store.asked == 0


async def test_an_outage_opens_it_once() -> None:
    """However many calls were under way when it began, in however many processes."""
    store = MemoryStore()
    async with fleet(2, store) as fleet_of_two:
        under_way = [(b, await b.admit(CRM)) for b in fleet_of_two for _ in range(50)]
        for _, ticket in under_way[:60]:
            ticket.heard(DOWN, 30)
        await anyio.sleep(1)
        [first] = await store.breakers()
        for _, ticket in under_way[60:]:
            ticket.heard(DOWN, 30)
        await anyio.sleep(1)
        [late] = await store.breakers()

        assert first.state == late.state == "open"
        assert first.turn == late.turn == 1
        assert first.until == late.until


async def test_who_waited_for_its_limits_meanwhile_is_refused() -> None:
    """A line of thousands is let in by its limit for long; the probe is not refused."""
    async with fleet() as [breakers]:
        with await breakers.admit(CRM) as waited:
            waited.still()
            await go_down(breakers)
            with pytest.raises(VendorAway):
                waited.still()
        await anyio.sleep(6)
        with await breakers.admit(CRM) as probe:
            probe.still()


# -- the probe -------------------------------------------------------------------------


async def test_one_probe_of_all_processes() -> None:
    """The others are told to come back soon."""
    async with fleet(3) as [first, *others]:
        await go_down(first)
        await anyio.sleep(6)
        with await others[0].admit(CRM) as ticket:
            for breakers in (first, *others):
                told = await refused(breakers)
                assert told.code == "VENDOR_OPEN"
                assert 0 < (told.retry_after_s or 0) < 2
            ticket.heard(None, 30)
        await anyio.sleep(TELL_S + 0.1)
        for breakers in (first, *others):
            await call(breakers)


async def test_of_many_that_come_at_once_one_probes() -> None:
    """Also within one process, while the database is asked."""
    store = Other(slow_s=0.1)
    async with fleet(2, store) as each:
        await go_down(each[0])
        await anyio.sleep(6)
        store.probes = 0
        probes: list[Ticket] = []

        async def come(breakers: Breakers) -> None:
            with suppress(VendorAway):
                probes.append(await breakers.admit(CRM))

        async with anyio.create_task_group() as tasks:
            for breakers in each * 500:
                tasks.start_soon(come, breakers)
                await anyio.sleep(0.002)

        assert len(probes) == 1
        assert store.probes <= 5


async def test_a_probe_that_fails_keeps_it_open_longer() -> None:
    """Twice as long each time, up to the most."""
    store = MemoryStore()
    stays = []
    async with fleet(store=store) as [breakers]:
        await go_down(breakers)
        for _ in range(4):
            [row] = await store.breakers()
            stays.append(row.left_s)
            await anyio.sleep(row.left_s + 0.1)
            await call(breakers, DOWN)
            await anyio.sleep(0.1)

    assert stays == pytest.approx([5, 10, 15, 15], abs=0.2)


@pytest.mark.parametrize("ends", [BUSY, NO, None])
async def test_a_probe_that_is_answered_closes_it(ends: WaybillError | None) -> None:
    """A vendor that is busy, or that says no, is alive."""
    async with fleet() as [breakers]:
        await go_down(breakers)
        await anyio.sleep(6)
        await call(breakers, ends)
        await anyio.sleep(0.1)

        await call(breakers)


async def test_a_probe_that_told_nothing_leaves_it_to_the_next() -> None:
    """It had no time, or was not made: another one may at once."""
    async with fleet(2) as [first, other]:
        await go_down(first)
        await anyio.sleep(6)
        with await first.admit(CRM):
            pass
        await anyio.sleep(0.1)
        await call(other, LATE, timeout_s=1)
        await anyio.sleep(0.1)

        await call(other)


async def test_the_probe_of_a_worker_that_died_frees() -> None:
    """As soon as its session is over; of one that hangs after its time."""
    store = MemoryStore()
    async with fleet(3, store) as [first, second, third]:
        await go_down(first)
        await anyio.sleep(6)
        await first.admit(CRM)
        [hangs] = await store.breakers()
        await anyio.sleep(hangs.left_s + 0.1)
        await second.admit(CRM)
        await store.reap([second._worker], died=True)

        await call(third)

    assert CRM.timeout_s < hangs.left_s < 120


async def test_a_late_probe_decides_nothing() -> None:
    """Another one has begun meanwhile."""
    store = MemoryStore()
    async with fleet(2, store) as [first, second]:
        await go_down(first)
        await anyio.sleep(6)
        late = await first.admit(CRM)
        await anyio.sleep(120)
        with await second.admit(CRM) as ticket:
            late.heard(None, 30)
            await anyio.sleep(1)
            [row] = await store.breakers()
            ticket.heard(DOWN, 30)
        await anyio.sleep(0.1)

        assert row.state == "half-open"
        assert (await refused(first)).code == "VENDOR_OPEN"


async def test_a_cancelled_probe_frees() -> None:
    """Its item was cancelled while the database was asked for it, or later."""
    async with fleet(2, Other(slow_s=0.05)) as [first, other]:
        for after_s in (0.02, 0.2):
            await go_down(first)
            await anyio.sleep(11)
            await first._next_exchange()
            with anyio.move_on_after(after_s):
                with await first.admit(CRM):
                    await anyio.sleep(1)
            await anyio.sleep(0.2)

            await call(other)
            await anyio.sleep(1.2)


# -- one process and the others ------------------------------------------------------


def row(state: BreakerState, turn: int, left_s: float = 0.0) -> BreakerRow:
    """A breaker as it is read."""
    return BreakerRow("crm", state, turn, 0, None, None, left_s, None, 10.0)


async def test_what_is_read_late_is_of_before() -> None:
    """A probe was taken while others were asked how it stands."""
    known = Known(CRM)
    known.learn(row("half-open", 2, 60))

    known.learn(row("open", 1))

    assert known.state == "half-open"
    assert not known.may_be_asked()


async def test_what_is_yet_to_be_told_stands() -> None:
    """Until others have moved on, which makes it void."""
    known = Known(CRM)
    known.propose("open", failures=3)
    known.learn(row("closed", 0))
    stands = known.state
    known.learn(row("closed", 4))

    assert stands == "open"
    assert known.state == "closed"
    assert not known.has_news


# -- without a database ----------------------------------------------------------------


async def test_a_database_that_is_away_stops_no_call() -> None:
    """What was seen is told when it is back; nothing can be repeated until then."""
    store = Other()
    async with fleet(2, store) as [first, other]:
        await call(first)
        await anyio.sleep(0.1)
        store.away = True
        for _ in range(100):
            await call(first)
        for _ in range(3):
            await call(first, DOWN)
        no_repeat = await refused(other, repeat=True)
        await anyio.sleep(STALE_S + 1)
        await call(other)
        store.away = False
        await anyio.sleep(TELL_S + 0.1)
        [row] = await store.breakers()

        assert no_repeat.code == "RETRY_BUDGET"
        assert row.state == "open"
        assert row.repeats == pytest.approx(REPEATS_FLOOR + 10, abs=0.5)
        assert (await refused(other)).code == "VENDOR_OPEN"
