"""Every code that a jailed call can end with stands in the one table, once."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pipeline.errors import Permanent, Unacceptable
from pipeline.jail.codes import JAIL, Cause, Code, End, table
from stages.document import PageStatus
from stages.ocr import page_end
from stages.reading.codes import CODES
from waybill.compose import JAILED, JAILED_LATER

ROOT = Path(__file__).parents[3]
PACKAGES = ("waybill", "pipeline", "stages", "ingest", "loadtest")
TABLE = ("pipeline/jail/codes.py", "stages/reading/codes.py")
OF_THE_JAIL = re.compile(r"JAIL_[A-Z_]+|MEMORY_LIMIT")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(parsed(path)))


def files(module: str) -> Iterator[Path]:
    """The file of a module of ours, and of the packages it lies in."""
    place = ROOT / module.replace(".", "/")
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.exists():
            yield path


def imported(path: Path) -> Iterator[str]:
    """What a file imports, also inside functions, as far as it may be a module."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


@cache
def run_jailed() -> set[Path]:
    """The files whose code may run jailed: what is allowed, and all it imports."""
    found: set[Path] = set()
    waiting = [*JAILED_LATER, *(module.__name__ for module in JAILED)]
    while waiting:
        for path in files(waiting.pop()):
            if path not in found:
                found.add(path)
                waiting += imported(path)
    return found


def constants(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def raised(path: Path) -> set[str]:
    """Every code that a file gives to an error: `code="..."`."""
    return {
        word.value.value
        for node in nodes(path)
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "code"
        and isinstance(word.value, ast.Constant)
        and isinstance(word.value.value, str)
    }


def test_every_code_of_jailed_code_stands_in_the_table() -> None:
    """Raised by what runs in the jail or by the jail itself; and no row is idle."""
    jail = set((ROOT / "pipeline" / "jail").glob("*.py"))
    jail -= {ROOT / path for path in TABLE}
    said = {word for path in jail for word in constants(path) if is_of_jail(word)}
    own = said.union(*map(raised, jail))
    theirs = set[str]().union(*map(raised, run_jailed() - jail))

    assert len(run_jailed()) > 20
    assert own == set(JAIL)
    assert own | theirs == set(CODES)


def is_of_jail(word: str) -> bool:
    return OF_THE_JAIL.fullmatch(word) is not None


def test_a_code_is_classified_once() -> None:
    """Two rows of one name would be two answers."""
    row = Code("CORRUPT", Cause.DOCUMENT, End.REFUSED)
    rows = [
        word.args[0].value
        for path in TABLE
        for word in ast.walk(parsed(ROOT / path))
        if isinstance(word, ast.Call)
        and isinstance(word.func, ast.Name)
        and word.func.id == "Code"
        and isinstance(word.args[0], ast.Constant)
    ]

    with pytest.raises(AssertionError, match="twice"):
        table(row, row)
    assert sorted(map(str, rows)) == sorted(CODES)


def test_nobody_else_holds_a_list_of_codes() -> None:
    """Who must act on a code asks the table: no two stand together elsewhere, and
    none is compared with."""
    found = []
    known = set(CODES)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if name in TABLE:
                continue
            for node in nodes(path):
                words = listed(node)
                if words and len(words & known) >= (1 if compares(node) else 2):
                    found.append(f"{name}:{node.lineno}")  # type: ignore[attr-defined]

    assert found == []


def compares(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare | ast.MatchValue)


def listed(node: ast.AST) -> set[str]:
    """The words that stand directly in a collection or a comparison."""
    match node:
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            inside = list(parts)
        case ast.Dict(keys=keys):
            inside = [key for key in keys if key is not None]
        case ast.Compare(left=left, comparators=others):
            inside = [left, *others]
        case ast.MatchValue(value=value):
            inside = [value]
        case _:
            return set()
    return {
        part.value
        for part in inside
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }


# -- what the rows come to ------------------------------------------------------------


def test_what_may_be_want_of_memory() -> None:
    """Only a program that we started cannot tell."""
    assert {name for name, code in CODES.items() if code.memory} == {"OCR_CRASHED"}


def test_what_ends_a_page_and_not_its_document() -> None:
    """Anything else is not the page's fault and is raised."""
    ends = {name: page_end(Permanent("", code=name)) for name in CODES}

    assert {name: end for name, end in ends.items() if end is not None} == {
        "JAIL_TIMEOUT": PageStatus.TIMEOUT,
        "OCR_TIMEOUT": PageStatus.TIMEOUT,
        "MEMORY_LIMIT": PageStatus.KILLED_MEMORY,
        "JAIL_CRASHED": PageStatus.ERROR,
        "JAIL_ERROR": PageStatus.ERROR,
        "JAIL_SCRATCH": PageStatus.ERROR,
        "JAIL_OUTPUT": PageStatus.ERROR,
        "JAIL_ANSWER": PageStatus.ERROR,
        "OCR_CRASHED": PageStatus.ERROR,
        "OCR_FAILED": PageStatus.ERROR,
    }
    assert page_end(Permanent("", code="NOBODY_KNOWS")) is None
    assert page_end(Unacceptable("", code="NOBODY_KNOWS")) is PageStatus.ERROR


def test_whom_admission_blames() -> None:
    """A file for ending its probe; ourselves when no probe began; else nobody."""
    unbegun = {name for name, code in JAIL.items() if code.end is End.UNBEGUN}
    poison = {
        name for name, code in JAIL.items() if code.cause is Cause.DOCUMENT
    } - unbegun

    assert unbegun == {"JAIL_START", "JAIL_CLOSED", "JAIL_NOT_ALLOWED", "NO_SUCH_POOL"}
    assert poison == {
        *("JAIL_TIMEOUT", "JAIL_CRASHED", "JAIL_OUTPUT", "JAIL_ANSWER"),
        *("MEMORY_LIMIT", "JAIL_SCRATCH"),
    }
