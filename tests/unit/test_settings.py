"""Settings come from the environment, are checked at start, and nobody else looks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import waybill
from pipeline.errors import Usage
from waybill.database import database, owner
from waybill.settings import NAME_CHARS_MAX, read_settings

HERE = Path(waybill.__file__).parent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WAYBILL_LOG_LEVEL", "loud"),
        ("WAYBILL_CORES", "many"),
        ("WAYBILL_LEASE_S", "0"),
        ("WAYBILL_VENDOR_HOSTS", '["a"'),
        ("WAYBILL_VENDOR_HOSTS", "[1]"),
    ],
)
def test_a_wrong_value_is_named_by_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever set it can mend it; no traceback, no guess."""
    monkeypatch.setenv(name, value)

    with pytest.raises(Usage, match=name) as refused:
        read_settings()

    assert "\n" not in refused.value.message
    assert "unset it" in refused.value.hint or "mend it" in refused.value.hint


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("a.example, ::1 ,b", ["a.example", "::1", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("", []),
        ("[]", []),
    ],
)
def test_hosts_are_a_plain_list(
    given: str, hosts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With commas, or as JSON."""
    monkeypatch.setenv("WAYBILL_VENDOR_HOSTS", given)

    assert read_settings().vendor_hosts == hosts


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
    monkeypatch.setenv("WAYBILL_DATABASE_URL", "postgresql://a:sk-123@h/d")
    monkeypatch.setenv("WAYBILL_OWNER_URL", "postgresql://o:sk-123@h/d")

    settings = read_settings(as_owner=True)

    assert "sk-123" not in repr(settings)
    assert "sk-123" not in str(settings)
    assert "sk-123" not in repr(database(settings))


# -- the owner's URL -------------------------------------------------------------------

OWNER = "postgresql://owner:S3cret@127.0.0.1/d"
TOLD = """
import os
from pathlib import Path
from waybill.database import database, owner
from waybill.settings import read_settings
settings = read_settings(as_owner={as_owner})
print(settings.owner_url.get_secret_value())
print(os.environ.get("WAYBILL_OWNER_URL"))
print(b"S3cret" in Path("/proc/self/environ").read_bytes())
"""


@pytest.mark.parametrize(
    ("as_owner", "told"),
    [(False, ["", "None", "False"]), (True, [OWNER, OWNER, "True"])],
)
def test_the_owners_url_is_forgotten(as_owner: bool, told: list[str]) -> None:
    """By whoever is not the owner, before any stage is near: also in /proc."""
    told_by_proc = Path("/proc/self/environ").exists()
    ran = subprocess.run(
        [sys.executable, "-c", TOLD.format(as_owner=as_owner)],
        env={
            "WAYBILL_DATABASE_URL": "postgresql://a@127.0.0.1/d",
            "WAYBILL_OWNER_URL": OWNER,
            "PYTHONPATH": str(HERE.parent),
            "KEPT": "after it",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    lines = ran.stdout.splitlines()
    assert lines[:2] == told[:2], ran.stderr
    assert not told_by_proc or lines[2] == told[2]


def test_the_owners_url_alone_is_no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody means the embedded server who names the owner of another one."""
    monkeypatch.setattr("os.environ", {"WAYBILL_OWNER_URL": OWNER})

    with pytest.raises(Usage, match="WAYBILL_DATABASE_URL") as refused:
        read_settings()

    assert "S3cret" not in str(refused.value)
    assert owner(read_settings(as_owner=True)) == (OWNER, "WAYBILL_OWNER_URL")


def test_without_an_owner_the_services_url_migrates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where one role is both; what is said names its variable."""
    monkeypatch.setattr("os.environ", {"WAYBILL_DATABASE_URL": OWNER})

    assert owner(read_settings(as_owner=True)) == (OWNER, "WAYBILL_DATABASE_URL")


@pytest.mark.parametrize("empty", ["", " "])
def test_a_database_that_is_named_by_nothing_is_refused(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that a script left empty does not mean the embedded server."""
    monkeypatch.setenv("WAYBILL_DATABASE_URL", empty)

    with pytest.raises(Usage, match="set and empty") as refused:
        read_settings()

    assert "unset it" in refused.value.hint
