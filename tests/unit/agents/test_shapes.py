"""What models are asked and say, in the shapes of their vendors."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from pipeline.agents.schemas import strict
from pipeline.agents.shapes import Output, request_of, said_of
from pipeline.errors import Transient, Usage
from pipeline.messages import (
    Asked,
    CallEnd,
    Finish,
    ModelRequest,
    Results,
    Said,
    ToolCall,
    ToolResult,
    ToolSpec,
)

SCHEMA = {"type": "object", "properties": {"value": {"type": "string"}}}
LOOK = ToolSpec(name="look", description="Looks.", parameters={"type": "object"})
INVENTED = "rm -rf /; DROP TABLE " + "x" * 80


def talk(**given: Any) -> ModelRequest:
    """A conversation with everything in it that a vendor might refuse."""
    calls = (
        ToolCall(id="c1_1", name="look", arguments='{"at": 1}'),
        ToolCall(id="c1_2", name=INVENTED, arguments="{not json"),
        ToolCall(id="c1_3", name="", arguments="[NaN]"),
    )
    ends = (
        ToolResult(call="c1_1", name="look", end=CallEnd.RESULT, text="seen"),
        ToolResult(
            call="c1_2",
            name=INVENTED,
            end=CallEnd.REFUSED,
            code="TOOL_UNKNOWN",
            text="there is no such tool",
        ),
        ToolResult(call="c1_3", name="", end=CallEnd.RESULT),
    )
    messages = (
        Asked(text="What is the value?"),
        Said(calls=calls, finish=Finish.CALLS),
        Results(results=ends),
        Asked(text="One call was refused."),
        Said(),
        Asked(text="Again."),
    )
    facts = {"system": "You read.", "messages": messages, "max_tokens": 100, **given}
    return ModelRequest(**facts)


def completion(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish}]}


def body(kind: Any, asked: ModelRequest, output: Output = Output.TOOL) -> Any:
    request = request_of(kind, asked, output)
    json.dumps(request.json, allow_nan=False)  # it can be sent
    return request.json


# -- OpenAI ----------------------------------------------------------------------------


def test_a_conversation_is_a_completion_that_its_vendor_takes() -> None:
    """Each call has its result, by our ids; what was invented is mended."""
    sent = body("openai", talk(tools=(LOOK,), tools_allowed=False))

    assert [m["role"] for m in sent["messages"]] == [
        *("system", "user", "assistant", "tool", "tool", "tool"),
        *("user", "assistant", "user"),
    ]
    called = sent["messages"][2]["tool_calls"]
    assert [c["id"] for c in called] == ["c1_1", "c1_2", "c1_3"]
    assert [m["tool_call_id"] for m in sent["messages"][3:6]] == [
        "c1_1",
        "c1_2",
        "c1_3",
    ]
    assert called[0]["function"] == {"name": "look", "arguments": '{"at": 1}'}
    assert called[1]["function"]["name"] == "rm_-rf____DROP_TABLE_" + "x" * 43
    assert [c["function"]["arguments"] for c in called[1:]] == ["{}", "{}"]
    assert called[2]["function"]["name"] == "_"
    assert sent["messages"][4]["content"] == (
        "refused (TOOL_UNKNOWN): there is no such tool"
    )
    assert sent["messages"][7]["content"] == "(nothing)"
    assert sent["tool_choice"] == "none"


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (
            Output.JSON_SCHEMA,
            {
                "type": "json_schema",
                "json_schema": {
                    "name": "answer",
                    "strict": True,
                    "schema": {
                        **SCHEMA,
                        "additionalProperties": False,
                        "required": ["value"],
                    },
                },
            },
        ),
        (Output.JSON_OBJECT, {"type": "json_object"}),
        (Output.TOOL, None),
    ],
)
def test_a_model_is_held_to_a_schema(output: Output, wanted: Any) -> None:
    """By its vendor, by what it is told, or by a tool that it must call."""
    sent = body("openai", talk(output=SCHEMA), output)

    assert sent.get("response_format") == wanted
    told = sent["messages"][0]["content"]
    assert ('"value"' in told) is (output is Output.JSON_OBJECT)
    named = {"type": "function", "function": {"name": "answer"}}
    assert sent.get("tool_choice") == (named if output is Output.TOOL else None)


def test_with_tools_the_answer_is_one_of_them() -> None:
    """It must call something; at the end nothing but the answer."""
    sent = body("openai", talk(output=SCHEMA, tools=(LOOK,)))
    last = body("openai", talk(output=SCHEMA, tools=(LOOK,), tools_allowed=False))

    assert [t["function"]["name"] for t in sent["tools"]] == ["look", "answer"]
    assert sent["tool_choice"] == "required"
    assert last["tool_choice"]["function"] == {"name": "answer"}


@pytest.mark.parametrize(
    ("message", "finish", "said"),
    [
        ({"content": "so"}, "stop", Said(text="so")),
        ({"content": [{"type": "text", "text": "so"}]}, "stop", Said(text="so")),
        ({"content": "so"}, None, Said(text="so")),
        ({"content": "ha"}, "length", Said(finish=Finish.LENGTH)),
        ({"content": ""}, "content_filter", Said(finish=Finish.FILTER)),
        ({"content": None, "refusal": "no"}, "stop", Said(finish=Finish.REFUSAL)),
        ({"content": "```json\n{}\n```"}, "stop", Said(text="{}")),
    ],
)
def test_what_a_completion_says(message: Any, finish: Any, said: Said) -> None:
    """Half an answer is none."""
    data = completion(message, finish)
    assert said_of("openai", data, talk(output=SCHEMA), 1) == said


def test_calls_are_named_by_their_place() -> None:
    """Whatever ids the vendor gave; the answer's tool is the answer."""
    made = [
        {"id": "same", "function": {"name": "look", "arguments": "{}"}},
        {"id": "same", "function": {"name": "fetch", "arguments": {"a": 1}}},
        {"id": "same", "function": {"name": "answer", "arguments": "{}"}},
    ]
    asked = talk(output=SCHEMA, tools=(LOOK,))

    mixed = said_of("openai", completion({"tool_calls": made}), asked, 3)
    alone = said_of("openai", completion({"tool_calls": made[2:]}), asked, 3)

    assert [(c.id, c.name, c.arguments) for c in mixed.calls] == [
        ("c3_1", "look", "{}"),
        ("c3_2", "fetch", '{"a": 1}'),
    ]
    assert mixed.finish is Finish.CALLS
    assert alone == Said(text="{}")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        completion({}),
        completion({"content": None}),
        completion({"content": 3}),
        completion({"content": "", "tool_calls": [{}]}),
        completion({"content": "so", "tool_calls": 5}),
        completion({"content": "so", "tool_calls": {"function": {}}}),
        completion({"content": "ha"}, "error"),
        completion({"tool_calls": [{"function": {"name": 1, "arguments": "{}"}}]}),
    ],
)
def test_what_is_no_completion_is_garbage(data: Any) -> None:
    """It is asked again."""
    with pytest.raises(Transient) as caught:
        said_of("openai", data, talk(), 1)

    assert caught.value.code == "VENDOR_GARBAGE"


