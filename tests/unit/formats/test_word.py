"""Word documents: what is seen, in order; what is hidden, counted; bombs refused."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import docx
import pytest
from docx.oxml.ns import qn
from docx.shared import Inches, Pt, RGBColor
from PIL import Image, ImageDraw

from pipeline.errors import Unacceptable
from stages.formats import text
from stages.formats.kinds import DOCX
from stages.formats.pages import Text
from stages.formats.probe import look
from stages.reading.picture import open_page
from stages.reading.protocol import PageRequest


def pages(path: Path) -> list[str]:
    found = text.pages(str(path), DOCX)
    return [page.text for page in found if isinstance(page, Text)]


def saved(folder: Path, document: docx.document.Document) -> Path:
    path = folder / "letter.docx"
    document.save(str(path))
    return path


def test_a_word_document_is_read_in_order(tmp_path: Path) -> None:
    """Header, paragraphs, tables, footer; a page break turns the page."""
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "The head"
    document.sections[0].footer.paragraphs[0].text = "The foot"
    document.add_paragraph("First")
    table = document.add_table(rows=2, cols=2)
    for number, cell in enumerate(table._cells):
        cell.text = f"c{number}"
    document.add_page_break()
    document.add_paragraph("Second")

    found = pages(saved(tmp_path, document))

    assert [" ".join(page.split()) for page in found] == [
        "The head First c0 c1 c2 c3",
        "Second The foot",
    ]


def test_what_word_does_not_show_is_counted_and_left_out(tmp_path: Path) -> None:
    """Hidden, white and tiny letters are no part of what was written."""
    document = docx.Document()
    paragraph = document.add_paragraph("Dear all")
    paragraph.add_run("vanished").font.hidden = True
    paragraph.add_run("whited").font.color.rgb = RGBColor(255, 255, 255)
    paragraph.add_run("tiny").font.size = Pt(1)
    paragraph.add_run(" and all").font.size = Pt(12)

    [page] = text.pages(str(saved(tmp_path, document)), DOCX)

    assert page == Text("Dear all and all", len("vanishedwhitedtiny"))


def test_a_size_that_is_no_number_is_none(tmp_path: Path) -> None:
    """A file may say anything: its other words are read."""
    document = docx.Document()
    run = document.add_paragraph("Dear ").add_run("all")
    run.font.size = Pt(12)
    run._element.rPr.find(qn("w:sz")).set(qn("w:val"), "²")

    [page] = text.pages(str(saved(tmp_path, document)), DOCX)

    assert page == Text("Dear all", 0)


def test_white_letters_on_a_colour_are_seen(tmp_path: Path) -> None:
    """The head of a coloured table is white on blue: it is read."""
    document = docx.Document()
    table = document.add_table(rows=1, cols=1, style="Light Shading Accent 1")
    run = table.cell(0, 0).paragraphs[0].add_run("Amount")
    run.font.color.rgb = RGBColor(255, 255, 255)

    assert pages(saved(tmp_path, document)) == ["Amount"]


def test_pictures_of_a_word_document_are_its_further_pages(tmp_path: Path) -> None:
    """A scan pasted into a document is a page; a bullet's picture is not."""
    document = docx.Document()
    document.add_paragraph("See the scan")
    for size in ((300, 200), (20, 20)):
        picture = Image.new("RGB", size, "white")
        ImageDraw.Draw(picture).rectangle((0, 0, 80, 40), fill=0)
        data = BytesIO()
        picture.save(data, "PNG")
        document.add_picture(data, width=Inches(1))
    path = saved(tmp_path, document)

    found = look(str(path), path.name)

    assert (found.media_type, found.pages) == (DOCX, 2)
    request = PageRequest(path=str(path), media_type=DOCX, index=1)
    with open_page(request) as page:
        assert page.text() is None
        picture, _ = page.picture()
        assert picture.size == (300, 200)
        assert picture.getpixel((40, 20)) == 0


def repacked(source: Path, **replaced: bytes) -> Path:
    """A copy of a Word document with other bytes in `word/NAME.xml`."""
    made = source.with_name("changed.docx")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(made, "w", 8) as new:
        for entry in old.infolist():
            stem = Path(entry.filename).stem
            new.writestr(entry, replaced.get(stem, old.read(entry)))
    return made


def test_entities_of_a_word_document_are_not_expanded(tmp_path: Path) -> None:
    """Neither a file of ours nor a billion laughs comes out of a document."""
    secret = tmp_path / "secret"
    secret.write_text("do not tell")
    body = (
        "<?xml version='1.0'?><!DOCTYPE w [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>"
        f"<!ENTITY f SYSTEM 'file://{secret}'>]>"
        "<w:document xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/"
        "2006/main'><w:body><w:p><w:r><w:t>seen &b;&f;</w:t></w:r></w:p></w:body>"
        "</w:document>"
    )
    path = repacked(saved(tmp_path, docx.Document()), document=body.encode())

    [page] = pages(path)

    assert page.split() == ["seen"]


def test_a_word_document_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    """A bomb is known by its directory, before anything of it is unpacked."""
    bomb = b"<a>" + b" " * (8 << 20) + b"</a>"
    path = repacked(saved(tmp_path, docx.Document()), document=bomb)

    with pytest.raises(Unacceptable) as caught:
        look(str(path), path.name)

    assert caught.value.code == "DOCX_BOMB"


def test_a_damaged_word_document_has_a_code(tmp_path: Path) -> None:
    """XML that does not end, and an archive without it, are CORRUPT."""
    whole = saved(tmp_path, docx.Document())
    torn = repacked(whole, document=b"<w:document")

    with pytest.raises(Unacceptable) as caught:
        look(str(torn), torn.name)

    assert caught.value.code == "CORRUPT"
