"""A row of an export: what became of a file, safe in a spreadsheet and on a disk."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from pipeline.model import Checkpoint, Disposal
from pipeline.store.rows import ProductRow, Standing
from tests.unit.received import ROW, Artifacts, Catalogue, Desk, Store, became
from waybill.results import columns, csv_lines, csv_values, record, results, shaped


async def found(desk: Any) -> list[Any]:
    return [row async for rows in results(desk, 1) for row in rows]


async def test_a_row_has_the_channels_that_its_pipeline_chose() -> None:
    """From updates in rows and in artifacts; a column of ours keeps its name."""
    artifacts = Artifacts()
    ref = await artifacts.put(b'{"text": "read", "confidence": 91.26, "page_count": 2}')
    updates = [
        Checkpoint(0, "intake", None, '{"facts": {"pages": 3}}', None, "ocr", 0.1),
        Checkpoint(1, "ocr", None, None, ref, "moderation", 0.1),
    ]
    catalogue = Catalogue("text", "facts.pages", "confidence", "reply.writer")
    standing = Standing(ROW, '{"source": "s"}', updates, [])
    desk: Any = Desk(Store(became(standing)), catalogue, artifacts)

    [row] = await found(desk)

    names = await columns(desk, 1)
    assert names == [
        *("item", "name", "pipeline", "state", "stage", "code", "pages", "confidence"),
        *("text", "facts.pages", "state.confidence", "reply.writer", "files"),
    ]
    shown = ["letters", "held", "ocr", "LOOK", 2, 91.3, "read", 3, 91.26, None, []]
    assert csv_values(row, names) == [7, "a.pdf", *shown]


async def test_what_was_never_read_is_empty_and_not_zero() -> None:
    """A document that is still in line has pages, as it was probed, no confidence."""
    standing = Standing(ROW, '{"source": "s", "facts": {"pages": 4}}', [], [])
    desk: Any = Desk(Store(became(standing)), Catalogue("text"), Artifacts())

    [row] = await found(desk)

    assert (row.pages, row.confidence, row.channels) == (4, None, {"text": None})


async def test_every_file_received_has_a_row() -> None:
    """Also what was known already, and what could not be taken."""
    twice = {"disposal": Disposal.DUPLICATE, "item": 3}
    refused = {"disposal": Disposal.QUARANTINED, "item": None, "code": "PDF_ENCRYPTED"}
    rows = became(None, **twice), became(None, 2, **refused)
    desk: Any = Desk(Store(*rows), Catalogue(), Artifacts())

    first, second = await found(desk)

    assert (first.item, first.state, first.code) == (3, "duplicate", "")
    assert (second.item, second.state, second.code) == (
        *(None, "quarantined", "PDF_ENCRYPTED"),
    )


async def test_what_was_found_in_an_item_has_a_row_unless_its_pipeline_says_not() -> (
    None
):
    """Parts of a bundle are documents; readers of a contract are none."""
    part = Standing(ROW._replace(id=8, parent_id=7), '{"source": "s"}', [], [])
    rows = became(Standing(ROW, '{"source": "s"}', [], [])), became(part, 2)
    catalogue = Catalogue()
    shown = [r.item for r in await found(Desk(Store(*rows), catalogue, Artifacts()))]

    catalogue.pipeline = replace(catalogue.pipeline, exports_parts=False)
    left = [r.item for r in await found(Desk(Store(*rows), catalogue, Artifacts()))]

    assert (shown, left) == ([7, 8], [7])


async def test_a_row_that_cannot_be_read_whole_says_so() -> None:
    """One bad pipeline, or one lost artifact, costs its own rows' channels alone."""
    lost = Checkpoint(0, "ocr", None, None, "0" * 64, "", 0.1)
    rows = (
        became(Standing(ROW, '{"source": "s"}', [lost], [])),
        became(Standing(ROW._replace(pipeline_id=2), "{}", [], []), 2),
        became(Standing(ROW, '{"source": "s"}', [], []), 3),
    )
    desk: Any = Desk(Store(*rows), Catalogue("text"), Artifacts())

    said = [row.incomplete for row in await found(desk)]

    assert said == ["NOT_FOUND", "PIPELINE_HANGS", ""]


@pytest.mark.parametrize(
    "attack",
    [
        *("=1+1", "+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "＝1", " =1", "\xa0=1"),
        *("a;=1+1", "a\n=1+1", "a\t=1", "a;\n ;@x", "a\r=1"),
    ],
)
def test_no_cell_is_a_formula(attack: str) -> None:
    """Not at its beginning, nor where another separator would begin one."""
    text = csv_lines([["x", attack, "y"]])

    [[_, cell, _]] = csv.reader(io.StringIO(text, newline=""))
    for part in cell.replace("\t", ";").replace("\n", ";").split(";"):
        assert part.strip()[:1] not in {*"=+-@＝＋－＠"}


def test_cells_keep_what_is_no_formula() -> None:
    """Numbers below zero are numbers, a list is told apart, what is deep is JSON."""
    values = [-5, -0.5, True, None, "a=b", "x - y", {"a": [1]}, ["ü", 1]]
    values += ["two\nlines", ""]

    text = csv_lines([values])

    [cells] = csv.reader(io.StringIO(text, newline=""))
    said = ["-5", "-0.5", "true", "", "a=b", "x - y", '{"a":[1]}', "ü; 1", "two\nlines"]
    assert cells == [*said, ""]
    assert text.endswith("\r\n")


def test_no_cell_steers_a_terminal() -> None:
    """A document's text is shown by `cat` as well."""
    assert csv_lines([["a\x1b[2J\u202eb"]]) == "a\\x1b[2J\\u202eb\r\n"


@pytest.mark.parametrize(
    ("named", "file"),
    [
        ("a/scan.pdf", "a/scan.pdf"),
        ("../../etc/passwd", ""),
        ("/etc/passwd", ""),
        ("a/./b", ""),
        ("a/. ./b", ""),
        ("a//b", ""),
        ("..\\..\\evil", ".._.._evil"),
        ("C:evil", "C_evil"),
        ("x" * 300, ""),
        ("a\x1bb", "a_x1bb"),
        (None, ""),
        (7, "7"),
    ],
)
def test_a_file_stays_in_its_folder(named: Any, file: str) -> None:
    """Whatever a stage was made to say: it is unpacked on somebody's disk."""
    facts = {} if named is None else {"file": named}
    made = [ProductRow("text", "a" * 64, facts, "ocr")]

    row = shaped(Standing(ROW, "{}", [], made), None, {})

    assert [one.file for one in row.files] == [file]
    assert csv_values(row, ["files"]) == [[file] if file else []]
    assert record(row, ["files"]) == {
        "files": [{"product": "text", "file": file, "artifact": "a" * 64}]
    }
