"""`waybill limits`: what the fleet may call, as an owner reads and changes it."""

from __future__ import annotations

import pytest

from tests.system.command import Home

KEY = "vendor/crm/requests"
VENDORS = """
[vendor.crm]
url = "https://crm.example.com"

[vendor.crm.limits]
requests = "600/min"
concurrency = 8
"""


@pytest.fixture(scope="module")
def owner(shared: Home) -> Home:
    """Whose vendors.toml declares a CRM with a rate."""
    declared = shared.folder / "vendors.toml"
    declared.write_text(VENDORS)
    shared.environment["WAYBILL_VENDORS"] = str(declared)
    return shared


def test_a_limit_is_set_live_and_back_as_declared(owner: Home) -> None:
    """What the files say stands beside it."""
    [changed] = owner.ok("limits", "set", KEY, "--rate", "60/min")

    assert (changed["rate"], changed["per_s"], changed["set_by_owner"]) == (
        60,
        60,
        True,
    )
    assert owner.ok("limits", "ls") == [changed]
    shown = owner.run("limits", "ls", "--header").out.splitlines()
    assert shown[0].split("\t")[:2] == ["limit", "allowed"]
    assert shown[1].split("\t")[:2] == [KEY, "60 in 60 s"]

    [back] = owner.ok("limits", "set", KEY, "--declared")
    assert back["set_by_owner"] is False


def test_a_pause_holds_until_it_is_resumed(owner: Home) -> None:
    """For a time, or for good; the listing says by whom and until when."""
    [paused] = owner.ok("limits", "pause", KEY)
    assert (paused["paused_until"], paused["paused_by"]) == ("resumed", "owner")
    assert "paused by owner until resumed" in owner.run("limits", "ls").out

    [shorter] = owner.ok("limits", "pause", KEY, "--for", "10m")
    assert shorter["paused_until"].startswith("20")

    [resumed] = owner.ok("limits", "resume", KEY)
    assert resumed["paused_until"] is None


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("set", "vendor/nobody/requests", "--rate", "1/s"), 9, "limits ls"),
        (("pause", "vendor/nobody/requests"), 9, "limits ls"),
        (("set", KEY), 2, "--declared"),
        (("set", KEY, "--rate", "often"), 2, "600/min"),
        (("set", KEY, "--rate", "0/s"), 2, "above 0"),
        (("set", KEY, "--rate", "1/s", "--declared"), 2, "--declared"),
        (("set", KEY, "--concurrency", "0"), 2, "concurrency"),
        (("pause", KEY, "--for", "soon"), 2, "90m"),
        (("pause", KEY, "--for", "4000d"), 2, "ten years"),
    ],
)
def test_what_cannot_be_is_refused_by_one_sentence(
    owner: Home, words: tuple[str, ...], code: int, said: str
) -> None:
    """It names what there is, or how it is written."""
    ran = owner.run("limits", *words)

    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err
