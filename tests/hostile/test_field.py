"""
Documents that went wrong in the field end as a person expects.

One real service takes them all: the samples, where they are, and every kind made anew,
so that the promise is kept without them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loadtest.corpora.field import ENCODING, UNDRAWN, Kind, kinds
from loadtest.trial import Ended, trial

pytestmark = pytest.mark.timeout(900)  # a minute alone; all of it is one run

SAMPLES = Path(__file__).parents[2].parent / "shared" / "samples" / "field"
MADE = list(kinds())


def row(name: str, *says: str, **how: Any) -> Kind:
    """A sample, and how it must end."""
    return Kind(name, b"", says=says, **how)


# The rows of the samples' README that end without a person.
ROWS = [
    row("B5_green_on_red.png", "Green letters on a red poster", "vanish"),
    row("B0_inline_scan_1bit.eml", "Here is the scanned", "Invoice 4711", parts=2),
    row(
        "34_portfolio.pdf",
        "letter number one",
        "letter number two",
        parts=2,
        left_out=("cover sheet",),
    ),
    row("51_xfa_please_wait.pdf", end="refused", code="PDF_XFA"),
    row("13_pyramid.tif", "Dear Waybill team", "Many greetings from Mike", pages=1),
    row("47_userunit10.pdf", "Scanned letter number seven", "viewers turn them"),
    row("70_mbox_from_line.eml", "Ann Example", "its mbox line. Grüße!"),
    row("80_rfc822_base64.eml", "See below.", "the ship arrives on Friday", parts=2),
    row("72_apple_html_img_html.eml", "First half", "number is 4711", parts=2),
    row("73_windows-874.eml", "สวัสดี ขอบคุณมาก เอกสารฉบับที่ 12"),
    row("75_cp-850.eml", "Größe und Länge prüfen, Bücher überprüfen"),
    row("77_gb2312_gbk.eml", "朱镕基先生寄来的信件"),
    row("78_raw_8bit_subject.eml", "Subject: Für Müller", "Schöne Grüße"),
    row("62_cp1250_polish.txt", "proszę o przesłanie książki", "Łódź", "Żaneta"),
    row("65_macroman.txt", "Der Käse schmeckt großartig", "Müller über die Brücke"),
    row("61_utf16le_nobom.txt", "UTF-16 without a mark.\nSecond line."),
    row("66_nul_inside.txt", "A line with a NUL", "an old label printer"),
    row(
        "82_ics_vcf.eml",
        "Please come to the meeting",
        left_out=("invite.ics (calendar)", "ann.vcf (card)"),
    ),
    row(
        "79_winmail.eml",
        "Please see the attached",
        end="refused",
        code="UNSUPPORTED_TYPE",
        parts=1,
    ),
    row(
        "A3_lists_sym_math.docx",
        "1. first thing\n2. second thing",
        "Chosen: ☑ yes",
        "Formula: a+b=42",
    ),
    row("42_zero_pages.pdf", end="refused", code="NO_PAGES"),
    row("line-at-top-edge.png", "Invoice 4711 is cancelled."),
    row("pdfjs-SimFang-variant.pdf", end="held", code=UNDRAWN),
    row("one-line-strip.png", "Call me at 5 pm please."),
    row("21_two_columns.png", "The first column speaks\nabout the harbour"),
    row("24_german.png", "möchte ich mich herzlich", "schöne Führung"),
    row("right_to_left_01.pdf", "R", "Python"),
    row("korean-text-with-tables.pdf", "할인점"),
    row("letterhead-stanford-i086-2000px.jpg", "Dear Dr. Jordan", "tickets"),
    row("receipt-sroie-221-gray.jpg", "16.90", "40.10", "0.20"),
    row("pillow-03r03.fli", end="refused", code="UNSUPPORTED_TYPE"),
]


@dataclass(frozen=True)
class Field:
    """What became of every file: its items, what was refused, why it is held."""

    items: dict[str, list[Ended]]
    refused: dict[str, list[str]]  # codes
    held: dict[int, list[dict[str, Any]]]  # pages that a reviewer is shown, by item


@pytest.fixture(scope="module")
def made() -> Iterator[Field]:
    """One run of the service with every kind."""
    with taken({kind.name: kind.data for kind in MADE}) as found:
        yield found


@pytest.fixture(scope="module")
def samples() -> Iterator[Field]:
    """One with the samples."""
    there = [SAMPLES / row.name for row in ROWS if (SAMPLES / row.name).exists()]
    with taken({path.name: path.read_bytes() for path in there}) as found:
        yield found


@contextmanager
def taken(files: Mapping[str, bytes]) -> Iterator[Field]:
    """What becomes of these."""
    with trial() as it:
        inbox = it.folder / "field"
        inbox.mkdir()
        for name, data in files.items():
            (inbox / name).write_bytes(data)
        it.pipeline("field", ["intake", "ocr"])
        it.ingest(inbox, "field")
        items: dict[str, list[Ended]] = {}
        for item in it.ended():
            items.setdefault(item.name.partition(" › ")[0], []).append(item)
        refused: dict[str, list[str]] = {}
        rows: Any = it.run("quarantine", "ls", "--limit", "500")
        for one in rows:
            refused.setdefault(one["name"].partition(" › ")[0], []).append(one["code"])
        holds: Any = it.run("review", "ls", "--limit", "500")
        held = {one["item_id"]: one["shown"]["evidence"]["pages"] for one in holds}
        yield Field(items, refused, held)


@pytest.mark.proof
@pytest.mark.parametrize("sample", ROWS, ids=lambda sample: sample.name)
def test_a_sample_ends_as_its_row_says(samples: Field, sample: Kind) -> None:
    """Each row of the samples."""
    if not (SAMPLES / sample.name).exists():
        pytest.skip(f"the folder of samples {SAMPLES} has no {sample.name}")
    check(samples, sample)


@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.name)
def test_every_kind_of_it_ends_as_it_should(made: Field, kind: Kind) -> None:
    """The same trouble in other files, made here."""
    check(made, kind)


def check(field: Field, kind: Kind) -> None:
    """One file's end: its state and code, its text, its parts, what was left out."""
    items = field.items.get(kind.name, [])
    bundle, parts = items[:1], [item for item in items if item.parent is not None]
    texts = "\n".join(str(item.values.get("text", "")) for item in items)

    assert [text for text in kind.says if text not in texts] == [], texts
    assert "\ufffd" not in texts
    assert len(parts) == kind.parts, items
    if kind.pages:
        assert [item.values["page_count"] for item in bundle] == [kind.pages]
    if kind.left_out:
        told = json.dumps(bundle[0].values["facts"]["left_out"])
        assert [word for word in kind.left_out if word not in told] == [], told
    if kind.end == "refused":
        assert field.refused.get(kind.name) == [kind.code]
        assert {item.state for item in items} <= {"done"}
        return
    assert field.refused.get(kind.name, []) == []
    assert {item.state for item in items} == {kind.end}, items
    if kind.end == "held":
        assert [page["code"] for page in field.held[items[0].id]] == [kind.code]
        assert texts == ""


def test_a_text_in_doubt_is_shown_and_not_sure(made: Field) -> None:
    """A reviewer sees what was made of it, and no reader is sure."""
    doubtful = [kind for kind in MADE if kind.code == ENCODING]

    shown = [page for k in doubtful for page in made.held[made.items[k.name][0].id]]

    assert len(shown) == len(doubtful) >= 3
    assert all(page["draft"] and page["confidence"] < 100 for page in shown)
