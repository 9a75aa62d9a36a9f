"""What a stage returns is refused at once, by channel, when nobody could use it."""

from __future__ import annotations

from collections import UserDict
from dataclasses import replace
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidatorFunctionWrapHandler, WrapValidator

from pipeline.errors import NeedsReview, Permanent
from pipeline.model import Advance, Done, Hold, Reject, ToHeld, ToWaiting, Wait
from pipeline.run.blame import WAIT_MAX_S
from pipeline.stage import Retry
from pipeline.state import Channels
from tests.unit.engine import Engine, Tape, run_all, until

SECRET = "the text of a document"


class Clause(BaseModel):
    date: str


class Contract(BaseModel):
    clause: Clause | None = None
    number: int | None = None
    text: str | None = None


def broken(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    raise KeyError(SECRET)


class Odd(BaseModel):
    """A state whose validator has a bug."""

    text: Annotated[str, WrapValidator(broken)] = ""


def nested(levels: int, inner: Any = SECRET) -> Any:
    for _ in range(levels):
        inner = {"in": inner}
    return inner


def endless() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


async def ended(outcome: Any) -> tuple[str, str, str]:
    """Code and reason of an item whose first stage returned this, and the stage."""

    async def run(state: Any, ctx: Any) -> Any:
        return outcome

    engine = Engine([Tape().station("one", run), *Tape().line("two")])
    await run_all(engine)
    row = await engine.store.item(1)
    assert await engine.sound()
    assert row.state.value == "failed"
    return row.code, row.why, row.stage


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "no number"),
        ({"a": [SECRET, float("-inf")]}, "no number"),
        (nested(199), "too deep"),  # PostgreSQL would take it, and nobody read it
        (nested(250), "too deep"),
        (nested(5000), "too deep"),
        (endless(), "too deep"),
        (10**5000, "too many digits"),
        (object(), "no JSON"),
        (b"\xff" + SECRET.encode(), "no JSON"),
        ("x" * (65 << 20), "characters"),
    ],
    ids=[
        *("nan", "inf", "199", "250", "5000", "endless"),
        *("digits", "object", "bytes", "large"),
    ],
)
@pytest.mark.parametrize("kind", [Advance, Done])
async def test_what_cannot_be_stored_names_its_channel(
    kind: Any, value: Any, why: str
) -> None:
    """Before it is stored: what is stored can be read again, also in a hold."""
    code, said, stage = await ended(kind(text="fine", anything=value))

    assert (code, stage) == ("BAD_OUTCOME", "one")
    assert "'anything'" in said
    assert why in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "outcome",
    [
        Advance(no_such=1),
        Hold("LOOK", no_such=1),
        Reject("NO", no_such=1),
        Hold("LOOK", needs=("no_such",)),
        Hold("LOOK", ask=("no_such",)),
        Hold("LOOK", needs=("text", "no_such.key")),
    ],
)
async def test_a_channel_that_is_not_there_is_named(outcome: Any) -> None:
    """Also one that a hold would ask a person for: nobody could ever answer."""
    code, said, _ = await ended(outcome)

    assert code == "BAD_OUTCOME"
    assert "no_such" in said
    assert "text" in said  # what there is


@pytest.mark.parametrize("name", ["text.key", "pages.", "pages.a,b", "pence.x"])
async def test_a_key_is_asked_only_of_a_mapping(name: str) -> None:
    """No answer would fit: the hold could never be left."""
    assert (await ended(Hold("LOOK", needs=(name,))))[0] == "BAD_OUTCOME"


async def test_a_key_of_a_mapping_may_be_asked() -> None:
    """Of one that must have other keys, too."""
    channels = Channels(Contract)

    assert channels.has_keys("clause")
    assert not channels.has_keys("number")
    assert not channels.has_keys("text")


@pytest.mark.parametrize(
    "evidence", [nested(300), float("nan"), object()], ids=["deep", "nan", "object"]
)
async def test_evidence_that_cannot_be_shown_is_named(evidence: Any) -> None:
    """A hold without its evidence would ask for a ruling on nothing."""
    code, said, _ = await ended(Hold("LOOK", evidence={"seen": evidence}))

    assert code == "BAD_OUTCOME"
    assert "evidence" in said


async def test_the_deepest_update_can_still_be_held() -> None:
    """What a stage may return stands in the picture of a later hold as well."""

    async def first(state: Any, ctx: Any) -> Any:
        return Advance(anything=nested(190))

    async def second(state: Any, ctx: Any) -> Any:
        return Hold("LOOK", evidence=nested(190))

    tape = Tape()
    engine = Engine([tape.station("one", first), tape.station("two", second)])
    [item] = await engine.submit()

    async def held() -> bool:
        return await engine.state(item) == "held"

    async with engine.session():
        await until(held, within_s=60)

    hold = await engine.store.hold_of(item)
    assert hold.shown["state"]["anything"] == nested(190)


