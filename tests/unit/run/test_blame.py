"""What a stage raises may be anything; one item pays, and is told why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import model_validator

from pipeline import errors
from pipeline.errors import (
    Disposition,
    NeedsReview,
    Throttled,
    Transient,
    Trouble,
    WaybillError,
)
from pipeline.model import Advance, ToWaiting
from pipeline.run.blame import WAIT_MAX_S
from pipeline.stage import Retry
from pipeline.state import Channels
from pipeline.vendors.limits import FleetLimits
from pipeline.vendors.pacing import LimitSpec
from tests.unit.engine import Engine, Letter, Tape, until


@dataclass(frozen=True)
class Frozen(Exception):
    what: str = "x"


class LiesAboutItsName(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit("name")


class Nameless(Exception, metaclass=LiesAboutItsName):
    pass


class Unset(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise SystemExit("set")


class Classless(Exception):
    @property
    def __class__(self) -> Any:
        raise KeyboardInterrupt

    @__class__.setter
    def __class__(self, _: Any) -> None:
        pass


class Codeless(Transient):
    @property
    def code(self) -> str:  # type: ignore[override]
        raise SystemExit("code")


class OddlyDisposed(Transient):
    disposition = 7  # type: ignore[assignment]


class Abandons(Transient):
    disposition = Disposition.ABANDON


class Hint:
    def __bool__(self) -> bool:
        raise SystemExit("hint")


class Members(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise KeyboardInterrupt


def deep_group() -> BaseException:
    error: BaseException = ValueError()
    for _ in range(20_000):
        error = BaseExceptionGroup("x", [error])
    return error


def odd_hint() -> BaseException:
    error = Transient("x", code="ODD")
    error.hint = Hint()  # type: ignore[assignment]
    return error


ODD: dict[str, tuple[Callable[[], BaseException], str, str]] = {
    "frozen": (Frozen, "STAGE_RAISED", "Frozen"),
    "nameless": (Nameless, "STAGE_RAISED", "Nameless"),
    # A context manager of the library sets something; what that raises goes on.
    "unset": (Unset, "STAGE_RAISED", "SystemExit"),
    "classless": (Classless, "STAGE_RAISED", "Classless"),
    "codeless": (lambda: Codeless("x"), "STAGE_RAISED", "Codeless"),
    "disposition": (lambda: OddlyDisposed("x"), "STAGE_RAISED", "OddlyDisposed"),
    "retry_after": (
        lambda: Throttled("x", retry_after_s="soon"),  # type: ignore[arg-type]
        "STAGE_RAISED",
        "Throttled",
    ),
    "hint": (odd_hint, "ODD", "x"),
    "group": (deep_group, "STAGE_RAISED", "ValueError"),
    "members": (
        lambda: Members("x", [ValueError()]),
        "STAGE_RAISED",
        "ValueError",
    ),
    "abandons": (lambda: Abandons("x"), "STAGE_RAISED", "Abandons"),
    **{
        kind.__name__: (lambda kind=kind: kind("mine"), "STAGE_RAISED", kind.__name__)
        for kind in (
            errors.LeaseLost,
            errors.StoreUnavailable,
            errors.Trouble,
            errors.LoopBlocked,
            errors.LoopCrowded,
            errors.MemoryOutgrown,
            errors.StageStuck,
        )
    },
}


@pytest.mark.parametrize("kind", ODD)
async def test_whatever_a_stage_raises_is_charged_and_named(kind: str) -> None:
    """Its item fails after its tries; the session goes on, and nobody else hears."""
    tape = Tape()
    make, code, said = ODD[kind]

    async def odd(letter: Letter, ctx: Any) -> Advance:
        if ctx.item.id == 1:
            raise make()
        return Advance()

    engine = Engine([tape.station("odd", odd, retry=Retry(attempts=2))])
    items = await engine.submit(5)

    async with engine.session() as session:
        ends = await engine.finish(items)
        alive = session.windows.total == 0 and not session._lost

    row = await engine.store.item(1)
    tries = [attempt for _, attempt in engine.store.attempts]
    assert ends == {"failed": 1, "done": 4}
    assert alive
    assert (row.code, said in row.why) == (code, True)
    assert [(a.code, a.charged) for a in tries] == [(code, True)] * 2
    assert all("test_blame.py" in a.frames for a in tries if kind != "members")


async def test_trouble_that_nobody_finds_shuts_no_gate() -> None:
    """Raised by hand, alone or behind another error, it is the stage's own bug."""
    tape = Tape()
    mine = Trouble("mine", code="DISK_FULL", where="/proc/no", folder=True)

    async def odd(letter: Letter, ctx: Any) -> Advance:
        if ctx.item.id == 1:
            raise mine
        if ctx.item.id == 2:
            raise ValueError from mine
        return Advance()

    engine = Engine([tape.station("odd", odd, retry=Retry(attempts=2))])
    items = await engine.submit(4)

    async with engine.worker() as worker:
        ends = await engine.finish(items)
        told = worker.troubles

    assert ends == {"failed": 2, "done": 2}
    assert told == ()
    assert await engine.code(1) == "STAGE_RAISED"


