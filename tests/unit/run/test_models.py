"""Asking declared models: who answers, why the others did not, and nothing twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.agents.declared import Cause, ModelSpec, read_models
from pipeline.agents.shapes import Output
from pipeline.doubles import Answers
from pipeline.errors import Permanent, Throttled, Transient, Usage, WaybillError
from pipeline.messages import Asked, Finish, ModelRequest, Said
from pipeline.stage import Advance, stage
from pipeline.testing import Context
from pipeline.vendors.answers import refusal
from pipeline.vendors.declared import VendorSpec

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
VENDORS = {
    "one": VendorSpec(name="one", kind="openai", url="http://one.test", model="small"),
    "two": VendorSpec(name="two", kind="anthropic", url="http://two.test", model="m"),
    "crm": VendorSpec(name="crm", url="http://crm.test"),
}
TOO_LONG = '{"error": {"code": "context_length_exceeded"}}'
WITHHELD = '{"error": {"code": "content_filter"}}'
QUESTION = ModelRequest(system="You read.", messages=(Asked(text="When?"),))


@stage()
async def read(letter: Any, ctx: Any) -> Advance:
    """The stage that asks."""
    return Advance()


def model(name: str, vendor: str, **given: Any) -> ModelSpec:
    facts = {"name": name, "vendor": vendor, "output": Output.JSON_OBJECT, **given}
    return ModelSpec(**facts)


MODELS = {
    "reader": model("reader", "one", model="large", fallbacks=("second", "third")),
    "second": model("second", "two", max_tokens=50, temperature=0.5),
    "third": model("third", "one"),
}


def asking(*answers: Any, recorded: Any = None, models: Any = None) -> Any:
    found: Any = {"vendors": VENDORS, "models": models or MODELS, "recorded": recorded}
    return Context(read, door=Answers(*answers), **found)


def completion(text: str = "so", finish: str = "stop") -> dict[str, Any]:
    choice = {"message": {"content": text}, "finish_reason": finish}
    return {"model": "large-2", "choices": [choice], "usage": USAGE}


def message(text: str = "so") -> dict[str, Any]:
    block = {"type": "text", "text": text}
    usage = {"input_tokens": 10, "output_tokens": 5}
    return {"content": [block], "stop_reason": "end_turn", "usage": usage}


async def ask(ctx: Context, request: ModelRequest = QUESTION) -> Any:
    return await ctx.model("reader").ask("ask-1", request)


async def test_a_model_is_asked_on_its_vendor() -> None:
    """Under its own name; what it took, and who really answered, is known."""
    ctx = asking(completion())

    answer = await ask(ctx)

    assert answer.said == Said(text="so")
    assert (answer.declared, answer.vendor, answer.model) == (
        "reader",
        "one",
        "large-2",
    )
    assert answer.usage.total == 15
    assert answer.because == ()
    [call] = ctx.door.calls
    assert (call.vendor, call.body["model"]) == ("one", "large")
    assert call.body["max_tokens"] == 2000
    assert ctx.ran == ["ask-1"]


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (Throttled("not now", retry_after_s=9), "throttled"),
        (Transient("away", code="VENDOR_OPEN"), "open"),
        (Transient("gone", code="VENDOR_DOWN"), "transient"),
        ({"choices": []}, "transient"),
        (refusal(VENDORS["one"], 400, None, TOO_LONG), "length"),
        (refusal(VENDORS["one"], 400, None, WITHHELD), "filter"),
        (completion(finish="length"), "length"),
        (completion(finish="content_filter"), "filter"),
        ({"choices": [{"message": {"refusal": "no"}}], "usage": USAGE}, "refusal"),
    ],
)
async def test_the_next_answers_and_it_is_said_why(first: Any, why: str) -> None:
    """In another shape, too."""
    ctx = asking(first, message())

    answer = await ask(ctx)

    assert (answer.declared, answer.because) == ("second", (why,))
    assert [call.vendor for call in ctx.door.calls] == ["one", "two"]
    body = ctx.door.calls[1].body
    assert (body["max_tokens"], body["temperature"]) == (50, 0.5)


async def test_after_a_crash_nothing_is_asked_again() -> None:
    """Neither who answered nor who did not."""
    before = asking(Transient("gone", code="VENDOR_DOWN"), message())
    first = await ask(before)
    after = asking(recorded=before.recorded)

    again = await ask(after)

    assert again == first
    assert after.door.calls == []


async def test_what_was_answered_is_not_asked_for_in_a_vendors_shape_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a long talk that is most of the work, and for every answer of it anew."""
    before = asking(completion("paid"))
    first = await ask(before)
    made: list[Any] = []
    monkeypatch.setattr("pipeline.run.models.request_of", lambda *of: made.append(of))

    again = await ask(asking(recorded=before.recorded))

    assert (again, made) == (first, [])


