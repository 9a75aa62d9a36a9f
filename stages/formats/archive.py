"""
Parts of a ZIP archive.

An archive is data from a stranger: its names are never used as paths, its sizes
are checked before and while they are believed, and entries that share bytes
(D. Fifield, "A better zip bomb", 2019) are refused before one is unpacked.  What is
wrong with one entry refuses that entry; the others are read.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import PurePosixPath

from pipeline.errors import Unacceptable
from stages.formats.enclosed import ALL, Contents, Enclosed, too_many_parts, visible

LOCAL = struct.Struct("<4sHHHHHIIIHH")  # the header before an entry's bytes
LOCAL_SIGN = b"PK\3\4"
BUNDLE_SIGNS = (LOCAL_SIGN, b"PK\5\6")
# A name of 65,535 bytes is allowed and nobody has one; 10,000 entries with long
# names and extra fields stay under it.
DIRECTORY_BYTES_MAX = 16 << 20
# Deflate makes at most 1,032 bytes of one: what claims more is lying.
RATIO_MAX = 1100
PIECE_BYTES = 1 << 20
ENCRYPTED, SIZES_FOLLOW, UTF8 = 0x1, 0x8, 0x800
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
LARGE = 0xFFFFFFFF  # the size stands elsewhere (zip64)
# What file managers and office programs leave in folders that people pack.
JUNK = (".ds_store", "thumbs.db", "desktop.ini")
JUNK_STARTS = ("~$", "._")
# What zipfile raises at broken archives, found by feeding it some.
BROKEN = (
    zipfile.BadZipFile,
    NotImplementedError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class Bounded(io.FileIO):
    """A file that refuses to be read in pieces larger than a directory may be."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = DIRECTORY_BYTES_MAX  # a parser of archives then stands at its end
        if size > DIRECTORY_BYTES_MAX:
            raise too_large_directory()
        return super().read(size) or b""


@contextmanager
def opened(
    path: str, parts_max: int, part_bytes_max: int, within: slice = ALL
) -> Iterator[Contents]:
    """
    The entries of an archive, in the order of its directory.

    Args:
        within: Which of them are looked at closely, and given.

    Raises:
        Unacceptable: CORRUPT, TRUNCATED, BUNDLE_TOO_MANY, BUNDLE_OVERLAP.
    """
    with Bounded(path) as file:
        contents = Contents([])
        try:
            archive = zipfile.ZipFile(file)
            entries = list(kept(archive.infolist(), contents.skipped))
            if len(entries) > parts_max:
                raise too_many_parts(parts_max)
            entries = entries[within]
            flaws = layout(archive, entries)
        except BROKEN as error:
            raise broken(error) from None
        for entry, flaw in zip(entries, flaws, strict=True):
            contents.parts.append(described(archive, entry, flaw, part_bytes_max))
        yield contents


def kept(
    entries: list[zipfile.ZipInfo], skipped: Counter[str]
) -> Iterator[zipfile.ZipInfo]:
    """The entries somebody meant to send; the others are counted."""
    for entry in entries:
        path = PurePosixPath(entry.orig_filename.replace("\\", "/"))
        name = path.name.lower()
        if entry.orig_filename.endswith("/"):
            skipped["folder"] += 1
        elif "__MACOSX" in path.parts or name in JUNK or name.startswith(JUNK_STARTS):
            skipped["junk"] += 1
        else:
            yield entry


