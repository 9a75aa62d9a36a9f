"""
What a function must look like to be a stage; told where it is declared.

Found out while it runs, it would cost every item all of its tries.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pipeline.errors import Usage


def named(run: Callable[..., Any]) -> str:
    """
    The name of a stage function: an `async def` that takes the state and the context.

    Raises:
        Usage: saying what to write.
    """
    name: str = getattr(run, "__name__", "stage")
    said = f"write `async def {name}(state, ctx)`"
    plain = inspect.unwrap(run)
    if inspect.isasyncgenfunction(plain):
        raise Usage(f"the stage {name!r} yields: return its outcome, {said}")
    if inspect.isfunction(plain) and not inspect.iscoroutinefunction(plain):
        raise Usage(f"the stage {name!r} is not async: {said}")
    try:
        inspect.signature(run).bind(None, None)
    except TypeError:
        why = f"the stage {name!r} does not take two values"
        raise Usage(f"{why}, the state and the context: {said}") from None
    except ValueError:  # written in C: it says nothing of what it takes
        pass
    return name
