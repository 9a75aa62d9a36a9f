"""anyio's clock, for those who look at it at each step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio


def clock() -> Callable[[], float]:
    """
    The clock of the loop that runs now: what `anyio.current_time` says, in seconds.

    That asks each time anew which loop there is, which takes ten times as long.
    """
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:  # trio's, which tests run too
        return anyio.current_time
