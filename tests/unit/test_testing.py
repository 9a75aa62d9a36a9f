"""The context for tests of stages is the worker's own, and says what it saw."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from pydantic import BaseModel, Field

from pipeline.doubles import Answers, MemoryArtifacts
from pipeline.errors import NotFound, Permanent, StageTimeout, Throttled, Usage
from pipeline.messages import Asked, ModelRequest, Said
from pipeline.model import Kin, State
from pipeline.stage import (
    Advance,
    Context,
    Done,
    Hold,
    Part,
    Request,
    Settings,
    append,
    stage,
)
from pipeline.testing import Context as Trial
from pipeline.vendors.declared import VendorSpec


class Letter(BaseModel):
    """A state with a channel of each kind that the tests need."""

    text: str = ""
    said: Annotated[list[str], append] = Field(default_factory=list)
    anything: Any = None


class Keys(Settings):
    """Keys of the stage."""

    into: str = "de"


def shouted(text: str) -> str:
    return text.upper()


def left_behind(text: str) -> int:
    Path(os.environ["TMPDIR"], "one.txt").write_text(text)
    return len(text)


@stage(settings=Keys, timeout_s=60, limit="llm")
async def translate(letter: Letter, ctx: Context) -> Any:
    """Ask; keep the answer."""
    ctx.progress(0, 1)
    body = {"text": letter.text, "into": ctx.settings.into}
    answer = (await ctx.vendor("dictionary").call("ask", Request("/x", json=body))).data
    if answer["sure"] < 0.5:
        return Hold("DOUBTFUL", evidence=answer)
    return Advance(text=answer["text"], said=[letter.text])


async def test_a_stage_is_called_as_it_is() -> None:
    """With settings, a vendor's answers, steps and progress; nothing is outside."""
    door = Answers({"text": "Hallo", "sure": 1})
    ctx = Trial(translate, settings={"into": "fr"}, door=door, left_s=7)

    outcome = await translate(Letter(text="Hello"), ctx)

    assert outcome == Advance(text="Hallo", said=["Hello"])
    body = {"text": "Hello", "into": "fr"}
    assert door.calls == [("dictionary", "/x", body, "", 7)]
    assert (ctx.ran, ctx.progressed) == (["ask"], [(0, 1)])
    assert ctx.recorded["ask"]["data"] == {"text": "Hallo", "sure": 1}


@stage(timeout_s=60)
async def summed_up(letter: Letter, ctx: Context) -> Any:
    """Ask a model; keep what it said."""
    asked = ModelRequest(system="", messages=(Asked(text=letter.text),))
    answer = await ctx.model("reader").ask("sum", asked)
    return Advance(text=answer.said.text)


async def test_a_model_is_a_function_also_where_the_stage_is_run() -> None:
    """As a worker runs it, and called directly."""

    def reader(request: ModelRequest) -> Said:
        return Said(text=request.messages[0].text[:2])  # type: ignore[union-attr]

    run = Trial(summed_up, models={"reader": reader})
    called = Trial(summed_up, models={"reader": reader})

    tried = await run.run(Letter(text="long"))

    assert tried.outcome == Advance(text="lo")
    assert await summed_up(Letter(text="long"), called) == Advance(text="lo")
    assert run.ran == called.ran == ["sum"]


async def test_what_was_recorded_is_not_run_again() -> None:
    """A crash is a context with the steps of the one before."""
    first = Trial(translate, door=Answers({"text": "Hallo", "sure": 1}))
    await first.run(Letter())

    again = Trial(translate, recorded=first.recorded)
    tried = await again.run(Letter())

    assert tried.outcome == Advance(text="Hallo", said=[""])
    assert again.ran == []


async def test_a_try_has_the_state_after_it() -> None:
    """Updates meet the state by their reducers, as in a worker."""
    ctx = Trial(translate, door=Answers({"text": "Hallo", "sure": 1}))

    tried = await ctx.run(Letter(text="Hello", said=["first"]))

    assert tried.state == Letter(text="Hallo", said=["first", "Hello"])
    assert (tried.error, tried.joins) == (None, False)


@pytest.mark.parametrize(
    ("returned", "code"),
    [
        (Advance(no_such=1), "BAD_OUTCOME"),
        (Advance(anything=float("nan")), "BAD_OUTCOME"),
        (Hold("LOOK", needs=("no_such",)), "BAD_OUTCOME"),
        (None, "BAD_OUTCOME"),
    ],
)
async def test_what_a_worker_would_refuse_is_refused(returned: Any, code: str) -> None:
    """Here already, and not only in the service."""

    @stage()
    async def odd(letter: Letter, ctx: Context) -> Any:
        return returned

    tried = await Trial(odd).run(Letter())

    assert tried.outcome is None
    assert tried.error is not None
    assert tried.error.code == code


