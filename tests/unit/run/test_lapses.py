"""A hold that nobody decides in time, carried by a worker: days pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio
import pytest

from pipeline.lapse import Lapse
from pipeline.model import Advance, Hold, State
from tests.unit.engine import DAY_S, SLOW, Engine, Letter, Tape, run_all
from tests.unit.run.test_outcomes import ended


async def asks(letter: Letter, ctx: Any) -> Any:
    """A person, who may not come."""
    if not letter.answer:
        lapse = Lapse(DAY_S, updates={"answer": "nobody"})
        return Hold("LOOK", ask=("answer",), lapse=lapse)
    return Advance(text=f"{letter.answer} said so")


async def test_an_item_goes_on_when_nobody_comes() -> None:
    """Its stage runs again a day later, and knows what was declared."""
    tape = Tape()
    engine = Engine([tape.station("one", asks), *tape.line("two")], **SLOW)
    [item] = await engine.submit()

    async with engine.session():
        await anyio.sleep(DAY_S - 60)
        early = (await engine.store.item(item)).state
        await anyio.sleep(60 + 2 * SLOW["poll_s"])
        late = (await engine.store.item(item)).state

    assert (early, late) == (State.HELD, State.DONE)
    assert tape.stages(item) == ["one", "one", "two"]
    hold = await engine.store.hold_of(item)
    assert hold.decision is not None
    assert hold.decision.verb == "expired"
    assert await engine.sound()


async def test_an_item_ends_when_nobody_comes() -> None:
    """Rejected by its own code, where its stage declared that."""

    async def run(state: Any, ctx: Any) -> Any:
        return Hold("LOOK", lapse=Lapse(60, "end"))

    engine = Engine([Tape().station("one", run)])
    await run_all(engine)

    row = await engine.store.item(1)
    assert (row.state, row.code) == (State.REJECTED, "HOLD_EXPIRED")


@pytest.mark.parametrize(
    ("lapse", "why"),
    [
        (Lapse(0), "seconds above 0"),
        (Lapse(float("nan")), "seconds above 0"),
        (replace(Lapse(1), action="perhaps"), "seconds above 0"),
        (60, "seconds above 0"),
        (Lapse(1, updates={"nothing": 1}), "nothing"),
        (Lapse(1, updates={"text": "x" * 9000}), "8192"),
    ],
)
async def test_a_lapse_that_cannot_be_is_refused(lapse: Any, why: str) -> None:
    """When the stage returns it, and not a day later."""
    code, said, _ = await ended(Hold("LOOK", lapse=lapse))

    assert code == "BAD_OUTCOME"
    assert why in said
