"""Breakers and the budget for repeats: of several processes, in virtual time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from pipeline.errors import (
    Permanent,
    StoreUnavailable,
    Throttled,
    Transient,
    VendorAway,
    WaybillError,
)
from pipeline.model import WorkerId
from pipeline.store.memory import MemoryStore
from pipeline.store.outside import (
    REPEATS_FLOOR,
    BreakerNews,
    BreakerRow,
    BreakerState,
    Learnt,
)
from pipeline.store.rows import Origin
from pipeline.vendors.breakers import STALE_S, TELL_S, Breakers, Ticket
from pipeline.vendors.declared import BreakerPolicy, VendorSpec
from pipeline.vendors.known import BACK_PER_S, Known
from pipeline.vendors.ramp import RAMP_S, Ramp

CRM = VendorSpec(
    name="crm",
    url="http://crm",
    timeout_s=30,
    breaker=BreakerPolicy(after=3, open_s=5, max_s=15),
)
DOWN = Transient("no answer", code="VENDOR_DOWN")
BUSY = Throttled("slower")
NO = Permanent("never")
LATE = Transient("no answer within 1 s", code="VENDOR_TIMEOUT")
SPREAD_S = 0.1  # of some ten that come back


@asynccontextmanager
async def fleet(
    size: int = 1, store: MemoryStore | None = None
) -> AsyncIterator[list[Breakers]]:
    """The breakers of so many processes on one store, each telling and learning."""
    store = store or MemoryStore()
    async with anyio.create_task_group() as tasks:
        each = []
        for _ in range(size):
            worker = await store.join(Origin("here", 1, ""), lease_s=math.inf)
            each.append(Breakers(store, worker))
            tasks.start_soon(each[-1].run)
        yield each
        tasks.cancel_scope.cancel()


async def call(
    breakers: Breakers,
    ends: WaybillError | None = None,
    *,
    repeat: bool = False,
    timeout_s: float = 30,
    spec: VendorSpec = CRM,
) -> None:
    """One call with this end."""
    with await breakers.admit(spec, repeat=repeat) as ticket:
        ticket.heard(ends, timeout_s)


async def refused(breakers: Breakers, *, repeat: bool = False) -> VendorAway:
    """What a call that may not begin is told."""
    with pytest.raises(VendorAway) as told:
        await breakers.admit(CRM, repeat=repeat)
    return told.value


async def go_down(breakers: Breakers) -> None:
    """Its calls fail until the breaker is open."""
    for _ in range(3):
        await call(breakers, DOWN)
    assert (await refused(breakers)).code == "VENDOR_OPEN"
    await anyio.sleep(0.1)  # told


async def come_back(breakers: Breakers) -> None:
    """The probe is answered, now."""
    await anyio.sleep(5.1)
    await call(breakers)
    await anyio.sleep(0.1)


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
    assert not told.rests


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
    store = _Other()
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
    store = _Other(slow_s=0.1)
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
    async with fleet(2, _Other(slow_s=0.05)) as [first, other]:
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
    spec = CRM.model_copy(update={"breaker": BreakerPolicy(after=10**9)})
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
    store = _Other(slow_s=0.1)
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
    patient = CRM.model_copy(update={"breaker": BreakerPolicy(after=10**9)})
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


# -- the chain -------------------------------------------------------------------------


async def test_fallbacks_in_their_order_while_the_first_is_away() -> None:
    """The first again when a probe may try; with all away, the one next back."""
    specs = {
        name: CRM.model_copy(update={"name": name, "fallbacks": more})
        for name, more in (("a", ("b", "c")), ("b", ()), ("c", ()))
    }

    def names() -> list[str]:
        return [one.name for one in breakers.chain(specs["a"], specs)]

    async with fleet() as [breakers]:
        all_there = names()
        orders = []
        for name in ("a", "b", "c"):
            for _ in range(3):
                await call(breakers, DOWN, spec=specs[name])
            await anyio.sleep(1)
            orders.append(names())
        await anyio.sleep(2.5)
        later = names()

    assert all_there == ["a", "b", "c"]
    assert orders == [["b", "c"], ["c"], ["a"]]
    assert later == ["a"]


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
    store = _Other()
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


class _Other(MemoryStore):
    """Counts what it is asked; answers late, or is away."""

    def __init__(self, *, slow_s: float = 0.0) -> None:
        super().__init__()
        self.asked = 0
        self.probes = 0
        self.slow_s = slow_s
        self.away = False

    async def tell_breakers(self, news: Sequence[BreakerNews]) -> Learnt:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("away")
        learnt = await super().tell_breakers(news)
        await anyio.sleep(self.slow_s)
        return learnt

    async def probe(
        self, worker: WorkerId, vendor: str, *, for_s: float
    ) -> BreakerRow | None:
        self.probes += 1
        row = await super().probe(worker, vendor, for_s=for_s)
        await anyio.sleep(self.slow_s)
        return row
