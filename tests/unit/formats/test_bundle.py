"""What is in a bundle: archives and mails of strangers."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import Unacceptable
from stages.formats import bundle
from stages.formats.archive import DIRECTORY_BYTES_MAX
from stages.formats.enclosed import Enclosed, visible
from stages.formats.kinds import EML, ZIP

MIB = 1 << 20


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a jailed process leaves its files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def archive(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    """A ZIP of these entries, in order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in entries:
            packed.writestr(name, data)
    return path


def entry(name: str, **fields: Any) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def bundled(path: Path, media_type: str, bounds: dict[str, Any]) -> dict[str, Any]:
    file = bundle.BundleFile(
        path=str(path),
        media_type=media_type,
        parts_max=bounds.pop("parts_max", 100),
        part_bytes_max=bounds.pop("part_bytes_max", 64 * MIB),
    )
    return file.model_dump()


def contents(path: Path, media_type: str = ZIP, **more: Any) -> bundle.Overview:
    file = bundled(path, media_type, more)
    bounds = {"unpacked_bytes_max": 256 * MIB, "range_parts": 200}
    return bundle.Overview.model_validate(bundle.contents(file, **bounds | more))


def unpacked(path: Path, media_type: str = ZIP, **more: Any) -> list[bundle.Unpacked]:
    file = bundled(path, media_type, more)
    made = bundle.unpack(file, **{"first": 1, "last": 100} | more)
    return [bundle.Unpacked.model_validate(part) for part in made]


def patched(path: Path, old: bytes, new: bytes, *, last: bool = False) -> Path:
    """The file with one place of it changed."""
    data = path.read_bytes()
    at = data.rindex(old) if last else data.index(old)
    path.write_bytes(data[:at] + new + data[at + len(old) :])
    return path


# -- archives -------------------------------------------------------------------------


def test_parts_are_files_under_numbers(tmp_path: Path, scratch: Path) -> None:
    """A name in an archive is text: it never says where something is written."""
    names = ["a/letter.txt", "../../escaped.txt", "/etc/passwd", "c:\\x.txt"]
    packed = archive(tmp_path / "a.zip", *((name, name.encode()) for name in names))

    parts = unpacked(packed)

    assert [part.name for part in parts] == names
    kept = {file.name: file.read_bytes() for file in scratch.iterdir()}
    assert kept == {f"{n:05}.bin": name.encode() for n, name in enumerate(names, 1)}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.zip", "scratch"]


def test_a_range_is_unpacked_without_the_others(tmp_path: Path, scratch: Path) -> None:
    """What is on disk at once does not grow with the archive."""
    packed = archive(tmp_path / "a.zip", *((f"{n}.txt", b"x") for n in range(1, 8)))

    parts = unpacked(packed, first=3, last=4)

    assert [part.number for part in parts] == [3, 4]
    assert sorted(f.name for f in scratch.iterdir()) == ["00003.bin", "00004.bin"]


def test_ranges_are_bounded_by_parts_and_by_bytes() -> None:
    """A range of large parts is a short one, and every part is in one range."""
    sizes = [1, 1, 1, bundle.RANGE_BYTES, 1, 2 * bundle.RANGE_BYTES, 1]
    parts = [Enclosed("", size, lambda: iter(())) for size in sizes]

    cut = bundle.ranges(parts, 2)

    assert cut == [(1, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7)]


def test_litter_is_counted_and_left(tmp_path: Path) -> None:
    """What file managers leave in folders is no document."""
    litter = ["__MACOSX/._a.png", "x/.DS_Store", "Thumbs.db", "~$letter.docx", "x/"]
    packed = archive(
        tmp_path / "a.zip", ("a.png", b"x"), *((name, b"") for name in litter)
    )

    found = contents(packed)

    assert found.parts == 1
    assert found.skipped == {"junk": 4, "folder": 1}


LINK = entry("link", create_system=3, external_attr=0o120777 << 16)
FLAWS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "link": (
        "PART_NOT_A_FILE",
        lambda path: archive(path, (LINK, b"/etc/passwd"), ("good", b"good")),
    ),
    "checksum": (
        "PART_CORRUPT",
        lambda path: patched(stored(path), b"first bytes", b"FIRST bytes"),
    ),
    "size in header": (
        "PART_CORRUPT",
        lambda path: patched(stored(path), struct.pack("<II", 11, 11), b"\7\0\0\0" * 2),
    ),
    "size in both": (
        "PART_CORRUPT",
        lambda path: patched(
            patched(
                stored(path), struct.pack("<II", 11, 11), struct.pack("<II", 11, 7)
            ),
            struct.pack("<II", 11, 11),
            struct.pack("<II", 11, 7),
        ),
    ),
    "ratio": (
        "PART_RATIO",
        lambda path: patched(
            patched(
                stored(path), struct.pack("<II", 11, 11), struct.pack("<II", 11, MIB)
            ),
            struct.pack("<II", 11, 11),
            struct.pack("<II", 11, MIB),
        ),
    ),
    "encrypted": (
        "ZIP_ENCRYPTED",
        lambda path: patched(
            stored(path), b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"
        ),
    ),
    "method": (
        "ZIP_METHOD",
        lambda path: archive(
            path, (entry("b", compress_type=zipfile.ZIP_BZIP2), b"b"), ("good", b"good")
        ),
    ),
    "large": (
        "TOO_LARGE",
        lambda path: archive(path, ("large", bytes(65 * MIB)), ("good", b"good")),
    ),
}


