"""What agents of a family may take, on both stores: counted once, never overspent."""

from __future__ import annotations

import json

import anyio
import pytest

from pipeline.errors import Refused
from pipeline.model import Entry, Finish, ItemId, Spawn, State, WorkerId
from pipeline.parts import Part
from pipeline.purse import Amounts, Draw, Drawn, Most
from tests.store.world import World, step

MOST = Most(asks=100, tokens=5_000, calls=30)
ADDERS = 64


async def drawn(
    world: World, worker: WorkerId, item: ItemId, seq: int, draw: Draw
) -> Drawn:
    """One draw, as it is kept with its step."""
    entry = Entry(item, step(seq, "read", f"one/purse-{seq}"), draw=draw)
    await world.store.commit(worker, [entry])
    return Drawn.model_validate_json(await world.store.result_of(item, seq))


async def test_a_draw_is_decided_in_the_transaction_of_its_step(world: World):
    """What is taken stays, what is given back is there for others."""
    worker, [item] = await world.take("a")
    wants = Amounts(asks=2, tokens=3_000)

    first = await drawn(world, worker, item, 0, Draw(MOST, "one", wants=wants))
    taken = Amounts(asks=1, tokens=700)
    last = Amounts(asks=1, tokens=2_000)
    more = Draw(MOST, "one", taken, Amounts(asks=2, tokens=9_000), last)
    second = await drawn(world, worker, item, 1, more)
    end = await drawn(world, worker, item, 2, Draw(MOST, "one", taken, note="n"))

    assert (first.held, first.lacks) == (wants, [])
    assert (second.held, second.lacks) == (last, ["item_tokens"])
    assert (end.held, end.note) == (Amounts(), "n")
    row = await world.store.purse(item)
    assert row is not None
    assert (row.item, row.most) == (item, MOST)
    assert (row.taken, row.held) == (Amounts(asks=2, tokens=1_400), Amounts())
    assert row.lacked == "item_tokens"
    assert await world.store.purses() == [row]


async def test_of_calls_there_are_as_many_as_there_are(world: World):
    """Asks and tokens are given whole, or not at all."""
    worker, [item] = await world.take("a")
    wants = Amounts(asks=1, calls=40)

    some = await drawn(world, worker, item, 0, Draw(MOST, "one", wants=wants))
    none = await drawn(
        world, worker, item, 1, Draw(MOST, "two", wants=Amounts(asks=100))
    )

    assert (some.held, some.lacks) == (Amounts(asks=1, calls=30), ["item_calls"])
    assert (none.held, none.lacks) == (Amounts(), ["item_asks"])


async def test_what_an_ended_part_still_held_is_there_for_others(world: World):
    """Once somebody lacks it; and its own again, as soon as it is retried."""
    worker, [parent] = await world.take("a")
    parts = (Part("p0", {}),)
    spawn = Entry(parent, step(0, "read", "spawn:p"), spawn=Spawn("read", "t", parts))
    await world.store.commit(worker, [spawn])
    [kin] = json.loads(await world.store.result_of(parent, 0))
    await world.claim(worker, 1)
    half, rest = Amounts(asks=60, tokens=1_000), Amounts(asks=50, tokens=1_000)

    held = await drawn(world, worker, kin, 0, Draw(MOST, "one", wants=half))
    short = await drawn(world, worker, parent, 1, Draw(MOST, "one", wants=rest))
    await world.move(worker, kin, Finish(State.FAILED, "read", "VENDOR_REFUSED"))
    some = Amounts(asks=10, tokens=1)
    enough = await drawn(world, worker, parent, 2, Draw(MOST, "two", wants=some))
    kept = await world.store.purse(parent)
    given = await drawn(world, worker, parent, 3, Draw(MOST, "one", wants=rest))
    swept = await world.store.purse(parent)
    await world.store.retry([kin], "a reviewer")
    again = await world.store.purse(parent)
    await world.claim(worker, 1)
    more = await drawn(world, worker, kin, 1, Draw(MOST, "one", Amounts(asks=1)))
    end = await world.store.purse(parent)

    assert (held.held, short.lacks) == (half, ["item_asks"])
    assert (enough.held, given.held) == (some, rest)
    rows = [row.held.asks for row in (kept, swept, again, end) if row is not None]
    assert rows == [70, 60, 120, 60]
    assert more.held == Amounts()


async def test_who_has_lost_the_item_draws_nothing(world: World):
    """Somebody else counts for it now."""
    _, [item, other] = await world.take("a", "b")
    stranger = await world.join()

    with pytest.raises(Refused):
        await drawn(world, stranger, item, 0, Draw(MOST, "one", Amounts(asks=1)))

    assert await world.store.purse(item) is None
    assert await world.store.purse(other) is None


async def test_many_at_once_never_take_more_than_there_is(world: World):
    """Parts and their parent, side by side, from one purse."""
    worker, [parent, other] = await world.take("a", "b")
    parts = tuple(Part(f"p{n}", {}) for n in range(ADDERS))
    spawn = Entry(parent, step(0, "read", "spawn:p"), spawn=Spawn("read", "t", parts))
    await world.store.commit(worker, [spawn])
    kin: list[ItemId] = json.loads(await world.store.result_of(parent, 0))
    await world.claim(worker, ADDERS)
    given: list[int] = []
    store = world.store._store  # the audit of each call would take half a minute

    async def adder(item: ItemId) -> None:
        held = Amounts()
        for seq in (1, 2):
            taken = Amounts(held.asks)
            draw = Draw(MOST, "one", taken, Amounts(asks=1, tokens=40))
            entry = Entry(item, step(seq, "read", f"one/purse-{seq}"), draw=draw)
            await store.commit(worker, [entry])
            kept = await store.result_of(item, seq)
            held = Drawn.model_validate_json(kept).held
            given.append(held.asks)

    async with anyio.create_task_group() as tasks:
        for item in [parent, *kin]:
            tasks.start_soon(adder, item)

    row = await world.store.purse(kin[-1])
    assert row is not None
    assert row.item == parent
    assert sum(given) == 100
    assert row.taken.plus(row.held).asks == 100
    assert row.taken.plus(row.held).tokens <= 5_000
    assert await world.store.purse(other) is None
