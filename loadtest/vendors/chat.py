"""
Models that talk and see: OpenAI's chat completions and Anthropic's messages.

What they say is the vendor's `reply`, or an instance of the schema that the request
asks for; a tool that is offered is called once, and then the answer is given.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from loadtest.vendors.book import Taken
from loadtest.vendors.instances import instance, misfit
from loadtest.vendors.kinds import Call, Plain, Reply
from loadtest.vendors.limits import (
    Headers,
    Remaining,
    anthropic_headers,
    openai_headers,
)
from loadtest.vendors.settings import Play

REFUSAL = "I would rather not help with that."
LETTER = {
    "greeting": "Dear friend,",
    "paragraphs": ["Your letter arrived, and the whole post office read it twice."],
    "closing": "With love from the North Pole",
}
PICTURE_TOKENS = 800
CHARS_A_TOKEN = 4


class Said(NamedTuple):
    """What the model says, before it is put into a vendor's form."""

    text: str | None
    finish: str  # stop, length, refusal, filter, tools
    tool: str = ""
    arguments: dict[str, Any] | None = None
    more: tuple[tuple[str, dict[str, Any]], ...] = ()  # calls beside it
    kind: str = "completion"  # what it is in the book
    one_id: bool = False  # whether all its calls have the same

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """Every tool that it calls, with the arguments."""
        first = [(self.tool, self.arguments or {})] if self.tool else []
        return [*first, *self.more]


class Spent(NamedTuple):
    """Tokens; `cached` of the prompt's, `reasoning` of the answer's."""

    prompt: int
    cached: int
    answer: int
    reasoning: int


class Chat(Plain):
    """A model service."""

    faults = frozenset(
        {"refusal", "wrong_schema", "not_even_json", "length", "filter"}
        | {"no_content", "no_usage", "no_choices"}
    )

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """A completion, a message, or the list of models."""
        path = call.path.removeprefix("/v1")
        if (call.method, path) == ("GET", "/models"):
            model: dict[str, Any] = {"id": play.model or "simulated", "object": "model"}
            model |= {"created": 1_700_000_000, "owned_by": "simulated"}
            return Reply(data={"object": "list", "data": [model]})
        if call.method != "POST" or path not in ("/chat/completions", "/messages"):
            return self.error(call, 404, f"no such resource: {call.path}")
        if wrong := _wrong(call):
            return self.error(call, 400, wrong)
        said = self.said(call, play, fault)
        spent = _spent(call, play, said)
        identity = f"{dice.getrandbits(96):024x}"
        form = message if _anthropic(call) else completion
        data = form(call, play, said, spent, identity)
        if fault == "no_usage":
            del data["usage"]
        if fault == "no_choices":
            data["content" if _anthropic(call) else "choices"] = []
        headers = (("request-id" if _anthropic(call) else "x-request-id", identity),)
        key = call.headers.get(play.key_header, "")
        done = [Taken(said.kind, key, call.body)]
        return Reply(
            data=data, headers=headers, tokens=(spent.prompt, spent.answer), taken=done
        )

    def said(self, call: Call, play: Play, fault: str) -> Said:
        """What the model says."""
        return _said(call, play, fault)

    def error(self, call: Call, status: int, message: str) -> Reply:
        """In the form of whose path was called."""
        if not _anthropic(call):
            return super().error(call, status, message)
        kinds = {
            400: "invalid_request_error",
            401: "authentication_error",
            403: "permission_error",
            404: "not_found_error",
            429: "rate_limit_error",
            529: "overloaded_error",
        }
        error = {"type": kinds.get(status, "api_error"), "message": message}
        return Reply(status, {"type": "error", "error": error, "request_id": "req_0"})

    def tokens(self, call: Call, play: Play) -> int:
        """Those of the prompt, and the most that the answer may have."""
        return _prompt_tokens(call) + min(_most(call), play.tokens)

    def remaining(self, call: Call, remaining: list[Remaining]) -> Headers:
        """`x-ratelimit-*` or `anthropic-ratelimit-*`."""
        return (
            anthropic_headers(remaining)
            if _anthropic(call)
            else openai_headers(remaining)
        )


