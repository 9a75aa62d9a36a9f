"""An item's way through its stages: checkpoints, steps, outcomes, errors."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import anyio
import pytest

from pipeline.errors import (
    NeedsReview,
    Permanent,
    Throttled,
    Transient,
    Unacceptable,
    Usage,
    VendorAway,
)
from pipeline.model import Advance, Hold, Reject, ToWaiting, Wait
from pipeline.stage import Retry
from pipeline.state import INLINE_BYTES_MAX
from pipeline.vendors.pacing import LimitSpec
from tests.unit.engine import SLOW, Engine, Letter, Tape, run_all, until

FIVE = ("intake", "ocr", "moderation", "generation", "output")
# How much later than it was due an item may begin: timers are looked at twice a
# second, and lines at least as often.
LATE_S = 1.5


def raising(*errors: Exception) -> Any:
    """A stage that raises these errors one after the other, then advances."""
    left: defaultdict[int, list[Exception]] = defaultdict(lambda: list(errors))

    async def run(letter: Letter, ctx: Any) -> Advance:
        await anyio.sleep(0.1)
        if left[ctx.item.id]:
            raise left[ctx.item.id].pop(0)
        return Advance(text="done at last")

    return run


# -- checkpoints and steps -------------------------------------------------------------


async def test_five_stages_leave_one_checkpoint_each_in_order() -> None:
    """An item is carried through; every stage leaves its record, and no other."""
    tape = Tape()
    engine = Engine(tape.line(*FIVE))

    await run_all(engine, 20)

    for item in range(1, 21):
        history = await engine.history(item)
        assert [c.stage for c in history] == list(FIVE)
        assert [c.seq for c in history] == [0, 1, 2, 3, 4]
        assert [c.next_stage for c in history] == [*FIVE[1:], ""]
        assert (await engine.letter(item)).trail == list(FIVE)
    assert len(tape.ran) == 100
    assert await engine.sound()


async def test_a_stage_sees_what_those_before_it_found() -> None:
    """Carried through in one worker or resumed in another: the same state."""
    tape = Tape()
    seen: list[list[str]] = []

    def looking(name: str) -> Any:
        async def run(letter: Letter, ctx: Any) -> Advance:
            await anyio.sleep(10)
            seen.append(letter.trail)
            return Advance(trail=[name])

        return tape.station(name, run)

    engine = Engine([looking(name) for name in FIVE])
    [item] = await engine.submit()
    async with engine.session() as killed:
        await until(lambda: len(seen) == 3)
    await engine.bury(killed)

    async with engine.session():
        await engine.finish([item])

    assert seen == [list(FIVE[:n]) for n in range(5)]


async def test_a_claim_is_paid_once_an_item() -> None:
    """Carried through where there is room: one item, one claim, five stages."""
    engine = Engine(Tape().line(*FIVE))
    items = await engine.submit(30)

    async with engine.session() as session:
        await engine.finish(items)
        claimed = repr(session._dispatcher)

    assert claimed == "<Dispatcher claimed=30>"


async def test_a_finished_stage_is_not_run_again_after_a_crash() -> None:
    """A new worker goes on behind the last checkpoint."""
    tape = Tape()
    engine = Engine(tape.line("one", "two", "three", took_s=10))
    [item] = await engine.submit()
    async with engine.session() as killed:
        await until(lambda: tape.stages() == ["one", "two"])
        await anyio.sleep(5)
    await engine.bury(killed)

    async with engine.session():
        await engine.finish([item])

    assert tape.stages() == ["one", "two", "two", "three"]
    assert await engine.stages_of() == ["one", "two", "three"]
    assert (await engine.letter()).trail == ["one", "two", "three"]


async def test_a_finished_step_is_not_run_again_after_a_crash() -> None:
    """A crash at page 3 repeats page 3; pages 1 and 2 are read from the record."""
    tape = Tape()

    async def page(number: int) -> str:
        tape.steps[f"page-{number}"] += 1
        await anyio.sleep(10)
        return f"text of page {number}, try {tape.steps[f'page-{number}']}"

    async def ocr(letter: Letter, ctx: Any) -> Advance:
        pages = {f"{n}": await ctx.step(f"page-{n}", page, n) for n in (1, 2, 3)}
        return Advance(pages=pages)

    engine = Engine([tape.station("ocr", ocr)])
    [item] = await engine.submit()
    async with engine.session() as killed:
        await until(lambda: tape.steps["page-3"] == 1)
    await engine.bury(killed)

    async with engine.session():
        await engine.finish([item])

    assert tape.steps == {"page-1": 1, "page-2": 1, "page-3": 2}
    assert (await engine.letter()).pages == {
        "1": "text of page 1, try 1",
        "2": "text of page 2, try 1",
        "3": "text of page 3, try 2",
    }


async def test_steps_that_run_side_by_side_are_all_kept() -> None:
    """Steps of one stage may share a task group; each has its own checkpoint."""
    tape = Tape()

    async def clause(number: int) -> Letter:
        tape.steps[f"clause-{number}"] += 1
        await anyio.sleep(1)
        return Letter(text=f"clause {number}")

    async def extract(letter: Letter, ctx: Any) -> Advance:
        found: dict[str, str] = {}

        async def one(number: int) -> None:
            read = await ctx.step(f"clause-{number}", clause, number)
            found[f"{number}"] = read.text  # a model again, also from the record

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(one, number)
        if tape.stages() == ["extract"]:
            raise Transient("after all steps")
        return Advance(pages=found)

    engine = Engine([tape.station("extract", extract)])

    await run_all(engine)

    assert set(tape.steps.values()) == {1}
    assert len(tape.steps) == 30
    assert (await engine.letter()).pages == {f"{n}": f"clause {n}" for n in range(30)}
    assert [c.seq for c in await engine.history()] == list(range(31))


async def test_a_step_that_was_retried_does_not_repeat_the_finished_ones() -> None:
    """A charged retry resumes within the stage, in whichever worker."""
    tape = Tape()

    async def call(name: str) -> str:
        tape.steps[name] += 1
        if name == "price" and tape.steps[name] < 3:
            raise Transient("the ERP timed out")
        return name

    async def quote(letter: Letter, ctx: Any) -> Advance:
        found = [await ctx.step(n, call, n) for n in ("lookup", "fits", "price")]
        return Advance(trail=found)

    engine = Engine([tape.station("quote", quote)])

    await run_all(engine)

    assert tape.steps == {"lookup": 1, "fits": 1, "price": 3}
    assert (await engine.letter()).trail == ["lookup", "fits", "price"]


# -- errors, by disposition ------------------------------------------------------------


async def test_a_retryable_error_is_charged_and_waits_with_full_jitter() -> None:
    """Each wait is drawn evenly from 0 to min(cap, base x 2^n); then it succeeds."""
    tape = Tape()
    policy = Retry(attempts=5, base_s=100, cap_s=300)
    stage = tape.station("ocr", raising(*[Transient("busy")] * 3), retry=policy)
    engine = Engine([stage])

    await run_all(engine, 300)

    waits: dict[int, list[float]] = defaultdict(list)
    for entry in engine.wire.entries:
        if isinstance(entry.move, ToWaiting):
            waits[entry.move.attempt].append(entry.move.for_s)
    for attempt, most in ((1, 100), (2, 200), (3, 300)):
        drawn = sorted(waits[attempt])
        assert len(drawn) == 300
        assert 0 <= drawn[0] < 0.1 * most  # full jitter: not only the upper half
        assert 0.9 * most < drawn[-1] <= most
        assert 0.4 * most < sum(drawn) / 300 < 0.6 * most
    assert all(a.charged and a.code == "TRANSIENT" for _, a in engine.store.attempts)
    assert (await engine.letter()).text == "done at last"


async def test_a_retry_begins_when_it_is_due() -> None:
    """Not before its time, and soon after it."""
    tape = Tape()
    error = Transient("busy", retry_after_s=600)
    engine = Engine([tape.station("ocr", raising(error))])

    await run_all(engine)

    first, second = tape.times()
    assert 600 <= second - first <= 600 + LATE_S + 0.1


async def test_attempts_exhausted_fail_with_the_last_code() -> None:
    """As many tries as the policy says; the dead letter says why the last failed."""
    tape = Tape()
    errors = [Transient("x", code="FIRST"), Transient("x"), Transient("x", code="LAST")]
    stage = tape.station("ocr", raising(*errors, *errors), retry=Retry(attempts=3))
    engine = Engine([stage])

    await run_all(engine)

    assert len(tape.ran) == 3
    assert (await engine.state(), await engine.code()) == ("failed", "LAST")
    tries = [(a.attempt, a.code) for _, a in engine.store.attempts]
    assert tries == [(0, "FIRST"), (1, "TRANSIENT"), (2, "LAST")]


async def test_each_stage_has_attempts_of_its_own() -> None:
    """What one stage used up is not held against the next."""
    tape = Tape()
    policy = Retry(attempts=2)
    stages = [
        tape.station(name, raising(Transient("busy")), retry=policy)
        for name in ("one", "two", "three")
    ]
    engine = Engine(stages)

    await run_all(engine)

    assert await engine.state() == "done"


async def test_throttled_waits_as_told_and_charges_nothing() -> None:
    """429 is no failure of the item: it waits, however often, and then succeeds."""
    tape = Tape()
    told = [Throttled("slow down", retry_after_s=60)] * 20
    policy = Retry(attempts=2)
    engine = Engine([tape.station("ocr", raising(*told), retry=policy)])

    await run_all(engine)

    times = tape.times()
    gaps = [b - a for a, b in pairwise(times)]
    assert len(gaps) == 20
    assert min(gaps) >= 60
    assert max(gaps) <= 60 * 1.2 + LATE_S + 0.1
    assert not any(a.charged for _, a in engine.store.attempts)
    assert await engine.state() == "done"


async def test_throttled_pauses_its_limit_for_everybody() -> None:
    """The whole limit rests, not the one call that was told."""
    tape = Tape()
    told: list[float] = []

    async def call(letter: Letter, ctx: Any) -> Advance:
        if not told:
            told.append(anyio.current_time())
            raise Throttled("slow down", retry_after_s=120)
        return Advance()

    limits = {"llm": LimitSpec(rate=2, per_s=1)}
    engine = Engine([tape.station("call", call, limit="llm")], limits)

    await run_all(engine, 20)

    later = sorted(at for _, _, at in tape.ran if at > told[0])
    assert len(later) == 20
    assert later[0] >= told[0] + 120 - 1e-3


async def test_an_item_whose_vendor_is_away_holds_up_no_other() -> None:
    """It waits alone: the limit rests when a vendor asked for it, and not for us."""
    tape = Tape()
    told: list[float] = []

    async def call(letter: Letter, ctx: Any) -> Advance:
        if not told:
            told.append(anyio.current_time())
            raise VendorAway("away", retry_after_s=120)
        return Advance()

    limits = {"llm": LimitSpec(rate=2, per_s=1)}
    engine = Engine([tape.station("call", call, limit="llm")], limits)

    await run_all(engine, 20)

    later = sorted(at for _, _, at in tape.ran if at > told[0])
    assert len(later) == 20
    assert later[18] < told[0] + 30
    assert later[19] >= told[0] + 120 - 1e-3


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (NeedsReview("look", code="ODD_PAGE"), "held", "ODD_PAGE"),
        (Unacceptable("no", code="PDF_ENCRYPTED"), "rejected", "PDF_ENCRYPTED"),
        (Permanent("no", code="LLM_SCHEMA"), "failed", "LLM_SCHEMA"),
        (Usage("no such prompt"), "failed", "USAGE"),
    ],
)
async def test_an_errors_class_says_what_happens(
    error: Exception, state: str, code: str
) -> None:
    """Held, rejected or failed at the first try; nothing is tried again."""
    tape = Tape()
    engine = Engine([tape.station("ocr", raising(error))])
    await engine.submit()

    async with engine.session():
        await anyio.sleep(60)

    assert (await engine.state(), await engine.code()) == (state, code)
    assert len(tape.ran) == 1
    assert [a.code for _, a in engine.store.attempts] == [code]


async def test_the_first_of_our_errors_in_a_group_decides() -> None:
    """Steps that fail together in a task group do what the first one's class says."""
    tape = Tape()

    async def both(letter: Letter, ctx: Any) -> Advance:
        raise ExceptionGroup(
            "steps", [ValueError(), ExceptionGroup("more", [Permanent("x", code="P")])]
        )

    engine = Engine([tape.station("ocr", both)])

    await run_all(engine)

    assert (await engine.state(), await engine.code()) == ("failed", "P")


