"""What a stage returns is refused at once, by channel, when nobody could use it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ValidatorFunctionWrapHandler, WrapValidator

from pipeline.errors import Permanent
from pipeline.model import Advance, Done, Hold, Reject
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