async def test_a_crash_midway_goes_on_with_the_next() -> None:
    """The one that failed is not paid twice."""
    before = asking(Transient("gone", code="VENDOR_DOWN"), message())
    await ask(before)
    kept = {k: v for k, v in before.recorded.items() if not k.endswith("/by-second")}
    after = asking(message("late"), recorded=kept)

    answer = await ask(after)

    assert (answer.said.text, answer.because) == ("late", ("transient",))
    assert [call.vendor for call in after.door.calls] == ["two"]


@pytest.mark.parametrize(
    "given",
    [{"vendor": "two"}, {"context": 10}, {"output": Output.TOOL, "max_tokens": 7}],
)
async def test_what_was_paid_for_is_read_whatever_is_declared_now(given: Any) -> None:
    """A vendor of the other shape, a model that takes less: no reason to ask again."""
    before = asking(completion("paid"))
    first = await ask(before)
    reader = MODELS["reader"].model_copy(update=given)
    after = asking(recorded=before.recorded, models={**MODELS, "reader": reader})

    again = await ask(after)

    assert again.said == first.said
    assert after.door.calls == []


async def test_who_stood_in_and_is_declared_no_more_is_not_waited_for() -> None:
    """The last that is left is asked again."""
    before = asking(Transient("gone", code="VENDOR_DOWN"), message())
    await ask(before)
    kept = {k: v for k, v in before.recorded.items() if not k.endswith("/by-second")}
    reader = MODELS["reader"].model_copy(update={"fallbacks": ()})
    after = asking(completion("back"), recorded=kept, models={"reader": reader})

    answer = await ask(after)

    assert (answer.said.text, answer.because) == ("back", ())


async def test_no_name_of_a_model_is_that_of_a_try() -> None:
    """Their steps stand beside each other."""
    models = {
        "reader": model("reader", "one", fallbacks=("try-1", "passed-1")),
        "try-1": model("try-1", "two"),
        "passed-1": model("passed-1", "one"),
    }
    gone = Transient("gone", code="VENDOR_DOWN")
    ctx = asking(gone, gone, completion("third"), models=models)

    answer = await ask(ctx)

    assert (answer.said.text, answer.declared) == ("third", "passed-1")


class Raw(Answers):
    """A door that leaves in an answer what cannot be stored."""

    async def send(self, *args: Any, **given: Any) -> Any:
        reply = await super().send(*args, **given)
        return replace(reply, data=completion("a\0b\ud800"))


async def test_an_answer_is_at_once_what_it_will_be_after_a_crash() -> None:
    """Without what no database stores."""
    found: Any = {"vendors": VENDORS, "models": MODELS}
    before = Context(read, door=Raw(completion()), **found)
    first = await ask(before)
    after = Context(read, door=Answers(), recorded=before.recorded, **found)

    assert first.said.text == "ab"
    assert await ask(after) == first


async def test_when_nobody_answers_the_next_try_begins_anew() -> None:
    """The worker retries, at its one layer."""
    before = asking(
        Throttled("not now", retry_after_s=9),
        Transient("gone", code="VENDOR_DOWN"),
        Transient("late", code="VENDOR_TIMEOUT"),
    )
    with pytest.raises(Transient) as caught:
        await ask(before)
    after = asking(completion("at last"), recorded=before.recorded)

    answer = await ask(after)

    assert caught.value.code == "VENDOR_TIMEOUT"
    assert (answer.said.text, answer.because) == ("at last", ())


@pytest.mark.parametrize(
    "error",
    [
        Permanent("refused", code="VENDOR_REFUSED"),
        WaybillError("no money", code="BUDGET_USED_UP"),
    ],
)
async def test_what_no_other_model_mends_ends_the_chain(error: Exception) -> None:
    """What is wrong with the question is wrong for all."""
    ctx = asking(error, message())

    with pytest.raises(WaybillError):
        await ask(ctx)

    assert len(ctx.door.calls) == 1


