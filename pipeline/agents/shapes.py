"""
What is asked of models and what they say, in the two shapes that their vendors speak:
OpenAI's chat completions and Anthropic's messages.

A vendor's ids stay at this edge: a call is known by its place, `c<ask>_<n>`, here and
in what the model is shown of its own past.  Whatever a model once wrote can be shown to
it again: names and arguments that its vendor would refuse are mended on their way out,
so that no conversation ends because of what stands in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, assert_never

from pipeline.agents.past import NOTHING, as_object, read_as, sendable_name
from pipeline.agents.schemas import plain, strict
from pipeline.calls import Kind, Request
from pipeline.errors import Transient, Usage
from pipeline.messages import (
    Asked,
    CallEnd,
    Finish,
    ModelRequest,
    Results,
    Said,
    ToolCall,
)

CALLS_MAX = 64  # of one answer: more is a fault of the model, and not looked at
MaxTokensField = Literal["max_tokens", "max_completion_tokens"]
_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)


class Output(StrEnum):
    """How a model is held to a schema."""

    JSON_SCHEMA = "json_schema"  # its vendor holds it
    JSON_OBJECT = "json_object"  # it is told, and gives some JSON
    TOOL = "tool"  # the answer is the arguments of a tool that it must call


def request_of(
    kind: Kind,
    asked: ModelRequest,
    output: Output,
    max_tokens_field: MaxTokensField = "max_tokens",
) -> Request:
    """
    The call that asks a model of this kind.

    Raises:
        Usage: MODEL_KIND, its vendor is no model's.
    """
    match kind:
        case "openai":
            body = _completion_asked(asked, output) | {
                max_tokens_field: asked.max_tokens
            }
            path = "/chat/completions"
        case "anthropic":
            body = _message_asked(asked, output) | {"max_tokens": asked.max_tokens}
            path = "/messages"
        case _:
            raise _no_model(kind)
    if asked.temperature is not None:
        body["temperature"] = asked.temperature
    return Request(path, json=body, max_tokens=asked.max_tokens)


def said_of(kind: Kind, data: Any, asked: ModelRequest, number: int) -> Said:
    """
    What the model said, from the decoded answer of its vendor.

    Args:
        number: Which ask this is, from 1: names the calls.

    Raises:
        Transient: VENDOR_GARBAGE, it is no answer of a model.
        Usage: MODEL_KIND.
    """
    match kind:
        case "openai":
            text, calls, finish = _completion_said(data)
        case "anthropic":
            text, calls, finish = _message_said(data)
        case _:
            raise _no_model(kind)
    match finish:
        case Finish.LENGTH | Finish.FILTER | Finish.REFUSAL:
            # Half an answer is none: kept, it would only tempt somebody to use it.
            return Said(finish=finish)
        case Finish.STOP | Finish.CALLS:
            pass
        case _:
            assert_never(finish)
    return _said(text, calls, asked, number)


def shape_of(data: Any) -> Kind:
    """The shape of an answer that was understood once, whoever stands there now."""
    return "openai" if isinstance(data, dict) and "choices" in data else "anthropic"


def _said(
    text: str, calls: Sequence[tuple[str, str]], asked: ModelRequest, number: int
) -> Said:
    answers = [written for name, written in calls if _answers(name, asked)]
    others = [call for call in calls if not _answers(call[0], asked)]
    if answers and not others:
        return Said(text=answers[0])
    if others:
        made = tuple(
            ToolCall(id=f"c{number}_{n}", name=name[:200], arguments=written)
            for n, (name, written) in enumerate(others[:CALLS_MAX], 1)
        )
        return Said(text=text, calls=made, finish=Finish.CALLS)
    wrapped = _FENCE.fullmatch(text) if asked.output else None
    return Said(text=wrapped[1] if wrapped else text)


def _answers(name: str, asked: ModelRequest) -> bool:
    """Whether this is the tool whose arguments are the answer."""
    own = any(tool.name == name for tool in asked.tools)
    return asked.output is not None and name == asked.output_name and not own


# -- OpenAI ----------------------------------------------------------------------------


def _completion_asked(asked: ModelRequest, output: Output) -> dict[str, Any]:
    tools = [_function(t.name, t.description, t.parameters) for t in asked.tools]
    choice: Any = "auto" if asked.tools_allowed else "none"
    body: dict[str, Any] = {}
    if asked.output is not None:
        schema, held = strict(asked.output, "openai")
        match output:
            case Output.JSON_SCHEMA:
                form = {"name": asked.output_name, "schema": schema, "strict": held}
                body["response_format"] = {"type": "json_schema", "json_schema": form}
            case Output.JSON_OBJECT:
                body["response_format"] = {"type": "json_object"}
            case Output.TOOL:
                named = {"name": asked.output_name}
                choice = {"type": "function", "function": named}
                if tools and asked.tools_allowed:
                    choice = "required"
                tools.append(_function(asked.output_name, ANSWERS, asked.output))
            case _:
                assert_never(output)
    if tools:
        body |= {"tools": tools, "tool_choice": choice}
    system = {"role": "system", "content": _system(asked, output)}
    return body | {"messages": [system, *_completion_talk(asked)]}


def _function(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    inner = {"name": name, "description": description, "parameters": plain(schema)}
    return {"type": "function", "function": inner}


def _completion_talk(asked: ModelRequest) -> Iterator[dict[str, Any]]:
    for message in asked.messages:
        match message:
            case Asked():
                yield {"role": "user", "content": message.text}
            case Said():
                spoken: dict[str, Any] = {"role": "assistant"}
                spoken["content"] = message.text or None
                if message.calls:
                    spoken["tool_calls"] = [
                        {
                            "id": call.id,
                            "type": "function",
                            "function": {
                                "name": sendable_name(call.name),
                                "arguments": json.dumps(as_object(call.arguments)),
                            },
                        }
                        for call in message.calls
                    ]
                elif not message.text:
                    spoken["content"] = NOTHING
                yield spoken
            case Results():
                for result in message.results:
                    yield {
                        "role": "tool",
                        "tool_call_id": result.call,
                        "content": read_as(result),
                    }
            case _:
                assert_never(message)


def _completion_said(data: Any) -> tuple[str, list[tuple[str, str]], Finish]:
    match data:
        case {"choices": [{"message": dict(message)} as choice, *_]}:
            pass
        case _:
            raise _garbage()
    why = choice.get("finish_reason")
    if message.get("refusal"):
        return "", [], Finish.REFUSAL
    if why in ("length", "content_filter"):
        return "", [], Finish.LENGTH if why == "length" else Finish.FILTER
    made = message.get("tool_calls") or []
    if why == "error" or not isinstance(made, list):
        raise _garbage()  # whoever stands between says that its own vendor failed
    calls = []
    for call in made:
        match call:
            case {"function": {"name": str(name), "arguments": str(written)}}:
                calls.append((name, written))
            case {"function": {"name": str(name), "arguments": dict(given)}}:
                calls.append((name, json.dumps(given)))  # of some that are alike
            case _:
                raise _garbage()
    text = _text(message.get("content"))
    if text is None and not calls:
        raise _garbage()
    return text or "", calls, Finish.CALLS if calls else Finish.STOP


# -- Anthropic -------------------------------------------------------------------------


def _message_asked(asked: ModelRequest, output: Output) -> dict[str, Any]:
    tools = [
        {
            "name": t.name,
            "description": t.description,
            "input_schema": plain(t.parameters),
        }
        for t in asked.tools
    ]
    choice = {"type": "auto" if asked.tools_allowed else "none"}
    body: dict[str, Any] = {}
    if asked.output is not None and output is Output.JSON_SCHEMA:
        schema, held = strict(asked.output, "anthropic")
        if held:
            form = {"type": "json_schema", "schema": schema}
            body["output_config"] = {"format": form}
        else:
            output = Output.JSON_OBJECT  # it is strict or not at all
    if asked.output is not None and output is Output.TOOL:
        choice = {"type": "tool", "name": asked.output_name}
        if tools and asked.tools_allowed:
            choice = {"type": "any"}
        named = {"name": asked.output_name, "description": ANSWERS}
        tools.append({**named, "input_schema": plain(asked.output)})
    if tools:
        body |= {"tools": tools, "tool_choice": choice}
    talk = _alternating(_message_talk(asked))
    return body | {"system": _system(asked, output), "messages": talk}


def _message_talk(asked: ModelRequest) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for message in asked.messages:
        match message:
            case Asked():
                yield "user", [_text_block(message.text)]
            case Said():
                spoken: list[dict[str, Any]] = []
                if message.text.strip() or not message.calls:
                    spoken.append(_text_block(message.text))
                spoken += [
                    {
                        "type": "tool_use",
                        "id": call.id,
                        "name": sendable_name(call.name),
                        "input": as_object(call.arguments),
                    }
                    for call in message.calls
                ]
                yield "assistant", spoken
            case Results():
                yield (
                    "user",
                    [
                        {
                            "type": "tool_result",
                            "tool_use_id": result.call,
                            "content": read_as(result),
                            "is_error": result.end is not CallEnd.RESULT,
                        }
                        for result in message.results
                    ],
                )
            case _:
                assert_never(message)


def _text_block(text: str) -> dict[str, str]:
    """A block of text; blank ones are refused."""
    return {"type": "text", "text": text if text.strip() else NOTHING}


def _alternating(
    talk: Iterable[tuple[str, list[dict[str, Any]]]],
) -> list[dict[str, Any]]:
    """One message for all that one side says in a row; results go first in it."""
    made: list[dict[str, Any]] = []
    for role, content in talk:
        if made and made[-1]["role"] == role:
            made[-1]["content"] += content
        else:
            made.append({"role": role, "content": content})
    for each in made:
        each["content"].sort(key=lambda block: block["type"] != "tool_result")
    return made


def _message_said(data: Any) -> tuple[str, list[tuple[str, str]], Finish]:
    match data:
        case {"content": list(content), "stop_reason": str(why)}:
            pass
        case _:
            raise _garbage()
    match why:
        case "refusal":
            return "", [], Finish.REFUSAL
        case "max_tokens" | "model_context_window_exceeded":
            return "", [], Finish.LENGTH
        case _:
            pass  # it ended, or asks for tools
    texts, calls = [], []
    for block in content:
        match block:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "tool_use", "name": str(name), "input": dict(given)}:
                calls.append((name, json.dumps(given)))
            case {"type": "tool_use", "name": str(name), "input": str(written)}:
                calls.append((name, written))  # as `answers.parsed` keeps odd ones
            case {"type": "text" | "tool_use"}:
                raise _garbage()
            case _:
                pass  # what it thought
    if not texts and not calls:
        raise _garbage()
    return "".join(texts), calls, Finish.CALLS if calls else Finish.STOP


# -- both ------------------------------------------------------------------------------

ANSWERS = "Give the answer: call this once, when you know it."
SCHEMA = "Answer with one JSON object and nothing else, of this JSON schema:"


def _system(asked: ModelRequest, output: Output) -> str:
    if asked.output is None or output is not Output.JSON_OBJECT:
        return asked.system
    schema = json.dumps(asked.output, ensure_ascii=False, separators=(",", ":"))
    return f"{asked.system}\n\n{SCHEMA}\n{schema}"


def _text(content: Any) -> str | None:
    match content:
        case str():
            return content
        case list():
            parts = [
                part["text"]
                for part in content
                if isinstance(part, dict) and isinstance(part.get("text"), str)
            ]
            return "".join(parts) if parts else None
        case _:
            return None


def _garbage() -> Transient:
    return Transient(
        "the model's answer is none in the shape of its vendor",
        code="VENDOR_GARBAGE",
        hint="check the vendor's kind, and that its url is the base of its service",
    )


def _no_model(kind: Kind) -> Usage:
    return Usage(
        f"a vendor of kind {kind!r} is no model",
        code="MODEL_KIND",
        hint='a [model.NAME] stands on a vendor with kind = "openai" or "anthropic"',
    )
