"""
What does not fit a declaration, as a person reads it: where it stands, what it may be.
"""

from __future__ import annotations

import difflib
import tomllib
import types
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Place = Sequence[str | int]


class Misfit(NamedTuple):
    """
    A fault of a declaration.

    Attributes:
        said: "vendor.crm.url: it is missing"; never the value, which may be a secret.
        hint: The keys that are known there, where a key is at fault.
    """

    said: str
    hint: str = ""


def misfit_of(
    error: ValidationError, model: type[BaseModel], beside: Sequence[str] = ()
) -> Misfit:
    """
    What `model` found first.

    Args:
        beside: Keys that are known at its top as well.
    """
    return misfits_of(error, model, beside)[0]


def misfits_of(
    error: ValidationError, model: type[BaseModel], beside: Sequence[str] = ()
) -> list[Misfit]:
    """All that `model` found, in its order; of one key what is said first."""
    said: dict[tuple[str | int, ...], ErrorDetails] = {}
    for one in error.errors(include_url=False, include_input=False):
        said.setdefault(tuple(_place(model, one["loc"])), one)
    return [_misfit(one, model, beside) for one in said.values()]


def _misfit(
    first: ErrorDetails, model: type[BaseModel], beside: Sequence[str]
) -> Misfit:
    place = _place(model, first["loc"])
    said = _words(first["type"], first["msg"])
    hint = ""
    if first["type"] in ("extra_forbidden", "missing") and place:
        known = _keys(model, place[:-1]) + list(beside if len(place) == 1 else ())
        if first["type"] == "extra_forbidden":
            said += meant(str(place[-1]), known)
        hint = f"known keys: {', '.join(known)}" if known else ""
    where = ".".join(str(part) for part in place)
    return Misfit(f"{where}: {said}" if where else said, hint)


def meant(word: str, known: Collection[str]) -> str:
    """What to say of a word that is none, behind it: the known one that is near it."""
    near = difflib.get_close_matches(word, known, 1)
    return f"; is {near[0]} meant?" if near else ""


def read_toml(path: Path) -> Mapping[str, Any]:
    """
    What a file says; nothing where there is no file.

    Raises:
        ValueError: it cannot be read, with the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError:
        raise ValueError(f"{path} cannot be read: it is no UTF-8") from None
    except (OSError, tomllib.TOMLDecodeError, RecursionError) as error:
        said = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise ValueError(f"{path} cannot be read: {said}") from None


def _words(kind: str, message: str) -> str:
    match kind:
        case "extra_forbidden":
            return "there is no such key"
        case "missing":
            return "it is missing"
        case _:
            return message.removeprefix("Value error, ")


def _place(model: Any, place: Place) -> Place:
    """Without the words that are no keys: which of several kinds a table is of."""
    return [p for at, p in enumerate(place) if not _is_kind(model, place[:at], p)]


def _is_kind(model: Any, before: Place, part: str | int) -> bool:
    kinds = _at(model, before)
    return len(kinds) > 1 and any(_is_of(kind, part) for kind in kinds)


def _keys(model: Any, place: Place) -> list[str]:
    """The keys that are known at a place of a model; none where that has no names."""
    keys = (_own(kind) for kind in _at(model, place) if _is_model(kind))
    return list(dict.fromkeys(key for each in keys for key in each))


def _at(model: Any, place: Place) -> list[Any]:
    kinds = [model]
    for part in place:
        kinds = [kind for each in kinds for kind in _below(each, part)]
    return kinds


def _is_of(kind: Any, word: str | int) -> bool:
    """Whether a model says by its `kind` that it is of this one."""
    field = kind.model_fields.get("kind") if _is_model(kind) else None
    return field is not None and word in get_args(field.annotation)


def _own(model: type[BaseModel]) -> list[str]:
    """A model's keys; its name is that of its table."""
    return [
        key
        for key in model.model_fields
        if key != "name" or model.model_fields[key].is_required()
    ]


def _below(kind: Any, part: str | int) -> list[Any]:
    """What may stand at a key: of a model, of a table of models, of one of several."""
    if _is_of(kind, part):
        return [kind]
    if _is_model(kind):
        field = kind.model_fields.get(str(part))
        return [] if field is None else _options(field.annotation)
    if get_origin(kind) in (dict, Mapping, list, tuple):
        return _options(get_args(kind)[-1])
    return []


def _options(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, types.UnionType):
        return [each for arg in get_args(kind) for each in _options(arg)]
    if hasattr(kind, "__metadata__"):  # Annotated
        return _options(get_args(kind)[0])
    return [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
