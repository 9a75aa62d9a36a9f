"""Settings come from the environment, are checked at start, and nobody else looks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import waybill
from pipeline.errors import Usage
from waybill.settings import NAME_CHARS_MAX, read_settings

HERE = Path(waybill.__file__).parent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAYBILL_LOG_LEVEL", "loud"),
        ("WAYBILL_CORES", "many"),
        ("WAYBILL_LEASE_S", "0"),
        ("WAYBILL_VENDOR_HOSTS", "localhost"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever set it can mend it; no traceback, no guess."""
    monkeypatch.setenv(name, value)

    with pytest.raises(Usage, match=name):
        read_settings()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("  ann ", "ann"),
        ("a\x00nn\udcff", "ann"),
        ("n" * 900, "n" * NAME_CHARS_MAX),
    ],
)
def test_a_reviewers_name_is_one_that_can_be_kept(
    given: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands beside every decision, in the database, for good."""
    monkeypatch.setattr("os.environ", {"WAYBILL_REVIEWER": given})

    assert read_settings().reviewer == name


def test_a_reviewer_without_a_name_is_who_is_logged_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decision always has an author."""
    monkeypatch.setenv("WAYBILL_REVIEWER", " ")
    monkeypatch.setenv("LOGNAME", "alma")

    assert read_settings().reviewer == "alma"


def test_a_log_level_may_be_shouted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is in other programs."""
    monkeypatch.setenv("WAYBILL_LOG_LEVEL", "DEBUG")

    assert read_settings().log_level == "debug"


def test_nobody_else_reads_the_environment() -> None:
    """What can be set stands in one place, and in the table of the documents."""
    readers = [
        path.name
        for path in HERE.rglob("*.py")
        if re.search(r"\benviron\b|\bgetenv\b|\bgetpass\b", path.read_text())
    ]

    assert readers == ["settings.py"]


def test_keys_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings may end in an error message or a log."""
    monkeypatch.setenv("WAYBILL_LLM_KEY", "sk-123")
    monkeypatch.setenv("WAYBILL_VISION_KEY", "sk-123")

    assert "sk-123" not in repr(read_settings())