def stored(path: Path) -> Path:
    """Two entries that are not compressed, so that tests can change their bytes."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("first", b"first bytes")
        packed.writestr("good", b"good")
    return path


@pytest.mark.parametrize("flaw", FLAWS)
def test_what_is_wrong_with_one_part_refuses_it_alone(
    flaw: str, tmp_path: Path, scratch: Path
) -> None:
    """It has a code, nothing of it is left on disk, and the next part is read."""
    code, make = FLAWS[flaw]
    packed = make(tmp_path / "a.zip")

    bad, good = unpacked(packed)

    assert (bad.code, bad.file) == (code, "")
    assert good.code == ""
    assert [file.read_bytes() for file in scratch.iterdir()] == [b"good"]


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """The bomb that needs no nesting: many entries of the same packed bytes."""
    path = stored(tmp_path / "a.zip")
    data = path.read_bytes()
    first, last = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entries = data[first:last]
    twice = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 4, 4, 2 * len(entries), first, 0)
    path.write_bytes(data[:first] + entries * 2 + twice)

    with pytest.raises(Unacceptable) as caught:
        contents(path)

    assert caught.value.code == "BUNDLE_OVERLAP"


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"parts_max": 2}, "BUNDLE_TOO_MANY"),
        ({"unpacked_bytes_max": 2}, "BUNDLE_TOO_LARGE"),
    ],
)
def test_a_bundle_over_its_bounds_is_refused_whole(
    bounds: dict[str, Any], code: str, tmp_path: Path, scratch: Path
) -> None:
    """By what it declares, before a byte is unpacked."""
    packed = archive(tmp_path / "a.zip", ("a", b"a"), ("b", b"b"), ("c", b"c"))

    with pytest.raises(Unacceptable) as caught:
        contents(packed, **bounds)

    assert caught.value.code == code
    assert list(scratch.iterdir()) == []


def test_a_directory_of_millions_is_not_read(tmp_path: Path) -> None:
    """The directory is bounded before it is in memory."""
    path = tmp_path / "a.zip"
    size = DIRECTORY_BYTES_MAX + 1
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0)
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(end)

    with pytest.raises(Unacceptable) as caught:
        contents(path)

    assert caught.value.code == "BUNDLE_TOO_MANY"


def test_an_archive_cut_short_says_so(tmp_path: Path) -> None:
    """The directory stands at the end: what lost it was cut off."""
    path = stored(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:60])

    with pytest.raises(Unacceptable) as caught:
        contents(path)

    assert caught.value.code == "TRUNCATED"


def test_an_archive_in_an_archive_needs_room(tmp_path: Path) -> None:
    """It is known by its content, under any name."""
    inner = archive(tmp_path / "b.zip", ("letter", b"x")).read_bytes()
    packed = archive(tmp_path / "a.zip", ("innocent.png", inner), ("letter", b"x"))

    found = contents(packed)

    assert (found.parts, found.nests) == (2, 1)


def test_an_entry_without_a_name_is_read(tmp_path: Path, scratch: Path) -> None:
    """Nothing needs a name but people."""
    path = archive(tmp_path / "a.zip", (entry(""), b"x"), ("b", b"y"))

    parts = unpacked(path)

    assert [part.name for part in parts] == ["unnamed", "b"]


def test_umlauts_of_old_packers_are_read(tmp_path: Path, scratch: Path) -> None:
    """UTF-8 without the flag that says so, as macOS wrote it for years."""
    path = archive(tmp_path / "a.zip", ("grabcd.txt", b"x"))
    path.write_bytes(path.read_bytes().replace(b"grabcd", "grüß".encode()))

    [part] = unpacked(path)

    assert part.name == "grüß.txt"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("invoice\u202egnp.exe", "invoice\\u202egnp.exe"),
        ("\0", "\\x00"),
        ("", "unnamed"),
        ("n" * 500 + ".png", "n" * 79 + "…" + "n" * 36 + ".png"),
    ],
)
def test_names_are_fit_to_be_shown(name: str, shown: str) -> None:
    """Nothing in a name acts on a terminal, and its ending is kept."""
    assert visible(name) == shown


# -- mail -----------------------------------------------------------------------------


def picture(width: int, height: int, *, noisy: bool = False) -> bytes:
    out = BytesIO()
    image = Image.effect_noise((width, height), 90) if noisy else Image.new("L", (9, 9))
    image.resize((width, height)).save(out, "PNG")
    return out.getvalue()


def mail(path: Path, attached: dict[str, bytes], text: str = "Dear Santa") -> Path:
    message = EmailMessage()
    message["From"], message["To"] = "anna@example.org", "santa@example.org"
    message["Subject"] = "A letter"
    message.set_content(text)
    for name, data in attached.items():
        message.add_attachment(
            data, maintype="application", subtype="octet-stream", filename=name
        )
    path.write_bytes(message.as_bytes())
    return path


def test_a_mail_is_its_text_and_its_attachments(tmp_path: Path, scratch: Path) -> None:
    """Bytes as they were attached, names as they were given."""
    path = mail(tmp_path / "a.eml", {"scan ä.png": b"\x89PNG", "b.pdf": b"%PDF-"})

    text, *files = unpacked(path, EML)

    assert (text.name, text.pages, text.file) == ("message", 1, "")
    assert [part.name for part in files] == ["scan ä.png", "b.pdf"]
    kept = [(scratch / part.file).read_bytes() for part in files]
    assert kept == [b"\x89PNG", b"%PDF-"]


def test_a_mail_that_says_nothing_has_no_text_part(
    tmp_path: Path, scratch: Path
) -> None:
    """A scanner's mail is its attachment alone."""
    path = mail(tmp_path / "a.eml", {"scan.pdf": b"%PDF-"}, text=" \n")

    [part] = unpacked(path, EML)

    assert part.name == "scan.pdf"


