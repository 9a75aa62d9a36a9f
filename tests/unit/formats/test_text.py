"""Documents that are text: pages of them, in whatever encoding they came."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Unacceptable
from stages.formats import text
from stages.formats.kinds import TXT
from stages.formats.pages import PAGE_CHARS, Text
from stages.formats.probe import DocumentBounds, look
from stages.reading.picture import open_page
from stages.reading.protocol import PageRequest


def asked(path: Path, index: int) -> PageRequest:
    return PageRequest(path=str(path), media_type=TXT, index=index)


def pages(path: Path) -> list[str]:
    found = text.pages(str(path), TXT)
    return [page.text for page in found if isinstance(page, Text)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_text_is_read_in_its_own_encoding(encoding: str, tmp_path: Path) -> None:
    """UTF-8, UTF-16 and Windows text come out the same, line ends included."""
    path = tmp_path / "letter.txt"
    path.write_bytes("Grüße,\r\nRené & Zoë\r\n".encode(encoding))

    assert pages(path) == ["Grüße,\nRené & Zoë\n"]


def test_pages_of_a_text_end_at_form_feeds(tmp_path: Path) -> None:
    """A form feed turns the page; one at the very end makes no empty page."""
    path = tmp_path / "letter.txt"
    path.write_bytes(b"one\n\ftwo\n\f\fthree\n\f\n")

    assert pages(path) == ["one\n", "two\n", "", "three\n"]


def test_a_line_without_an_end_is_cut_into_pages(tmp_path: Path) -> None:
    """However long a line is, a page is bounded, and not a letter is lost."""
    path = tmp_path / "letter.txt"
    text = "".join(chr(97 + n % 26) for n in range(500_000))
    path.write_text(text)

    found = pages(path)

    assert max(map(len, found)) <= PAGE_CHARS
    assert "".join(found) == text


def test_a_long_text_is_cut_between_lines(tmp_path: Path) -> None:
    """Where there are lines, no line is torn."""
    path = tmp_path / "letter.txt"
    lines = [f"This is line {number} of many." for number in range(10_000)]
    path.write_text("\n".join(lines))

    found = pages(path)

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

    with open_page(asked(path, 1)) as page:
        assert page.text() == "two"
    with pytest.raises(Unacceptable) as caught, open_page(asked(path, 2)):
        pass
    assert caught.value.code == "NO_SUCH_PAGE"
