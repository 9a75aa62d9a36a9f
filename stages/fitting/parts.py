"""Parts of an assembly as a catalogue has them, and what an assembly must bear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Word = Annotated[str, StringConstraints(max_length=80)]
PartKind = Literal["hose", "fitting", "adapter"]
Gender = Literal["male", "female"]


class End(BaseModel):
    """
    What is screwed together with something else.

    Attributes:
        thread: Name of a `[[thread]]` of the rule files.
        size: In sixteenths of an inch.
        swivel: Its nut turns by itself; of no weight for what it mates with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    thread: Word
    size: int = Field(gt=0)
    gender: Gender
    swivel: bool = False


class Part(BaseModel):
    """
    A line of a catalogue.

    Attributes:
        number: Ours; nothing stands on a quote without one.
        size: Of a hose its bore, of a fitting that of the hose which it is pressed on;
            in sixteenths of an inch, 0 of an adapter.
        standard: Of a hose: a `[[hose]]` of the rule files.
        series: Of a fitting: a `[[crimp]]` of the rule files.
        materials: Of the tube, of the metal, of a seal, by `[[material]]`.
        ends: Of a fitting one, of an adapter two, of a hose none.
        bar: What its maker allows at the most, where that is less than the standard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: Word
    kind: PartKind
    title: Annotated[str, StringConstraints(max_length=200)] = ""
    size: int = Field(default=0, ge=0)
    standard: Word = ""
    series: Word = ""
    materials: tuple[Word, ...] = Field(default=(), max_length=6)
    ends: tuple[End, ...] = Field(default=(), max_length=2)
    bar: Decimal | None = Field(default=None, gt=0)


@dataclass(frozen=True, slots=True)
class Duty:
    """
    What is asked of an assembly; None is what nobody said.

    Attributes:
        medium: A `[[medium]]` of the rule files, by its name.
        celsius: The hottest that it becomes, and `coldest` the coldest.
        bar: Working pressure.
        bend_mm: The tightest bend on its way, the radius.
    """

    medium: str | None = None
    celsius: Decimal | None = None
    bar: Decimal | None = None
    bend_mm: Decimal | None = None
    coldest: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Assembly:
    """
    Parts by their places, and which of them are joined.

    Attributes:
        parts: By a name of the place: "hose", "one end"; the order means nothing.
        joints: Pairs of places.
    """

    parts: Mapping[str, Part]
    joints: frozenset[frozenset[str]] = frozenset()


def assembled(hose: Part, one: Part, other: Part) -> Assembly:
    """A hose with a fitting on each end."""
    joints = {frozenset({"hose", "one end"}), frozenset({"hose", "other end"})}
    return Assembly(
        {"hose": hose, "one end": one, "other end": other}, frozenset(joints)
    )
