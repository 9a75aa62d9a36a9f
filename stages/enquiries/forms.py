"""What is read in a request for a quote: values with their words, and questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Generic, TypeVar

from stages.fitting.parts import End

T = TypeVar("T")
# What a line must say before it can be quoted, in the order in which it is asked.
WANTED = ("count", "size", "length_mm", "ends", "medium", "celsius", "bar")


@dataclass(frozen=True, slots=True)
class Words:
    """
    A place of the request.

    Attributes:
        text: As it stands there, with its mistakes.
        start, end: Characters of the whole text.
        line: From 1.
    """

    text: str
    start: int
    end: int
    line: int


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """
    A value and the words it was read from.

    Attributes:
        mended: What its words were taken for, where they were written wrong.
    """

    value: T
    words: Words
    mended: str = ""


def key_of(line: int, about: str) -> str:
    """The key of a question about a line, or about all of a request."""
    return f"{line}.{about}" if line else about


@dataclass(frozen=True, slots=True)
class Question:
    """
    What must be asked before anything is quoted.

    Attributes:
        about: A field of `Asked` or of `Request`.
        line: The number of the request's line, from 1; 0: of all of it.
        choices: What it may mean, where it means several things; () of what is missing.
        words: Where it stands; None of what is missing.
    """

    about: str
    line: int
    why: str
    choices: tuple[str, ...] = ()
    words: Words | None = None

    @property
    def key(self) -> str:
        """By which it is answered: `1.medium`, `by`."""
        return key_of(self.line, self.about)


@dataclass(frozen=True, slots=True)
class Asked:
    """
    One line of a request; None is what it does not say, or what means two things.

    Attributes:
        size: Of the hose, in sixteenths of an inch.
        ends: Two, as they are named; an end without a size of its own has the hose's.
    """

    number: int
    count: Read[int] | None = None
    size: Read[int] | None = None
    length_mm: Read[Decimal] | None = None
    ends: tuple[Read[End], ...] = ()
    medium: Read[str] | None = None
    celsius: Read[Decimal] | None = None
    bar: Read[Decimal] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request as rules read it.

    Attributes:
        place: Where it is sent to; `by`: the day on which it is there.
        questions: In the order of the lines; () when everything is said.
    """

    lines: Sequence[Asked] = ()
    place: Read[str] | None = None
    by: Read[date] | None = None
    questions: Sequence[Question] = field(default=())
