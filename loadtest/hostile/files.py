"""
The hostile corpus: every file that ever broke something, made in code.

A seed and the listener's address decide every byte.  No file is copied from
anywhere; the names say what the files are.  Most never were documents; some are
good ones, so that a service which refuses everything is found out as well.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loadtest.hostile import bundles as hostile_bundles
from loadtest.hostile import pdf_writer
from loadtest.hostile import pdfs as hostile_pdfs
from loadtest.hostile import pictures as hostile_pictures
from loadtest.hostile import texts as hostile_texts

Entry = Literal["file", "symlink", "fifo", "hardlink", "folder", "sparse", "socket"]

# An honest file and an empty one of every kind that is read.
HONEST: dict[str, Callable[[int], bytes]] = {
    **{
        kind: lambda number, kind=kind: hostile_pictures.letter(kind, number)  # type: ignore[misc]
        for kind in ("png", "jpg", "tif", "webp", "bmp", "gif", "heic")
    },
    "pdf": pdf_writer.plain,
    "docx": hostile_bundles.word,
    "txt": hostile_texts.note,
    "eml": hostile_bundles.post,
    "zip": lambda number: hostile_bundles.zipped([hostile_bundles.good(number)]),
}
CUTS = (10, 30, 60, 90)  # % of the file that is left
FLIPS = 4  # mutants of every kind
SPARSE_BYTES = 1 << 38  # takes no room on disk


@dataclass(frozen=True, slots=True)
class Hostile:
    """
    One entry to put into an inbox.

    Attributes:
        name: Bytes that are no UTF-8 as surrogates.
        data: The content; of a link, what it points to.
    """

    name: str
    data: bytes
    entry: Entry = "file"


def hostile_files(seed: int, url: str) -> list[Hostile]:
    """The whole corpus; what would call home calls `url`."""
    rng = random.Random(f"hostile:{seed}")
    files = [
        Hostile(name, data)
        for part in (
            honest(),
            hostile_pictures.pictures(rng),
            hostile_pdfs.pdfs(rng, url),
            hostile_bundles.bundles(rng, url),
            hostile_texts.texts(rng),
            hostile_texts.impostors(url),
            hostile_texts.odd_names(),
            cut(),
            flipped(rng),
            misnamed(),
        )
        for name, data in part
    ]
    assert len({f.name for f in files}) == len(files)
    return files + odd_entries()


def honest() -> Iterator[tuple[str, bytes]]:
    """A good file of every kind."""
    for number, (kind, make) in enumerate(HONEST.items()):
        yield f"good.{kind}", make(200 + number)


def cut() -> Iterator[tuple[str, bytes]]:
    """Every kind, cut short."""
    for number, (kind, make) in enumerate(HONEST.items()):
        for share in CUTS:
            whole = make(300 + number)
            yield f"cut-at-{share}.{kind}", whole[: len(whole) * share // 100]


def flipped(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Every kind with a few bits turned over, anywhere behind its first bytes."""
    for number, (kind, make) in enumerate(HONEST.items()):
        for mutant in range(FLIPS):
            data = bytearray(make(400 + number))
            for _ in range(2 << 2 * mutant):  # from a scratch to a wreck
                data[rng.randrange(8, len(data))] ^= 1 << rng.randrange(8)
            yield f"flipped-{mutant}.{kind}", bytes(data)


def misnamed() -> Iterator[tuple[str, bytes]]:
    """Every kind under the suffix of every other.  Empty sheets: quick to read."""
    number = 0
    for kind, make in HONEST.items():
        for suffix in HONEST:
            if suffix == kind:
                continue
            number += 1
            if kind in ("docx", "txt", "eml", "zip"):
                yield f"is-{kind}.{suffix}", make(500 + number)
            elif kind == "pdf":
                yield f"is-{kind}.{suffix}", pdf_writer.empty(number)
            else:
                yield f"is-{kind}.{suffix}", hostile_pictures.blank(kind, number)


def odd_entries() -> list[Hostile]:
    """What lies in a folder and is no file, or has a second name."""
    return [
        Hostile("odd-link.pdf", b"/etc/passwd", "symlink"),
        Hostile("odd-link-dangling.pdf", b"/nowhere/at/all", "symlink"),
        Hostile("odd-link-to-itself.pdf", b"odd-link-to-itself.pdf", "symlink"),
        Hostile("odd-link-to-folder.pdf", b"/etc", "symlink"),
        Hostile("odd-pipe.pdf", b"", "fifo"),
        Hostile("odd-socket.pdf", b"", "socket"),
        Hostile("odd-second-name.png", b"good.png", "hardlink"),
        Hostile("odd-folder.pdf", b"", "folder"),
        Hostile("odd-sparse.tif", b"II*\0", "sparse"),
    ]


def chosen(files: list[Hostile], most: int, seed: int) -> list[Hostile]:
    """At most `most` of them, of every group (the first word of the name) some."""
    if most >= len(files):
        return files
    rng = random.Random(f"chosen:{seed}")
    groups: dict[str, list[Hostile]] = {}
    for file in files:
        groups.setdefault(file.name.partition("-")[0], []).append(file)
    for group in groups.values():
        rng.shuffle(group)
    turns = [
        group[n] for n in range(most) for group in groups.values() if n < len(group)
    ]
    return turns[:most]


def plant(folder: Path, file: Hostile) -> None:
    """
    Make one entry in `folder`; a file appears there whole.

    Raises:
        OSError: the file system has no such thing; tests and runs want one that has.
    """
    path = folder / file.name
    match file.entry:
        case "file":
            path.write_bytes(file.data)
            if not file.data:
                # Empty files rest long before they are taken; this says it is all.
                path.with_name(path.name + ".done").touch()
        case "symlink":
            path.symlink_to(os.fsdecode(file.data))
        case "hardlink":
            first = folder / f"linked-{os.fsdecode(file.data)}"
            first.write_bytes(b"\x89PNG\r\n\x1a\n, twice")
            path.hardlink_to(first)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "sparse":
            path.write_bytes(file.data)
            os.truncate(path, SPARSE_BYTES)
        case "socket":
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(str(path))
