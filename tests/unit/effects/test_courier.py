"""The courier, in virtual time: a session with stages that plan, and receivers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import anyio
import pytest

from pipeline.effects.sink import Confirmed, NotSent, Refused, Unknown
from pipeline.errors import Transient
from pipeline.model import Advance, Finish, Hold, Reject, Wait
from pipeline.outbox import EffectState as S
from pipeline.outbox import SinkClass
from pipeline.stage import Retry
from pipeline.store.effects import EffectRow
from tests.unit.effects.receivers import Receiver
from tests.unit.engine import Engine, Letter, Tape, landed, lost, not_sent, until

A, B, C = SinkClass.A, SinkClass.B, SinkClass.C
AGAIN = Retry(attempts=3, base_s=1, cap_s=1)


def engine_of(*receivers: Receiver, **effect: Any) -> Engine:
    """Each item plans one effect for each receiver."""

    async def run(letter: Letter, ctx: Any) -> Any:
        for receiver in receivers:
            payload = {"item": ctx.item.id}
            await ctx.effect("tell", receiver.name, payload, **effect)
        return Advance()

    return reaching(Engine([Tape().station("write", run)]), *receivers)


def reaching(engine: Engine, *receivers: Receiver) -> Engine:
    opened = {r.name: r for r in receivers}
    facts = {r.name: r.facts for r in receivers}
    engine.services = replace(engine.services, sinks=facts, open_sinks=lambda _: opened)
    return engine


async def settled(
    engine: Engine, *states: S, within_s: float = 86400
) -> list[EffectRow]:
    """Every effect, when each is in one of these states."""

    async def all_there() -> bool:
        rows = await engine.store.effects(limit=1000)
        return bool(rows) and all(e.state in states for e in rows)

    await until(all_there, within_s=within_s)
    return list(reversed(await engine.store.effects(limit=1000)))


async def test_an_effect_is_sent_once_and_confirmed() -> None:
    """With what the receiver said; the item did not wait for it."""
    shop = Receiver(took_s=60, timeout_s=100)
    engine = engine_of(shop)
    [item] = await engine.submit()
    async with engine.session():
        await engine.finish([item])
        early = await engine.store.effects()
        [row] = await settled(engine, S.CONFIRMED)

    assert [e.state for e in early] in ([S.PLANNED], [S.SENDING])
    assert shop.got == [row.key]
    assert shop.bodies[row.key] == [{"item": item}]
    assert row.answer == {"id": "1"}


async def test_sending_is_committed_before_the_call() -> None:
    """Whoever looks while the receiver works sees that it may have happened."""
    shop = Receiver(took_s=10)
    engine = engine_of(shop)
    await engine.submit()
    async with engine.session():
        await until(lambda: bool(shop.calls))
        [row] = await engine.store.effects()

    assert (row.state, row.tries) == (S.SENDING, 1)


async def test_what_waits_for_its_turn_is_not_sending() -> None:
    """Killed there, nobody doubts it: also of class C the next worker sends it."""
    shop = Receiver(sink_class=C, line_s=20)
    engine = engine_of(shop)
    await engine.submit(3)
    async with engine.session() as first:
        await anyio.sleep(10)
        waiting = await engine.store.effects()
        await engine.bury(first)
    async with engine.session():
        rows = await settled(engine, S.CONFIRMED)

    assert {(e.state, e.tries) for e in waiting} == {(S.PLANNED, 0)}
    assert {e.tries for e in rows} == {1}
    assert Counter(Counter(shop.got).values()) == {1: 3}


async def test_what_never_had_its_turn_is_no_doubt() -> None:
    """Its sink gave up in line, or raised before it began: it comes again later."""
    shop = Receiver(sink_class=C, timeout_s=30, line_s=100)
    engine = engine_of(shop)
    await engine.submit()
    async with engine.session():
        await anyio.sleep(35)
        [early] = await engine.store.effects()
        shop.line_s = 0
        [row] = await settled(engine, S.CONFIRMED, within_s=60)

    assert (early.state, early.tries) == (S.PLANNED, 0)
    assert early.why.startswith("SINK_TIMEOUT")
    assert row.tries == 1


async def test_a_try_that_fails_plans_nothing() -> None:
    """Neither does one that waits, or that is held and runs again."""
    shop = Receiver()
    tries: list[int] = []

    async def run(letter: Letter, ctx: Any) -> Any:
        tries.append(1)
        await ctx.effect("tell", "shop", {"try": len(tries)})
        if len(tries) == 1:
            raise Transient("not now", code="X")
        if len(tries) == 2:
            return Wait(5)
        return Advance() if letter.text else Hold("LOOK", ask=("text",))

    engine = reaching(Engine([Tape().station("write", run, retry=AGAIN)]), shop)
    await engine.submit()
    async with engine.session():
        await until(lambda: len(tries) == 3)
        await anyio.sleep(5)

    assert await engine.store.effects() == []
    assert shop.got == []


async def test_a_hold_that_goes_on_elsewhere_cannot_plan() -> None:
    """Nobody would plan it again: the stage is told at once, and nothing is sent."""

    async def run(letter: Letter, ctx: Any) -> Any:
        await ctx.effect("tell", "shop")
        return Hold("LOOK")

    engine = reaching(Engine([Tape().station("write", run)]), Receiver())
    [item] = await engine.submit()
    async with engine.session():
        await engine.finish([item])

    assert await engine.code(item) == "BAD_OUTCOME"
    assert await engine.store.effects() == []


async def test_a_rejected_item_has_its_effects() -> None:
    """To say that it was is what they are for."""
    shop = Receiver()

    async def run(letter: Letter, ctx: Any) -> Any:
        await ctx.effect("tell", "shop")
        return Reject("BLANK")

    engine = reaching(Engine([Tape().station("write", run)]), shop)
    await engine.submit()
    async with engine.session():
        await settled(engine, S.CONFIRMED)


async def test_each_of_a_collection_has_its_own_outcome() -> None:
    """One is refused, one is tried again, the rest stand."""
    shop = Receiver(together=200, at_once=1)
    shop.script = [[Confirmed(), Refused("NO: never"), NotSent("BUSY: later")]]
    engine = engine_of(shop)
    await engine.submit(3)
    async with engine.session():
        await until(lambda: len(shop.got) >= 3)
        rows = await settled(engine, S.CONFIRMED, S.REFUSED)

    assert Counter(e.state for e in rows) == {S.CONFIRMED: 2, S.REFUSED: 1}
    assert [e.why for e in rows if e.state is S.REFUSED] == ["NO: never"]
    assert Counter(Counter(shop.got).values()) == {1: 2, 2: 1}


@pytest.mark.parametrize(
    ("said", "of", "expected", "sent", "asked"),
    [
        (Unknown("LOST: x"), A, S.CONFIRMED, 2, 0),
        (Unknown("LOST: x"), B, S.CONFIRMED, 2, 1),  # it was not done, says the ask
        (100.0, B, S.CONFIRMED, 1, 1),  # it was
        (Unknown("LOST: x"), C, S.IN_DOUBT, 1, 0),
        (100.0, C, S.IN_DOUBT, 1, 0),
        (100.0, A, S.CONFIRMED, 2, 0),
        (RuntimeError("a bug, with text"), C, S.IN_DOUBT, 1, 0),
        (RuntimeError("a bug, with text"), A, S.CONFIRMED, 2, 0),
        (NotSent("DOWN: refused"), C, S.CONFIRMED, 2, 0),
        (Refused("NO: x"), C, S.REFUSED, 1, 0),
    ],
)
async def test_what_is_not_known_is_settled_by_class(
    said: Any, of: SinkClass, expected: S, sent: int, asked: int
) -> None:
    """A lost reply, a timeout, a sink that raises; nothing was sent; refused."""
    shop = Receiver(sink_class=of, timeout_s=30)
    shop.script = [said]
    engine = engine_of(shop)
    await engine.submit()
    async with engine.session():
        await anyio.sleep(600)
        [row] = await settled(engine, expected)

    assert (len(shop.got), len(shop.asked)) == (sent, asked)
    assert "text" not in row.why
    assert all(body == shop.bodies[row.key][0] for body in shop.bodies[row.key])


@pytest.mark.parametrize(
    ("of", "expected", "sent"),
    [(A, S.CONFIRMED, 2), (B, S.CONFIRMED, 1), (C, S.IN_DOUBT, 1)],
)
async def test_a_killed_worker_leaves_no_second_effect(
    of: SinkClass, expected: S, sent: int
) -> None:
    """Killed while the receiver works; the next worker goes by class."""
    shop = Receiver(sink_class=of)
    shop.script = [1000.0]
    engine = engine_of(shop)
    await engine.submit()
    async with engine.session() as first:
        await until(lambda: bool(shop.calls))
    await engine.bury(first)
    async with engine.session():
        await anyio.sleep(60)
        [row] = await settled(engine, expected)

    assert len(shop.got) == sent
    assert len(set(shop.got)) == 1
    assert row.item_id == 1


@pytest.mark.parametrize(
    ("before", "stands"), [("take_effects", S.PLANNED), ("begin_effects", S.IN_DOUBT)]
)
async def test_a_zombie_sends_nothing_more(before: str, stands: S) -> None:
    """Its lease may be over: what it took before it slept it does not send."""
    shop = Receiver(sink_class=C)
    engine = engine_of(shop)
    await engine.submit()

    async def slept(call: Any) -> Any:
        taken = await call()
        if taken:
            engine.wire.always["renew"] = not_sent
            await anyio.sleep(100)
        return taken

    engine.wire.always[before] = slept
    async with engine.session() as first:
        await anyio.sleep(300)
    await engine.bury(first)

    [row] = await engine.store.effects()
    assert shop.got == []
    assert row.state is stands


@pytest.mark.parametrize("fault", [landed, lost, not_sent])
@pytest.mark.parametrize("method", ["take_effects", "begin_effects", "settle_effects"])
async def test_the_database_may_be_away(method: str, fault: Any) -> None:
    """What was taken unheard is given back, what is to be settled is kept."""
    shop = Receiver(sink_class=C)
    engine = engine_of(shop)
    await engine.submit(3)
    async with engine.session():
        engine.wire.faults[method].extend([fault] * 2)
        await settled(engine, S.CONFIRMED, within_s=60)

    assert Counter(Counter(shop.got).values()) == {1: 3}


async def test_a_receiver_that_hangs_holds_up_no_other() -> None:
    """Nor does one effect in doubt; no more calls than are allowed."""
    slow, quick = Receiver("slow", at_once=2, took_s=20), Receiver("quick")
    engine = engine_of(slow, quick)
    await engine.submit(20)
    async with engine.session():
        await until(lambda: len(quick.got) == 20)
        before = len(slow.got)
        await settled(engine, S.CONFIRMED)

    assert before <= 4
    assert slow.most == 2
    assert len(set(slow.got)) == 20


async def test_what_cannot_be_taken_back_waits_for_a_person() -> None:
    """And then for its window; the stage, or the sink, says so."""
    mail = Receiver(sink_class=C, irreversible=True)
    engine = engine_of(mail)
    await engine.submit(2)
    async with engine.session():
        await anyio.sleep(60)
        rows = await settled(engine, S.AWAITING_RELEASE)
        await engine.store.release_effects("ann", ids=[rows[0].id], in_s=600)
        await anyio.sleep(500)
        before = list(mail.got)
        await anyio.sleep(200)

    assert before == []
    assert mail.got == [rows[0].key]


async def test_a_draining_worker_hears_what_it_has_sent() -> None:
    """It takes nothing more, and what is under way is settled."""
    shop = Receiver(sink_class=C, at_once=1, took_s=5)
    engine = engine_of(shop)
    await engine.submit(3)
    async with engine.session() as session:
        await until(lambda: bool(shop.calls))
        session.drain()
        await anyio.sleep(30)
        rows = await engine.store.effects()

    assert Counter(e.state for e in rows) == {S.CONFIRMED: 1, S.PLANNED: 2}


async def test_a_worker_that_ends_sends_what_is_due() -> None:
    """Work in the foreground is over as soon as its items are."""
    shop = Receiver()
    engine = engine_of(shop)
    [item] = await engine.submit()
    async with engine.session() as session:
        await until(lambda: bool(engine.wire.moves(Finish)), every_s=0.001)
        session.drain()
        await anyio.sleep(5)
        [row] = await engine.store.effects()

    assert (row.item_id, row.state) == (item, S.CONFIRMED)


async def test_a_worker_in_the_foreground_sends_all_that_is_due() -> None:
    """More than its sink has room for at once; what failed is due later."""
    shop = Receiver(at_once=1, took_s=5)
    shop.script = [NotSent("later", after_s=3600)]
    engine = engine_of(shop)
    await engine.submit(4)
    async with engine.session() as session:
        await until(lambda: len(engine.wire.moves(Finish)) == 4, every_s=0.001)
        assert await session.caught_up()
        session.drain()
        await anyio.sleep(5)
        assert not await session.caught_up()
        rows = await engine.store.effects()

    assert Counter(e.state for e in rows) == {S.CONFIRMED: 3, S.PLANNED: 1}


async def test_a_key_is_the_same_in_every_run() -> None:
    """Two tries, and the item once more: one effect, and others for other items."""
    shop = Receiver()
    tries: list[str] = []

    async def run(letter: Letter, ctx: Any) -> Any:
        tries.append(await ctx.effect("tell", "shop", {"n": len(tries)}))
        if len(tries) < 3:
            raise Transient("not now", code="X")
        return Advance()

    engine = reaching(Engine([Tape().station("write", run, retry=AGAIN)]), shop)
    [item] = await engine.submit()
    async with engine.session():
        await engine.finish([item])
        [other] = await engine.submit()
        await engine.finish([other])

    assert len(set(tries[:3])) == 1
    assert tries[3] != tries[0]
    assert len(tries[0]) == 40


async def test_a_large_payload_is_an_artifact() -> None:
    """It is sent as it was planned all the same."""
    shop = Receiver()

    async def run(letter: Letter, ctx: Any) -> Any:
        await ctx.effect("tell", "shop", {"text": "x" * 20_000})
        return Advance()

    engine = reaching(Engine([Tape().station("write", run)]), shop)
    await engine.submit()
    async with engine.session():
        [row] = await settled(engine, S.CONFIRMED)

    assert row.payload is None
    assert shop.bodies[row.key] == [{"text": "x" * 20_000}]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (("tell", "nowhere"), "NO_SUCH_SINK"),
        (("../up", "shop"), "BAD_EFFECT"),
        (("tell", "shop", {"odd": object()}), "BAD_EFFECT"),
        (("tell", "shop", {"n": float("nan")}), "BAD_EFFECT"),
    ],
)
async def test_an_effect_that_cannot_be_fails_its_item(given: Any, code: str) -> None:
    """By a code, and plans nothing."""

    async def run(letter: Letter, ctx: Any) -> Any:
        await ctx.effect(*given)
        return Advance()

    engine = reaching(Engine([Tape().station("write", run)]), Receiver())
    [item] = await engine.submit()
    async with engine.session():
        await engine.finish([item])

    assert await engine.code(item) == code
    assert await engine.store.effects() == []


@pytest.mark.parametrize("files", [{"../a": "a" * 64}, {".a": "a" * 64}, {"a": "b"}])
async def test_a_file_of_an_effect_has_a_plain_name(files: dict[str, str]) -> None:
    """It becomes the name of a file, and of nothing else."""
    engine = engine_of(Receiver(), artifacts=files)
    [item] = await engine.submit()
    async with engine.session():
        await engine.finish([item])

    assert await engine.code(item) == "BAD_EFFECT"
