"""What a demo says at its end, however it ended."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.store.rows import Counts
from waybill.commands.demo import report, stopped

HELD = {
    "hold": "h3",
    "code": "LOOK",
    "name": "a.pdf",
    "item": 3,
    "needs": [],
    "role": "",
}
FAILED = {"item": 5, "code": "BROKEN", "name": "b.pdf", "why": "it broke"}


def said(capsys: pytest.CaptureFixture[str], **given: Any) -> str:
    """Of eight contracts, unless `given` says otherwise."""
    counts = dict.fromkeys(Counts._fields, 0) | {"received": 8, "done": 8}
    facts = {
        "seconds": 3.0,
        "batch": "demo-1/contracts",
        "out": "/out",
        "manifest": "/out/manifest.csv",
        "made": "abstracts",
        "documents": 8,
        "pipeline": "contracts",
        "stopped": "",
        "holds": [],
        "failures": [],
        "quarantine": [],
        "rejections": [],
        "effects": [],
        "vendors": "",
        "world": "",
    }
    report(counts | facts | given)
    return capsys.readouterr().out


def test_a_demo_in_which_nothing_is_held_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And where to look."""
    shown = said(capsys)

    assert "nothing is held for a person" in shown
    assert "items ls --batch demo-1/contracts" in shown


def test_a_demo_names_what_failed_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beside what is held."""
    shown = said(capsys, done=6, failed=1, held=1, failures=[FAILED], holds=[HELD])

    assert "BROKEN  b.pdf  it broke" in shown
    assert "items why 5" in shown
    assert "items retry 5" in shown
    assert "review show h3" in shown
    assert "nothing is held" not in shown


def test_a_demo_that_came_to_no_end_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And that the same command goes on with it."""
    shown = said(capsys, done=5, live=3, stopped="it came to no end in 900 s")

    assert "no end in 900 s, with 5 of 8 items at their end" in shown
    assert "demo --pipeline contracts` goes on with it" in shown


def test_an_interrupted_demo_says_what_it_did() -> None:
    """Before anything came, too."""
    counts = Counts(*dict.fromkeys(Counts._fields, 0).values())

    lines = stopped(counts, "letters", "it was interrupted")

    assert lines[0] == "stopped: it was interrupted, with 0 of 0 items at their end"
    assert "demo --pipeline letters` goes on" in lines[1]
