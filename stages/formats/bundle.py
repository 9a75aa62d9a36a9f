"""
Bundles, inside the jail: what is in one, and its parts as files.

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

from pydantic import Field

from pipeline.errors import Unacceptable
from pipeline.stage import Value
from stages.formats import kinds
from stages.formats.enclosed import ALL, Contents, Enclosed

RANGE_BYTES = 64 << 20  # unpacked at once: what lies on disk before it is kept
NAME = "{:05}.bin"


class BundleFile(Value):
    """A bundle, and what of it may be taken."""

    path: str
    media_type: str
    parts_max: int
    part_bytes_max: int
    passwords: tuple[str, ...] = Field(default=(), repr=False)


class Overview(Value):
    """
    What a bundle holds.

    Attributes:
        parts: How many.
        nests: How many of them look like bundles.
        pages: Of its own text.
        skipped: What was passed over: word to count.
        left_out: Of that, what a person might miss, by name.
        ranges: [first, last] from 1, each small enough for one `unpack`.
    """

    parts: int
    nests: int
    pages: int
    bytes: int
    skipped: dict[str, int]
    ranges: tuple[tuple[int, int], ...]
    left_out: tuple[str, ...] = ()


class Unpacked(Value):
    """
    One part of a bundle.

    Attributes:
        pages: Over 0 for the bundle's own text, which is read from the bundle.
        code: Why it is refused, as a stable word; "" for a part that is taken.
        file: Its bytes; "" for a part that is refused or has none.
    """

    number: int
    name: str
    size_bytes: int
    nests: bool
    pages: int
    code: str = ""
    why: str = ""
    file: str = ""


def contents(
    file: dict[str, Any], unpacked_bytes_max: int, range_parts: int
) -> dict[str, Any]:
    """
    The `Overview` of a `BundleFile`, nothing of it unpacked; both as JSON.

    Raises:
        Unacceptable: as `opened`, and BUNDLE_TOO_LARGE.
    """
    with opened(BundleFile.model_validate(file)) as found:
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
        overview = Overview(
            parts=len(parts),
            nests=sum(part.nests() for part in parts),
            pages=sum(part.pages for part in parts),
            bytes=total,
            skipped=dict(found.skipped),
            ranges=tuple(ranges(parts, range_parts)),
            left_out=tuple(found.left_out),
        )
        return overview.model_dump(mode="json")


def unpack(file: dict[str, Any], first: int, last: int) -> list[dict[str, Any]]:
    """Write parts `first` to `last` into the scratch folder; each as `Unpacked`."""
    folder = Path(os.environ["TMPDIR"])
    with opened(BundleFile.model_validate(file), slice(first - 1, last)) as found:
        return [
            written(part, number, folder).model_dump(mode="json")
            for number, part in enumerate(found.parts, first)
        ]


def separators(
    path: str,
    first: int,
    last: int,
    kinds: Sequence[str],
    passwords: Sequence[str] = (),
) -> list[int]:
    """Which of the pages `first` to `last` of a PDF, from 1, are separator sheets."""
    from stages.formats import separators as sheets

    return sheets.pages(path, first, last, kinds, passwords)


def opened(bundle: BundleFile, within: slice = ALL) -> AbstractContextManager[Contents]:
    """The bundle's parts, by its kind; `within` them, those that are wanted."""
    from stages.formats import archive, mail, portfolio

    bounds = bundle.parts_max, bundle.part_bytes_max
    match bundle.media_type:
        case kinds.EML:
            return mail.opened(bundle.path, *bounds, within)
        case kinds.TNEF:
            return mail.opened_tnef(bundle.path, *bounds, within)
        case kinds.PDF:
            return portfolio.opened(bundle.path, *bounds, within, bundle.passwords)
        case _:
            return archive.opened(bundle.path, *bounds, within)


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


def written(part: Enclosed, number: int, folder: Path) -> Unpacked:
    """One part, its bytes on disk; what is wrong with them refuses it alone."""
    made = Unpacked(
        number=number,
        name=part.name,
        size_bytes=part.size_bytes,
        nests=part.nests(),
        pages=part.pages,
        code=part.code,
        why=part.why,
    )
    if part.code or part.pages:
        return made
    path = folder / NAME.format(number)
    try:
        with path.open("xb") as file:
            for piece in part.read():
                file.write(piece)
    except Unacceptable as error:
        path.unlink()
        refused = {"code": error.code, "why": error.message, "nests": False}
        return made.model_copy(update=refused)
    return made.model_copy(update={"file": path.name})
