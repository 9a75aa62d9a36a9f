"""Turns: never more than the places, fair between owners, and never lost."""

from __future__ import annotations

from collections.abc import Hashable

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from pipeline.jail.turns import Turns


async def sit(
    turns: Turns,
    owner: Hashable,
    order: list[Hashable],
    took_s: float,
    *,
    task_status: TaskStatus[None],
) -> None:
    """Take a turn, note when it began, and stay."""
    task_status.started()
    async with turns.turn(owner):
        order.append(owner)
        await anyio.sleep(took_s)


async def crowd(
    tasks: TaskGroup, turns: Turns, owners: str, took_s: float = 1.0
) -> list[Hashable]:
    """Callers who come in this order; who sat down, as it happens."""
    order: list[Hashable] = []
    for owner in owners:
        await tasks.start(sit, turns, owner, order, took_s)
    return order


async def test_there_are_never_more_than_the_places() -> None:
    """Of ten callers three at a time have a turn, and all get one."""
    turns = Turns(3)
    busy: list[int] = []

    async with anyio.create_task_group() as tasks:
        order = await crowd(tasks, turns, "abcdefghij")
        while len(order) < 10:
            busy.append(turns._running.total())
            await anyio.sleep(0.5)

    assert sorted(order) == list("abcdefghij")
    assert max(busy) == 3
    assert repr(turns) == "<Turns 0 of 3 running, 0 waiting>"


async def test_a_postcard_passes_a_book() -> None:
    """A free place goes to the owner with the fewest running, whoever came first."""
    turns = Turns(2)

    async with anyio.create_task_group() as tasks:
        order = await crowd(tasks, turns, "BBBBBBp")

    # Both places fall free at once, and either may be noted first.
    assert sorted(order[2:4]) == ["B", "p"]


async def test_two_books_share_the_places() -> None:
    """Neither of two long documents waits for the end of the other."""
    turns = Turns(2)

    async with anyio.create_task_group() as tasks:
        order = await crowd(tasks, turns, "AAAAAABBBBBB")

    assert order[2:10].count("B") == 4


async def test_nobody_in_particular_comes_first_come_first_served() -> None:
    """Calls without an owner are not taken for those of one."""
    turns = Turns(1)
    order: list[Hashable] = []

    async with anyio.create_task_group() as tasks:
        for owner in ("book", "book", None, None, "book"):
            await tasks.start(sit, turns, owner, order, 1.0)

    assert order == ["book", "book", None, None, "book"]


async def test_a_waiting_call_can_be_cancelled() -> None:
    """Who gives up waiting takes no place, and holds nobody up."""
    turns = Turns(1)
    order: list[Hashable] = []

    async with anyio.create_task_group() as tasks:
        await tasks.start(sit, turns, "a", order, 10.0)
        with anyio.move_on_after(1.0):
            await sit(turns, "b", order, 1.0, task_status=anyio.TASK_STATUS_IGNORED)
        await tasks.start(sit, turns, "c", order, 1.0)

    assert order == ["a", "c"]
    assert repr(turns) == "<Turns 0 of 1 running, 0 waiting>"


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_turn_given_to_a_cancelled_call_is_passed_on(
    cancelled_first: bool,
) -> None:
    """Cancelled in the moment its turn comes, a call leaves the place to the next."""
    turns = Turns(1)
    order: list[Hashable] = []
    scope = anyio.CancelScope()

    async def give_up(*, task_status: TaskStatus[None]) -> None:
        with scope:
            await sit(turns, "b", order, 1.0, task_status=task_status)

    async with anyio.create_task_group() as tasks:
        async with turns.turn("a"):
            await tasks.start(give_up)
            await tasks.start(sit, turns, "c", order, 1.0)
            await anyio.wait_all_tasks_blocked()
            if cancelled_first:
                scope.cancel()
        # Here "b" has been given the place, and has not yet run.
        scope.cancel()

    assert order[-1:] == ["c"]
    assert repr(turns) == "<Turns 0 of 1 running, 0 waiting>"
