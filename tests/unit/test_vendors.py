"""Vendors are declared in one place, and their keys are shown in none."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.calls import Money
from waybill.outside import declared_vendors, keys_of
from waybill.settings import read_settings

KEY = "sk-test-123"


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The variables, and the place of a file."""
    for name in ("LLM", "VISION"):
        monkeypatch.setenv(f"WAYBILL_{name}_URL", f"https://{name.lower()}.test/v1")
        monkeypatch.setenv(f"WAYBILL_{name}_MODEL", f"{name.lower()}-1")
        monkeypatch.setenv(f"WAYBILL_{name}_KEY", KEY)
    monkeypatch.setenv("WAYBILL_HOME", str(tmp_path))
    return tmp_path / "vendors.toml"


@pytest.mark.usefixtures("configured")
def test_the_variables_are_the_shortest_way_to_declare_a_model() -> None:
    """Whoever set the variable meant to call that host, wherever it stands."""
    settings = read_settings()

    found = declared_vendors(settings).vendors

    assert {n: (v.kind, v.url, v.model, v.inside) for n, v in found.items()} == {
        "llm": ("openai", "https://llm.test/v1", "llm-1", True),
        "vision": ("openai", "https://vision.test/v1", "vision-1", True),
    }
    assert {n: k.get_secret_value() for n, k in keys_of(settings).items()} == {
        "llm": KEY,
        "vision": KEY,
    }


def test_a_file_stands_beside_them_and_behind_them(configured: Path) -> None:
    """What was set for one run goes before what is declared for all."""
    configured.write_text(
        '[budget]\nday = "5.00 USD"\n'
        '[vendor.crm]\nurl = "https://crm.test"\n'
        '[vendor.llm]\nkind = "openai"\nurl = "https://other.test"\n'
    )

    declared = declared_vendors(read_settings())

    assert sorted(declared.vendors) == ["crm", "llm", "vision"]
    assert declared.vendors["llm"].url == "https://llm.test/v1"
    assert declared.budget.day == Money(Decimal("5.00"), "USD")


def test_without_variables_and_file_nobody_is_declared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The stage decides what that means: templates, or an error that names them."""
    monkeypatch.setenv("WAYBILL_HOME", str(tmp_path))

    assert declared_vendors(read_settings()).vendors == {}


@pytest.mark.usefixtures("configured")
def test_keys_are_in_nothing_that_is_written_down() -> None:
    """Neither the settings nor a vendor shows its key, as text or as JSON."""
    settings = read_settings()

    shown = [
        repr(settings),
        str(settings),
        json.dumps(settings.model_dump(mode="json")),
        repr(declared_vendors(settings)),
        repr(keys_of(settings)),
    ]

    assert KEY not in " ".join(shown)
