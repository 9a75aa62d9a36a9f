"""What was made of an item, as people look at it; on PostgreSQL, where reports are."""

from __future__ import annotations

from decimal import Decimal

from pipeline.calls import CallOpening, Settled
from pipeline.model import State, ToJoining
from tests.store.test_conformance_kin import family
from tests.store.world import World, done


async def test_a_tree_has_every_descendant_with_its_cost(postgres: World) -> None:
    """Those nearest to the item first; of a parent that waits that is said."""
    worker, item, [one, two] = await family(postgres, "a", "b")
    await postgres.move(worker, item, ToJoining("read", 1))
    last = await postgres.join()
    await postgres.claim(last)
    opening = CallOpening(one, "read", "ask", "llm", Decimal("0.5"))
    [call] = await postgres.store.open_calls(last, [opening])
    await postgres.store.settle_calls(last, [Settled(call, Decimal("0.25"))])
    await postgres.move(last, two, done())

    nodes = await postgres.store.tree(item)

    assert [(n.row.id, n.row.parent_id, n.row.state) for n in nodes] == [
        (one, item, State.RUNNING),
        (two, item, State.DONE),
    ]
    assert [[s.cost for s in n.spent] for n in nodes] == [[Decimal("0.25")], []]
    assert await postgres.store.tree(one) == []
    assert [n.row.id for n in await postgres.store.tree(item, limit=1)] == [one]