# -- outcomes --------------------------------------------------------------------------


async def test_a_rejection_is_final_and_keeps_its_updates() -> None:
    """Reject ends the item with its code; what the stage learnt is stored."""
    tape = Tape()

    async def blank(letter: Letter, ctx: Any) -> Reject:
        return Reject("NO_TEXT", "a blank page", text="nothing")

    engine = Engine([tape.station("blank", blank), tape.station("never")])

    await run_all(engine)

    row = await engine.store.item(1)
    assert (row.state, row.code, row.why) == ("rejected", "NO_TEXT", "a blank page")
    assert (await engine.letter()).text == "nothing"
    assert tape.stages() == ["blank"]


async def test_a_wait_costs_nothing_and_runs_the_stage_again() -> None:
    """Days pass: no task, no attempt, and the stage runs when they are over."""
    tape = Tape()
    day_s = 86400

    async def poll(letter: Letter, ctx: Any) -> Advance | Wait:
        if len(tape.ran) < 3:
            return Wait(2 * day_s, "the printer is on holiday")
        return Advance(text="printed")

    engine = Engine([tape.station("poll", poll)], **SLOW)
    [item] = await engine.submit(deadline_s=30 * day_s)
    async with engine.session() as session:
        await until(lambda: len(tape.ran) == 1)
        await anyio.sleep(day_s)
        meanwhile = (session.windows.total, await engine.state())
        await engine.finish([item], every_s=60)

    first, second, third = tape.times()
    assert meanwhile == (0, "waiting")
    assert 2 * day_s <= second - first < 2 * day_s + 2 * SLOW["poll_s"]
    assert 2 * day_s <= third - second < 2 * day_s + 2 * SLOW["poll_s"]
    assert engine.store.attempts == []


