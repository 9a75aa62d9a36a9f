"""`waybill demo`, whole: killed in the middle, and finished; `proof`: once more."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2
import pytest

from tests.system.command import Home, Ran, eventually

pytestmark = pytest.mark.timeout(300)  # two demos, on however slow a machine

FIGURES = {
    "received": 40,
    "live": 0,
    "held": 2,
    "done": 34,
    "rejected": 1,
    "failed": 0,
    "cancelled": 0,
    "duplicates": 1,
    "quarantined": 2,
    "conserved": True,
}
GREETING = r"(?:My dear|Dear|Hello) (\w+),"
READ_RIGHT = 30  # of 34 names; this tesseract reads all of them right
ENOUGH = 8  # replies after which the demo is killed: some done, most under way


@pytest.fixture(scope="module")
def interrupted(embedded_home: Home) -> Iterator[tuple[Home, int, Ran]]:
    """A demo that was killed, with how many replies lay there, and its second call."""
    home = embedded_home
    with home.started("demo", "--json") as demo:
        assert eventually(lambda: len(replies(home)) >= ENOUGH, within_s=90)
        os.killpg(demo.pid, signal.SIGKILL)
        demo.wait(10)
    return home, len(replies(home)), home.run("demo", "--json")


def replies(home: Home) -> list[Path]:
    return sorted((home.folder / "out" / "demo-1" / "letters").glob("*.pdf"))


def test_a_killed_demo_goes_on_and_loses_nothing(interrupted):
    """kill -9 with replies printed and letters in every stage: the figures stand."""
    _home, lay_there, ran = interrupted

    said = ran.json()

    assert ENOUGH <= lay_there < FIGURES["done"], "it was killed too late"
    assert ran.code == 5, ran.err
    assert "going on with demo-1" in ran.err
    assert {name: said[name] for name in FIGURES} == FIGURES


def test_a_killed_demo_prints_each_letter_once(interrupted):
    """34 items, 34 replies, 34 rows: none twice though some stages ran twice."""
    home, _lay_there, ran = interrupted

    rows = [row for row in manifest(ran.json()) if row["state"] == "done"]

    assert len(replies(home)) == 34
    assert sorted(row["files"] for row in rows) == [p.name for p in replies(home)]
    assert len({row["item"] for row in rows}) == 34


def test_a_demo_names_what_it_kept_from_the_printer(interrupted):
    """Two letters for a person to look at, two files that cannot be read."""
    said = interrupted[2].json()

    assert said["batch"] == "demo-1/letters"
    assert [
        hold["code"] for hold in sorted(said["holds"], key=lambda h: h["name"])
    ] == [
        "DISCLOSURE",
        "OCR_UNREADABLE",
    ]
    assert {q["code"] for q in said["quarantine"]} == {"TRUNCATED", "PDF_ENCRYPTED"}


def test_every_reply_is_a_pdf_that_greets(interrupted):
    """What is printed opens, is text, and greets the child who wrote."""
    home = interrupted[0]

    texts = {path.stem: text_of(path) for path in replies(home)}

    greeted = {name: re.match(GREETING, text) for name, text in texts.items()}
    assert len(texts) == 34
    assert all(greeted.values()), texts
    # The file is named after the writer.  The name itself was read from the page.
    right = [name for name, g in greeted.items() if name.endswith(f"-{g[1].lower()}")]
    assert len(right) >= READ_RIGHT


def test_the_manifest_names_what_lies_there(interrupted):
    """One row a file that came, with its end; a finished one names its reply."""
    home = interrupted[0]

    rows = manifest(interrupted[2].json())

    states = Counter(row["state"] for row in rows)
    figures = {name: n for name, n in FIGURES.items() if name in states}
    assert states == figures | {"duplicate": 1}
    named = {row["files"] for row in rows if row["state"] == "done"}
    assert named == {p.name for p in replies(home)}


def test_nothing_of_a_demo_goes_on_when_it_ended(interrupted):
    """No worker, jailed process or PostgreSQL: also not after one that was killed."""
    home = interrupted[0]

    left = eventually(
        lambda: not home.processes() and not postmaster(home), within_s=10
    )

    assert left, (home.processes(), postmaster(home))


@pytest.mark.proof
def test_a_second_demo_in_the_same_home_gives_the_same_figures(interrupted):
    """Another tenant: what was received before is no duplicate of it."""
    ran = interrupted[0].run("demo", "--json")

    said = ran.json()

    assert ran.code == 5, ran.err
    assert said["batch"] == "demo-2/letters"
    assert {name: said[name] for name in FIGURES} == FIGURES


def manifest(said: dict[str, Any]) -> list[dict[str, str]]:
    with Path(said["manifest"]).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def text_of(path: Path) -> str:
    with pypdfium2.PdfDocument(path) as document:
        pages = [page.get_textpage() for page in document]
        return "\n".join(page.get_text_range() for page in pages)


def postmaster(home: Home) -> str:
    """The first lines of the embedded server's pid file; "" when it is down."""
    path = home.folder / "postgres" / "postmaster.pid"
    return json.dumps(path.read_text().split("\n")[:2]) if path.exists() else ""
