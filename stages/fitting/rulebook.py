"""
Rule files of compatibility: `rules/*.toml` of a pipeline folder, checked when loaded.

Every table is a statement of one kind, with its source: what a standard allows at each
size, what a material bears, what mates with what.  What no table says is unknown, and
is never taken for good.  docs/quotes.md shows the form.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import ValidationError as Invalid

from pipeline.errors import Usage
from pipeline.faults import Faults, together
from pipeline.misfits import misfits_of
from stages.fitting import units
from stages.fitting.gaps import faults_between
from stages.fitting.parts import Gender
from stages.fitting.places import line_of

_NOMINAL = re.compile(r"DN ?(\d{1,3})|(\d{1,3}) ?mm", re.ASCII)
Said = Literal["good", "never", "unknown"]
MAX_TABLES = 500  # of one kind; a hundred times what the examples have
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w .+-]{0,39}$")]
Line = Annotated[str, StringConstraints(min_length=2, max_length=300)]
Bar = Annotated[Decimal, BeforeValidator(units.pressure), Field(gt=0)]
Mm = Annotated[Decimal, BeforeValidator(units.length), Field(gt=0)]
Celsius = Annotated[Decimal, BeforeValidator(units.temperature), Field(gt=-274)]
Share = Annotated[Decimal, BeforeValidator(units.factor)]
Dash = Annotated[int, BeforeValidator(units.dash_of)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9 ]{1,30} (male|female)$")]


class Statement(BaseModel):
    """
    What every table says of itself.

    Attributes:
        source: The standard's number and year, or that it is a rule of the house.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    source: Line


class Size(Statement):
    """A size that there is: `[[size]]`."""

    size: Dash
    dn: int = Field(gt=0, le=200)


class Rated(BaseModel):
    """A row of `ratings`: what is allowed at one size."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    size: Dash
    pressure: Bar
    thread: str = ""
    bend: Mm | None = None


class Sized(Statement):
    """
    What has a rating by size.

    Attributes:
        none: Sizes between the least and the largest that there are none of.
    """

    name: Name
    title: Line
    ratings: tuple[Rated, ...] = Field(min_length=1, max_length=40)
    none: tuple[Dash, ...] = ()

    def at(self, size: int) -> Rated | None:
        """What is allowed at a size; None where nothing is said of it."""
        return next((row for row in self.ratings if row.size == size), None)


class Thread(Sized):
    """
    A kind of thread with its seat: `[[thread]]`.

    Attributes:
        words: What buyers call it, in small letters.
        swivel: What an end with a nut that turns is, where it can only be that.
    """

    seat: Line
    words: tuple[Line, ...] = ()
    swivel: Gender | None = None


class Hose(Sized):
    """A kind of hose: `[[hose]]`; each row has its bend."""


class Point(BaseModel):
    """A row of `derating`: up to here so much of the pressure is left."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    to: Celsius
    share: Share


class Material(Statement):
    """What a tube, a metal or a seal is made of: `[[material]]`."""

    name: Name
    title: Line
    low: Celsius
    derating: tuple[Point, ...] = Field(min_length=1, max_length=40)

    @property
    def high(self) -> Decimal:
        """The hottest that it bears, in °C."""
        return self.derating[-1].to

    def share(self, celsius: Decimal) -> Decimal:
        """What is left of a pressure; 0 above `high`."""
        shares = (row.share for row in self.derating if celsius <= row.to)
        return next(shares, Decimal(0))


class Medium(Statement):
    """What flows: `[[medium]]`, and what it does to each material."""

    name: Name
    title: Line
    words: tuple[Line, ...] = Field(min_length=1)
    high: Celsius
    good: tuple[Name, ...] = ()
    never: tuple[Name, ...] = ()
    unknown: tuple[Name, ...] = ()


class Crimp(Statement):
    """A series of fittings, and the hoses that it is pressed on: `[[crimp]]`."""

    name: Name
    title: Line
    good: tuple[Name, ...] = ()
    never: tuple[Name, ...] = ()
    unknown: tuple[Name, ...] = ()


class Mating(Statement):
    """What an end mates with: `[[mating]]`; said once, it holds both ways."""

    end: Word
    good: tuple[Word, ...] = ()
    never: tuple[Word, ...] = ()
    unknown: tuple[Word, ...] = ()
    why: Line

    def says(self, one: str, other: str) -> Said:
        """What it says of two ends, of which one is its own."""
        return said_of(self, other if one == self.end else one)


