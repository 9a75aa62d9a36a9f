"""What is large in a hold is shown and decided on as if it stood in its row."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import NotFound
from pipeline.holds.parking import whole
from pipeline.holds.ruling import ruling
from pipeline.model import Advance, Hold
from pipeline.state import INLINE_BYTES_MAX
from tests.unit.engine import Engine, Letter, Tape, until
from waybill.desk import model

TEXT = "ß" * INLINE_BYTES_MAX


async def desk() -> tuple[Engine, Any, int]:
    """A desk over an item that is held with a large state and proposal."""
    tape = Tape()

    async def read(letter: Letter, ctx: Any) -> Advance:
        return Advance(text=TEXT)

    async def hold(letter: Letter, ctx: Any) -> Hold:
        return Hold("LOOK", "why", text=TEXT + "!", answer="proposed")

    engine = Engine([tape.station("one", read), tape.station("two", hold)])
    [item] = await engine.submit()
    async with engine.session():
        await until(lambda: len(engine.store._open) == 1)
    app: Any = SimpleNamespace(
        store=engine.store,
        artifacts=engine.artifacts,
        catalogue=engine.catalogue,
        settings=SimpleNamespace(reviewer="ann", roles=()),
    )
    return engine, app, item


async def test_the_next_hold_is_shown_whole() -> None:
    """Claimed, and with what stands in artifacts."""
    _, app, item = await desk()

    hold = await model.claim_next(app)
    found = await model.find(app, str(item))

    assert hold.claimed_by == "ann"
    assert hold.shown["state"]["text"] == TEXT
    assert (await model.view(app, hold)).text == TEXT + "!"
    assert found.proposal == hold.proposal


async def test_nothing_held_is_said() -> None:
    """Also to a reviewer of a tenant who has none."""
    _, app, _ = await desk()

    with pytest.raises(NotFound) as nothing:
        await model.claim_next(app, tenant="nobody")

    assert nothing.value.code == "NOTHING_HELD"


async def test_a_ruling_on_a_row_as_listed_is_of_the_whole_proposal() -> None:
    """Whoever decides straight from a list loses nothing; the update is named."""
    engine, app, item = await desk()
    [row] = await engine.store.holds()

    pipeline = await app.catalogue.get(row.pipeline_id, app.store)
    update = ruling(await whole(row, app.artifacts), pipeline, {"answer": "mine"})
    await model.decide(app, row, "edit", update=update)

    last = (await engine.history(item))[-1]
    assert (last.update, last.ref in engine.artifacts.kept) == (None, True)
    letter = await engine.letter(item)
    assert (letter.text, letter.answer) == (TEXT + "!", "mine")
    assert await engine.state(item) == "done"