# -- Anthropic -------------------------------------------------------------------------


def test_a_conversation_is_messages_that_take_turns() -> None:
    """Results come first in what follows a call; nobody speaks twice in a row."""
    sent = body("anthropic", talk(tools=(LOOK,)))

    roles = [m["role"] for m in sent["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    kinds = [block["type"] for block in sent["messages"][2]["content"]]
    assert kinds == ["tool_result"] * 3 + ["text"]
    errors = [b.get("is_error") for b in sent["messages"][2]["content"][:3]]
    assert errors == [False, True, False]
    assert sent["messages"][1]["content"][1]["input"] == {}
    assert (sent["system"], sent["max_tokens"]) == ("You read.", 100)
    assert sent["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize(
    ("content", "why", "said"),
    [
        ([{"type": "text", "text": "so"}], "end_turn", Said(text="so")),
        ([{"type": "text", "text": "ha"}], "max_tokens", Said(finish=Finish.LENGTH)),
        ([], "refusal", Said(finish=Finish.REFUSAL)),
        (
            [
                {
                    "type": "tool_use",
                    "id": "x",
                    "name": "answer",
                    "input": {"value": "v"},
                }
            ],
            "tool_use",
            Said(text='{"value": "v"}'),
        ),
        (
            [{"type": "thinking", "thinking": "…"}, {"type": "text", "text": "so"}],
            "end_turn",
            Said(text="so"),
        ),
    ],
)
def test_what_a_message_says(content: Any, why: str, said: Said) -> None:
    """What it thought is nobody's."""
    data = {"content": content, "stop_reason": why}
    assert said_of("anthropic", data, talk(output=SCHEMA), 1) == said


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"content": "so", "stop_reason": "end_turn"},
        {"content": [], "stop_reason": "end_turn"},
        {"content": [{"type": "text"}], "stop_reason": "end_turn"},
        {"content": [{"type": "tool_use", "name": "x"}], "stop_reason": "tool_use"},
        {"content": [{"type": "text", "text": "so"}]},
    ],
)
def test_what_is_no_message_is_garbage(data: Any) -> None:
    """It is asked again."""
    with pytest.raises(Transient):
        said_of("anthropic", data, talk(), 1)


