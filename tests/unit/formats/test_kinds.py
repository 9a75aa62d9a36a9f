"""The kind of a file is told by its bytes; what only looks like text is refused."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import Unacceptable
from stages.formats import kinds
from stages.formats.kinds import type_of

MAIL = (
    b"Received: from mx.example by in.example\r\n"
    b"From: Ann <ann@example.com>\r\nTo: post@example.com\r\nSubject: A letter\r\n"
    b"\r\nDear all,\r\n"
)


def written(folder: Path, data: bytes) -> str:
    path = folder / "file"
    path.write_bytes(data)
    return str(path)


def archive(folder: Path, *names: str) -> str:
    path = folder / "file"
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, "x")
    return str(path)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n...", kinds.PNG),
        (b"\xff\xd8\xff\xe0....", kinds.JPEG),
        (b"II*\0....", kinds.TIFF),
        (b"MM\0+....", kinds.TIFF),
        (b"GIF89a......", kinds.GIF),
        (b"RIFF\x10\0\0\0WEBPVP8 ", kinds.WEBP),
        (b"BM" + bytes(12) + struct.pack("<I", 40) + bytes(30), kinds.BMP),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", kinds.HEIC),
        (b"\0\0\0\x1cftypmif1\0\0\0\0heicmif1miaf", kinds.HEIC),
        (b"%PDF-1.7\n...", kinds.PDF),
        (b"job 7 of 9\n%PDF-1.4\n1 0 obj\nendobj\n%%EOF\n", kinds.PDF),
        (MAIL, kinds.EML),
        (MAIL.replace(b"\r\n", b"\n"), kinds.EML),
        (b"Dear Santa, I have been good.\n", kinds.TXT),
        ("Grüße an alle, außer mir".encode("latin-1"), kinds.TXT),
        ("Žluťoučký kůň, здравствуйте".encode(), kinds.TXT),
        ("Добрый день, дорогие".encode("koi8-r"), kinds.TXT),
        ("Dear Santa".encode("utf-16"), kinds.TXT),
        (b"a, b\n1 < 2 and <three> is not a tag\n", kinds.TXT),
        (b"BMW wrote to me yesterday, and again.\n", kinds.TXT),
        # The top of a paper letter, typed: no program wrote any of it.
        (b"From: Ann\nTo: Santa\nDate: 3 December\n\nDear Santa\n", kinds.TXT),
    ],
)
def test_a_kind_is_known_by_its_bytes(data: bytes, kind: str, tmp_path: Path) -> None:
    """Pictures, PDFs, messages and texts are told apart without a name."""
    assert type_of(written(tmp_path, data)) == kind


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<!DOCTYPE html><p>hello", "HTML"),
        (b"\xef\xbb\xbf  <html><body>hello", "HTML"),
        ("<html>hello</html>".encode("utf-16"), "HTML"),
        (b"notes before\n<html><head><title>", "HTML"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG"),
        (b"<svg width='1'></svg>", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6\x20\0\0\0", "EPS"),
        (b"{\\rtf1\\ansi hello}", "RTF"),
        (b"#!/bin/sh\nrm -rf /\n", "script"),
        (b"push graphic-context\nimage over 0,0\n", "drawing script"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1....", "old Office"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "avif"),
        (b"%1.4\n1 0 obj\n<<>>\nendobj\n", "without its header"),
        (bytes(range(256)) * 8, "type"),
        (b"PDF: see %PDF-1.4\n" + bytes(100), "type"),
    ],
)
def test_what_is_not_a_document_is_refused(
    data: bytes, said: str, tmp_path: Path
) -> None:
    """Web pages, printers' programs and unknown bytes are named, with a hint."""
    with pytest.raises(Unacceptable) as caught:
        type_of(written(tmp_path, data))

    assert caught.value.code == "UNSUPPORTED_TYPE"
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("[Content_Types].xml", "word/document.xml"), kinds.DOCX),
        (("letter 1.pdf", "letter 2.pdf"), kinds.ZIP),
        (("word/document.xml", "holiday.jpg"), kinds.ZIP),
        ((), kinds.ZIP),
    ],
)
def test_a_word_document_is_told_from_an_archive(
    names: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    """Both are ZIP files; what is in them decides."""
    assert type_of(archive(tmp_path, *names)) == kind


@pytest.mark.parametrize(
    "name", ["xl/workbook.xml", "ppt/presentation.xml", "META-INF/container.xml"]
)
def test_other_office_files_are_refused(name: str, tmp_path: Path) -> None:
    """A workbook is not a bundle of XML files: it is refused by its name."""
    with pytest.raises(Unacceptable) as caught:
        type_of(archive(tmp_path, "[Content_Types].xml", name))

    assert caught.value.code == "UNSUPPORTED_TYPE"
    assert "PDF" in caught.value.hint


def test_the_first_bytes_decide_over_what_follows(tmp_path: Path) -> None:
    """A picture with an archive behind it is a picture; and the other way round."""
    packed = Path(archive(tmp_path, "a.txt")).read_bytes()

    picture = type_of(written(tmp_path, b"GIF89a" + packed))
    bundle = type_of(written(tmp_path, packed + b"%PDF-1.4 %%EOF"))

    assert (picture, bundle) == (kinds.GIF, kinds.ZIP)


def test_a_huge_directory_is_not_read(tmp_path: Path) -> None:
    """Of a ZIP that lists many files only the first names are looked at."""
    names = [f"{number}" for number in range(kinds.NAMES_MAX + 500)]
    path = archive(tmp_path, *names)

    with open(path, "rb") as file:
        found = list(kinds.entry_names(file))

    assert found == names[: kinds.NAMES_MAX]
