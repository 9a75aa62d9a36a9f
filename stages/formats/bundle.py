"""
Bundles, as read in the jail: what is in one, and its parts as files.

`contents` looks, `unpack` writes a range of parts into the scratch folder, where the
worker takes them; `separators` finds the sheets in a stack of pages.  All three are
plain functions of a file: asked again they answer the same, so that a crash costs
one range and no part is two.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.errors import Unacceptable
from stages.formats.enclosed import ALL, Contents, Enclosed
from stages.formats.kinds import EML

RANGE_BYTES = 64 << 20  # unpacked at once: what lies on disk before it is kept
NAME = "{:05}.bin"


def contents(
    path: str,
    media_type: str,
    parts_max: int,
    part_bytes_max: int,
    unpacked_bytes_max: int,
    range_parts: int,
) -> dict[str, Any]:
    """
    What a bundle holds, nothing of it unpacked.

    Returns:
        `parts`, how many; `nests`, how many of them look like bundles; `pages`
        of its own text; `bytes` in all; `skipped`, word to count; and `ranges`:
        [first, last] from 1, each small enough for one `unpack`.

    Raises:
        Unacceptable: as `opened`, and BUNDLE_TOO_LARGE.
    """
    with opened(path, media_type, parts_max, part_bytes_max) as found:
        parts = found.parts
        total = sum(part.size_bytes for part in parts if not part.code)
        if total > unpacked_bytes_max:
            raise Unacceptable(
                f"the bundle unpacks to {total:,} bytes, "
                f"{unpacked_bytes_max:,} are allowed",
                code="BUNDLE_TOO_LARGE",
                hint="send it in several, or raise max_unpacked_bytes of the "
                "intake stage",
            )
        return {
            "parts": len(parts),
            "nests": sum(part.nests() for part in parts),
            "pages": sum(part.pages for part in parts),
            "bytes": total,
            "skipped": dict(found.skipped),
            "ranges": ranges(parts, range_parts),
        }


def unpack(
    path: str,
    media_type: str,
    parts_max: int,
    part_bytes_max: int,
    first: int,
    last: int,
) -> list[dict[str, Any]]:
    """
    Write parts `first` to `last` into the scratch folder, each under a number.

    Returns:
        Of each part `number`, `name`, `size_bytes`, `nests`, `pages`, `code`,
        `why`, and `file`: "" for a part that is refused or has no bytes.
    """
    folder = Path(os.environ["TMPDIR"])
    within = slice(first - 1, last)
    with opened(path, media_type, parts_max, part_bytes_max, within) as found:
        return [
            written(part, number, folder)
            for number, part in enumerate(found.parts, first)
        ]


def separators(
    path: str,
    first: int,
    last: int,
    kinds: Sequence[str] = ("barcode",),
    passwords: Sequence[str] = (),
) -> list[int]:
    """Which of the pages `first` to `last` of a PDF, from 1, are separator sheets."""
    from stages.formats import separators as sheets

    return sheets.pages(path, first, last, kinds, passwords)


def opened(
    path: str,
    media_type: str,
    parts_max: int,
    part_bytes_max: int,
    within: slice = ALL,
) -> AbstractContextManager[Contents]:
    """The bundle's parts, by its kind; `within` them, those that are wanted."""
    from stages.formats import archive as unzip
    from stages.formats import mail

    if media_type == EML:
        return mail.opened(path, parts_max, part_bytes_max, within)
    return unzip.opened(path, parts_max, part_bytes_max, within)


def ranges(parts: Sequence[Enclosed], range_parts: int) -> list[tuple[int, int]]:
    """Consecutive parts, as many as may be unpacked at once."""
    cut: list[tuple[int, int]] = []
    first, bytes_ = 1, 0
    for number, part in enumerate(parts, 1):
        size = 0 if part.code else part.size_bytes
        if number > first and (
            number - first >= range_parts or bytes_ + size > RANGE_BYTES
        ):
            cut.append((first, number - 1))
            first, bytes_ = number, 0
        bytes_ += size
    if parts:
        cut.append((first, len(parts)))
    return cut


def written(part: Enclosed, number: int, folder: Path) -> dict[str, Any]:
    """One part, its bytes on disk; what is wrong with them refuses it alone."""
    told: dict[str, Any] = {
        "number": number,
        "name": part.name,
        "size_bytes": part.size_bytes,
        "nests": part.nests(),
        "pages": part.pages,
        "code": part.code,
        "why": part.why,
        "file": "",
    }
    if part.code or part.pages:
        return told
    path = folder / NAME.format(number)
    try:
        with path.open("xb") as file:
            for piece in part.read():
                file.write(piece)
    except Unacceptable as error:
        path.unlink()
        return told | {"code": error.code, "why": error.message, "nests": False}
    return told | {"file": path.name}
