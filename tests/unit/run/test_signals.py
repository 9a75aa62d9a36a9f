"""An item asks the world outside, and waits for the answer without costing anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from pipeline.errors import SignalTimeout, Throttled, Transient
from pipeline.model import Advance, State, ToWaiting
from pipeline.parts import Part
from pipeline.signals import Callbacks
from pipeline.store.signals import Delivery, Taken
from tests.unit.engine import DAY_S, SLOW, Engine, Letter, Tape, lost, until

HOUR_S = 3600.0
RARELY_S = 30.0  # between two looks of a worker, where a test waits for an hour


class Proof(BaseModel):
    """What a proof-reader answers."""

    good: bool
    words: int = 0


class Desk:
    """A pipeline of one stage that asks, and one after it."""

    def __init__(
        self, ask: Callable[[Letter, Any], Any], poll_s: float = 1.0, **policies: Any
    ) -> None:
        self.tape = Tape()
        stages = [self.tape.station("proof", ask, **policies), *self.tape.line("print")]
        self.engine = Engine(stages, lease_s=4 * HOUR_S, poll_s=poll_s)

    async def parked(self, item: int = 1) -> None:
        """Until the item waits for a signal."""

        async def so() -> bool:
            row = await self.engine.store.item(item)
            return (row.state, row.code) == (State.WAITING, "SIGNAL")

        await until(so)

    async def answer(
        self, said: Any, *, name: str = "proof-read", to: int = 1, by: str = ""
    ) -> Taken:
        """An answer comes in."""
        text = json.dumps(said)
        rows = await self.engine.store.signals(to, name)
        schema = rows[0].schema if rows else None
        delivery = Delivery(by or text, text, None, "ann", schema=schema)
        return await self.engine.store.answer(to, name, delivery)


async def proof(letter: Letter, ctx: Any) -> Any:
    """Waits for a proof-reader."""
    said = await ctx.signal("proof-read", Proof)
    return Advance(answer=f"{said.good} {said.words}")


async def test_an_item_waits_without_a_task_and_goes_on_with_the_answer() -> None:
    """One row, no task; the stage runs again from its start."""
    desk = Desk(proof, poll_s=600)
    [item] = await desk.engine.submit()
    async with desk.engine.session() as session:
        await desk.parked()
        await anyio.sleep(DAY_S)
        assert "items=0" in repr(session)

        taken = await desk.answer({"good": True, "words": 7})

        assert await desk.engine.finish([item]) == {"done": 1}
    assert taken is Taken.NOW
    assert (await desk.engine.letter()).answer == "True 7"
    assert desk.tape.stages() == ["proof", "proof", "print"]
    assert (await desk.engine.history())[0].step == "signal:proof-read"
    assert await desk.engine.sound()


async def test_an_early_answer_is_kept_wherever_the_item_is() -> None:
    """Sent while the item is in line: the stage never parks."""
    desk = Desk(proof)
    [item] = await desk.engine.submit()

    assert await desk.answer({"good": False}) is Taken.KEPT

    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "False 0"
    assert desk.tape.stages() == ["proof", "print"]


async def test_an_answer_while_the_stage_runs_is_kept() -> None:
    """The stage is on its way to ask: it finds the answer there."""

    async def slow(letter: Letter, ctx: Any) -> Any:
        await anyio.sleep(60)
        return await proof(letter, ctx)

    desk = Desk(slow)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        await anyio.sleep(30)
        assert await desk.answer({"good": True}) is Taken.KEPT
        assert await desk.engine.finish([item]) == {"done": 1}
    assert desk.tape.stages() == ["proof", "print"]


async def test_an_answer_between_the_look_and_the_park_wakes_the_item() -> None:
    """It came after the stage had looked, and before the item stood in its row."""
    desk = Desk(proof)
    [item] = await desk.engine.submit()
    said: list[Taken] = []

    async def meanwhile(call: Any) -> Any:
        rows = await call()
        said.append(await desk.answer({"good": True}))
        return rows

    desk.engine.wire.faults["signals"].append(meanwhile)
    async with desk.engine.session():
        assert await desk.engine.finish([item], within_s=60) == {"done": 1}
    assert said == [Taken.KEPT]


async def test_the_first_answer_wins() -> None:
    """A second one is refused; the first one again is acknowledged, also at the end."""
    desk = Desk(proof)
    [item] = await desk.engine.submit()
    await desk.answer({"good": True}, by="first")

    assert await desk.answer({"good": False}, by="second") is Taken.ANSWERED
    assert await desk.answer({"good": True}, by="first") is Taken.AGAIN
    async with desk.engine.session():
        await desk.engine.finish([item])

    assert await desk.answer({"good": True}, by="first") is Taken.AGAIN
    assert await desk.answer({"good": False}, name="other") is Taken.LATE
    assert (await desk.engine.letter()).answer == "True 0"


async def test_time_over_raises_and_fails_the_item_with_its_code() -> None:
    """The wait is bounded by `within_s`, counted from the first ask."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        await ctx.signal("proof-read", within_s=HOUR_S)

    desk = Desk(ask, poll_s=RARELY_S)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"failed": 1}
    assert await desk.engine.code() == "SIGNAL_TIMEOUT"
    assert HOUR_S <= desk.tape.times()[1] < HOUR_S + 60


