"""
Rule files of clauses: `rules/*.toml` of a pipeline folder, one type of clause a file.

A type is found by two routes that share nothing but the text.  `headings` and `under`
go by the section: a heading that names the clause, and a sentence below it.  `says`
goes by the sentence's own words, wherever it stands.  docs/clauses.md shows the form.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pipeline.errors import Usage
from pipeline.faults import Faults, together
from pipeline.misfits import misfits_of
from stages.clauses.denials import Sense
from stages.clauses.phrases import BadPhraseError, Condition, Phrase, phrase
from stages.clauses.values import Kind

MAX_TYPES = 300

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Line = Annotated[str, StringConstraints(min_length=2, max_length=400)]
Trust = Literal["words", "heading", "either", "both", "none"]
Part = Literal["front", "section", "definitions", "exhibit", "signature"]
Finder = Literal[
    "clause",
    "title",
    "parties",
    "agreement_date",
    "effective_date",
    "signatories",
]


class ClauseType(BaseModel):
    """
    A type of clause, as people see it.

    Attributes:
        title: CUAD's title, where `cuad` says that it is one of its 41.
        question: What a reader asks of a contract, in plain words.
        required: A contract without it is looked at by a person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    title: Line
    cuad: bool = False
    question: Line
    group: Name
    required: bool = False