@pytest.mark.parametrize("code", ["A" * 101, "A\nB", "A\x00"])
async def test_a_code_is_a_word(code: str) -> None:
    """People script against it; the database could not keep some of these."""
    assert (await ended(Reject(code)))[0] == "BAD_OUTCOME"

    async def raises(state: Any, ctx: Any) -> Any:
        raise Permanent("no", code=code)

    engine = Engine([Tape().station("one", raises, retry=Retry(attempts=1))])
    await run_all(engine)
    assert await engine.code() == "UNNAMED"


async def test_a_validator_of_the_state_is_a_stages_code_too() -> None:
    """What it raises is that item's failed attempt, and says where."""

    async def run(state: Any, ctx: Any) -> Any:
        return Advance(text="a")

    engine = Engine([Tape().station("one", run, retry=Retry(attempts=1))])
    engine.pipeline = replace(engine.pipeline, channels=Channels(Odd))
    await run_all(engine)

    [failed] = await engine.store.failures(1)
    assert (failed.code, failed.message) == (
        "STAGE_RAISED",
        "the stage raised KeyError",
    )
    assert "broken" in failed.frames[-1]


class Twice:
    """An attribute that raises, or is another, when it is read once more."""

    def __init__(self, first: Any) -> None:
        self.first = first
        self.reads = 0

    def __get__(self, outcome: Any, _: Any) -> Any:
        if outcome is None:
            return self
        self.reads += 1
        if self.reads > 1:
            raise SystemExit(SECRET)
        return self.first

    def __set__(self, outcome: Any, value: Any) -> None:
        pass


class Never(Twice):
    """An attribute that cannot be read at all."""

    def __get__(self, outcome: Any, _: Any) -> Any:
        if outcome is None:
            return self
        raise SystemExit(SECRET)


OUTCOMES: dict[type[Any], dict[str, Any]] = {
    Advance: {"updates": {"text": "fine"}},
    Done: {"updates": {"text": "fine"}},
    Hold: {
        "code": "LOOK",
        "why": "odd",
        "evidence": {"seen": 1},
        "needs": ("text",),
        "ask": ("answer",),
        "lapse": None,
        "role": "",
        "within_s": None,
        "updates": {"pence": 1},
    },
    Reject: {"code": "NO", "why": "odd", "updates": {"text": "fine"}},
    Wait: {"for_s": 5.0, "why": "odd"},
}
FIELDS = [(kind, name) for kind, said in OUTCOMES.items() for name in said]


def odd_one(kind: type[Any], given: dict[str, Any]) -> Any:
    """An outcome of a stage's own class, with these attributes."""
    odd = type("Odd", (kind,), given)
    outcome = object.__new__(odd)
    for name, value in OUTCOMES[kind].items():
        if name not in given:
            object.__setattr__(outcome, name, value)
    return outcome


@pytest.mark.parametrize(("kind", "name"), FIELDS)
async def test_what_a_stage_returns_is_read_once(kind: type[Any], name: str) -> None:
    """What it says the second time counts for nothing; the session goes on."""
    field = Twice(OUTCOMES[kind][name])

    async def run(state: Any, ctx: Any) -> Any:
        return odd_one(kind, {name: field}) if not tape.seen else Done()

    tape = SimpleNamespace(seen=False)
    engine = Engine([Tape().station("one", run)])
    [item] = await engine.submit()

    async def on() -> bool:
        return await engine.state(item) not in ("ready", "running")

    async with engine.session() as session:
        await until(on, within_s=60)
        tape.seen = True
        alive = not session._lost

    ends = {Advance: "done", Done: "done", Hold: "held", Reject: "rejected"}
    assert alive
    assert field.reads == 1
    assert await engine.state(item) == ends.get(kind, "waiting")


@pytest.mark.parametrize(("kind", "name"), FIELDS)
async def test_an_attribute_that_raises_is_a_bad_outcome(
    kind: type[Any], name: str
) -> None:
    """One item fails, and is told which it was; nothing of the stage's is quoted."""
    code, said, _ = await ended(odd_one(kind, {name: Never(None)}))

    assert code == "BAD_OUTCOME"
    assert f"{name} of Odd cannot be read (SystemExit)" in said
    assert SECRET not in said