async def test_a_retry_asks_anew() -> None:
    """After a time-out a person puts the item back: its time begins again, and an
    answer that came late counts."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        said = await ctx.signal("proof-read", within_s=HOUR_S)
        return Advance(answer=said)

    desk = Desk(ask, poll_s=RARELY_S)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        await desk.engine.finish([item])
        await desk.engine.store.retry([item], "ann")
        await desk.parked()
        await desk.answer("in time")
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "in time"


async def test_without_an_answer_a_stage_may_go_on_and_never_changes_its_mind() -> None:
    """None by choice.  What comes after that is kept, for a stage that asks later."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        said = await ctx.signal("proof-read", Proof, within_s=HOUR_S, or_none=True)
        assert said is None
        if ctx.item.input.get("again") and len(desk.tape.ran) == 2:
            taken.append(await desk.answer({"good": True}))
            raise Transient("once more")
        return Advance(text="nobody")

    taken: list[Taken] = []
    desk = Desk(ask, poll_s=RARELY_S)
    desk.engine.pipeline = Engine(
        [desk.tape.station("first", ask), desk.tape.station("proof", proof)]
    ).pipeline
    [item] = await desk.engine.submit(again=True)
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"done": 1}
    assert taken == [Taken.KEPT]
    letter = await desk.engine.letter()
    assert (letter.text, letter.answer) == ("nobody", "True 0")
    assert desk.tape.stages() == ["first", "first", "first", "proof"]


async def test_a_time_out_may_be_caught() -> None:
    """It is an error like any other of a stage."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        try:
            await ctx.signal("proof-read", within_s=60)
        except SignalTimeout:
            return Advance(answer="without")

    desk = Desk(ask)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "without"


async def test_nothing_waits_past_the_deadline() -> None:
    """An item that nobody answers fails with it, whatever `within_s` says."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        await ctx.signal("proof-read", within_s=30 * DAY_S)

    desk = Desk(ask, poll_s=600)
    [item] = await desk.engine.submit(deadline_s=DAY_S)
    async with desk.engine.session():
        finished = await desk.engine.finish([item], within_s=DAY_S + 900, every_s=60)
        assert finished == {"failed": 1}
    assert await desk.engine.code() == "DEADLINE_PASSED"


async def test_an_answer_that_does_not_fit_is_forgotten() -> None:
    """It came before the stage had said what fits: the item waits for another one."""
    desk = Desk(proof)
    [item] = await desk.engine.submit()
    await desk.answer({"good": "who knows"})
    async with desk.engine.session():
        await desk.parked()
        assert await desk.answer({"good": True}) is Taken.NOW
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "True 0"


