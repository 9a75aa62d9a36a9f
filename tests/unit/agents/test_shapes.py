"""What models are asked and say, in the shapes of their vendors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

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
    made, held = strict(Finding.model_json_schema())

    assert held
    assert made["required"] == ["verdict", "quotes"]
    assert made["additionalProperties"] is False
    assert made["$defs"]["Quote"]["required"] == ["text", "page"]
    assert made["properties"]["quotes"]["items"] == {"$ref": "#/$defs/Quote"}
    assert '"default":' not in json.dumps(made)


def test_free_keys_cannot_be_held() -> None:
    """Then the vendor is shown the schema and not held to it."""
    made, held = strict(Free.model_json_schema())

    assert not held
    assert made["properties"]["facts"]["additionalProperties"] == {"type": "integer"}
