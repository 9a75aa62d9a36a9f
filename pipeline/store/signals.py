"""
The store's port for signals, and its rows: what items ask for, and who answered.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple, Protocol

from pipeline.model import ItemId

SIGNAL = "SIGNAL"  # the code of an item that waits for one

SIGNALS_MAX = 100  # names of one item, answered and not asked for; arbitrary
REFUSALS_MAX = 20  # of one item that are written down; arbitrary


class Delivery(NamedTuple):
    """
    An answer as it came: JSON text, or the artifact in which that stands.

    `id` makes it the same delivery when it comes again.  After `until`, in seconds
    since 1970, it is not taken any more.  It was seen to fit `schema`.
    """

    id: str
    payload: str | None
    ref: str | None
    author: str
    until: float | None = None
    schema: dict[str, Any] | None = None


class Taken(Enum):
    """What became of a delivery."""

    NOW = "the item asked for it, and goes on"
    KEPT = "kept until the item asks for it"
    AGAIN = "it was taken before"
    ANSWERED = "another answer came first"
    LATE = "the item has ended"
    EXPIRED = "its time is over"
    FULL = "too many wait for an item that asks for none of them"
    UNSEEN = "the item asks for another form of answer by now: look again"
    UNKNOWN = "there is no such item of this tenant"


# What the timeline, and whoever sent it, is told of one that is not taken.
REFUSALS = {
    Taken.ANSWERED: "SIGNAL_ANSWERED",
    Taken.LATE: "SIGNAL_LATE",
    Taken.EXPIRED: "SIGNAL_FOREIGN",
    Taken.UNKNOWN: "SIGNAL_FOREIGN",
    Taken.FULL: "SIGNAL_FULL",
}


class SignalRow(NamedTuple):
    """
    One signal of an item: what was asked, and what was answered.

    Attributes:
        stage: The stage that asked last; "": none has yet.
        asked_s: So long ago it asked the first time.
        until: When it goes on without an answer; None: it does not.
        poll_s: Its vendor is to be asked after this; None: it never is.
        lapsed: Whether that stage went on without an answer.
        delivery: Of the answer; None: there is none yet.
        payload: The answer as JSON text; None: in the artifact `ref`.
    """

    name: str
    stage: str
    asked_at: datetime | None
    asked_s: float
    until: datetime | None
    poll_s: float | None
    schema: dict[str, Any] | None
    lapsed: bool
    delivery: str | None
    payload: str | None
    ref: str | None
    author: str
    answered_at: datetime | None

    @property
    def open(self) -> bool:
        """Whether a stage has asked, and nobody answered in its time."""
        return bool(self.stage) and not self.lapsed and self.delivery is None


class SignalStore(Protocol):
    """Answers from outside: one for a name, for ever."""

    async def signals(self, item: ItemId, name: str = "") -> list[SignalRow]:
        """The signals of an item, or the one of this name; by name."""
        ...

    async def answer(
        self, item: ItemId, name: str, answer: Delivery, *, tenant: str = ""
    ) -> Taken:
        """
        Take the first answer, and put an item that waits for it back in line; every
        other one is refused, and noted in the item's timeline.

        One that was not seen to fit what is asked for is UNSEEN: nothing is done.
        Of an item of another `tenant` it is UNKNOWN; "": whoever it belongs to.
        """
        ...

    async def note_refused(
        self, item: ItemId, name: str, code: str, author: str, *, tenant: str = ""
    ) -> None:
        """
        Note in the timeline of an item (of this `tenant`; "": of any), `REFUSALS_MAX`
        times, what was not taken.
        """
        ...

    async def lapse(self, item: ItemId, name: str, stage: str, within_s: float) -> bool:
        """
        Have `stage` go on without an answer, when `within_s` since it asked are over
        and none has come; whether it is so.

        It is so whoever asks, by the store's clock: no lease is needed.
        """
        ...

    async def callback_until(self, item: ItemId, within_s: float | None) -> int:
        """
        When a callback is taken no more, in seconds since 1970: `within_s` from now;
        None: long after the item's deadline, which may be moved.
        """
        ...