# -- what is stored --------------------------------------------------------------------


async def test_what_the_database_cannot_store_is_cleaned() -> None:
    """U+0000 and lone surrogates in updates, steps, holds and messages are gone."""
    tape = Tape()
    dirt = "a\x00b\ud800c"

    async def step() -> str:
        return dirt

    async def ocr(letter: Letter, ctx: Any) -> Advance:
        await ctx.step("page-1", step)
        return Advance(text=dirt, pages={dirt: dirt})

    async def hold(letter: Letter, ctx: Any) -> Hold:
        return Hold("LOOK", dirt, evidence=[dirt], text=dirt)

    engine = Engine([tape.station("ocr", ocr), tape.station("hold", hold)])
    await engine.submit()
    async with engine.session():
        await until(lambda: len(engine.store._open) == 1)

    [shown] = await engine.store.holds()
    stored = [c.update or "" for c in await engine.history()]
    for text in [*stored, json.dumps(shown.shown), json.dumps(shown.proposal)]:
        assert "\\u0000" not in text
        assert "\\ud8" not in text.lower()
    assert shown.why == "abc"
    assert shown.proposal == {"text": "abc"}
    assert (await engine.letter()).pages == {"abc": "abc"}


async def test_a_large_update_goes_to_the_artifacts_and_folds_back() -> None:
    """Rows stay small; the next worker reads the same state."""
    tape = Tape()
    text = "ß" * INLINE_BYTES_MAX

    async def page() -> str:
        return text

    async def ocr(letter: Letter, ctx: Any) -> Advance:
        return Advance(text=await ctx.step("page-1", page))

    async def check(letter: Letter, ctx: Any) -> Advance:
        await anyio.sleep(10)
        return Advance(answer=str(letter.text == text))

    engine = Engine([tape.station("ocr", ocr), tape.station("check", check)])
    [item] = await engine.submit()
    async with engine.session() as killed:
        await until(lambda: len(engine.wire.entries) == 2)
    await engine.bury(killed)

    async with engine.session():
        await engine.finish([item])

    rows = await engine.history()
    assert [c.update is None for c in rows] == [True, True, False]
    assert [c.ref is None for c in rows] == [False, False, True]
    assert (await engine.letter()).answer == "True"


async def test_rows_are_bounded_in_bytes_and_not_in_characters() -> None:
    """Text of two bytes a character is large at half as many characters."""
    tape = Tape()

    async def ocr(letter: Letter, ctx: Any) -> Advance:
        return Advance(text="ß" * (INLINE_BYTES_MAX - 100))

    engine = Engine([tape.station("ocr", ocr)])

    await run_all(engine)

    [row] = await engine.history()
    assert row.update is None