async def test_the_store_is_told_what_fits() -> None:
    """For whoever takes answers in: JSON Schema, since when, until when."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        await ctx.signal("proof-read", Proof, within_s=HOUR_S)

    desk = Desk(ask)
    await desk.engine.submit()
    async with desk.engine.session():
        await desk.parked()
        [row] = await desk.engine.store.signals(1)
        place = await desk.engine.store.item(1)
    assert row.open
    assert row.schema is not None
    assert row.schema["required"] == ["good"]
    assert row.asked_at is not None
    assert row.until is not None
    assert (row.until - row.asked_at).total_seconds() == HOUR_S
    assert place.why == "the signal proof-read"


async def test_several_signals_in_one_stage() -> None:
    """One after the other, and beside each other: each is asked for at once."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        got: dict[str, Any] = {}

        async def one(name: str) -> None:
            got[name] = await ctx.signal(name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, "a")
            tasks.start_soon(one, "b")
        got["c"] = await ctx.signal("c")
        return Advance(pages=got)

    desk = Desk(ask)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        await desk.parked()
        assert [r.name for r in await desk.engine.store.signals(1) if r.open] == [
            *("a", "b")
        ]
        assert await desk.answer("2", name="b") is Taken.NOW
        await desk.parked()
        assert await desk.answer("1", name="a") is Taken.NOW
        await desk.parked()
        assert await desk.answer("3", name="c") is Taken.NOW
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).pages == {"a": "1", "b": "2", "c": "3"}


async def test_a_signal_for_each_child() -> None:
    """Children ask, their parent joins them; none of them has a task."""

    async def unpack(letter: Letter, ctx: Any) -> Any:
        await ctx.spawn([Part(f"{n}", {"text": f"{n}"}) for n in range(3)], at="part")
        kin = await ctx.join()
        return Advance(answer=",".join(k.values["answer"] for k in kin))

    async def each(letter: Letter, ctx: Any) -> Any:
        return Advance(answer=await ctx.signal("ocr"))

    tape = Tape()
    stages = [tape.station("unpack", unpack)]
    engine = Engine(stages, branches={"part": [tape.station("each", each)]}, **SLOW)
    [item] = await engine.submit()
    async with engine.session(poll_s=RARELY_S) as session:
        await until(lambda: tape.stages(4) == ["each"])
        await anyio.sleep(HOUR_S)
        assert "items=0" in repr(session)
        for child in (4, 2, 3):
            answer = Delivery("d", json.dumps(f"page {child}"), None, "ann")
            await engine.store.answer(child, "ocr", answer)
        assert await engine.finish([item]) == {"done": 1}
    assert (await engine.letter()).answer == "page 2,page 3,page 4"


async def test_a_stage_that_joins_and_asks_at_once_is_woken_by_both() -> None:
    """Neither waits for the other's end."""

    async def unpack(letter: Letter, ctx: Any) -> Any:
        await ctx.spawn([Part("part", {})], at="part")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.signal, "go")
            tasks.start_soon(ctx.join)
        return Advance()

    tape = Tape()
    engine = Engine(
        [tape.station("unpack", unpack)],
        branches={"part": [tape.station("read", took_s=HOUR_S, timeout_s=DAY_S)]},
        lease_s=4 * HOUR_S,
        poll_s=RARELY_S,
    )
    [item] = await engine.submit()
    async with engine.session():
        await anyio.sleep(60)
        answer = Delivery("d", "1", None, "ann")
        assert await engine.store.answer(1, "go", answer) is Taken.NOW
        assert await engine.finish([item], within_s=HOUR_S + 120) == {"done": 1}


