"""What a Word document shows without writing it: numbers, signs, formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import docx
import pytest

from stages.formats.formulas import M, formula
from stages.formats.marks import Lists, W, roman, sign, written
from stages.formats.probe import look


def xml(text: str) -> Any:
    """Elements of Word's own names, and of its formulas."""
    return ElementTree.fromstring(
        f'<x xmlns:w="{W[1:-1]}" xmlns:m="{M[1:-1]}">{text}</x>'
    )


def level(depth: int, kind: str, shown: str, start: int = 1) -> str:
    return (
        f'<w:lvl w:ilvl="{depth}"><w:start w:val="{start}"/>'
        f'<w:numFmt w:val="{kind}"/><w:lvlText w:val="{shown}"/></w:lvl>'
    )


def item(depth: int, of: str = "1") -> Any:
    return xml(
        f'<w:pPr><w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{of}"/></w:numPr>'
        "</w:pPr><w:r><w:t>words</w:t></w:r>"
    )


NUMBERING = xml(
    '<w:abstractNum w:abstractNumId="7">'
    + level(0, "decimal", "%1.")
    + level(1, "lowerLetter", "%1.%2)")
    + level(2, "upperRoman", "(%3)", 4)
    + level(3, "bullet", "\uf0b7")
    + '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
    '<w:num w:numId="2"><w:abstractNumId w:val="7"/><w:lvlOverride w:ilvl="0">'
    '<w:startOverride w:val="5"/></w:lvlOverride></w:num>'
)


def test_lists_are_numbered_as_they_are_shown() -> None:
    """Every level counts by itself, begins anew below another, starts where it says."""
    lists = Lists(NUMBERING, {})

    labels = [lists.label(item(depth)) for depth in (0, 1, 1, 2, 2, 3, 0, 1)]
    other = [lists.label(item(0, "2")), lists.label(item(0, "2")), lists.label(item(0))]

    assert labels == ["1. ", "1.a) ", "1.b) ", "(IV) ", "(V) ", "• ", "2. ", "2.a) "]
    assert other == ["5. ", "6. ", "3. "]


def test_a_list_by_a_style_is_numbered() -> None:
    """Also when the style is based on the one that has the list."""
    based = '<w:basedOn w:val="a"/>'
    styles = {
        "a": xml('<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>'),
        "b": xml(based),
    }
    paragraph = xml('<w:pPr><w:pStyle w:val="b"/></w:pPr><w:r><w:t>one</w:t></w:r>')

    assert Lists(NUMBERING, styles).label(paragraph) == "1. "


@pytest.mark.parametrize("of", ["0", "99", ""])
def test_what_is_in_no_list_has_no_number(of: str) -> None:
    """Taken out of its list, or in one that is not there."""
    assert Lists(NUMBERING, {}).label(item(0, of)) == ""


def test_counts_are_written_in_every_way() -> None:
    """Letters go round, Romans have an end."""
    assert [written(n, "lowerLetter") for n in (1, 26, 27)] == ["a", "z", "aa"]
    assert [roman(n) for n in (4, 9, 1994, 4000)] == ["IV", "IX", "MCMXCIV", "4000"]
    assert (written(3, "decimalZero"), written(3, "none")) == ("03", "")


@pytest.mark.parametrize(
    ("code", "font", "shown"),
    [
        (0xF0FE, "Wingdings", "☑"),
        (0xA8, "wingdings", "☐"),
        (0xF061, "Symbol", "α"),
        (0x2611, "MS Gothic", "☑"),
        (0xF021, "Webdings", ""),
    ],
)
def test_signs_of_symbol_fonts_are_characters(code: int, font: str, shown: str) -> None:
    """Where we know them; an unknown one is nothing, and counted."""
    assert sign(code, font) == shown


@pytest.mark.parametrize(
    ("made", "line"),
    [
        ("<m:f><m:num>{a+b}</m:num><m:den>{2}</m:den></m:f>", "(a+b)/2"),
        ("<m:sSup><m:e>{x}</m:e><m:sup>{2}</m:sup></m:sSup>", "x^2"),
        ("<m:rad><m:deg/><m:e>{y}</m:e></m:rad>", "√(y)"),
        ("<m:d><m:e>{n}</m:e></m:d>", "(n)"),
        (
            '<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub>{i=1}</m:sub>'
            "<m:sup>{n}</m:sup><m:e>{i}</m:e></m:nary>",
            "∑_(i=1)^n i",
        ),
    ],
)
def test_a_formula_is_one_line(made: str, line: str) -> None:
    """What stands above and below stays told apart."""
    text = made.replace("{", "<m:r><m:t>").replace("}", "</m:t></m:r>")

    assert formula(xml(text)) == line


def test_what_is_left_out_of_a_document_is_named(tmp_path: Path) -> None:
    """An object of another program and a sign without a character."""
    path = tmp_path / "a.docx"
    document = docx.Document()
    run = document.add_paragraph("See the drawing").add_run()._element
    for made in (
        f'<w:sym xmlns:w="{W[1:-1]}" w:font="Webdings" w:char="F021"/>',
        '<o:OLEObject xmlns:o="urn:schemas-microsoft-com:office:office"/>',
    ):
        from docx.oxml.parser import parse_xml

        run.append(parse_xml(made))
    document.save(str(path))

    assert set(look(str(path)).left_out) == {"1 x symbol", "1 x embedded object"}