ODD = st.sampled_from([None, True, 3, "", "so", [], [3], {}, {"text": 1}, [{}]])
CALL = {"function": {"name": "look", "arguments": "{}"}}
BLOCK = st.fixed_dictionaries(
    {},
    optional={
        "content": ODD,
        "refusal": ODD,
        "text": ODD,
        "name": ODD,
        "input": ODD,
        "type": st.sampled_from(["text", "tool_use", None, 3]),
        "tool_calls": ODD | st.lists(ODD | st.just(CALL), max_size=2),
    },
)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@given(block=BLOCK, why=ODD)
@settings(deadline=None)
def test_whatever_comes_is_an_answer_or_garbage(
    kind: Any, block: Any, why: Any
) -> None:
    """And no fault of ours."""
    data = {
        "choices": [{"message": block, "finish_reason": why}],
        "content": [block],
        "stop_reason": why,
    }

    with suppress(Transient):
        said_of(kind, data, talk(output=SCHEMA, tools=(LOOK,)), 1)


def test_blank_texts_are_not_sent() -> None:
    """A vendor refuses them, and the whole conversation with them."""
    asked = talk(messages=(Asked(text=" \n"), Said(text="  "), Asked(text="When?")))

    told = body("anthropic", asked)["messages"]

    assert [m["content"][0]["text"] for m in told] == [
        "(nothing)",
        "(nothing)",
        "When?",
    ]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "written",
    [
        '{"at": 1e999}',
        '{"at": [-1e999]}',
        '{"at": NaN}',
        '{"at": "\\ud800"}',
        "[1",
        '{"at": ' * 300 + "1" + "}" * 300,
    ],
)
def test_what_a_model_once_wrote_can_be_sent_to_every_vendor(
    kind: Any, written: str
) -> None:
    """Arguments that were refused are shown again; no conversation ends with them."""
    said = Said(calls=(ToolCall(id="c1_1", name="look", arguments=written),))

    told = json.dumps(body(kind, talk(messages=(said,))), allow_nan=False)

    assert not any(sign in told for sign in ("Infinity", "NaN", "ud800"))


def test_only_models_are_asked() -> None:
    """A CRM speaks neither shape."""
    with pytest.raises(Usage):
        request_of("http", talk(), Output.TOOL)


