"""
State: the fold of an item's updates over its pipeline's state model.

Each field of the model is a channel: a type, and a reducer named in its
`Annotated[...]`.  Updates are validated when a stage returns them, so that what
is stored always folds again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticSerializationError, from_json, to_json
from pydantic_core.core_schema import ErrorType

from pipeline.errors import Permanent
from pipeline.model import Checkpoint
from pipeline.stage import REDUCERS, Artifacts, replace

Reducer = Callable[[Any, Any], Any]

INLINE_BYTES_MAX = 8192  # larger values go to the artifact store by reference
# Of one update or result; arbitrary, and PostgreSQL takes 255 MiB.
DIGITS_MAX = 4300  # of a number that pydantic's reader takes
LEVELS_SAFE = 100  # it takes 200
JSON_CHARS_MAX = 64 << 20
# What pydantic itself finds wrong, in words of its own.
KINDS = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error"}


class Channels:
    """The channels of one state model, compiled once."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.model = model
        hints = get_type_hints(model, include_extras=True)
        self._adapters = {n: TypeAdapter[Any](hints[n]) for n in model.model_fields}
        self._reducers = {
            n: _reducer(f.metadata) for n, f in model.model_fields.items()
        }

    def __repr__(self) -> str:
        return f"<Channels {self.model.__name__} {', '.join(self._adapters)}>"

    def initial(self, facts: Mapping[str, Any]) -> BaseModel:
        """
        The state an item begins with.

        Raises:
            Permanent: BAD_INPUT, naming the fields and never their values.
        """
        try:
            return self.model.model_validate(facts)
        except ValidationError as error:
            raise Permanent(
                f"the item's input does not fit {self.model.__name__}: {_where(error)}",
                code="BAD_INPUT",
            ) from None

    def validate(self, updates: Mapping[str, Any]) -> dict[str, Any]:
        """
        Updates as their channels' types.

        Raises:
            Permanent: BAD_UPDATE, naming the channel and never the value.
        """
        valid = {}
        for name, value in updates.items():
            adapter = self._adapters.get(name)
            if adapter is None:
                raise Permanent(
                    f"{self.model.__name__} has no channel {name!r}",
                    code="BAD_UPDATE",
                    hint=f"its channels are {', '.join(self._adapters)}",
                )
            try:
                valid[name] = adapter.validate_python(value)
            except ValidationError as error:
                raise Permanent(
                    f"the update of {name!r} does not fit: {_where(error)}",
                    code="BAD_UPDATE",
                ) from None
        return valid

    def apply(self, state: BaseModel, valid: Mapping[str, Any]) -> BaseModel:
        """
        The next state; `valid` comes from `validate` or `decode`.

        Raises:
            Permanent: BAD_UPDATE, when a reducer cannot join old and new.
        """
        if not valid:
            return state
        there = {name: getattr(state, name) for name in valid}
        return state.model_copy(update=self.joined(there, valid))

    def joined(
        self, first: Mapping[str, Any], then: Mapping[str, Any]
    ) -> dict[str, Any]:
        """
        Two valid updates as one: where both name a channel, its reducer joins them.

        Raises:
            Permanent: BAD_UPDATE, when a reducer cannot join the two.
        """
        reducers = self._reducers
        try:
            met = {n: reducers[n](first[n], v) for n, v in then.items() if n in first}
        except (TypeError, ValueError, ArithmeticError) as error:
            raise Permanent(
                f"the update of {', '.join(then)} cannot be joined to what is there "
                f"({type(error).__name__})",
                code="BAD_UPDATE",
            ) from None
        return {**first, **then, **met}

    def has_keys(self, name: str) -> bool:
        """Whether the channel is a mapping or a model: one key of it can be given."""
        try:
            self._adapters[name].validate_python({})
        except ValidationError as error:
            return any(e["type"] == "missing" for e in error.errors())
        return True

    def decode(self, update: str) -> dict[str, Any]:
        """A stored update, as the channels' types."""
        return self.validate(from_json(update))

    def fold(
        self,
        facts: Mapping[str, Any],
        updates: Iterable[str],
        only: Collection[str] | None = None,
    ) -> BaseModel:
        """The state after these stored updates, in order; of `only` these channels."""
        state = self.initial(facts)
        for update in updates:
            given = from_json(update)
            if only is not None:
                given = {name: v for name, v in given.items() if name in only}
            state = self.apply(state, self.validate(given))
        return state


async def inline_or_ref(
    text: str, artifacts: Artifacts
) -> tuple[str | None, str | None]:
    """JSON text as a row keeps it: itself, or the name of the artifact it stands in."""
    data = text.encode()
    if len(data) <= INLINE_BYTES_MAX:
        return text, None
    return None, await artifacts.put(data)