def layout(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> list[str]:
    """
    Where the bytes of each entry lie: "" or what is wrong with its own header.

    Raises:
        Unacceptable: BUNDLE_OVERLAP, two entries share bytes.
    """
    file = archive.fp
    assert file is not None
    flaws: list[str] = []
    spans: list[tuple[int, int]] = []
    for entry in entries:
        file.seek(entry.header_offset)
        head = file.read(LOCAL.size)
        if len(head) < LOCAL.size or not head.startswith(LOCAL_SIGN):
            flaws.append("it has no header where the directory says")
            continue
        _, _, flags, method, _, _, _, packed, size, names, extra = LOCAL.unpack(head)
        start = entry.header_offset
        end = start + LOCAL.size + names + extra + entry.compress_size
        spans.append((start, end))
        same = method == entry.compress_type and (
            bool(flags & SIZES_FOLLOW)
            or LARGE in (packed, size)
            or (packed, size) == (entry.compress_size, entry.file_size)
        )
        flaws.append("" if same else "its header contradicts the directory")
    spans.sort()
    spans.append((archive.start_dir, archive.start_dir))
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise Unacceptable(
                "entries of the archive share the same bytes",
                code="BUNDLE_OVERLAP",
                hint="no packer writes such an archive; pack the files again",
            )
    return flaws


def described(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, flaw: str, part_bytes_max: int
) -> Enclosed:
    """One entry, with the reason when it is refused."""
    code, why = refusal(entry, flaw, part_bytes_max)
    return Enclosed(
        visible(name_of(entry)),
        entry.file_size,
        partial(pieces, archive, entry),
        nests=bool if code else partial(nests, archive, entry),
        code=code,
        why=why,
    )


def refusal(entry: zipfile.ZipInfo, flaw: str, part_bytes_max: int) -> tuple[str, str]:
    """Code and sentence of an entry that is not even tried; ("", "") to try it."""
    mode = entry.external_attr >> 16
    kind = stat.S_IFMT(mode)
    # Only Unix packers write a mode; elsewhere the bits mean other things.
    if entry.create_system == 3 and kind not in (0, stat.S_IFREG):
        return "PART_NOT_A_FILE", "it is a link or a device, not a file"
    if entry.flag_bits & ENCRYPTED:
        return "ZIP_ENCRYPTED", "it is encrypted; pack it without a password"
    if flaw:
        return "PART_CORRUPT", flaw
    if entry.compress_type not in METHODS:
        return "ZIP_METHOD", "it is packed by a method other than deflate"
    if entry.file_size > part_bytes_max:
        return "TOO_LARGE", f"it has more than {part_bytes_max:,} bytes"
    if entry.file_size > RATIO_MAX * max(entry.compress_size, 1):
        return "PART_RATIO", "it claims more bytes than its packed ones can hold"
    return "", ""


def name_of(entry: zipfile.ZipInfo) -> str:
    """
    The name as its sender saw it, folders and all.

    Old macOS packers wrote UTF-8 without saying so; cp437, which the format then
    demands, would show `Ã¤` for `ä`.
    """
    name = entry.orig_filename
    if not entry.flag_bits & UTF8:
        try:
            return name.encode("cp437").decode("utf-8")
        except UnicodeError:
            return name
    return name


def nests(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """It is an archive by its first bytes, or a mail by its name."""
    try:
        with archive.open(entry) as file:
            return file.read(4) in BUNDLE_SIGNS or is_mail(entry)
    except BROKEN:
        return False  # unpacking will say so


def is_mail(entry: zipfile.ZipInfo) -> bool:
    """By its name: mail has no first bytes of its own."""
    return entry.orig_filename.lower().endswith(".eml")


def pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """
    The bytes of one entry, never more than it declares.

    Raises:
        Unacceptable: PART_CORRUPT, wrong checksum, wrong size or broken data.
    """
    left = entry.file_size
    try:
        with archive.open(entry) as file:
            while piece := file.read(PIECE_BYTES):
                left -= len(piece)
                yield piece
    except BROKEN:
        left = -1
    if left != 0:
        raise Unacceptable(
            "its checksum or its size is wrong",
            code="PART_CORRUPT",
            hint="the archive is damaged: pack and send it again",
        )


def broken(error: BaseException) -> Unacceptable:
    """The error for an archive that cannot be opened."""
    if "not a zip file" in str(error):  # no directory, which stands at its end
        return Unacceptable(
            "the archive ends before its directory does",
            code="TRUNCATED",
            hint="the copy was cut short: send the file again",
        )
    return Unacceptable(
        f"the archive cannot be read ({type(error).__name__})",
        code="CORRUPT",
        hint="pack the files again and send that",
    )


def too_large_directory() -> Unacceptable:
    """The error for a directory that is larger than 10,000 files explain."""
    return Unacceptable(
        f"the archive's directory is larger than {DIRECTORY_BYTES_MAX >> 20} MB",
        code="BUNDLE_TOO_MANY",
        hint="send the files in several archives",
    )
