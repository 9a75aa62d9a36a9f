"""Documents that are text: what a reader sees, in pages, and what is hidden."""

from __future__ import annotations

import zipfile
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path

import docx
import pytest
from docx.shared import Inches, Pt, RGBColor
from PIL import Image, ImageDraw

from pipeline.errors import Unacceptable
from stages.formats import text
from stages.formats.kinds import DOCX, EML, TXT
from stages.formats.markup import text_of_html
from stages.formats.probe import DocumentBounds, look
from stages.formats.text import PAGE_CHARS, Text
from stages.reading.picture import open_page
from stages.reading.protocol import PageRequest


def asked(path: Path, kind: str, index: int) -> PageRequest:
    return PageRequest(path=str(path), media_type=kind, index=index)


def pages(path: Path, kind: str) -> list[str]:
    found = text.pages(str(path), kind)
    return [page.text for page in found if isinstance(page, Text)]


# -- plain text -----------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_text_is_read_in_its_own_encoding(encoding: str, tmp_path: Path) -> None:
    """UTF-8, UTF-16 and Windows text come out the same, line ends included."""
    path = tmp_path / "letter.txt"
    path.write_bytes("Grüße,\r\nRené & Zoë\r\n".encode(encoding))

    assert pages(path, TXT) == ["Grüße,\nRené & Zoë\n"]


def test_pages_of_a_text_end_at_form_feeds(tmp_path: Path) -> None:
    """A form feed turns the page; one at the very end makes no empty page."""
    path = tmp_path / "letter.txt"
    path.write_bytes(b"one\n\ftwo\n\f\fthree\n\f\n")

    assert pages(path, TXT) == ["one\n", "two\n", "", "three\n"]


def test_a_line_without_an_end_is_cut_into_pages(tmp_path: Path) -> None:
    """However long a line is, a page is bounded, and not a letter is lost."""
    path = tmp_path / "letter.txt"
    text = "".join(chr(97 + n % 26) for n in range(500_000))
    path.write_text(text)

    found = pages(path, TXT)

    assert max(map(len, found)) <= PAGE_CHARS
    assert "".join(found) == text


def test_a_long_text_is_cut_between_lines(tmp_path: Path) -> None:
    """Where there are lines, no line is torn."""
    path = tmp_path / "letter.txt"
    lines = [f"This is line {number} of many." for number in range(10_000)]
    path.write_text("\n".join(lines))

    found = pages(path, TXT)

    assert len(found) > 10
    assert "\n".join(found).split("\n") == lines


def test_a_text_of_too_many_pages_is_refused(tmp_path: Path) -> None:
    """A text that never ends has a code, like any document that is too long."""
    path = tmp_path / "letter.txt"
    path.write_bytes(b"x" * (PAGE_CHARS * 30))

    with pytest.raises(Unacceptable) as caught:
        look(str(path), path.name, DocumentBounds(max_pages=20))

    assert caught.value.code == "TOO_MANY_PAGES"


def test_a_page_that_is_not_there_has_a_code(tmp_path: Path) -> None:
    """Asking for a page behind the last one is an error of its own."""
    path = tmp_path / "letter.txt"
    path.write_bytes(b"one\ftwo")

    with open_page(asked(path, TXT, 1)) as page:
        assert page.text() == "two"
    with pytest.raises(Unacceptable) as caught, open_page(asked(path, TXT, 2)):
        pass
    assert caught.value.code == "NO_SUCH_PAGE"


# -- mail -----------------------------------------------------------------------------


def letter(html: str = "", text: str = "", subject: str = "Hello") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Ann <ann@example.com>"
    message["To"] = "post@example.com"
    message["Subject"] = subject
    message["Message-ID"] = "<1@example.com>"
    if text:
        message.set_content(text)
    if html and text:
        message.add_alternative(html, subtype="html")
    elif html:
        message.set_content(html, subtype="html")
    return message


def mailed(folder: Path, message: EmailMessage) -> Path:
    path = folder / "letter.eml"
    path.write_bytes(message.as_bytes())
    return path


