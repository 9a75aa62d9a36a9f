"""TNEF: what Outlook packed is taken out, and what is broken is named."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from loadtest.corpora.field import winmail
from pipeline.errors import Unacceptable
from stages.formats import tnef
from stages.formats.bundle import BundleFile, contents
from stages.formats.kinds import TNEF
from stages.formats.probe import look


def properties(*rows: tuple[int, int, bytes]) -> bytes:
    """Properties of varying length, as a stream has them."""
    made = struct.pack("<I", len(rows))
    for kind, key, value in rows:
        made += struct.pack("<HHII", kind, key, 1, len(value))
        made += value + bytes(-len(value) % 4)
    return made


def attribute(level: int, name: int, data: bytes) -> bytes:
    head = struct.pack("<BHHI", level, name, 6, len(data))
    return head + data + struct.pack("<H", sum(data) & 0xFFFF)


def test_files_come_with_their_names() -> None:
    """Bytes as they were attached."""
    found = tnef.opened(winmail(("Größe.txt", b"one"), ("b.pdf", b"%PDF-")))

    named = [(file.name, file.data) for file in found.files]
    assert named == [("Größe.txt", b"one"), ("b.pdf", b"%PDF-")]


def test_long_names_text_and_html_stand_in_properties() -> None:
    """The long name before the short one; the text in Unicode, or the HTML's."""
    start = winmail()
    html = properties((tnef.BINARY, tnef.P_HTML, b"<p>Dear <b>all</b></p>"))
    name = properties(
        (tnef.UNICODE, tnef.P_NAME, "Vertrag für Łódź.pdf\0".encode("utf-16-le")),
        (tnef.BINARY, tnef.P_DATA, b"%PDF-1.4"),
    )
    data = start + attribute(1, tnef.MESSAGE, html) + attribute(2, tnef.BEGINS, b"")
    data += attribute(2, tnef.TITLE, b"VERTRA~1.PDF\0")
    data += attribute(2, tnef.ATTACHMENT, name)

    found = tnef.opened(data)

    assert found.text == "Dear all"
    [file] = found.files
    assert (file.name, file.data) == ("Vertrag für Łódź.pdf", b"%PDF-1.4")


def test_rich_text_alone_is_said() -> None:
    """It is not read, and not passed over in silence."""
    rich = properties((tnef.BINARY, tnef.P_RTF, b"compressed"))

    assert tnef.opened(winmail() + attribute(1, tnef.MESSAGE, rich)).rich


@pytest.mark.parametrize("cut", [8, 20, 60, -1])
def test_a_broken_stream_is_refused_by_its_name(cut: int, tmp_path: Path) -> None:
    """At the door already, when it comes alone."""
    path = tmp_path / "winmail.dat"
    path.write_bytes(winmail(("a.txt", b"one and two"))[:cut])

    with pytest.raises(Unacceptable, match="TNEF") as caught:
        look(str(path), "winmail.dat")

    assert caught.value.code == "CORRUPT"


def test_a_stream_that_comes_alone_is_a_bundle(tmp_path: Path) -> None:
    """Its text and its files are parts."""
    path = tmp_path / "winmail.dat"
    body = attribute(1, tnef.BODY, b"Please see the file.\0")
    file_of_it = winmail(("a.txt", b"one"))
    path.write_bytes(file_of_it[:6] + body + file_of_it[6:])

    found = look(str(path), "winmail.dat")
    file = BundleFile(
        path=str(path), media_type=TNEF, parts_max=9, part_bytes_max=1 << 20
    )

    assert (found.media_type, found.bundle) == (TNEF, True)
    assert contents(file.model_dump(), 1 << 20, 9)["parts"] == 2
