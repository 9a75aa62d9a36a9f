"""What moderation let pass and held, and what people found of it: the rows."""

from __future__ import annotations

from datetime import date, datetime
from typing import NamedTuple


class RoleLine(NamedTuple):
    """Open holds that a role alone rules on; the first should be read by `due_at`."""

    role: str
    holds: int
    due_at: datetime


class ModeratedRow(NamedTuple):
    """
    What moderation made of the items of one week, from its Monday in UTC on.

    Attributes:
        passed: Let pass by the machine, those drawn by lot among them.
        blocked: Ended by a rule.
        held: For a person.
        right: Of the held, those that a person did not simply let go on.
        undecided: Of the held, those that nobody has ruled on.
    """

    week: date
    passed: int = 0
    blocked: int = 0
    held: int = 0
    right: int = 0
    undecided: int = 0


class SampledRow(NamedTuple):
    """
    An item that passed and was drawn by lot for a person to read.

    Attributes:
        week: The Monday of the week in which it was drawn, in UTC.
        odds: At which it was; None: they stand in the artifact `shown_ref`.
        verb: The ruling; "" there is none yet.
        missed: The category that it should have been held for; "" for none, None: it
            stands in the artifact `ref`.
    """

    week: date
    odds: float | None
    shown_ref: str | None
    verb: str
    missed: str | None
    ref: str | None
