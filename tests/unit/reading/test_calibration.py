"""The benches' own figures: what they call honest, wrong, held and worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtest.bench import calibration
from loadtest.bench.ocr_quality import Page, figures_of, worse
from loadtest.scenarios.honesty import figures
from loadtest.trial import Ended
from stages.layout import Layout, ReadBlock, ReadLine, ReadWord
from stages.ocr import OcrSettings
from stages.reading.protocol import PageReading

BOX = (0, 0, 9, 9)


def read(text: str, confidence: float, doubtful: str = "", **more: Any) -> PageReading:
    words = tuple(
        ReadWord(text=w, box=BOX, confidence=confidence, doubtful=w == doubtful)
        for w in text.split()
    )
    block = ReadBlock(box=BOX, lines=(ReadLine(box=BOX, words=words),))
    layout = Layout(
        width=9, height=9, dpi=72, source="ocr", reader="rapidocr", blocks=(block,)
    )
    given: dict[str, Any] = {
        "status": "OK",
        "text": text,
        "words": len(words),
        "confidence": confidence,
        "engine": "rapidocr",
        "layout": layout,
        **more,
    }
    return PageReading(**given)


@pytest.mark.parametrize(
    ("confidence", "pages", "honest"), [(99.5, 12, False), (99.5, 3, True)]
)
def test_a_bin_that_is_surer_than_right_is_not_honest(
    confidence: float, pages: int, honest: bool
) -> None:
    """One word of four is wrong; a bin of a few pages says nothing."""
    ended = [("one two three four", read("one two three f", confidence), "x")] * pages

    bins = calibration.bins(ended)

    assert bins["rapidocr"]["from 99"]["found"] == 25.0
    assert calibration.honest(bins) is honest


def test_a_wrong_amount_in_doubt_is_no_lie() -> None:
    """Only the unmarked one counts; thousands may be set apart in any way."""
    truth = "16.90 1,204.50 40.10"
    marked = read("15.90 1.204,50 40.10", 98.0, doubtful="15.90")

    found = calibration.amounts([(truth, marked, "receipts")])

    assert (found["read"], found["wrong"], found["wrong_unmarked"]) == (3, 1, 0)
    plain = calibration.amounts([(truth, read("15.90", 98.0), "receipts")])
    assert plain["wrong_unmarked_share"] == 1.0


def test_a_held_page_counts_as_unread() -> None:
    """Whatever its draft says; and a class with it may be worse than plain."""
    page = Page("typed", Path("x"), "one two", plain="one")
    page.first = read("one two", 60.0, status="UNREADABLE", doubtful="one")
    page.again["page"] = page.first.model_copy(update={"engine": "rapidocr"})
    page.cpu_s = {"first": 1.0, "page": 2.0, "plain": 1.0}

    found = figures_of([page], OcrSettings(second="rapidocr", reading="careful"))

    assert (found["recall"], found["plain_recall"], found["held"]) == (0.0, 0.5, 1)
    assert (found["cer"], found["cpu_s"]) == (1.0, 3.0)
    assert worse({"typed": found}) == ["typed"]


def ended(name: str, state: str, text: str = "", code: str = "") -> Ended:
    return Ended(1, name, None, state, "ocr", code, {"text": text})


def test_what_honesty_counts() -> None:
    """Invented words, ink called blank, and pages held that anybody can read."""
    truths = {"inked-a": "a", "readable-b": "b", "cursive-c": "c", "blank-d": ""}
    found = figures(
        [
            ended("inked-a", "rejected", code="BLANK"),
            ended("readable-b", "held", code="OCR_UNREADABLE"),
            ended("cursive-c", "done", "zzz"),
            ended("blank-d", "rejected", code="BLANK"),
        ],
        truths,
        True,
    )

    assert (found["invented"], found["blank_but_inked"]) == (1, 1)
    assert (found["held_but_readable"], found["blanks_missed"]) == (0.5, 0)
