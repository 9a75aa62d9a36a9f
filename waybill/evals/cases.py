"""
Cases: documents, and what is known of each, from a file of JSON lines.

A line is read by the first form that knows it (`FORMS`); each form is a module of a
few lines that says which document it is of and which types are in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import Usage
from pipeline.state import clean_text
from waybill.evals import cuad, own
from waybill.evals.labels import Label, Line
from waybill.evals.lines import bad_cases, read_lines

NAME_CHARS_MAX = 255  # of a case

FORMS: tuple[Callable[[Mapping[str, Any]], Line | None], ...] = (cuad.read, own.read)
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Case:
    """
    A document, and what it should be found to say.

    Attributes:
        number: Of its line, from 1.
        name: What its item is called.
        path, text, artifact: Where its bytes are; exactly one is set.
        labels: By type; a type that is not there is not scored.
    """

    number: int
    name: str
    labels: Mapping[str, Label]
    path: Path | None = None
    text: str | None = field(default=None, repr=False)
    artifact: str = ""


@dataclass(frozen=True, slots=True)
class Cases:
    """The cases of a file; `digest` is of its bytes."""

    file: Path
    digest: str
    cases: tuple[Case, ...]

    @property
    def types(self) -> list[str]:
        """Every type that some case has a label of, in order."""
        return sorted({type_ for case in self.cases for type_ in case.labels})


def read_cases(file: Path) -> Cases:
    """
    Every case of a file.  Blocking.

    Raises:
        Usage: BAD_CASES, it cannot be read, a line has no known form, or the document
            that one names is not there, or not below the file's folder; the message
            names the line.
    """
    digest = hashlib.sha256()
    cases = []
    for number, line, said in read_lines(file, bad):
        digest.update(line)
        if said is None:
            continue
        try:
            cases.append(_case(number, said, file.parent))
        except OSError as error:  # of the document: its name is too long
            raise bad(f"line {number}: {error.strerror}") from None
    if not cases:
        raise bad(f"{file} has no case")
    return Cases(file, digest.hexdigest(), tuple(cases))


def _case(number: int, said: dict[str, Any], folder: Path) -> Case:
    for form in FORMS:
        try:
            found = form(said)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise bad(f"line {number}: {error}") from None
        if found is not None:
            return _placed(number, found, folder)
    raise bad(f"line {number} has no form that is known")


def _placed(number: int, line: Line, folder: Path) -> Case:
    """The case, its document looked for beside the file."""
    # What a database cannot keep in a name is none of it.
    line = line._replace(name=clean_text(line.name)[:NAME_CHARS_MAX])
    if line.text is not None:
        name = line.name or f"case-{number}.txt"
        return Case(number, name, line.labels, text=line.text)
    if line.artifact:
        if not SHA256.fullmatch(line.artifact):
            raise bad(f"line {number}: its artifact is no sha256")
        name = line.name or f"case-{number}"
        return Case(number, name, line.labels, artifact=line.artifact)
    for place in line.places:
        path = folder / place
        if not _is_below(path, folder):
            raise bad(
                f"line {number}: {place[:80]!r} is not below the folder of the cases"
            )
        if path.is_file():
            return Case(number, line.name or path.name, line.labels, path=path)
    raise bad(f"line {number}: there is no file {line.places[0]!r} beside the cases")


def _is_below(path: Path, folder: Path) -> bool:
    """
    Whether a case may name it: whoever sends a file of cases names its documents, and
    no file of this machine's, also not by a link.
    """
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (ValueError, RuntimeError):  # a NUL; links that go in a circle
        return False


def bad(why: str) -> Usage:
    """What is wrong with a file of cases."""
    return bad_cases(why, "docs/eval.md has the forms of a case")