class Text(str):
    """A text that is another to whoever looks."""

    __slots__ = ()

    def __str__(self) -> str:
        raise SystemExit

    def __hash__(self) -> int:
        raise SystemExit

    def partition(self, _: Any) -> Any:
        raise SystemExit

    def encode(self, *_: Any) -> Any:
        raise SystemExit


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Hold(Text("LOOK"), Text("odd"), needs=(Text("text"),)), "held"),
        (Reject(Text("NO"), Text("odd")), "rejected"),
        (Wait(5, Text("odd")), "waiting"),
        (Wait(type("Long", (float,), {"__float__": Never(0)})(5.0)), "waiting"),
    ],
)
async def test_texts_and_numbers_become_ours(outcome: Any, state: str) -> None:
    """Also those that only look like it."""

    async def run(state: Any, ctx: Any) -> Any:
        return outcome

    engine = Engine([Tape().station("one", run)])
    [item] = await engine.submit()

    async def on() -> bool:
        return await engine.state(item) == state

    async with engine.session():
        await until(on, within_s=60)
    kept = [e.move for e in engine.wire.entries]
    assert all(type(m.code) is type(m.why) is str for m in kept if hasattr(m, "code"))


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Hold(7), "code of Hold"),  # type: ignore[arg-type]
        (Reject("NO", b"x"), "why of Reject"),  # type: ignore[arg-type]
        (Hold("LOOK", needs=(7,)), "needs of Hold"),  # type: ignore[arg-type]
        (Wait("soon"), "for_s of Wait"),  # type: ignore[arg-type]
        (odd_one(Advance, {"updates": 7}), "updates of Odd"),
        (odd_one(Advance, {"updates": {7: 7}}), "updates of Odd"),
        (odd_one(Hold, {"updates": {"code": 7}}), "updates of Odd"),
        (type("Liar", (), {"__class__": Advance})(), "Liar, which is no outcome"),
    ],
)
async def test_what_an_outcome_says_must_be_what_it_is(outcome: Any, said: str) -> None:
    """It is told which attribute is not."""
    code, why, _ = await ended(outcome)

    assert (code, said in why) == ("BAD_OUTCOME", True)


@pytest.mark.parametrize(
    ("for_s", "waits_s"),
    [
        (float("inf"), WAIT_MAX_S),
        (1e300, WAIT_MAX_S),
        (10**400, WAIT_MAX_S),
        (float("nan"), 0.0),
        (-5, 0.0),
        (True, 1.0),
    ],
)
async def test_a_wait_is_a_number_within_reason(for_s: Any, waits_s: float) -> None:
    """The database keeps it, and the deadline ends it."""

    async def run(state: Any, ctx: Any) -> Any:
        return Wait(for_s) if not engine.wire.entries else Done()

    engine = Engine([Tape().station("one", run)])
    await engine.submit()

    async with engine.session():
        await until(lambda: bool(engine.wire.moves(ToWaiting)), within_s=60)

    assert engine.wire.moves(ToWaiting)[0].for_s == waits_s


class Mute(UserDict[str, Any]):
    """A mapping that nobody can look into."""

    def items(self) -> Any:
        raise SystemExit(SECRET)


class Shy(BaseModel):
    """A state that cannot be shown to anybody."""

    anything: Any = Field(default_factory=Mute)


@pytest.mark.parametrize("raises", [True, False])
async def test_a_state_that_cannot_be_shown_ends_its_item_alone(raises: bool) -> None:
    """A serializer of the state is a stage's code too, and runs in its try."""

    async def run(state: Any, ctx: Any) -> Any:
        if ctx.item.id == 2:
            return Done()
        if raises:
            raise NeedsReview("look")
        return Hold("LOOK")

    engine = Engine([Tape().station("one", run, retry=Retry(attempts=1))])
    engine.pipeline = replace(engine.pipeline, channels=Channels(Shy))
    items = await engine.submit(2)

    async with engine.session() as session:
        ends = await engine.finish(items)
        alive = not session._lost

    [failed] = await engine.store.failures(1)
    assert alive
    assert ends == {"failed": 1, "done": 1}
    assert failed.code == ("BAD_OUTCOME" if raises else "STAGE_RAISED")
    assert raises or "Mute.items" in " ".join(failed.frames)


async def test_evidence_is_shown_as_it_was_when_it_was_checked() -> None:
    """It is written down once."""

    numbers = iter([1, 2])

    class Evidence(UserDict[str, Any]):
        def items(self) -> Any:
            return [("seen", next(numbers))]

    async def run(state: Any, ctx: Any) -> Any:
        return Hold("LOOK", evidence=Evidence())

    engine = Engine([Tape().station("one", run)])
    await engine.submit()

    async with engine.session():
        await until(lambda: bool(engine.wire.moves(ToHeld)), within_s=60)

    hold = await engine.store.hold_of(1)
    assert hold.shown["evidence"] == {"seen": 1}
    assert next(numbers) == 2