def test_logos_are_decoration_and_photos_are_not(tmp_path: Path, scratch: Path) -> None:
    """What stands inside the text is a part when a person could read it."""
    message = EmailMessage()
    message["From"] = "anna@example.org"
    message.set_content("see below")
    message.add_alternative('<p>see <img src="cid:1"></p>', subtype="html")
    _, html = message.iter_parts()
    assert isinstance(html, EmailMessage)
    tiny, flat = picture(16, 16), picture(900, 60, noisy=True)
    for number, data in enumerate((tiny, flat, picture(300, 400, noisy=True)), 1):
        html.add_related(data, "image", "png", cid=f"<{number}>")
    path = tmp_path / "a.eml"
    path.write_bytes(message.as_bytes())

    found, parts = contents(path, EML), unpacked(path, EML)

    assert found.skipped == {"other form": 1, "decoration": 2}
    assert [part.name for part in parts] == ["message", "part 2.png"]


def test_a_small_picture_that_was_attached_is_kept(
    tmp_path: Path, scratch: Path
) -> None:
    """Whoever attaches an icon means it."""
    message = EmailMessage()
    message["From"] = "anna@example.org"
    message.set_content("<p>see</p>", subtype="html")
    how: dict[str, Any] = {"filename": "icon.png", "disposition": "attachment"}
    message.add_related(picture(16, 16), "image", "png", **how)
    path = tmp_path / "a.eml"
    path.write_bytes(message.as_bytes())

    parts = unpacked(path, EML)

    assert [part.name for part in parts] == ["message", "icon.png"]


def test_a_programs_signature_is_no_document(tmp_path: Path) -> None:
    """It is counted, whatever its name."""
    path = mail(tmp_path / "a.eml", {"smime.p7s": b"\x30\x82", "scan.pdf": b"%PDF-"})
    old = b"application/octet-stream"
    patched(path, old, b"application/pkcs7-signature")

    found = contents(path, EML)

    assert (found.parts, found.skipped) == (2, {"signature": 1})


def test_a_mail_that_cannot_be_taken_out_is_refused(
    tmp_path: Path, scratch: Path
) -> None:
    """Forwarded deeper than it can be written again: refused, and said so."""
    head = b"From: a@example.org\r\nMIME-Version: 1.0\r\n"
    data = head + b"\r\nhello\r\n"
    for _ in range(400):
        data = head + b"Content-Type: message/rfc822\r\n\r\n" + data
    path = tmp_path / "a.eml"
    path.write_bytes(data)

    [part] = unpacked(path, EML)

    assert part.code == "PART_CORRUPT"


def test_a_mail_in_a_mail_is_one_part(tmp_path: Path, scratch: Path) -> None:
    """It is opened by its own intake, with what is attached to it."""
    outer = EmailMessage()
    outer["From"] = "anna@example.org"
    outer.set_content("forwarded")
    inner = EmailMessage()
    inner["From"], inner["Subject"] = "santa@example.org", "Ho ho"
    inner.set_content("ho")
    inner.add_attachment(b"%PDF-", "application", "pdf", filename="scan.pdf")
    outer.add_attachment(inner)
    path = tmp_path / "outer.eml"
    path.write_bytes(outer.as_bytes())

    _, part = unpacked(path, EML)

    assert (part.name, part.nests) == ("Ho ho.eml", True)
    assert contents(scratch / part.file, EML).parts == 2
