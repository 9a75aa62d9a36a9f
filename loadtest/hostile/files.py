"""
The hostile corpus: every file that ever broke something, made in code.

A seed and the listener's address decide every byte.  No file is copied from
anywhere; the names say what the files are.  Most never were documents; some are
good ones, so that a service which refuses everything is found out as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from loadtest.corpora import pdf_writer, slips
from loadtest.hostile import bundles, pdfs, pictures, texts
from loadtest.hostile.entry import Hostile, Named

# An honest file and an empty one of every kind that is read.
HONEST: dict[str, Callable[[int], bytes]] = {
    **{
        kind: lambda number, kind=kind: slips.letter(kind, number)  # type: ignore[misc]
        for kind in ("png", "jpg", "tif", "webp", "bmp", "gif", "heic")
    },
    "pdf": pdf_writer.plain,
    "docx": bundles.word,
    "txt": texts.note,
    "eml": bundles.post,
    "zip": lambda number: bundles.zipped([bundles.good(number)]),
}
CUTS = (10, 30, 60, 90)  # % of the file that is left
FLIPS = 4  # mutants of every kind


def hostile_files(seed: int, url: str) -> list[Hostile]:
    """The whole corpus; what would call home calls `url`."""
    rng = random.Random(f"hostile:{seed}")
    files = [
        Hostile(name, data)
        for part in (
            honest(),
            pictures.pictures(rng),
            pdfs.pdfs(rng, url),
            bundles.bundles(rng, url),
            texts.texts(rng),
            texts.impostors(url),
            texts.odd_names(),
            cut(),
            flipped(rng),
            misnamed(),
        )
        for name, data in part
    ]
    assert len({f.name for f in files}) == len(files)
    return files + odd_entries()


def honest() -> Iterator[Named]:
    """A good file of every kind."""
    for number, (kind, make) in enumerate(HONEST.items()):
        yield f"good.{kind}", make(200 + number)


def cut() -> Iterator[Named]:
    """Every kind, cut short."""
    for number, (kind, make) in enumerate(HONEST.items()):
        for share in CUTS:
            whole = make(300 + number)
            yield f"cut-at-{share}.{kind}", whole[: len(whole) * share // 100]


def flipped(rng: random.Random) -> Iterator[Named]:
    """Every kind with a few bits turned over, anywhere behind its first bytes."""
    for number, (kind, make) in enumerate(HONEST.items()):
        for mutant in range(FLIPS):
            data = bytearray(make(400 + number))
            for _ in range(2 << 2 * mutant):  # from a scratch to a wreck
                data[rng.randrange(8, len(data))] ^= 1 << rng.randrange(8)
            yield f"flipped-{mutant}.{kind}", bytes(data)


def misnamed() -> Iterator[Named]:
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
                yield f"is-{kind}.{suffix}", slips.blank(kind, number)


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