async def update_of(checkpoint: Checkpoint, artifacts: Artifacts) -> str:
    """The JSON text of a checkpoint's update, also when it is an artifact."""
    text = checkpoint.update
    if text is None and checkpoint.ref is not None:
        text = (await artifacts.get(checkpoint.ref)).decode()
    return text or "{}"


def encode(value: Any, *, beneath: int = 0) -> str:
    """
    JSON text that PostgreSQL can store and we can read, of what pydantic serialises.

    U+0000 and lone surrogates, which it cannot store, are taken out here and
    nowhere else; the original bytes of a document stay in its artifact.

    Args:
        beneath: So many levels of JSON it will stand in, and must still be readable.

    Raises:
        Permanent: BAD_UPDATE, the value has no JSON, holds what is no number, or is
            too deep or too large to be read again.
    """
    try:
        text = _json(value)
        if _is_doubtful(text):
            from_json("[" * beneath + text + "]" * beneath, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        said = f"the value {_unfit(str(error))}"
        raise Permanent(said, code="BAD_UPDATE") from None
    if len(text) > JSON_CHARS_MAX:
        raise Permanent(
            f"the value has more than {JSON_CHARS_MAX} characters",
            code="BAD_UPDATE",
            hint="put it into an artifact and keep its name",
        )
    return text


def _is_doubtful(text: str) -> bool:
    """
    Whether what was written may not be read: the reader's bounds are narrower.

    Most updates are small and flat, and reading each costs as much as writing it.
    """
    return (
        len(text) > DIGITS_MAX
        or text.count("[") + text.count("{") > LEVELS_SAFE
        or "NaN" in text
        or "Infinity" in text
    )


def _unfit(said: str) -> str:
    """Why a value is no JSON that comes back; `said` may quote it, this does not."""
    for sign, why in (
        ("recursion", "is nested too deep"),
        ("depth", "is nested too deep"),
        ("out of range", "holds a number of too many digits"),
        ("expected value", "holds what is no number (NaN, Infinity)"),
        ("invalid number", "holds what is no number (-Infinity)"),
    ):
        if sign in said:
            return why
    return "has no JSON"


def _json(value: Any) -> str:
    try:
        text = to_json(value).decode()
    except (PydanticSerializationError, UnicodeEncodeError):
        return to_json(_clean(to_json_plain(value))).decode()
    if "\\u0000" in text:
        text = to_json(_clean(from_json(text))).decode()
    return text


def to_json_plain(value: Any) -> Any:
    """`value` as plain JSON data, models opened."""
    if isinstance(value, BaseModel):
        return {n: to_json_plain(getattr(value, n)) for n in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(k): to_json_plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_plain(v) for v in value]
    return value


def clean_text(text: str) -> str:
    """`text` without U+0000 and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "ignore").decode("utf-8")


def is_clean(value: Any) -> bool:
    """Whether all that is text in it is kept as it is: see `clean_text`."""
    plain = to_json_plain(value)
    return bool(_clean(plain) == plain)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(k)): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return value


def _reducer(metadata: Iterable[Any]) -> Reducer:
    for mark in metadata:
        if mark in REDUCERS:
            return mark  # type: ignore[no-any-return]
    return replace


def _where(error: ValidationError) -> str:
    found = [
        f"{'.'.join(str(part) for part in e['loc']) or 'value'} ({_kind(e)})"
        for e in error.errors(include_input=False, include_url=False)[:5]
    ]
    return ", ".join(found)


def _kind(error: ErrorDetails) -> str:
    """What is wrong, never of what: the input may be a child's letter."""
    kind = error["type"]
    # Those of authors, and those with a parser's own words, may quote it.
    if kind in KINDS and "error" not in error.get("ctx", {}):
        return error["msg"].removeprefix("Input ")
    return kind


def result_adapter(fn: Callable[..., Any]) -> TypeAdapter[Any]:
    """How the result of a step function is read back: by its return annotation."""
    # A method is made anew whenever it is looked up; its function is one.
    return _result_adapter(getattr(fn, "__func__", fn))


@lru_cache(maxsize=512)
def _result_adapter(fn: Callable[..., Any]) -> TypeAdapter[Any]:
    target = inspect.unwrap(getattr(fn, "func", fn))
    try:
        annotation = get_type_hints(target, include_extras=True).get("return", Any)
        return TypeAdapter(annotation)
    except (NameError, TypeError, PydanticUserError):
        return TypeAdapter(Any)
