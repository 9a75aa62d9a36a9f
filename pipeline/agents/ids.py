"""
Ids of ours in the arguments of tools.

    at: Annotated[Section, Ref("section")]
    both: list[Annotated[Section, Ref("section")]]
    perhaps: Annotated[Section, Ref("section")] | None = None

A model gives an id, and the tool gets what it names: never an id that is not ours, and
never the id itself.  Where a `Ref` could not be looked up it cannot be declared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Field

IDS_SHOWN = 200  # as the values that an argument may have
MARK = "x-waybill-ref"  # of an id in a schema of ours; no model is shown it


@dataclass(frozen=True, slots=True)
class Ref:
    """
    Marks an argument that is one of our ids, of this kind.

    `Annotated[Section, Ref("section")]`: the model gives an id, and the tool gets the
    section that it names.
    """

    kind: str


def as_given(hint: Any) -> tuple[Any, str]:
    """
    The type of an argument as a model gives it, and the kind of its ids, or "".

    Raises:
        TypeError: a `Ref` stands where it could not be looked up.
    """
    kinds: set[str] = set()
    given = _as_given(hint, kinds)
    if len(kinds) > 1:
        raise TypeError(f"it names ids of {len(kinds)} kinds")
    return given, "".join(kinds)


def named(value: Any, ours: Mapping[str, Any]) -> Any:
    """
    What the ids in an argument name.

    Raises:
        KeyError: one of them is not ours.
    """
    if isinstance(value, str):
        return ours[value]
    if isinstance(value, (list, tuple)):
        return type(value)(named(each, ours) for each in value)
    return value


def shown_ids(ours: Collection[str]) -> tuple[str, ...]:
    """The ids of one kind that a model is shown; none where they are too many."""
    return tuple(ours) if len(ours) <= IDS_SHOWN else ()


def with_ids(schema: Any, shown: Mapping[str, Collection[str]]) -> Any:
    """A schema as a model is shown it: with those of our ids that it may name."""
    match schema:
        case dict():
            made = {k: with_ids(v, shown) for k, v in schema.items() if k != MARK}
            ids = shown.get(schema.get(MARK, ""), ())
            return made | {"enum": list(ids)} if ids else made
        case list():
            return [with_ids(each, shown) for each in schema]
        case _:
            return schema


def _as_given(hint: Any, kinds: set[str]) -> Any:
    hint = getattr(hint, "__value__", hint)  # of `type Name = …`
    marks = getattr(hint, "__metadata__", ())
    refs = [mark.kind for mark in marks if isinstance(mark, Ref)]
    if refs:
        kinds.update(refs)
        others = [mark for mark in marks if not isinstance(mark, Ref)]
        shown = Field(json_schema_extra={MARK: refs[0]})
        return Annotated[(str, *others, shown)]
    if not _holds_ref(hint, frozenset()):
        return hint
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_as_given(args[0], kinds), *marks)]
    within = tuple(a if a is ... else _as_given(a, kinds) for a in args)
    if origin in (Union, UnionType):
        return Union[within]  # noqa: UP007
    if origin in (list, tuple):
        return origin[within]
    raise TypeError("a Ref stands in the signature, or in a list or `| None` there")


def _holds_ref(hint: Any, seen: frozenset[Any]) -> bool:
    """Whether a `Ref` stands anywhere in a type, however deep."""
    if isinstance(hint, Ref):
        return True
    if isinstance(hint, type):
        if hint in seen:
            return False
        seen |= {hint}
    return any(_holds_ref(each, seen) for each in _parts(hint))


def _parts(hint: Any) -> Iterator[Any]:
    yield from get_args(hint)
    yield from getattr(hint, "__metadata__", ())
    if (meant := getattr(hint, "__value__", None)) is not None:
        yield meant
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        for one in hint.model_fields.values():
            yield one.annotation
            yield from one.metadata
    elif isinstance(hint, type):
        with suppress(NameError, TypeError):  # of a class that is nobody's schema
            yield from get_type_hints(hint, include_extras=True).values()
