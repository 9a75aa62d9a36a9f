"""What a stage tells while it runs, and what it made."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pipeline.errors import Transient
from pipeline.model import Advance, Hold, Reject
from pipeline.stage import Retry
from tests.unit.engine import Engine, Letter, Tape, run_all, until

AGAIN = Retry(attempts=3, base_s=1, cap_s=1)


async def made(engine: Engine) -> list[tuple[str | None, dict[str, Any]]]:
    """The products called `file` of the one item."""
    found = await engine.store.products(1)
    return [(p.artifact, p.facts) for p in found if p.name == "file"]


async def test_how_far_a_stage_is_can_be_seen_while_it_runs() -> None:
    """Though it records nothing, and nobody waits for what it says."""
    tape = Tape()

    async def run(letter: Letter, ctx: Any) -> Any:
        for done in range(5):
            ctx.progress(done, 4)
            await anyio.sleep(10)
        return Advance()

    engine = Engine([tape.station("read", run), tape.station("write", took_s=10)])
    [item] = await engine.submit()
    seen: list[int] = []
    async with engine.session():
        for _ in range(5):
            await anyio.sleep(10)
            seen += [r.done for r in await engine.store.in_work()]
        await until(lambda: "write" in tape.stages(item))
        later = await engine.store.in_work()
        await engine.finish([item])

    assert seen == sorted(seen)
    assert {1, 2, 3} <= set(seen)
    assert later == []


async def test_what_is_told_in_a_step_stands_with_the_step() -> None:
    """One commit, so that whoever sees the one sees the other."""

    async def page() -> int:
        return 1

    async def run(letter: Letter, ctx: Any) -> Any:
        async def told() -> int:
            ctx.progress(1, 2)
            return await page()

        await ctx.step("page-1", told)
        return Advance()

    engine = Engine([Tape().station("read", run)])
    await run_all(engine)

    [together] = [es for _, es in engine.wire.commits if any(e.progress for e in es)]
    assert [e.checkpoint.step for e in together if e.checkpoint] == ["page-1"]


async def test_odd_numbers_are_cut_to_what_can_be_kept() -> None:
    """A stage that counts wrongly does not fail by it."""

    async def run(letter: Letter, ctx: Any) -> Any:
        ctx.progress(-1, 10**12)
        return Advance()

    engine = Engine([Tape().station("read", run)])
    await run_all(engine)

    [told] = [e.progress for e in engine.wire.entries if e.progress]
    assert told == ("read", 0, 2**31 - 1, "")


async def test_products_are_committed_with_the_outcome() -> None:
    """In the entry of the checkpoint; the last of a name stands."""

    async def run(letter: Letter, ctx: Any) -> Any:
        ctx.product("file", "a" * 64, pages=1)
        ctx.product("file", "b" * 64, pages=2, note="\x00odd")
        ctx.product("other", "c" * 64)
        return Advance()

    engine = Engine([Tape().station("write", run), *Tape().line("end")])
    await run_all(engine)

    [entry] = [e for e in engine.wire.entries if e.products]
    assert entry.checkpoint is not None
    assert entry.checkpoint.stage == "write"
    assert [p.name for p in entry.products] == ["file", "other"]
    assert await made(engine) == [("b" * 64, {"pages": 2, "note": "odd"})]


async def test_an_attempt_that_fails_makes_nothing() -> None:
    """What it named before it failed is not a product; the next attempt's is."""
    tape = Tape()

    async def run(letter: Letter, ctx: Any) -> Any:
        if len(tape.stages()) == 1:
            ctx.product("broken", "a" * 64)
            raise Transient("not now", code="X")
        ctx.product("file", "b" * 64)
        return Advance()

    engine = Engine([tape.station("write", run, retry=AGAIN)])
    await run_all(engine)

    names = [p.name for e in engine.wire.entries for p in e.products]
    assert names == ["file"]
    assert await made(engine) == [("b" * 64, {})]


async def test_a_held_item_has_its_products() -> None:
    """They stand with the hold: a reviewer may want to look at them."""

    async def run(letter: Letter, ctx: Any) -> Any:
        ctx.product("file", "a" * 64)
        return Hold("LOOK") if not letter.text else Reject("NO")

    engine = Engine([Tape().station("write", run)])
    [item] = await engine.submit()
    async with engine.session():

        async def held() -> bool:
            return await engine.state(item) == "held"

        await until(held)

    [entry] = [e for e in engine.wire.entries if e.products]
    assert entry.move is not None
    assert entry.checkpoint is None


async def test_a_stage_that_says_nothing_costs_nothing() -> None:
    """No entry of it carries a progress or a product."""
    engine = Engine(Tape().line("one", "two", "three"))

    await run_all(engine, 20)

    assert len(engine.wire.entries) == 60
    assert not any(e.progress or e.products for e in engine.wire.entries)


SHA = "a" * 64


@pytest.mark.parametrize(
    ("name", "artifact", "facts"),
    [
        ("", SHA, {}),
        ("n" * 101, SHA, {}),
        ("../up", SHA, {}),
        (None, SHA, {}),
        ("file", "../../etc/passwd", {}),
        ("file", None, {}),
        ("file", SHA, {"size": float("nan")}),
        ("file", SHA, {"size": 10**5000}),
        ("file", SHA, {"text": "x" * 10_000}),
        ("file", SHA, {"odd": object()}),
    ],
)
async def test_a_product_that_nobody_could_read_is_none(
    name: Any, artifact: Any, facts: dict[str, Any]
) -> None:
    """It fails its own item, by a code, and no report of the batch."""

    async def run(letter: Letter, ctx: Any) -> Any:
        ctx.product(name, artifact, **facts)
        return Advance()

    engine = Engine([Tape().station("write", run), *Tape().line("end")])
    await run_all(engine)
    item = 1

    assert await engine.code(item) == "BAD_PRODUCT"
    assert (await engine.store.item(item)).stage == "write"
    assert await made(engine) == []


async def test_what_is_no_number_is_nothing_done() -> None:
    """Nor is more done than there is."""

    async def run(letter: Letter, ctx: Any) -> Any:
        ctx.progress(float("nan"), 3)
        await anyio.sleep(1)
        ctx.progress(10, 5)
        return Advance()

    engine = Engine([Tape().station("read", run)])
    await run_all(engine)

    said = [e.progress[1:3] for e in engine.wire.entries if e.progress]
    assert said == [(0, 3), (5, 5)]
