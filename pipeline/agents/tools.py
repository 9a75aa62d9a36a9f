"""
Tools: what a model may ask for, and how what it asked is vetted.

    @tool(max_calls=12)
    async def read(around: ToolContext, at: Annotated[str, Ref("page")]) -> Untrusted:
        \"\"\"The text of a page.\"\"\"
        return Untrusted(at)

A model's arguments are a stranger's: they are checked by the schema of the function's
signature, ids are looked up among our own, and what is not granted is not run.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from pipeline.agents.ids import Ref, as_given, shown_ids, with_ids
from pipeline.errors import Permanent, Usage
from pipeline.messages import ToolSpec
from pipeline.spoken import KEY_CHARS_MAX, Ambiguous, said_as
from pipeline.stage import Context
from pipeline.state import clean_text, encode, is_clean

__all__ = ["Ref", "Tool", "ToolContext", "Trusted", "Untrusted", "tool"]

RESULT_BYTES = 16_000
ARGUMENTS_CHARS_MAX = 100_000
SAID_CHARS_MAX = 300  # likewise of what is wrong there
LONG = 10  # times what is shown: of what is longer nobody counts the bytes
SPECS_KEPT = 512  # of tools with the ids that they may name
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Untrusted:
    """
    What comes from outside: shown to the model between marks, as data.

    Of a question it is said so; what a tool brings is held to be so without it.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Trusted:
    """
    What a tool brings of our own: ids, counts, words that no stranger has written.

    The model is shown `value` as it is, and writes as it may without it.
    """

    value: Any


class ToolContext(NamedTuple):
    """
    What a tool reaches.

    Attributes:
        ctx: The stage's context; steps and calls made in it are the item's.
        facts: What the stage gave the agent.
        call: Names this call, for steps: `one/call-2.1`.
    """

    ctx: Context
    facts: Any
    call: str


class Arguments(BaseModel):
    """Of a tool: nothing is guessed, and nothing more is taken."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True
    )


@dataclass(frozen=True, slots=True)
class Tool:
    """
    One tool.

    Attributes:
        effect: A read changes nothing, and may be made again.  A write goes into the
            ledger of effects, to its `sink`.
        max_calls: Of one conversation.
        result_bytes: Of what the model is shown of a result.
        approve: Whether a person must agree, for these arguments.
    """

    name: str
    description: str
    run: Callable[..., Awaitable[Any]]
    arguments: type[Arguments]
    refs: Mapping[str, str] = field(default_factory=dict)
    effect: Literal["read", "write"] = "read"
    sink: str = ""
    max_calls: int = 20
    result_bytes: int = RESULT_BYTES
    approve: bool | Callable[[Mapping[str, Any]], bool] = False

    def spec(self, ours: Mapping[str, Mapping[str, Any]]) -> ToolSpec:
        """As a model is told of it, with those of our ids that it may name."""
        kinds = sorted(set(self.refs.values()))
        ids = tuple((kind, shown_ids(ours.get(kind, ()))) for kind in kinds)
        return _spec(self.name, self.description, self.arguments, ids)

    def needs_person(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a person must agree first."""
        return self.approve(arguments) if callable(self.approve) else self.approve


@lru_cache(maxsize=SPECS_KEPT)
def _spec(
    name: str,
    description: str,
    arguments: type[Arguments],
    ids: tuple[tuple[str, tuple[str, ...]], ...],
) -> ToolSpec:
    """One for all conversations that may name the same ids: nobody changes it."""
    schema = with_ids(schema_of(arguments), dict(ids))
    return ToolSpec(name=name, description=description, parameters=schema)


