"""A worker that puts back what it does not know of, while its claim is under way."""

from __future__ import annotations

import asyncpg

from pipeline.model import State
from tests.store.conftest import Urls
from tests.store.test_races import RUNNING_KEY, crowd, in_turn
from tests.store.world import World

__all__ = ["crowd"]


async def test_a_disowning_worker_waits_for_its_claim_under_way(
    crowd: World, shared: Urls, owner: asyncpg.Connection
) -> None:
    """Whose answer was lost may still be written: what it takes is put back as well,
    and not for ever in the hands of a worker that never hears of it."""
    [item] = await crowd.admit("a")
    worker = await crowd.join()

    claims, put_back = await in_turn(
        shared,
        owner,
        (RUNNING_KEY, item),
        lambda: crowd.claim(worker),
        lambda: crowd.store.disown(worker, []),
    )

    assert ([c.item.id for c in claims], put_back) == ([item], 1)
    assert await crowd.state(item) is State.READY