def completion(
    call: Call, play: Play, said: Said, spent: Spent, identity: str
) -> dict[str, Any]:
    """OpenAI's `chat.completion`."""
    finish = {"filter": "content_filter", "refusal": "stop", "tools": "tool_calls"}
    spoken: dict[str, Any] = {"role": "assistant", "content": said.text}
    spoken |= {"refusal": None, "annotations": []}
    if said.finish == "refusal":
        spoken |= {"content": None, "refusal": said.text}
    if said.calls:
        spoken["tool_calls"] = [
            {
                "id": f"call_{identity}{0 if said.one_id else n}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(arguments)},
            }
            for n, (name, arguments) in enumerate(said.calls)
        ]
    choice = {"index": 0, "message": spoken, "logprobs": None}
    choice["finish_reason"] = finish.get(said.finish, said.finish)
    return {
        "id": f"chatcmpl-{identity}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": play.model or call.fields["model"],
        "system_fingerprint": "fp_simulated",
        "choices": [choice],
        "usage": {
            "prompt_tokens": spent.prompt,
            "completion_tokens": spent.answer,
            "total_tokens": spent.prompt + spent.answer,
            "prompt_tokens_details": {
                "cached_tokens": spent.cached,
                "audio_tokens": 0,
            },
            "completion_tokens_details": {
                "reasoning_tokens": spent.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def message(
    call: Call, play: Play, said: Said, spent: Spent, identity: str
) -> dict[str, Any]:
    """Anthropic's `message`; its input tokens hold no cached ones."""
    stops = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use"}
    content: list[dict[str, Any]] = []
    if said.text is not None:
        content.append({"type": "text", "text": said.text})
    for n, (name, arguments) in enumerate(said.calls):
        number = 0 if said.one_id else n
        tool = {"type": "tool_use", "id": f"toolu_{identity}{number}", "name": name}
        content.append({**tool, "input": arguments})
    return {
        "id": f"msg_{identity}",
        "type": "message",
        "role": "assistant",
        "model": play.model or call.fields["model"],
        "content": content,
        "stop_reason": stops.get(said.finish, "refusal"),
        "stop_sequence": None,
        "usage": {
            "input_tokens": spent.prompt - spent.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": spent.cached,
            "output_tokens": spent.answer,
            "output_tokens_details": {"thinking_tokens": spent.reasoning},
            "service_tier": "standard",
        },
    }


def _said(call: Call, play: Play, fault: str) -> Said:
    match fault:
        case "refusal":
            return Said(REFUSAL, "refusal")
        case "filter":
            return Said("", "filter")
        case "no_content":
            return Said(None, "stop")
        case "not_even_json":
            return Said("Certainly! Here is what you asked for:", "stop")
        case _:
            pass  # it says something
    if tool := next_tool(call):
        name, schema = tool
        made = misfit(schema) if fault == "wrong_schema" else instance(schema)
        return Said(None, "tools", name, made)
    text = play.reply or _text(call, fault)
    if fault == "length" or _most(call) * CHARS_A_TOKEN < len(text):
        return Said(text[: min(len(text) // 2, _most(call) * CHARS_A_TOKEN)], "length")
    return Said(text, "stop")


def _text(call: Call, fault: str) -> str:
    """What fits the schema that is asked for; without one, what was said last."""
    fields = call.fields
    asked = fields.get("response_format") or {}
    if schema := schema_of(call):
        made = misfit(schema) if fault == "wrong_schema" else instance(schema)
        return json.dumps(made)
    if fault == "wrong_schema":
        return json.dumps({"greeting": LETTER["greeting"], "paragraphs": []})
    if asked.get("type") == "json_object":
        return json.dumps(LETTER)
    last = list(texts_of(fields["messages"][-1:]))
    return f"You said: {' '.join(last)[:200]}"


def next_tool(call: Call) -> tuple[str, dict[str, Any]] | None:
    """The tool to call now, and the schema of its arguments."""
    offered = tools_of(call)
    choice = call.fields.get("tool_choice") or "auto"
    if not offered or choice == "none":
        return None
    if isinstance(choice, dict):
        named = choice.get("function", choice).get("name")
        if named:
            return named, offered.get(named, {})
        choice = {"any": "required"}.get(choice.get("type", ""), "auto")
    before = set(called(call.fields["messages"]))
    for name, schema in offered.items():
        if name not in before:
            return name, schema
    return [*offered.items()][-1] if choice == "required" else None


def tools_of(call: Call) -> dict[str, dict[str, Any]]:
    """The tools that are offered: the schema of each one's arguments."""
    found: dict[str, dict[str, Any]] = {}
    for tool in call.fields.get("tools") or ():
        given = tool.get("function", tool)
        found[given["name"]] = (
            given.get("parameters") or given.get("input_schema") or {}
        )
    return found


def schema_of(call: Call) -> dict[str, Any] | None:
    """The schema that the answer is held to; None where there is none."""
    fields = call.fields
    asked = fields.get("response_format") or {}
    schema = (asked.get("json_schema") or {}).get("schema")
    config = (fields.get("output_config") or {}).get("format") or {}
    found: dict[str, Any] | None = schema or config.get("schema")
    return found


def called(messages: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Names of tools that were called so far."""
    for each in messages:
        for tool in each.get("tool_calls") or ():
            yield tool["function"]["name"]
        if isinstance(each.get("content"), list):
            for part in each["content"]:
                if part.get("type") == "tool_use":
                    yield part["name"]


def _wrong(call: Call) -> str:
    """Why the vendor refuses the request; "" where it does not."""
    fields = call.fields
    if not isinstance(fields.get("model"), str):
        return "you must provide a model parameter"
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    if fields.get("stream"):
        return "stream: not simulated"
    if _anthropic(call) and not isinstance(fields.get("max_tokens"), int):
        return "max_tokens: field required"
    if _anthropic(call) and "anthropic-version" not in call.headers:
        return "anthropic-version: header is required"
    for each in _pictures(messages):
        try:
            base64.b64decode(each, validate=True)
        except (binascii.Error, ValueError):
            return "invalid image data"
    return ""


def _spent(call: Call, play: Play, said: Said) -> Spent:
    prompt = _prompt_tokens(call)
    answer = min(play.tokens, _most(call))
    cached = int(prompt * play.cached)
    return Spent(prompt, cached, answer, int(answer * play.reasoning))


def _prompt_tokens(call: Call) -> int:
    messages = call.fields.get("messages") or []
    chars = sum(len(text) for text in texts_of(messages))
    pictures = sum(1 for _ in _pictures(messages))
    return max(1, chars // CHARS_A_TOKEN) + pictures * PICTURE_TOKENS


def _most(call: Call) -> int:
    """The most tokens that the answer may have."""
    fields = call.fields
    most = fields.get("max_completion_tokens") or fields.get("max_tokens")
    return most if isinstance(most, int) else 1 << 30


def _parts(messages: Iterable[Any]) -> Iterator[Any]:
    for each in messages:
        content = each.get("content") if isinstance(each, dict) else None
        yield from content if isinstance(content, list) else [content]


def texts_of(messages: Iterable[Any]) -> Iterator[str]:
    """All that is said in them."""
    for part in _parts(messages):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def _pictures(messages: Iterable[Any]) -> Iterator[str]:
    """Base64 of the pictures in either form."""
    for part in _parts(messages):
        match part:
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                yield url.partition("base64,")[2]
            case {"type": "image", "source": {"type": "base64", "data": str(data)}}:
                yield data
            case _:
                pass


def _anthropic(call: Call) -> bool:
    return call.path.endswith("/messages")