async def test_errors_come_with_their_frames() -> None:
    """Those of the test's own file, too."""
    ctx = Trial(translate, door=Answers(Throttled("slowly", retry_after_s=3)))

    tried = await ctx.run(Letter())

    assert isinstance(tried.error, Throttled)
    assert tried.error.retry_after_s == 3
    assert any(frame.endswith("in translate") for frame in tried.frames)


async def test_a_stage_has_its_time() -> None:
    """By anyio's clock, so that a test waits for nothing."""

    @stage(timeout_s=60)
    async def sleeps(letter: Letter, ctx: Context) -> Any:
        await anyio.sleep(3600)

    tried = await Trial(sleeps).run(Letter())

    assert isinstance(tried.error, StageTimeout)


async def test_more_calls_than_answers_are_a_fault_of_the_test() -> None:
    """It says which call, and to whom."""
    with pytest.raises(AssertionError, match="call 1 has no answer: dictionary/x"):
        await translate(Letter(), Trial(translate))


async def test_jailed_functions_run_here_through_json() -> None:
    """Arguments and results as the jail would carry them, and the files they leave."""

    @stage()
    async def reads(letter: Letter, ctx: Context) -> Any:
        said = await ctx.jailed(shouted, text=letter.text, timeout_s=5)
        size, files = await ctx.jailed_files(left_behind, text=said)
        kept = await ctx.artifacts.get(files["one.txt"])
        return Advance(text=f"{said} {size} {kept.decode()}")

    before = os.environ.get("TMPDIR")
    tried = await Trial(reads).run(Letter(text="a"))

    assert tried.state.text == "A 1 A"
    assert os.environ.get("TMPDIR") == before

    with pytest.raises(Permanent):
        await Trial(reads).jailed(shouted, text=object())


async def test_products_and_files_are_seen() -> None:
    """What is no product is refused as in the service."""

    @stage()
    async def writes(letter: Letter, ctx: Context) -> Any:
        artifact = await ctx.artifacts.put(b"made")
        ctx.product("slip", artifact, sheets=1)
        (ctx.out_dir / "slip.txt").write_bytes(
            ctx.artifacts.path(artifact).read_bytes()
        )
        return Done()

    ctx = Trial(writes)
    await ctx.run(Letter())

    assert ctx.products["slip"]["sheets"] == 1
    assert await ctx.artifacts.get(ctx.products["slip"]["artifact"]) == b"made"
    assert (ctx.out_dir / "slip.txt").read_text() == "made"
    with pytest.raises(Permanent):
        ctx.product("slip", "no artifact")


@stage()
async def unpack(letter: Letter, ctx: Context) -> Any:
    """A child for each line; then all of them."""
    parts = [Part(line, {"text": line}, key=line) for line in letter.text.split()]
    parts.append(Part("bad", {}, refused_code="BAD"))
    ids = await ctx.spawn(parts, name="lines", at="part")
    kin = await ctx.join()
    return Done(
        said=[f"{k.name} {k.state} {k.values['text']}" for k in kin] + [str(ids)]
    )


async def test_children_are_spawned_and_joined() -> None:
    """Open ones park the stage; final ones come with the values of their state."""
    kin = [Kin(1001, "a", State.DONE, "read", "", {"text": "x"})]

    parked = Trial(unpack, kin=None, branches=["part"])
    joined = Trial(unpack, kin=kin, branches=["part"])
    waits = await parked.run(Letter(text="a b a"))
    tried = await joined.run(Letter(text="a b a"))

    assert (waits.joins, waits.outcome) == (True, None)
    assert [p.name for p in parked.spawned["lines"]] == ["a", "b", "a", "bad"]
    assert tried.state.said == ["a done x", "[1001, 1002, 1001, None]"]
    nowhere = await Trial(unpack).run(Letter())
    assert nowhere.error is not None
    assert nowhere.error.code == "SPAWN_BRANCH"


async def test_secrets_and_vendors_are_what_the_test_gives() -> None:
    """A vendor that is not declared is an error by name, as in the service."""
    small = VendorSpec(name="small", kind="openai", url="http://model", model="m")
    ctx = Trial(
        translate, secrets={"passwords": ["one", "two"]}, vendors={"small": small}
    )

    assert ctx.secrets("passwords") == ["one", "two"]
    assert ctx.secrets("others") == []
    assert (list(ctx.vendors), ctx.vendor("small").model) == (["small"], "m")
    with pytest.raises(Usage) as caught:
        ctx.vendor("large")
    assert caught.value.code == "VENDOR_UNKNOWN"
    assert "vendor.large" in caught.value.hint


async def test_artifacts_are_named_by_their_bytes() -> None:
    """One that nobody put is not found."""
    artifacts = MemoryArtifacts()

    assert await artifacts.put(b"a") == await artifacts.put(b"a")
    with pytest.raises(NotFound):
        await artifacts.get("0" * 64)


async def test_files_beside_the_stage_are_its_folder() -> None:
    """A stage's prompts lie where it was written."""
    ctx = Trial(translate)

    assert "worker's own" in ctx.folder.text("test_testing.py")