class Examples(BaseModel):
    """Sentences that the rules must find, and must not; tests hold them to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    yes: list[str] = Field(min_length=2, max_length=40)
    no: list[str] = Field(min_length=2, max_length=40)


class ClauseForm(ClauseType):
    """
    A rule file.

    Attributes:
        finder: How it is found: by these rules, or by a function of that name.
        value: What is taken from the quote: see `stages.clauses.values`.
        beside: Phrases of which one stands in that part of a sentence that has the
            value, where it has several; of none such it is the first.
        instead: Phrases that make a value another thing, right before it: `in excess
            of` makes a price a threshold.
        headings: Phrases of which one stands in the section's heading.
        under: Conditions of which a sentence of such a section meets one; where there
            are none, the section's first sentence is meant.
        says: Conditions of which a sentence meets one, wherever it stands.
        perhaps: The same, of what only a person can tell: it makes `unclear`.
        sense: What such a clause does, and so what denies it; a sentence that only
            denies it is not found: see `stages.clauses.denials`.
        never: Phrases that no sentence of either route may have.
        trust: Which routes must have found it for `present`; what others find is
            `unclear`.
        unread: Kinds of sections that the routes leave out.
        quotes: At most so many.
    """

    finder: Finder = "clause"
    value: Kind = "none"
    beside: list[Line] = Field(default_factory=list, max_length=40)
    instead: list[Line] = Field(default_factory=list, max_length=40)
    headings: list[Line] = Field(default_factory=list, max_length=60)
    unheaded: list[Line] = Field(default_factory=list, max_length=60)
    under: list[list[Line]] = Field(default_factory=list, max_length=40)
    says: list[list[Line]] = Field(default_factory=list, max_length=60)
    perhaps: list[list[Line]] = Field(default_factory=list, max_length=40)
    sense: Sense = "grants"
    never: list[Line] = Field(default_factory=list, max_length=100)
    trust: Trust = "words"
    unread: list[Part] = Field(default_factory=list)
    quotes: int = Field(default=3, ge=1, le=20)
    examples: Examples


@dataclass(frozen=True)
class ClauseRules:
    """A rule file, read: what is common to all contracts."""

    file: str
    type: ClauseType
    form: ClauseForm
    headings: Condition | None
    under: tuple[Condition, ...]
    says: tuple[Condition, ...]
    perhaps: tuple[Condition, ...]
    never: Condition
    beside: Condition
    instead: Condition

    @property
    def conditions(self) -> Iterator[tuple[str, Condition]]:
        """All of them, each with its key: `never`, and `says.0` of the first line."""
        if self.headings is not None:
            yield "headings", self.headings
        for key in ("under", "says", "perhaps"):
            for number, condition in enumerate(getattr(self, key)):
                yield f"{key}.{number}", condition
        for key in ("never", "beside", "instead"):
            yield key, getattr(self, key)

    def compile(self) -> None:
        """
        Make every expression now; what is not made now is made when a text needs it.

        Raises:
            Usage: RULES_INVALID, with the file's name and the key.
        """
        for fault in self.phrase_faults():
            raise fault

    def phrase_faults(self) -> Iterator[Usage]:
        """Make them, and say of each phrase that cannot be looked for why not."""
        for key, condition in self.conditions:
            for one in condition.phrases:
                try:
                    _ = one.chains
                except BadPhraseError as error:
                    yield self.broken(error, key)

    def broken(self, error: BadPhraseError, key: str = "a phrase") -> Usage:
        """What to say of a phrase of this file that cannot be looked for."""
        return _broken(self.file, key, str(error))


def load_types(files: Mapping[str, str]) -> dict[str, ClauseRules]:
    """
    The types of clauses of a folder's rule files, by name, in the files' order.

    Phrases are compiled when a text needs them, and `ClauseRules.compile` does it now.

    Args:
        files: The text of each TOML file, by its name.

    Raises:
        Usage: RULES_MISSING, there is none; RULES_INVALID, one cannot be read, or two
            have one name.  Named are file and key, never a contract's words; several
            faults are beside the first.
    """
    if not files:
        raise Usage(
            "there is no rule file of a clause",
            code="RULES_MISSING",
            hint="put TOML files, one type of clause each, into the folder's rules",
        )
    if len(files) > MAX_TYPES:
        raise _broken(next(iter(files)), "", f"more than {MAX_TYPES} files")
    types: dict[str, ClauseRules] = {}
    faults = Faults()
    for name in sorted(files):
        with faults.gathered():
            rules = read_file(name, files[name])
            first = types.setdefault(rules.type.name, rules)
            if first is not rules:
                said = f"{rules.type.name!r} has a file already, {first.file}"
                raise _broken(name, "name", said)
    faults.end()
    return types


def read_file(file: str, text: str) -> ClauseRules:
    """
    One rule file; its phrases are compiled when a text needs them.

    Raises:
        Usage: RULES_INVALID, with `file` and the key; several are beside the first.
    """
    try:
        form = ClauseForm.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise _broken(file, "", str(error)) from None
    except ValidationError as error:
        found = misfits_of(error, ClauseForm)
        raise together([_broken(file, "", misfit.said) for misfit in found]) from None
    try:
        headings = (*_either(form.headings), *_either(form.unheaded, "!"))
        return ClauseRules(
            file=file,
            type=ClauseType(**{key: getattr(form, key) for key in _SHOWN}),
            form=form,
            headings=Condition(headings) if form.headings else None,
            under=tuple(_condition(lines) for lines in form.under),
            says=tuple(_condition(lines) for lines in form.says),
            perhaps=tuple(_condition(lines) for lines in form.perhaps),
            never=Condition(_either(form.never, "!")),
            beside=Condition(_either(form.beside)),
            instead=Condition(_either(form.instead, "!")),
        )
    except BadPhraseError as error:
        raise _broken(file, "a phrase", str(error)) from None


_SHOWN = tuple(ClauseType.model_fields)


def _either(lines: list[str], sign: str = "") -> tuple[Phrase, ...]:
    """One phrase of many choices, so that a sentence is looked at once."""
    return (phrase(sign + "|".join(lines)),) if lines else ()


def _condition(lines: list[str]) -> Condition:
    return Condition(tuple(phrase(line) for line in lines))


def _broken(file: str, key: str, why: str) -> Usage:
    place = f"{file}: {key}" if key else file
    return Usage(
        f"{place}: {why}",
        code="RULES_INVALID",
        hint="docs/clauses.md shows the form of a rule file",
    )