async def test_what_waits_for_another_try_is_not_woken() -> None:
    """A signal it has asked for before does not cut short a wait for a vendor."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        if len(desk.tape.ran) == 2:
            raise Throttled("slow down", retry_after_s=HOUR_S)
        return Advance(answer=await ctx.signal("proof-read"))

    desk = Desk(ask, poll_s=RARELY_S)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        await desk.parked()
        await desk.answer("b", name="other")
        await desk.engine.store.pin(
            {1: ("proof", -1)},  # type: ignore[dict-item]
            1,
            "ann",
        )
        await until(lambda: len(desk.tape.ran) == 2)
        await anyio.sleep(1)
        assert await desk.answer("a") is Taken.KEPT
        assert await desk.engine.finish([item]) == {"done": 1}
    assert desk.tape.times()[2] - desk.tape.times()[1] >= HOUR_S


async def test_a_cancelled_item_takes_no_answer() -> None:
    """Parked it is cancelled at once."""
    desk = Desk(proof)
    await desk.engine.submit()
    async with desk.engine.session():
        await desk.parked()
        assert await desk.engine.store.cancel([1], "ann") == {1: "cancelled"}
        assert await desk.answer({"good": True}) is Taken.LATE
    assert await desk.engine.sound()


async def test_a_crash_after_the_answer_loses_nothing() -> None:
    """The worker that took the answer up was killed: the next one finds it."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        said = await ctx.signal("proof-read")
        await anyio.sleep(HOUR_S)
        return Advance(answer=said)

    desk = Desk(ask, poll_s=RARELY_S, timeout_s=DAY_S)
    [item] = await desk.engine.submit()
    async with desk.engine.session() as first:
        await desk.parked()
        await desk.answer("kept")
        await until(lambda: len(desk.tape.ran) == 2)
        await anyio.sleep(60)
    await desk.engine.bury(first)
    calls = desk.engine.wire.calls["signals"]
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "kept"
    assert desk.engine.wire.calls["signals"] == calls  # from memory


async def test_a_park_whose_answer_was_lost_is_one_park() -> None:
    """The database answers no more, and had not parked it."""
    desk = Desk(proof)
    [item] = await desk.engine.submit()
    desk.engine.wire.faults["commit"].append(lost)
    async with desk.engine.session():
        await desk.parked()
        await desk.answer({"good": True})
        assert await desk.engine.finish([item]) == {"done": 1}


async def test_a_large_answer_stands_in_an_artifact() -> None:
    """The row names it; the stage sees the whole."""
    desk = Desk(proof)
    [item] = await desk.engine.submit()
    text = json.dumps({"good": True, "words": 3, "note": "x" * 20_000})
    ref = await desk.engine.artifacts.put(text.encode())
    await desk.engine.store.answer(1, "proof-read", Delivery("d", None, ref, "ann"))
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "True 3"


