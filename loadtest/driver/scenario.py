"""
A scenario: a load test as a file.

TOML: what is dropped, into which pipeline, before which vendors, with whom reviewing,
and a list of phases in order.  `docs/loadtest.md` lists every key.  A phase drops a
share of the items, evenly while it lasts or at once, and may do harm meanwhile.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from loadtest.driver.kinds import Part, Phase, Seconds, Share
from pipeline.errors import Usage

FILES = Path(__file__).resolve().parents[1] / "scenarios" / "files"
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,39}$")]
Bound = Annotated[str, Field(pattern=r"^\s*(<=|>=|==|<|>)\s*[\d.]+\s*$")]


class Corpus(Part):
    """
    What is dropped.

    Attributes:
        kind: `letters` are made, `files` are those of `folder`, `rows` are items
            without a document, admitted straight into the database.
        machine: Of made letters, the share that is printed, for a real tesseract.
        disclosing: The share that says what a person must see first.
        unsure: The share of which the OCR vendor is not sure.
    """

    kind: Literal["letters", "files", "rows"] = "letters"
    folder: Path | None = None
    machine: Share = 0.03
    disclosing: Share = 0.01
    unsure: Share = 0.01


class Workers(Part):
    """
    The service: one `waybill up`.

    Attributes:
        settings: Settings of its environment: `{lease_s = 4}` is WAYBILL_LEASE_S.
    """

    processes: int = Field(default=2, ge=1, le=64)
    settings: dict[str, str | int | float] = Field(default_factory=dict)


class Reviewers(Part):
    """
    Simulated people who rule on what is held, by the commands that people use.

    Attributes:
        decision_s: How long they think about one.
        reject: Share of what they reject; what asks for a text they edit, and the rest
            they approve.
        reject_code: They reject holds of this code alone; "": of any.
        day_s, night_s: They work for the one and sleep for the other.
    """

    count: int = Field(default=0, ge=0, le=50)
    day_s: Seconds = 60.0
    night_s: Seconds = 20.0
    decision_s: Seconds = 2.0
    reject: Share = 0.1
    reject_code: str = ""


class Tenant(Part):
    """Who drops; `share` of what every phase drops that names nobody."""

    name: Name
    share: Share = 1.0


class Scenario(Part):
    """
    A whole load test.

    Attributes:
        pipeline: A folder, beside the scenario's file or a path, or the name of an
            example.
        overlay: A folder, beside the scenario's file, whose files are laid over a copy
            of the pipeline.
        speed: Every duration is divided by it, every rate of a vendor multiplied.
        deadline_s: Of each batch, from its first file.
        finish_s: With which everything must be final after the last phase.
        in_flight: Of 10,000 items so many must have been in flight at once; of fewer
            a share of it.
        vendor: Simulated vendors by name, as `loadtest/vendors/settings.py` has them;
            `declare` of each goes into the home's `vendors.toml`.
        sink: As in `vendors.toml`.
        stage: Settings of stages, added to the pipeline's own file.
        must: Bounds of figures: `{jain = ">= 0.95"}`.
        may: Figures that must be 0 elsewhere, and need not be here.
    """

    name: Name
    seed: int = 1
    pipeline: str
    overlay: str = ""
    items: int = Field(ge=1, le=1_000_000)
    speed: float = Field(default=1.0, gt=0, le=1000)
    deadline_s: Seconds = 3600.0
    finish_s: Seconds = 300.0
    in_flight: int = Field(default=0, ge=0)
    corpus: Corpus = Corpus()
    workers: Workers = Workers()
    reviewers: Reviewers = Reviewers()
    tenant: tuple[Tenant, ...] = (Tenant(name="north"),)
    vendor: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    sink: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    stage: dict[str, dict[str, Any]] = Field(default_factory=dict)
    must: dict[str, Bound] = Field(default_factory=dict)
    may: tuple[str, ...] = ()
    phase: tuple[Phase, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        dropped = sum(phase.share for phase in self.phase)
        if abs(dropped - 1) > 1e-6:
            raise ValueError(
                f"the phases drop {dropped:.4g} of the items; their shares must be 1"
            )
        for number, phase in enumerate(self.phase, 1):
            vendor = getattr(phase, "vendor", "")
            if vendor and vendor not in self.vendor:
                raise ValueError(
                    f"phase {number} ({phase.kind}) is about the vendor {vendor!r}, "
                    f"and there is no [vendor.{vendor}]"
                )
            if phase.tenant and not phase.share and not phase.count:
                raise ValueError(
                    f"phase {number} ({phase.kind}) names a tenant and drops nothing"
                )
        if self.corpus.kind == "files" and self.corpus.folder is None:
            raise ValueError(
                '[corpus] kind = "files" needs a folder: folder = "DIR", or --files'
            )
        return self

    def scaled(self, seconds: float) -> float:
        """Seconds of the file as seconds of the clock."""
        return seconds / self.speed

    @property
    def phases(self) -> dict[str, Phase]:
        """In order, by name: that is the batch of what each drops."""
        return {f"{n:02}-{phase.kind}": phase for n, phase in enumerate(self.phase, 1)}

    @property
    def total(self) -> int:
        """Everything that is dropped: `items`, and what phases count beside."""
        return self.items + sum(phase.count for phase in self.phase)

    def uses(self, kind: str) -> bool:
        """Whether some phase is of this kind."""
        return any(phase.kind == kind for phase in self.phase)


def known() -> list[str]:
    """The scenarios that come with the house, by name."""
    return sorted(path.stem for path in FILES.glob("*.toml"))


def read(source: str, **given: Any) -> tuple[Scenario, Path]:
    """
    The scenario of a file, or one that comes with the house, by its name; its folder.

    Args:
        given: Keys of the file that are given otherwise; None is not given.  `folder`
            is the corpus's, and makes it one of files; with `minutes` the phases take
            so long together, and drop in proportion.

    Raises:
        Usage: there is none, or what is wrong with it, key by key.
    """
    path = path_of(source)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise Usage(f"{path.name} cannot be read: {error}") from None
    other = ("folder", "minutes")
    raw |= {k: v for k, v in given.items() if v is not None and k not in other}
    if (folder := given.get("folder")) is not None:
        raw["corpus"] = {**raw.get("corpus", {}), "kind": "files", "folder": folder}
    raw.setdefault("name", path.stem)
    try:
        it = Scenario.model_validate(raw)
        if (minutes := given.get("minutes")) is not None:
            it = lasting(it, 60 * minutes, items=given.get("items"))
        return it, path.resolve().parent
    except ValidationError as error:
        lines = [_in_words(raw, each) for each in error.errors(include_url=False)]
        more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise Usage(
            f"{path.name}: {'; '.join(lines[:5])}{more}",
            hint="docs/loadtest.md lists every key",
        ) from None


def lasting(it: Scenario, seconds: float, *, items: int | None = None) -> Scenario:
    """The same with phases that take so long together; `items` None: in proportion."""
    times = seconds / max(1e-9, sum(p.for_s for p in it.phase if not p.beside))
    phases = [p.model_copy(update={"for_s": p.for_s * times}) for p in it.phase]
    many = max(1, round(it.items * times)) if items is None else items
    return it.model_copy(update={"phase": tuple(phases), "items": many})


def path_of(source: str) -> Path:
    """
    The file of a scenario, or of one that comes with the house.

    Raises:
        Usage: there is none.
    """
    for path in (Path(source), FILES / f"{source}.toml"):
        if path.is_file():
            return path
    raise Usage(
        f"there is no scenario {source!r}",
        hint=f"a file of yours, or one of {', '.join(known())}",
    )


def _in_words(raw: dict[str, Any], error: Any) -> str:
    """One mistake: where it stands, and what is wrong."""
    where, *inside = error["loc"] or ("",)
    place = str(where)
    if where == "phase" and inside and isinstance(inside[0], int):
        phases = raw.get("phase")
        number = inside[0]
        kind = ""
        if isinstance(phases, list) and isinstance(phases[number], dict):
            kind = str(phases[number].get("kind", ""))
        place = f"phase {number + 1}" + (f" ({kind})" if kind else "")
        inside = inside[1:]
        inside = inside[1:] if inside and inside[0] == kind else inside
    place = ".".join([place, *(str(part) for part in inside)])
    match error["type"]:
        case "extra_forbidden":
            return f"{place}: there is no such key"
        case "missing":
            return f"{place}: is missing"
        case "union_tag_invalid":
            kinds = error["ctx"]["expected_tags"].replace("'", "")
            return f"{place}: kind is none of {kinds}"
        case "union_tag_not_found":
            return f"{place}: has no kind"
        case _:
            said = str(error["msg"]).removeprefix("Value error, ")
            return f"{place}: {said}" if place else said