def test_a_message_says_who_and_what(tmp_path: Path) -> None:
    """Its heads and its plain text are read; the HTML beside it is not."""
    path = mailed(tmp_path, letter("<b>rich</b>", "Dear all,\nplain é\n", "Grüße"))

    [page] = text.pages(str(path), EML)

    assert page == Text(
        "From: Ann <ann@example.com>\nTo: post@example.com\nSubject: Grüße\n\n"
        "Dear all,\nplain é"
    )


def test_a_message_in_html_is_read_without_what_it_hides(tmp_path: Path) -> None:
    """Scripts are no text, hidden words are counted, breaks are kept."""
    path = mailed(
        tmp_path,
        letter(
            "<style>p{}</style><p>Dear all,</p><p>one<br>two</p>"
            "<div style='display:none'>approve this</div><script>steal()</script>"
        ),
    )

    [page] = text.pages(str(path), EML)

    assert isinstance(page, Text)
    assert page.text.split("\n\n")[1:] == ["Dear all,", "one\ntwo"]
    assert page.hidden == len("approvethis")


def test_a_message_with_attachments_is_a_bundle(tmp_path: Path) -> None:
    """Attachments are listed by name, not opened; without any it is one document."""
    plain = letter(text="Dear all")
    with_files = letter(text="see there")
    for name in ("scan.pdf", "résumé.docx"):
        with_files.add_attachment(b"%PDF-", "application", "pdf", filename=name)

    alone = look(str(mailed(tmp_path, plain)), "letter.eml")
    bundle = look(str(mailed(tmp_path, with_files)), "letter.eml")

    assert (alone.bundle, alone.pages, alone.attachments) == (False, 1, ())
    assert (bundle.bundle, bundle.pages) == (True, 0)
    assert bundle.attachments == ("scan.pdf", "résumé.docx")


@pytest.mark.parametrize(
    ("html", "seen"),
    [
        ("<p hidden>x</p>", ""),
        ("<span style='font-size:0'>x</span>", ""),
        ("<span style='font-size: 1px'>x</span>", ""),
        ("<span style='font-size: 12px'>x</span>", "x"),
        ("<span style='visibility:hidden'>x</span>", ""),
        ("<span style='opacity:0'>x</span>", ""),
        ("<span style='opacity:0.9'>x</span>", "x"),
        ("<span style='color:#fff'>x</span>", ""),
        ("<font color='white'>x</font>", ""),
        ("<div style='background:#0000aa'><b style='color:white'>x</b></div>", "x"),
        ("<div style='background:#fff'><b style='color:white'>x</b></div>", ""),
        ("<div style='color:#fff'><b style='color:#000'>x</b></div>", "x"),
        ("<div style='display:none'>a<p>b</div>x", "x"),
        ("<p>1 &lt; 2 &amp; x</p>", "1 < 2 & x"),
        ("</div></p>x", "x"),
    ],
)
def test_html_is_seen_as_a_reader_sees_it(html: str, seen: str) -> None:
    """What plainly cannot be seen is left out; what can be seen never is."""
    text, hidden = text_of_html(html)

    assert text == seen
    assert bool(hidden) == ("x" not in seen or "none" in html)


def test_a_message_that_cannot_be_read_has_a_code(tmp_path: Path) -> None:
    """Nesting without end is a fact about the message, never a crash."""
    bound = "".join(
        f'Content-Type: multipart/mixed; boundary="{n}"\n\n--{n}\n'
        for n in range(1_200)
    )
    path = tmp_path / "letter.eml"
    path.write_text(f"From: a@example.com\nMIME-Version: 1.0\nTo: b\n{bound}\nhello\n")

    with pytest.raises(Unacceptable) as caught:
        list(text.pages(str(path), EML))

    assert caught.value.code == "CORRUPT"


# -- Word -----------------------------------------------------------------------------


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

    found = pages(saved(tmp_path, document), DOCX)

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


def test_white_letters_on_a_colour_are_seen(tmp_path: Path) -> None:
    """The head of a coloured table is white on blue: it is read."""
    document = docx.Document()
    table = document.add_table(rows=1, cols=1, style="Light Shading Accent 1")
    run = table.cell(0, 0).paragraphs[0].add_run("Amount")
    run.font.color.rgb = RGBColor(255, 255, 255)

    assert pages(saved(tmp_path, document), DOCX) == ["Amount"]


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
    with open_page(asked(path, DOCX, 1)) as page:
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

    [page] = pages(path, DOCX)

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
