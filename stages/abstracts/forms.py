"""
What is known of a contract: its clauses with their quotes, checks, gaps, decisions.

A clause is what readers found of one type, and what a person made of it.  All of it is
plain JSON in the state, in CONTRACT.json and in the abstract.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stages.clauses.rulebook import ClauseType
from stages.clauses.sections import Section
from stages.clauses.values import Kind
from stages.layout import Box

Verdict = Literal["present", "absent", "unclear"]
Action = Literal["accept", "correct", "absent", "missed"]

ROUTES = ("heading", "words")  # the two readers that are rules
MODEL = "model"
PERSON = "person"


class Form(BaseModel):
    """Data of a contract: what is not known of is refused, and quotes stay unsaid."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Spot(Form):
    """
    Where some of a quote stands on a page.

    Attributes:
        box: Around it: left, top, right, bottom, in pixels of the page as it was read.
        lines: A box for each line of it.
        size: Width and height of that page, pixels.
    """

    page: int
    box: Box
    lines: tuple[Box, ...] = ()
    size: tuple[int, int]


class Cited(Form):
    """
    A quote: `text` is the document's text from `start` to before `end`, code points.

    Attributes:
        page: 1-based, where it begins.
        readers: Who came to this place: `heading`, `words`, `model`, `person`.
        spots: Where it stands on paper; none of a document that has no pages.
    """

    start: int
    end: int
    text: str
    page: int
    readers: tuple[str, ...]
    spots: tuple[Spot, ...] = ()


class Said(Form):
    """A value in one form; see `stages.clauses.values`."""

    kind: Kind
    text: str
    amount: str | None = None
    currency: str | None = None
    per: str | None = None


class Decision(Form):
    """
    What a person made of a clause.

    Attributes:
        at: When, ISO 8601.
        was: What the readers had found.
        reason: Why, in that person's words; "" where none was given.
    """

    action: Action
    by: str
    at: str
    was: Verdict
    reason: str = ""


class Clause(Form):
    """
    One type of clause in one contract.

    Attributes:
        confidence: 0-1, of the verdict; 1.0 of a person's.
        opinions: Each reader's verdict, by its name.
    """

    type: str
    verdict: Verdict
    confidence: float = Field(ge=0, le=1)
    quotes: tuple[Cited, ...] = ()
    value: Said | None = None
    opinions: dict[str, Verdict] = Field(default_factory=dict)
    decision: Decision | None = None

    @property
    def disputed(self) -> bool:
        """Whether two readers that have an opinion do not share it."""
        return len(set(self.opinions.values()) - {"unclear"}) > 1


class Check(Form):
    """
    A check of clauses against each other.

    Attributes:
        ok: None where it could not be made, for something it needs is not there.
        about: Types of clauses that it looked at.
        accepted: By whom, where it failed and a person took it as it is.
        at: When that was, ISO 8601.
        reason: Why that person did, in their words.
    """

    name: str
    ok: bool | None
    why: str
    about: tuple[str, ...] = ()
    accepted: str = ""
    at: str = ""
    reason: str = ""


class Gap(Form):
    """A type that could not be read, and why."""

    type: str
    why: str
    required: bool = False


class Structure(Form):
    """
    A contract taken apart, before anybody reads a clause of it.

    Attributes:
        text: Artifact of the document's text, UTF-8.
        types: What is read of it, in the order of the rule files.
        kinds: What kind of value a type has, by type; see `stages.clauses.values`.
        by_rules: What the two routes found, by type.
    """

    text: str
    sections: tuple[Section, ...]
    types: tuple[ClauseType, ...]
    kinds: dict[str, Kind]
    by_rules: dict[str, Clause]


@lru_cache(maxsize=8)
def structure_of(data: bytes) -> Structure:
    """
    A structure from its artifact's bytes.

    A hundred readers of one contract ask for the same one after another, and reading
    it takes longer than all else that a reader without a model does.
    """
    return Structure.model_validate_json(data)
