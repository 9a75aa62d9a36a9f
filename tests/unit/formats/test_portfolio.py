"""Portfolios, and other PDFs whose pages are not what they are about."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from loadtest.corpora import pdf_writer
from pipeline.errors import Unacceptable
from stages.formats import portfolio
from stages.formats.probe import look


def wrapped(path: Path, files: dict[str, bytes], *, collection: bool = True) -> Path:
    """A PDF with files in it."""
    with pikepdf.open(BytesIO(pdf_writer.plain(1))) as pdf:
        if collection:
            pdf.Root.Collection = pikepdf.Dictionary()
        for name, data in files.items():
            pdf.attachments[name] = data
        pdf.save(path)
    return path


def parts(path: Path, parts_max: int = 9, part_bytes_max: int = 1 << 20) -> Any:
    with portfolio.opened(str(path), parts_max, part_bytes_max) as contents:
        return [(p.name, p.code, b"".join(p.read())) for p in contents.parts]


def test_a_portfolio_is_its_files(tmp_path: Path) -> None:
    """Each with its name and bytes; the cover sheet is named as left out."""
    path = wrapped(tmp_path / "a.pdf", {"ä one.txt": b"one", "two.txt": b"two"})

    assert look(str(path)).bundle
    assert sorted(parts(path)) == [("two.txt", "", b"two"), ("ä one.txt", "", b"one")]
    with portfolio.opened(str(path), 9, 99) as contents:
        assert contents.left_out == ["its own pages (cover sheet)"]


def test_a_pdf_with_a_file_attached_is_a_document(tmp_path: Path) -> None:
    """An invoice that carries its XML is no bundle; nor is an empty portfolio."""
    invoice = wrapped(tmp_path / "a.pdf", {"invoice.xml": b"<x/>"}, collection=False)
    empty = wrapped(tmp_path / "b.pdf", {})

    assert (look(str(invoice)).pages, look(str(invoice)).attachments) == (
        1,
        ("invoice.xml",),
    )
    assert look(str(empty)).pages == 1


def test_files_are_bounded(tmp_path: Path) -> None:
    """In number, in bytes once unpacked, and never empty."""
    path = wrapped(tmp_path / "a.pdf", {"big": bytes(5_000_000), "none": b""})

    codes = {name: code for name, code, _ in parts(path, 9, 1_000_000)}
    assert codes == {"big": "TOO_LARGE", "none": "EMPTY_FILE"}
    with pytest.raises(Unacceptable) as caught:
        parts(path, parts_max=1)
    assert caught.value.code == "BUNDLE_TOO_MANY"


XML = pdf_writer.stream(b"<xdp/>")


def form(path: Path, catalogue: str) -> str:
    path.write_bytes(pdf_writer.page(catalogue=catalogue, more=[XML]))
    return str(path)


@pytest.mark.parametrize(
    "catalogue",
    [
        "/AcroForm << /XFA 6 0 R /Fields [] >>",
        "/NeedsRendering true /AcroForm << /XFA [() 6 0 R] /Fields [3 0 R] >>",
    ],
)
def test_a_form_that_only_adobe_draws_is_refused(
    catalogue: str, tmp_path: Path
) -> None:
    """Its page says "Please wait", and nothing of what was filled in."""
    with pytest.raises(Unacceptable, match="XFA") as caught:
        look(form(tmp_path / "a.pdf", catalogue))

    assert (caught.value.code, bool(caught.value.hint)) == ("PDF_XFA", True)


@pytest.mark.parametrize("keys", ["/XFA 6 0 R /Fields [3 0 R]", "/Fields []"])
def test_a_form_with_its_fields_on_the_page_is_a_document(
    keys: str, tmp_path: Path
) -> None:
    """Whether it has an XFA as well or not."""
    assert look(form(tmp_path / "a.pdf", f"/AcroForm << {keys} >>")).pages == 1