# -- schemas ---------------------------------------------------------------------------


class Quote(BaseModel):
    """With what strict output does not know: bounds, defaults, titles."""

    text: str
    page: int = 1


class Finding(BaseModel):
    """References, alternatives and a constant."""

    verdict: str | None = None
    quotes: list[Quote] = []


class Free(BaseModel):
    """A mapping with keys of the model's own."""

    facts: dict[str, int] = {}


def test_a_schema_is_closed_and_wholly_required() -> None:
    """As strict structured output wants it, references too."""
    made, held = strict(Finding.model_json_schema(), "openai")

    assert held
    assert made["required"] == ["verdict", "quotes"]
    assert made["additionalProperties"] is False
    assert made["$defs"]["Quote"]["required"] == ["text", "page"]
    assert made["properties"]["quotes"]["items"] == {"$ref": "#/$defs/Quote"}
    assert '"default":' not in json.dumps(made)


class Money(BaseModel):
    """What no grammar of theirs can follow, and bounds that one of them refuses."""

    amount: str = Field(json_schema_extra={"pattern": "^(?![-+]$)[0-9.]+$"})
    parts: int = Field(ge=1, le=9)
    code: str = Field(min_length=3, pattern="^[A-Z]+$")
    page: str = Field(json_schema_extra={"format": "uri"})


class Clause(BaseModel):
    """It contains itself, and so its schema begins with a reference."""

    text: str
    below: list[Clause] = []


class Pair(BaseModel):
    """A tuple: items by their place."""

    both: tuple[int, str]


def test_what_a_vendor_refuses_is_said_in_words() -> None:
    """To each vendor what it knows; the rest is checked here all the same."""
    schema = Money.model_json_schema()

    [openai, anthropic] = [
        strict(schema, vendor)[0]["properties"] for vendor in ("openai", "anthropic")
    ]

    assert "(?" in json.dumps(schema)
    assert "(?" not in json.dumps([openai, anthropic])
    assert openai["parts"].keys() >= {"minimum", "maximum"}
    assert openai["code"]["pattern"] == "^[A-Z]+$"
    assert openai["code"]["description"] == "(minLength 3)"
    assert anthropic["parts"].keys() == {"type", "description"}
    assert anthropic["parts"]["description"] == "(maximum 9, minimum 1)"
    assert openai["page"] == anthropic["page"]
    assert openai["page"] == {"type": "string", "description": '(format "uri")'}


@pytest.mark.parametrize("model", [Free, Pair])
@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
def test_what_cannot_be_held_is_as_it_was(model: Any, vendor: Any) -> None:
    """The vendor is shown the schema and not held to it."""
    schema = model.model_json_schema()
    assert strict(schema, vendor) == (schema, False)


def test_what_contains_itself_is_held_by_one_of_them() -> None:
    """Its beginning is an object, and no reference to one."""
    schema = Clause.model_json_schema()

    made, held = strict(schema, "openai")

    assert held
    assert made["required"] == ["text", "below"]
    assert made["$defs"]["Clause"]["additionalProperties"] is False
    assert strict(schema, "anthropic") == (schema, False)


def test_who_is_strict_or_nothing_is_told_instead() -> None:
    """The schema stands in what it is told."""
    sent = body("anthropic", talk(output=Free.model_json_schema()), Output.JSON_SCHEMA)

    assert "output_config" not in sent
    assert '"facts"' in sent["system"]


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_tool_has_no_pattern_that_is_refused(kind: Any) -> None:
    """Neither one of ours nor the one that is the answer."""
    schema = Money.model_json_schema()
    tool = LOOK.model_copy(update={"parameters": schema})

    sent = body(kind, talk(tools=(tool,), output=schema))

    assert len(sent["tools"]) == 2
    assert "(?" not in json.dumps(sent["tools"])
    assert "minimum" in json.dumps(sent["tools"])
