"""
Leave for one call, and who waits for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import anyio

from pipeline.errors import WaybillError


class Permit(NamedTuple):
    """
    Leave for one call to begin.

    Attributes:
        due: From when, on the store's clock; -inf where nothing is paced.
        units: Of each limit of the line.
    """

    due: float
    units: tuple[float, ...]


class Waiter:
    """
    One call in line.

    Attributes:
        in_room: It comes in when there is room, and not a little before.
        said: What it says that it weighs, by each limit of its line.
        units: What it is counted for while it stands there.
    """

    __slots__ = (
        *("ahead", "called", "early_s", "error", "gone", "in_room", "order"),
        *("patience_s", "permit", "said", "since", "units"),
    )

    def __init__(
        self,
        order: tuple[float, int],
        said: tuple[int, ...],
        patience_s: float,
        since: float,
        early_s: float = 0.0,
        *,
        in_room: bool = False,
    ) -> None:
        self.order = order
        self.early_s = early_s
        self.in_room = in_room
        self.said = said
        self.units: tuple[float, ...] = ()
        self.patience_s = patience_s
        self.since = since
        self.called = anyio.Event()
        self.permit: Permit | None = None
        self.ahead = False  # it may prepare, and has no permit yet
        self.error: WaybillError | None = None
        self.gone = False

    def anew(self, *, before_all: bool = False) -> Waiter:
        """The same call once more: it has waited since it came, wherever it stands."""
        return Waiter(
            (-math.inf, self.order[1]) if before_all else self.order,
            self.said,
            self.patience_s,
            self.since,
            self.early_s,
            in_room=self.in_room,
        )
