"""
Cancellation: whether what was raised is the end that a scope of ours has asked for.

A stage, a tool or a library in them may raise the same class of its own accord.  Then
nothing of ours was cancelled, and it is a failure as any other; inside a task group it
would even be swallowed.
"""

from __future__ import annotations

import math

import anyio


def is_cancellation(error: BaseException) -> bool:
    """Whether a scope of ours, the innermost or one around it, was cancelled."""
    return (
        issubclass(type(error), anyio.get_cancelled_exc_class())
        and anyio.current_effective_deadline() == -math.inf
    )