@cache
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a class of ours, which nobody changes."""
    schema = model.model_json_schema()
    if issubclass(model, Arguments):
        schema.pop("title", None)
        schema.pop("description", None)
        schema.setdefault("properties", {})
    return schema


def tool(
    *,
    effect: Literal["read", "write"] = "read",
    sink: str = "",
    max_calls: int = 20,
    result_bytes: int = RESULT_BYTES,
    approve: bool | Callable[[Mapping[str, Any]], bool] = False,
) -> Callable[[Callable[..., Awaitable[Any]]], Tool]:
    """
    Declare a tool by the name, docstring and signature of its function.

    Raises:
        Usage: TOOL_DECLARED, its signature cannot be a schema, or a write has no sink.
    """

    def declare(run: Callable[..., Awaitable[Any]]) -> Tool:
        name = getattr(run, "__name__", "")
        if not inspect.iscoroutinefunction(run) or not name.isidentifier():
            raise _bad(name or "?", "it is an async function with a name")
        if effect == "write" and not sink:
            raise _bad(name, "a write names the sink that it goes to")
        fields, refs = _fields(run, name)
        made = create_model(f"{name}_arguments", __base__=Arguments, **fields)
        return Tool(
            name,
            inspect.getdoc(run) or name,
            run,
            made,
            refs,
            effect,
            sink,
            max_calls,
            result_bytes,
            approve,
        )

    return declare


def _fields(
    run: Callable[..., Any], name: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of its arguments, and those that name one of our ids."""
    try:
        hints = get_type_hints(run, include_extras=True)
        given = list(inspect.signature(run).parameters.values())[1:]
    except (NameError, TypeError, ValueError) as error:
        raise _bad(name, str(error)) from None
    fields: dict[str, Any] = {}
    refs: dict[str, str] = {}
    for one in given:
        if one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
            raise _bad(name, f"*{one.name} is no argument a model could give")
        if one.name not in hints:
            raise _bad(name, f"{one.name} has no type")
        try:
            hint, kind = as_given(hints[one.name])
        except TypeError as error:
            raise _bad(name, f"{one.name}: {error}") from None
        if kind:
            refs[one.name] = kind
        fields[one.name] = (hint, ... if one.default is one.empty else one.default)
    return fields, refs


def read_arguments(found: Tool, written: str) -> tuple[dict[str, Any], str]:
    """
    The arguments that a model wrote, by name, and what is wrong with them.

    What is wrong names places and rules, and never repeats a value.
    """
    if len(written) > ARGUMENTS_CHARS_MAX:
        return {}, f"more than {ARGUMENTS_CHARS_MAX} characters"
    valid, wrong = read_strictly(found.arguments, written or "{}")
    if valid is None:
        return {}, wrong
    return {name: getattr(valid, name) for name in type(valid).model_fields}, ""


def read_strictly(schema: type[M], written: str) -> tuple[M | None, str]:
    """
    What a model wrote as the arguments of a tool, and what is wrong with it.

    Models within the schema are held to it as strictly as the outermost.
    """
    try:
        found = said_as(schema, written, strict=True)
    except ValidationError as error:
        return None, misfit(error)
    except Ambiguous as error:
        return None, str(error)
    return (None, wrong) if (wrong := unkept(found)) else (found, "")


def misfit(error: ValidationError) -> str:
    """Where something does not fit, and the rule; of invented keys the beginning."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:KEY_CHARS_MAX]
    said = first["msg"][:SAID_CHARS_MAX]
    return f"{place}: {said}" if place else said


def unkept(value: BaseModel) -> str:
    """Why a value that fits cannot be kept as it is, such as NaN; "" where it can."""
    plain = value.model_dump()
    try:
        encode(plain)  # of a model itself NaN would become null
    except Permanent as error:
        return error.message
    # They would be left out later: what was checked would not be what is written.
    return "" if is_clean(plain) else "it has characters that no text may have (U+0000)"


def canonical(arguments: Mapping[str, Any]) -> str:
    """Arguments as one text, whatever the order in which they were written."""
    return json.dumps(arguments, sort_keys=True, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Decimal):
        return str(value)
    return str(value)


def shown(result: Any, most_bytes: int) -> str:
    """A result as the model reads it, cut where it is too long."""
    if isinstance(result, Untrusted):
        result = result.text
    if isinstance(result, Trusted):
        result = result.value
    text, more = _beginning(result, most_bytes)
    data = clean_text(text).encode()  # as it is read back from its step
    if len(data) > most_bytes:
        more = more or f"{len(data) - most_bytes} more bytes"
    kept = data[:most_bytes].decode("utf-8", "ignore")
    return f"{kept}\n[cut here: {more}]" if more else kept


def _beginning(result: Any, most_bytes: int) -> tuple[str, str]:
    """
    The text of a result, and "": or of a very long one more than is shown, and that
    there is more.  Nobody waits until a hundred megabytes are encoded to be cut.
    """
    most = LONG * most_bytes  # characters
    if isinstance(result, str):
        return result[:most], "far more" if len(result) > most else ""
    found: list[str] = []
    chars = 0
    for part in json.JSONEncoder(default=_plain).iterencode(result):
        found.append(part[: most + 1])
        chars += len(found[-1])
        if chars > most:
            return "".join(found), "far more"
    return "".join(found), ""


def _bad(name: str, why: str) -> Usage:
    return Usage(f"the tool {name} cannot be: {why}", code="TOOL_DECLARED")