@pytest.mark.parametrize("fallbacks", [(), ("second",)])
async def test_what_the_last_withholds_is_an_answer(fallbacks: Any) -> None:
    """As where its vendor says so by how it finished; and it is asked once."""
    withheld = [refusal(VENDORS["one"], 400, None, WITHHELD) for _ in range(2)]
    reader = MODELS["reader"].model_copy(update={"fallbacks": fallbacks})
    before = asking(*withheld, models={**MODELS, "reader": reader})
    first = await ask(before)
    after = asking(models={**MODELS, "reader": reader}, recorded=before.recorded)

    again = await ask(after)

    assert (first.said.finish, first.said.text) == (Finish.FILTER, "")
    assert first.because == ("filter",) * len(fallbacks)
    assert again == first


async def test_a_cause_that_is_not_listed_ends_the_chain() -> None:
    """A refusal may be what one wants to know."""
    reader = MODELS["reader"].model_copy(update={"on": frozenset({Cause.OPEN})})
    ctx = asking(
        completion(finish="content_filter"), models={**MODELS, "reader": reader}
    )

    answer = await ask(ctx)

    assert (answer.said.finish, answer.because) == (Finish.FILTER, ())


async def test_what_is_too_long_for_one_is_asked_of_the_next() -> None:
    """Without a call; too long for the last it fails by its name."""
    reader = MODELS["reader"].model_copy(update={"context": 2100})
    ctx = asking(message(), models={**MODELS, "reader": reader})
    long = ModelRequest(system="x" * 800, messages=(Asked(text="When?"),))
    alone = asking(models={"reader": reader.model_copy(update={"fallbacks": ()})})

    answer = await ask(ctx, long)
    with pytest.raises(Permanent) as caught:
        await ask(alone, long)

    assert answer.because == ("length",)
    assert caught.value.code == "MODEL_CONTEXT"


async def test_a_model_that_nobody_declared_is_named() -> None:
    """With those that are."""
    with pytest.raises(Usage) as caught:
        asking().model("writer")

    assert "reader, second, third" in caught.value.hint


async def test_a_scripted_model_is_a_function() -> None:
    """For tests of agents; what it said is a step."""
    ctx = Context(read, models={"reader": lambda request: Said(text=request.system)})

    answer = await ask(ctx)

    assert answer.said.text == "You read."
    assert ctx.ran == ["ask-1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model.a]\nmodel = 'x'", "vendor"),
        ("[model.a]\nvendor = 'nobody'", "no vendor 'nobody'"),
        ("[model.a]\nvendor = 'crm'", "kind http"),
        ("[model.A]\nvendor = 'one'", "no name"),
        ("[model.a]\nvendor = 'one'\nfallbacks = ['a']", "no other model 'a'"),
        ("[model.a]\nvendor = 'one'\nfallbacks = ['b']", "no other model 'b'"),
        ("[model.a]\nvendor = 'one'\noutput = 'xml'", "output"),
        ("[model.a]\nvendor = 'one'\non = ['sometimes']", "on"),
        ("[model.a]\nvendor = 'one'\nprompt = 'x'", "prompt"),
        ("[model.a", "cannot be read"),
    ],
)
def test_what_cannot_be_declared_is_named(tmp_path: Any, text: str, said: str) -> None:
    """By its key, with what there may be."""
    path = tmp_path / "vendors.toml"
    path.write_text(text)

    with pytest.raises(Usage, match=said) as caught:
        read_models(path, VENDORS)

    assert caught.value.code == "MODELS_FILE"


def test_declared_models_know_their_names(tmp_path: Any) -> None:
    """Everything else as it is written, or by default."""
    path = tmp_path / "vendors.toml"
    path.write_text(
        "[model.a]\nvendor = 'one'\nfallbacks = ['b']\n[model.b]\nvendor = 'two'"
    )

    found = read_models(path, VENDORS)

    assert list(found) == ["a", "b"]
    assert (found["a"].name, found["a"].output) == ("a", Output.JSON_SCHEMA)
    assert read_models(tmp_path / "none.toml", VENDORS) == {}
