"""Holds: parked for a person at no cost, decided once, bound to what was shown."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pipeline.errors import Conflict, Integrity, Usage
from pipeline.holds.parking import whole
from pipeline.holds.ruling import ruling
from pipeline.model import Advance, Hold
from pipeline.store.rows import HoldRow
from tests.unit.engine import DAY_S, SLOW, Engine, Letter, Tape, until


def holding(hold: Hold) -> Any:
    """A stage that parks every item that comes by."""

    async def run(letter: Letter, ctx: Any) -> Hold:
        return hold

    return run


async def held(engine: Engine, number: int = 1) -> HoldRow:
    """The open hold, once `number` of them were made."""
    await until(lambda: len(engine.store._holds) == number)
    [row] = await engine.store.holds()
    return row


async def decide(engine: Engine, hold: HoldRow, verb: str, **edits: Any) -> HoldRow:
    """Rule as the review desk does."""
    update = None if verb == "reject" else ruling(hold, engine.pipeline, edits)
    return await engine.store.decide(
        hold.id,
        verb=verb,
        author="ann",
        reason="because",
        digest=hold.digest,
        update=update,
    )


async def test_a_held_item_costs_nothing_for_a_month() -> None:
    """No task, no place in a window, no lease; it survives every worker."""
    tape = Tape()
    engine = Engine([tape.station("read", holding(Hold("UNREADABLE", "blurred")))])
    await engine.submit(50, deadline_s=60 * DAY_S)

    async with engine.session(**SLOW) as session:
        await until(lambda: len(engine.store._holds) == 50)
        await anyio.sleep(30 * DAY_S)
        costs = (session.windows.total, session._carrier.runs, session._claimed)
    await engine.bury(session)

    assert costs == (0, {}, {})
    assert len(tape.ran) == 50
    assert (await engine.store.counts()).held == 50
    assert await engine.sound()


async def test_an_approved_item_goes_on_in_a_new_worker() -> None:
    """The proposal becomes the update; the stage that held is not run again."""
    tape = Tape()
    hold = Hold("DISCLOSURE", "says a secret", text="proposed")
    engine = Engine([tape.station("moderation", holding(hold)), tape.station("reply")])
    [item] = await engine.submit()
    async with engine.session() as first:
        row = await held(engine)
    await engine.bury(first)

    await decide(engine, row, "approve")
    async with engine.session():
        await engine.finish([item])

    assert tape.stages() == ["moderation", "reply"]
    assert (await engine.letter()).text == "proposed"
    assert await engine.stages_of() == ["moderation", "reply"]


async def test_a_reviewers_values_reach_the_next_stage() -> None:
    """What a person typed stands in the state, beside what the machine proposed."""
    tape = Tape()

    async def reply(letter: Letter, ctx: Any) -> Advance:
        return Advance(answer=f"{letter.text} / {letter.pence}")

    hold = Hold("UNREADABLE", needs=["text"], text="machine", pence=3)
    stages = [tape.station("read", holding(hold)), tape.station("reply", reply)]
    engine = Engine(stages)
    [item] = await engine.submit()
    async with engine.session():
        row = await held(engine)
        with pytest.raises(Usage) as refused:
            ruling(row, engine.pipeline, {})
        await decide(engine, row, "edit", text="typed by ann")
        await engine.finish([item])

    assert refused.value.code == "ANSWER_NEEDED"
    assert (await engine.letter()).answer == "typed by ann / 3"


async def test_an_edit_that_does_not_fit_is_refused_and_the_item_stays() -> None:
    """A reviewer's value is checked against its channel before anything moves."""
    engine = Engine([Tape().station("read", holding(Hold("LOOK")))])
    await engine.submit()
    async with engine.session():
        row = await held(engine)
        with pytest.raises(Exception, match="pence") as refused:
            await decide(engine, row, "edit", pence="many")

    assert refused.value.code == "BAD_UPDATE"  # type: ignore[attr-defined]
    assert await engine.state() == "held"


async def test_a_question_runs_its_stage_again_with_the_answer() -> None:
    """An item converses over days: each answer is one more run of the stage."""
    tape = Tape()

    async def price(letter: Letter, ctx: Any) -> Hold | Advance:
        if not letter.answer:
            return Hold("PRICE", "how much?", ask=["answer"])
        if not letter.text:
            return Hold("WHO", "who pays?", ask=["text"])
        return Advance(trail=[f"{letter.text} pays {letter.answer}"])

    engine = Engine([tape.station("price", price), tape.station("quote")], **SLOW)
    [item] = await engine.submit(deadline_s=30 * DAY_S)
    async with engine.session():
        row = await held(engine)
        await anyio.sleep(5 * DAY_S)
        await decide(engine, row, "edit", answer="300")
        row = await held(engine, 2)
        await anyio.sleep(5 * DAY_S)
        await decide(engine, row, "edit", text="Zoe")
        await engine.finish([item], within_s=30 * DAY_S, every_s=60)

    assert tape.stages() == ["price", "price", "price", "quote"]
    assert (await engine.letter()).trail == ["Zoe pays 300", "quote"]


async def test_a_hold_at_the_last_stage_is_done_when_approved() -> None:
    """Nothing is left to do: the decision itself finishes the item."""
    engine = Engine([Tape().station("last", holding(Hold("LOOK")))])
    await engine.submit()
    async with engine.session():
        row = await held(engine)

    await decide(engine, row, "approve")

    assert await engine.state() == "done"
    assert await engine.sound()


