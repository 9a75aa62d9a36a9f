"""Documents cannot rot: what they name must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


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


def test_every_setting_is_documented():
    """Each environment variable stands in docs/operations.md."""
    page = (ROOT / "docs" / "operations.md").read_text()
    source = (ROOT / "waybill" / "settings.py").read_text()
    names = re.findall(r"^    (\w+): .*=", source, flags=re.MULTILINE)

    missing = [n for n in names if n != "model_config" and n.upper() not in page]

    assert missing == []