async def test_an_error_of_ones_own_keeps_what_it_says() -> None:
    """A class of the stage's is believed in all that a stage may decide."""

    class Away(WaybillError):
        disposition = Disposition.REJECT
        code = "AWAY"

    async def odd(letter: Letter, ctx: Any) -> Advance:
        raise Away("nobody is there", hint="ask again")

    engine = Engine([Tape().station("odd", odd)])
    items = await engine.submit()

    async with engine.session():
        ends = await engine.finish(items)

    row = await engine.store.item(1)
    assert ends == {"rejected": 1}
    assert (row.code, row.why) == ("AWAY", "nobody is there (ask again)")


@pytest.mark.parametrize(
    ("asked", "within"),
    [
        (float("inf"), (WAIT_MAX_S, WAIT_MAX_S)),
        (1e300, (WAIT_MAX_S, WAIT_MAX_S)),
        (10**400, (WAIT_MAX_S, WAIT_MAX_S)),
        (float("nan"), (1, 12)),  # as if it had not said
        (-7, (1, 12)),
        (type("Long", (float,), {"__gt__": None, "__bool__": None})(60), (60, 72)),
    ],
)
async def test_what_a_limit_is_to_rest_is_a_number_within_reason(
    monkeypatch: pytest.MonkeyPatch, asked: Any, within: tuple[float, float]
) -> None:
    """It rests for every item of its stage."""
    paused: list[float] = []
    monkeypatch.setattr(FleetLimits, "pause", lambda *given: paused.append(given[-1]))

    async def odd(letter: Letter, ctx: Any) -> Advance:
        raise Throttled("x", retry_after_s=asked)

    engine = Engine([Tape().station("odd", odd, limit="llm")], {"llm": LimitSpec(10)})
    await engine.submit()

    async with engine.session():
        await until(lambda: bool(engine.wire.moves(ToWaiting)), within_s=60)

    wait_s = engine.wire.moves(ToWaiting)[0].for_s
    assert within[0] <= wait_s <= within[1]
    assert all(0 < one <= WAIT_MAX_S and type(one) is float for one in paused)


def state_that(does: Callable[[], None]) -> type[Letter]:
    class Odd(Letter):
        @model_validator(mode="after")
        def _looks(self) -> Odd:
            does()
            return self

    return Odd


def exits() -> None:
    raise SystemExit("validator")


def asks() -> None:
    raise NeedsReview("look")


@pytest.mark.parametrize("does", [exits, asks])
async def test_a_validator_of_the_state_is_tried_like_a_stage(
    does: Callable[[], None],
) -> None:
    """Whatever it raises is charged to the item at its stage; the session goes on."""
    engine = Engine([Tape().station("one", retry=Retry(attempts=2))])
    engine.pipeline = replace(engine.pipeline, channels=Channels(state_that(does)))
    items = await engine.submit(2)

    async with engine.session() as session:
        ends = await engine.finish(items)
        alive = not session._lost

    tries = [attempt for _, attempt in engine.store.attempts]
    assert ends == {"failed": 2}
    assert alive
    assert await engine.code(1) == "STAGE_RAISED"
    assert [(a.stage, a.charged) for a in tries] == [("one", True)] * 4