class RuleForm(BaseModel):
    """A rule file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    size: list[Size] = Field(default_factory=list, max_length=MAX_TABLES)
    thread: list[Thread] = Field(default_factory=list, max_length=MAX_TABLES)
    hose: list[Hose] = Field(default_factory=list, max_length=MAX_TABLES)
    material: list[Material] = Field(default_factory=list, max_length=MAX_TABLES)
    medium: list[Medium] = Field(default_factory=list, max_length=MAX_TABLES)
    crimp: list[Crimp] = Field(default_factory=list, max_length=MAX_TABLES)
    mating: list[Mating] = Field(default_factory=list, max_length=MAX_TABLES)


def said_of(statement: Medium | Crimp | Mating, name: str) -> Said:
    """What a statement says of one name; what it does not name is unknown."""
    if name in statement.good:
        return "good"
    return "never" if name in statement.never else "unknown"


@dataclass(frozen=True)
class RuleBook:
    """All rule files together; `where` has file and line of each table."""

    sizes: Mapping[int, Size] = field(default_factory=dict)
    threads: Mapping[str, Thread] = field(default_factory=dict)
    hoses: Mapping[str, Hose] = field(default_factory=dict)
    materials: Mapping[str, Material] = field(default_factory=dict)
    media: Mapping[str, Medium] = field(default_factory=dict)
    crimps: Mapping[str, Crimp] = field(default_factory=dict)
    matings: Mapping[str, Mating] = field(default_factory=dict)
    where: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def size(self, text: str) -> int:
        """
        A size as people write it: -12, 3/4 in, DN 19 or 19 mm, which is nominal.

        Raises:
            ValueError: it is no size, or no nominal one of the rule files.
        """
        found = _NOMINAL.fullmatch(text.strip())
        if found is None:
            return units.dash_of(text)
        dn = int(found[1] or found[2])
        sizes = [one.size for one in self.sizes.values() if one.dn == dn]
        if not sizes:
            raise ValueError("there is no such nominal size in mm")
        return sizes[0]

    def mating_of(self, one: str, other: str) -> Mating | None:
        """The rule that speaks of two ends, such as `jic male`; None: none does."""
        for end, beside in ((one, other), (other, one)):
            rule = self.matings.get(end)
            if rule is not None and beside in (*rule.good, *rule.never, *rule.unknown):
                return rule
        return None


# -- loading --------------------------------------------------------------------------

_KINDS = ("size", "thread", "hose", "material", "medium", "crimp", "mating")


def load(files: Mapping[str, str]) -> RuleBook:
    """
    The rules of a folder.

    Args:
        files: The text of each TOML file, by its name.

    Raises:
        Usage: RULES_MISSING, there is no file; RULES_INVALID, with file, line and rule:
            a unit that is none, two statements about one thing, or a gap.  Several
            are beside the first.
    """
    if not files:
        raise Usage(
            "there is no rule file of compatibility",
            code="RULES_MISSING",
            hint="put TOML files into the folder's rules; docs/quotes.md has the form",
        )
    faults = Faults()
    tables: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    where: dict[tuple[str, str], str] = {}
    texts: dict[tuple[str, str], tuple[str, str, int]] = {}
    for file in sorted(files):
        with faults.gathered():
            form = read_file(file, files[file])
            for kind in _KINDS:
                for number, one in enumerate(getattr(form, kind)):
                    name = name_of(one)
                    at = f"{file}:{line_of(files[file], (kind, number))}"
                    if (kind, name) in where:
                        said = f"it is stated already, {where[kind, name]}"
                        faults.found.append(broken(at, f"{kind} {name}", said))
                        continue
                    where[kind, name] = at
                    texts[kind, name] = (file, files[file], number)
                    tables[kind][name] = one
    if not faults.found:
        for kind, name, keys, said in faults_between(tables):
            file, text, number = texts[kind, name]
            at = f"{file}:{line_of(text, (kind, number, *keys))}"
            faults.found.append(broken(at, f"{kind} {name}", said))
    faults.end()
    sizes = {one.size: one for one in tables["size"].values()}
    return RuleBook(
        sizes,
        threads=tables["thread"],
        hoses=tables["hose"],
        materials=tables["material"],
        media=tables["medium"],
        crimps=tables["crimp"],
        matings=tables["mating"],
        where=where,
    )


def read_file(file: str, text: str) -> RuleForm:
    """
    One rule file.

    Raises:
        Usage: RULES_INVALID, with `file`, line and rule; several are beside the first.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise broken(file, "", str(error)) from None
    try:
        return RuleForm.model_validate(raw)
    except Invalid as error:
        places = _places(error)
        found = [
            broken(f"{file}:{line_of(text, place)}", _called(raw, place), said)
            for place, said in places
        ]
        raise together(found) from None


def _places(error: Invalid) -> list[tuple[Sequence[str | int], str]]:
    """Where each fault stands, and what it is: of one place the first."""
    said = [fault.said for fault in misfits_of(error, RuleForm)]
    places = dict.fromkeys(tuple(one["loc"]) for one in error.errors())
    return list(zip(places, said, strict=True))


def _called(raw: Mapping[str, Any], place: Sequence[str | int]) -> str:
    """The rule at a place by its kind and name, where it has come to one."""
    if len(place) < 2 or not isinstance(place[1], int):
        return ""
    table = raw[str(place[0])][place[1]]
    if not isinstance(table, dict):
        return f"{place[0]} {place[1]}"
    known = [table.get(key) for key in ("name", "end", "size")]
    return f"{place[0]} {next((k for k in known if isinstance(k, str)), place[1])}"


def name_of(statement: Statement) -> str:
    """What a table is called in its kind."""
    match statement:
        case Size():
            return f"-{statement.size}"
        case Mating():
            return statement.end
        case _:
            return str(getattr(statement, "name"))  # noqa: B009  # all others have one


def broken(at: str, rule: str, why: str) -> Usage:
    """What to say of a rule that cannot be used."""
    place = f"{at}: {rule}" if rule else at
    return Usage(
        f"{place}: {why}",
        code="RULES_INVALID",
        hint="docs/quotes.md shows the form of a rule file",
    )
