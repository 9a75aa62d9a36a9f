"""
Reducers: how an update meets a channel of the state.

Named in `Annotated[...]` beside a field's type; a field without one is replaced.
"""

from __future__ import annotations

from typing import Any


def replace(old: Any, new: Any) -> Any:
    """The new value stands."""
    return new


def append(old: Any, new: Any) -> Any:
    """Lists: the new elements follow the old."""
    return [*(old or []), *new]


def merge(old: Any, new: Any) -> Any:
    """Mappings: new keys win."""
    return {**(old or {}), **new}


def add(old: Any, new: Any) -> Any:
    """Numbers and sums of money."""
    return new if old is None else old + new


REDUCERS = (replace, append, merge, add)
