"""A try of a stage: each way to end is one value."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pipeline.bound import BoundStage
from pipeline.errors import (
    DeadlinePassed,
    LeaseLost,
    Permanent,
    StageTimeout,
    Transient,
)
from pipeline.model import Advance, Claim, Hold, Item, Reject, Wait
from pipeline.run.attempt import Cancelled, End, Joining, Raised, attempt
from pipeline.run.outcomes import Returned
from pipeline.run.outside import Free
from pipeline.run.stay import Parked, Run
from pipeline.stage import stage
from tests.unit.engine import Letter, pipeline_of

Body = Callable[[Run], Awaitable[Any]]


class Recorder:
    """What a stage records with; here it only knows whether the lease holds."""

    services: Any = SimpleNamespace(places=())
    store: Any = None
    leased = True

    def check_lease(self) -> None:
        if not self.leased:
            raise LeaseLost("replaced")

    async def record_step(self, *_: Any) -> None:
        raise AssertionError("these stages have no steps")

    async def record_decided(self, *_: Any) -> str:
        raise AssertionError("these stages have no children")


async def tried(
    body: Body, *, left_s: float = 60, cancelled: bool = False, leased: bool = True
) -> End:
    """One try of a stage that does `body`, with 10 s of time."""

    async def does(state: Letter, ctx: Any) -> Any:
        return await body(run)

    one = replace(stage(timeout_s=10)(does), name="one")
    pipeline = pipeline_of([one])
    bound: BoundStage = pipeline.stages["one"]
    claim = Claim(Item(1, "north", "b", 1, "a.png", {}), "one", 0, 0, left_s, False)
    now = anyio.current_time()
    run = Run(claim, pipeline, "one", 0, 0, Letter(), now + left_s)
    run.cancelled = cancelled
    recorder = Recorder()
    recorder.leased = leased
    end = await attempt(recorder, run, bound, Free(), now)
    assert run.scope is None
    return end


async def sleeps(run: Run) -> Any:
    await anyio.sleep(20)
    return Advance()


async def advances(run: Run) -> Any:
    return Advance(text="read")


async def test_an_outcome_comes_with_the_state_it_would_make() -> None:
    """Checked before anything is stored: what is stored folds."""
    end = await tried(advances)

    assert isinstance(end, Returned)
    assert end.outcome == Advance(text="read")
    assert end.update == '{"text":"read"}'
    assert end.state == Letter(text="read")


async def test_time_that_is_up_is_an_error_of_its_own() -> None:
    """The stage's time, the item's time while it ran, and before it began."""
    slow = await tried(sleeps)
    late = await tried(sleeps, left_s=5)
    over = await tried(advances, left_s=0)

    assert isinstance(slow, Raised)
    assert isinstance(slow.error, StageTimeout)
    for end in (late, over):
        assert isinstance(end, Raised)
        assert isinstance(end.error, DeadlinePassed)


async def test_a_joining_stage_may_have_tasks_beside() -> None:
    """Its parking comes out of a task group as a group."""

    async def parks(run: Run) -> Any:
        raise Parked

    async def parks_in_a_group(run: Run) -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parks, run)
            tasks.start_soon(sleeps, run)

    assert isinstance(await tried(parks), Joining)
    assert isinstance(await tried(parks_in_a_group), Joining)


@pytest.mark.parametrize("what", [None, 3, {}, Wait("soon"), Advance(nonsense=1)])  # type: ignore[arg-type]
async def test_what_does_not_fit_is_a_permanent_error(what: Any) -> None:
    """No outcome, no time, no such channel: trying again would not help."""

    async def returns(run: Run) -> Any:
        return what

    end = await tried(returns)

    assert isinstance(end, Raised)
    assert isinstance(end.error, Permanent)


async def test_of_several_errors_one_of_ours_decides() -> None:
    """A bug beside it is not what the item ends with; alone, it is named."""

    async def raises(run: Run) -> Any:
        raise ExceptionGroup("", [KeyError("secret"), Permanent("no", code="NO")])

    async def has_a_bug(run: Run) -> Any:
        raise KeyError("secret")

    ours, bug = await tried(raises), await tried(has_a_bug)

    assert isinstance(ours, Raised)
    assert ours.error.code == "NO"
    assert isinstance(bug, Raised)
    assert isinstance(bug.error, Transient)
    assert str(bug.error) == "the stage raised KeyError"


async def test_cancelling_goes_before_all_else() -> None:
    """Before the stage it does not begin; in it, whatever it does is void."""
    began: list[Run] = []

    async def begins(run: Run) -> Any:
        began.append(run)

    async def cancelled_then_returns(run: Run) -> Any:
        run.cancelled = True
        return Advance()

    async def cancelled_then_raises(run: Run) -> Any:
        run.cancelled = True
        raise Permanent("no")

    async def is_cut(run: Run) -> Any:
        run.cancelled = True
        assert run.scope is not None
        run.scope.cancel()
        await anyio.sleep(1)

    assert isinstance(await tried(begins, cancelled=True), Cancelled)
    assert began == []
    for body in (cancelled_then_returns, cancelled_then_raises, is_cut):
        assert isinstance(await tried(body), Cancelled)


async def test_nothing_begins_when_the_lease_may_be_over() -> None:
    """A machine that slept must not go on as if it had not."""
    end = await tried(advances, leased=False)

    assert isinstance(end, Raised)
    assert isinstance(end.error, LeaseLost)


@pytest.mark.parametrize(
    "what",
    [
        Hold("LOOK", needs=(1,)),  # type: ignore[arg-type]
        Hold("LOOK", needs=("nonsense",)),
        Hold("LOOK", ask=("nonsense",)),
        Hold(None),  # type: ignore[arg-type]
        Reject(7),  # type: ignore[arg-type]
        Reject("NO", object()),  # type: ignore[arg-type]
        Wait(1, object()),  # type: ignore[arg-type]
    ],
)
async def test_an_outcome_that_nobody_could_act_on_is_none(what: Any) -> None:
    """A hold that asks for a channel that is not there could never be answered."""

    async def returns(run: Run) -> Any:
        return what

    end = await tried(returns)

    assert isinstance(end, Raised)
    assert end.error.code == "BAD_OUTCOME"


class Odd(BaseException):
    """Of nobody's making; it does not even say what it is."""


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, Odd])
async def test_nothing_that_a_stage_raises_is_more_than_its_failure(
    kind: type[BaseException],
) -> None:
    """Not even what is meant to end a process: charged, named, and no more."""

    async def raises(run: Run) -> Any:
        raise kind

    async def raises_beside_others(run: Run) -> Any:
        raise BaseExceptionGroup("", [kind(), KeyError("secret")])

    for body in (raises, raises_beside_others):
        end = await tried(body)

        assert isinstance(end, Raised)
        assert isinstance(end.error, Transient)
        assert kind.__name__ in end.error.message


async def test_who_plays_at_being_cancelled_has_failed() -> None:
    """Nobody cancelled it: a stray `CancelledError` is a bug like any other."""

    async def raises(run: Run) -> Any:
        raise asyncio.CancelledError

    end = await tried(raises)

    assert isinstance(end, Raised)
    assert end.error.code == "STAGE_RAISED"
    assert "CancelledError" in end.error.message


async def test_who_is_cancelled_goes() -> None:
    """A scope around the try ends it, whatever the stage thinks of that."""
    with anyio.move_on_after(1) as scope:
        await tried(sleeps)

    assert scope.cancelled_caught
