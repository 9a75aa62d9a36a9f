"""Documents cannot rot: what they name must exist."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from pipeline.vendors.declared import BreakerPolicy, Price, VendorLimits, VendorSpec
from waybill.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PACKAGES = ("waybill", "pipeline", "stages", "ingest", "loadtest")
FOLDERS = (*PACKAGES, "tests", "docs", "examples", "scripts")
# Files that a reader is told to write.
YOURS = {"NAME.py", "shout.py", "state.py"}
YOUR_FOLDER = "pipelines/"
SQL = ("select ", "update ", "insert ", "delete ")


def test_every_test_named_in_the_guarantees_exists():
    """A promise without its test would be a claim."""
    sources = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py"))
    page = (ROOT / "docs" / "guarantees.md").read_text()

    named = set(re.findall(r"`(test_\w+)`", page))
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", page))

    assert len(named) > 20
    assert {n for n in named if f"def {n}(" not in sources} == set()
    assert {f for f in files if not (ROOT / f).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path):
    """Relative links name files that are there."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())

    broken = [
        link
        for link in links
        if "://" not in link and not (page.parent / link).exists()
    ]

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_path_in_a_document_exists(page: Path):
    """A file is named by its path or by the end of it, a folder by its path."""
    words = {w for code in inline(page) for w in code.split()}
    named = {w.rstrip("/,;:") for w in words if re.fullmatch(r"[\w./*-]+[,;:]?", w)}

    folders = {w for w in named if w.partition("/")[0] in FOLDERS and "/" in w}
    named = {w for w in named - folders - YOURS if not w.startswith(YOUR_FOLDER)}
    ends = {w for w in named if re.search(r"\w\.(py|sql|md)$", w)}

    assert {w for w in folders if not list(ROOT.glob(w))} == set()
    assert {w for w in ends if not any(f.endswith(f"/{w}") for f in files())} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_module_in_a_document_exists(page: Path):
    """`pipeline.stage` and what is imported from it, in code of any kind."""
    dotted = rf"(?<![\w/])(?:{'|'.join(PACKAGES)})(?:\.\w+)+"
    # Statements of SQL name tables of the schema, which is called like a package.
    spans = (span for span in inline(page) if not span.startswith(SQL))
    named = set(re.findall(dotted, "\n".join(spans))) - {"pipeline.toml"}
    imports = rf"^from ({dotted}) import ([\w, ]+)$"
    for module, names in re.findall(imports, page.read_text(), re.MULTILINE):
        named |= {f"{module}.{name.strip()}" for name in names.split(",")}

    assert {name for name in named if not resolves(name)} == set()


def test_every_room_is_on_the_map():
    """The README names every folder of code, and none that is not there."""
    rooms = {
        folder.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for folder in (ROOT / package, *(ROOT / package).iterdir())
        if (folder / "__init__.py").exists()
    }
    _, _, below = (ROOT / "README.md").read_text().partition("\n## Map\n")
    section, _, _ = below.partition("\n## ")

    drawn = set(re.findall(r"^\| `([\w/]+)/` \|", section, re.M))

    assert rooms - drawn == set()
    assert {room for room in drawn if not (ROOT / room).is_dir()} == set()


def test_every_key_of_a_vendor_is_documented():
    """And none that there is not."""
    page = (ROOT / "docs" / "vendors.md").read_text(encoding="utf-8")
    table = page.partition("| key of `[vendor.NAME]` |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]

    named = {key for row in rows for key in re.findall(r"`(\w+)`", row)}

    assert named == set(VendorSpec.model_fields) - {"name"}
    inside = (VendorLimits, Price, BreakerPolicy)
    keys = {f"`{key}`" for model in inside for key in model.model_fields}
    assert {key for key in keys if key not in table} == set()


def test_every_setting_is_documented():
    """The table of docs/operations.md is the fields of Settings: each by the full
    name of its variable, with its default."""
    page = (ROOT / "docs" / "operations.md").read_text()
    section, _, _ = page.partition("\n## Settings\n")[2].partition("\n## ")

    table = re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", section, re.M)

    fields = Settings.model_fields
    assert sorted(name for name, _ in table) == sorted(map(variable, fields))
    said = dict(table)
    wanted = {variable(name): default(field) for name, field in fields.items()}
    assert {n: said[n] for n, value in wanted.items() if value} == {
        n: f"`{value}`" for n, value in wanted.items() if value
    }
    # What depends on the machine, or is nothing, is said in words.
    assert [n for n, value in wanted.items() if not value and "`" in said[n]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_variable_in_a_document_is_a_setting(page: Path):
    """Nobody is told to set what nothing reads."""
    named = set(re.findall(r"\bWAYBILL_[A-Z_]+\b", page.read_text()))

    assert named - set(map(variable, Settings.model_fields)) == set()


def variable(field: str) -> str:
    """The environment variable of a field of `Settings`."""
    return f"WAYBILL_{field.upper()}"


def default(field: FieldInfo) -> str:
    """A default as one would write it; "" when it is nothing, or the machine's."""
    if field.default_factory is list:
        return "[]"
    if field.default_factory is not None or field.default is None:
        return ""
    value = field.default
    if isinstance(value, Path) and value.is_absolute():
        value = value.relative_to(ROOT)
    return str(
        int(value) if isinstance(value, float) and value == int(value) else value
    )


def inline(page: Path) -> list[str]:
    """Code between single backticks."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


@cache
def files() -> list[str]:
    """Every file of the repository's folders, from a slash on."""
    return [
        f"/{path.relative_to(ROOT).as_posix()}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.*")
    ]


def resolves(dotted: str) -> bool:
    """Whether this is a module, or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[length:]:
                found = getattr(found, name)
        except AttributeError:
            return False
        return True
    return False
