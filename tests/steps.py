"""Steps of a stage, recorded as a worker records them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


class Steps:
    """
    The part of a context that remembers: what is recorded is not run again.

    Attributes:
        recorded: Results by step; what is given was there before a crash.
        ran: The steps that ran, in order.
    """

    def __init__(self, recorded: dict[str, Any] | None = None) -> None:
        self.recorded = recorded or {}
        self.ran: list[str] = []

    async def step(
        self, name: str, fn: Callable[..., Awaitable[Any]], /, *args: Any
    ) -> Any:
        if name not in self.recorded:
            self.ran.append(name)
            self.recorded[name] = await fn(*args)
        return self.recorded[name]