async def test_a_rejected_hold_ends_its_item() -> None:
    """A person said no: final, and no stage runs afterwards."""
    tape = Tape()
    engine = Engine([tape.station("read", holding(Hold("LOOK"))), tape.station("next")])
    await engine.submit()
    async with engine.session():
        await decide(engine, await held(engine), "reject")
        await anyio.sleep(60)

    assert (await engine.state(), await engine.code()) == (
        "rejected",
        "REVIEW_REJECTED",
    )
    assert tape.stages() == ["read"]


async def test_two_reviewers_make_one_decision() -> None:
    """The second hears who was first, and changes nothing."""
    engine = Engine([Tape().station("read", holding(Hold("LOOK", text="x")))])
    await engine.submit()
    async with engine.session():
        row = await held(engine)
    await decide(engine, row, "approve")

    with pytest.raises(Conflict, match="ann"):
        await decide(engine, row, "reject")

    assert await engine.state() == "done"


async def test_a_decision_is_bound_to_what_was_shown() -> None:
    """Code, picture and proposal: whichever differs, the digest does."""
    seen = set[str]()
    for hold in (
        Hold("LOOK", text="x"),
        Hold("OTHER", text="x"),
        Hold("LOOK", text="y"),
        Hold("LOOK", evidence=1, text="x"),
    ):
        engine = Engine([Tape().station("read", holding(hold))])
        await engine.submit()
        async with engine.session():
            row = await held(engine)
        for digest in seen:
            with pytest.raises(Conflict):
                await engine.store.decide(
                    row.id,
                    verb="approve",
                    author="ann",
                    reason="",
                    digest=digest,
                    update="{}",
                )
        assert await engine.state() == "held"
        seen.add(row.digest)

    assert len(seen) == 4


async def test_what_is_shown_is_the_state_the_stage_saw() -> None:
    """The reviewer sees the evidence and the item as it stood."""
    tape = Tape()

    async def read(letter: Letter, ctx: Any) -> Advance:
        return Advance(text="Dear Santa")

    hold = Hold("LOOK", evidence={"span": [0, 4]})
    engine = Engine([tape.station("read", read), tape.station("mod", holding(hold))])
    await engine.submit()
    async with engine.session():
        row = await held(engine)

    assert row.shown["evidence"] == {"span": [0, 4]}
    assert row.shown["state"]["text"] == "Dear Santa"


async def test_a_decision_after_the_deadline_starts_nothing() -> None:
    """Approved too late: the next stage does not begin."""
    tape = Tape()
    engine = Engine([tape.station("read", holding(Hold("LOOK"))), tape.station("next")])
    [item] = await engine.submit(deadline_s=60)
    async with engine.session():
        row = await held(engine)
        await anyio.sleep(61)
        await decide(engine, row, "approve")
        await engine.finish([item])

    assert (await engine.state(), await engine.code()) == ("failed", "DEADLINE_PASSED")
    assert tape.stages() == ["read"]


async def test_a_cancelled_hold_leaves_the_desk() -> None:
    """Nobody can decide on an item that was cancelled meanwhile."""
    engine = Engine([Tape().station("read", holding(Hold("LOOK")))])
    [item] = await engine.submit()
    async with engine.session():
        row = await held(engine)

    said = await engine.store.cancel([item], "ann")

    assert said == {item: "cancelled"}
    assert await engine.store.holds() == []
    with pytest.raises(Conflict):
        await decide(engine, row, "approve")
    assert await engine.state() == "cancelled"


async def test_a_reviewers_value_meets_the_proposal_by_the_channels_reducer() -> None:
    """One key of a mapping is set; what the machine found beside it stays."""
    pages = {"1": "one", "2": "tvvo"}
    hold = Hold("LOOK", needs=["pages.2"], pages=pages, trail=["read"], text="old")
    engine = Engine([Tape().station("read", holding(hold))])
    [item] = await engine.submit()
    async with engine.session():
        row = await held(engine)
        for wrong in ({"pages": {"1": "won"}}, {"pages": {"2": ""}}, {}):
            with pytest.raises(Usage) as refused:
                ruling(row, engine.pipeline, wrong)
            assert refused.value.code == "ANSWER_NEEDED"
        more = {"pages": {"2": "two"}, "trail": ["ann"], "text": "new"}
        await decide(engine, row, "edit", **more)
        await engine.finish([item])

    letter = await engine.letter()
    assert letter.pages == {"1": "one", "2": "two"}
    assert letter.trail == ["read", "ann"]
    assert letter.text == "new"


async def test_a_row_that_was_changed_is_no_hold() -> None:
    """By hand, in the database: said so, and not shown."""
    engine = Engine([Tape().station("one", holding(Hold("LOOK", "look")))])
    await engine.submit()
    async with engine.session():
        row = (await held(engine))._replace(changed=True)

    with pytest.raises(Integrity) as refused:
        await whole(row, engine.services.artifacts)

    assert refused.value.code == "HOLD_CHANGED"


async def test_a_mistyped_channel_is_named_before_what_is_needed() -> None:
    """It has given nothing for the one that is needed, and why is what helps."""
    engine = Engine(
        [Tape().station("one", holding(Hold("LOOK", "x", needs=("text",))))]
    )
    await engine.submit()
    async with engine.session():
        row = await held(engine)

    with pytest.raises(Usage, match="tekst"):
        ruling(row, engine.pipeline, {"tekst": "hi"})