@pytest.mark.parametrize("name", ["", "a b", "a,b", "x" * 101, "a/b", "ä"])
async def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    """With a code of its own; nothing is tried again."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        await ctx.signal(name)

    desk = Desk(ask)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"failed": 1}
    assert await desk.engine.code() == "BAD_SIGNAL"


# -- vendors that answer later ---------------------------------------------------------


class Ocr:
    """A vendor that is given a page, and is done with it some time later."""

    def __init__(self, done_after: int) -> None:
        self.done_after = done_after
        self.submitted: list[str] = []
        self.polled: list[float] = []

    async def ask(self, letter: Letter, ctx: Any) -> Any:
        async def submit() -> str:
            url = await ctx.signal_url("ocr")
            self.submitted.append(url)
            return f"job-{len(self.submitted)}"

        async def poll() -> str | None:
            self.polled.append(anyio.current_time())
            return f"{job} done" if len(self.polled) > self.done_after else None

        job = await ctx.step("submit", submit)
        said = await ctx.signal("ocr", str, poll=poll, every_s=30, within_s=HOUR_S)
        return Advance(answer=said)

    def desk(self, poll_s: float = 1.0) -> Desk:
        desk = Desk(self.ask, poll_s)
        callbacks = Callbacks(b"key", "http://127.0.0.1:1")
        desk.engine.services = replace(desk.engine.services, callbacks=callbacks)
        return desk


async def test_a_vendor_is_polled_every_so_often() -> None:
    """Submitted once, first asked after one interval, parked in between."""
    ocr = Ocr(done_after=3)
    desk = ocr.desk()
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "job-1 done"
    assert len(ocr.submitted) == 1
    gaps = [b - a for a, b in zip([0.0, *ocr.polled], ocr.polled, strict=False)]
    assert len(gaps) == 4
    assert all(30 <= gap < 36 for gap in gaps)
    assert desk.engine.store.attempts == []
    [row] = await desk.engine.store.signals(1)
    assert row.author == "poll"


async def test_a_callback_comes_before_the_poll() -> None:
    """Whichever comes first: the vendor is not asked any more."""
    ocr = Ocr(done_after=100)
    desk = ocr.desk()
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        await desk.parked()
        await anyio.sleep(40)
        token = ocr.submitted[0].rpartition("/")[2]
        read, ours = Callbacks(b"key", "").read(token)
        assert read is not None
        assert ours
        assert await desk.answer("called back", name=read.name) is Taken.NOW
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "called back"
    assert len(ocr.polled) == 1


async def test_a_callback_during_the_poll_wins_if_it_is_first() -> None:
    """Both have an answer: the store says which one was there."""
    ocr = Ocr(done_after=0)
    desk = ocr.desk()
    [item] = await desk.engine.submit()

    async def meanwhile(call: Any) -> Any:
        await desk.answer("called back", name="ocr")
        return await call()

    desk.engine.wire.faults["answer"].append(meanwhile)
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"done": 1}
    assert (await desk.engine.letter()).answer == "called back"


async def test_polling_ends_with_its_time() -> None:
    """A vendor that is never done."""
    ocr = Ocr(done_after=10_000)
    desk = ocr.desk(poll_s=3.0)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"failed": 1}
    assert await desk.engine.code() == "SIGNAL_TIMEOUT"
    assert 100 <= len(ocr.polled) <= 120


async def test_what_a_poll_says_must_fit() -> None:
    """A vendor that says something else is no answer: the item fails, and says so."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        async def poll() -> Any:
            return {"good": "maybe"}

        await ctx.signal("proof-read", Proof, poll=poll)

    desk = Desk(ask)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        assert await desk.engine.finish([item]) == {"failed": 1}
    assert await desk.engine.code() == "SIGNAL_SCHEMA"
    assert len(desk.engine.wire.moves(ToWaiting)) == 1


async def test_a_url_is_the_same_for_every_run() -> None:
    """Also hours later, in another worker."""
    urls: list[str] = []

    async def ask(letter: Letter, ctx: Any) -> Any:
        urls.append(await ctx.signal_url("ocr", within_s=DAY_S))
        return Advance(answer=await ctx.signal("ocr"))

    ocr = Ocr(0)
    desk = ocr.desk(RARELY_S)
    desk.engine.pipeline = Desk(ask).engine.pipeline
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        await desk.parked()
        await anyio.sleep(HOUR_S)
    async with desk.engine.session():
        await desk.answer("x", name="ocr")
        await desk.engine.finish([item])
    assert len(urls) == 2
    assert len(set(urls)) == 1


async def test_without_an_address_there_is_no_url() -> None:
    """The error names the setting."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        await ctx.signal_url("ocr")

    desk = Desk(ask)
    [item] = await desk.engine.submit()
    async with desk.engine.session():
        await desk.engine.finish([item])
    row = await desk.engine.store.item(1)
    assert row.code == "NO_CALLBACKS"
    assert "WAYBILL_HTTP" in row.why
