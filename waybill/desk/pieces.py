"""
The files of a hold: its pages and what was cut out of them, by names that a person and
a viewer can read.

An artifact is called by its bytes, and no viewer opens such a name.  On the desk a
page is `page-2.jpg`, a line in dispute `page-2-line-1.png`, what the document came as
`original.pdf`.  Pages of which no picture was kept are drawn when somebody wants to
see them: in the jail, as everything that opens a stranger's document.
"""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.artifacts.durable import write_atomically
from pipeline.errors import NotFound, WaybillError
from pipeline.run.services import secret_lines
from pipeline.store.rows import HoldRow
from pipeline.threads import in_thread
from stages.formats.kinds import (
    DOCX,
    EML,
    ENDINGS,
    IMAGES,
    JPEG,
    PASSWORDS,
    PDF,
    TELLING,
    ending_of,
)
from stages.reading.protocol import PageRequest
from stages.reading.sheet import SheetRequest, sheet
from waybill.compose import App
from waybill.desk.evidence import ARTIFACT

PAGES_MAX = 12  # of a document that are drawn at once, and named on a screen
DRAWN_CPU_S = 60.0  # for one page: a large one takes a second
DRAWN_S = 600.0  # on the clock: of a busy machine too
TEXT = "text.txt"  # the text in question; mended, it is what `edit --set text=@` takes
DRAWN = (*IMAGES, PDF, DOCX, EML)  # of mails and DOCX, the pages that are pictures


class Piece(NamedTuple):
    """
    A file on the desk.

    Attributes:
        artifact: Its bytes; "" of a page that is still to be drawn.
        page: Of the document, from 1; 0 when it belongs to none.
        crop: Cut out of that page.
    """

    name: str
    artifact: str
    page: int = 0
    crop: bool = False


class Laid(NamedTuple):
    """A file that was written, or why it was not."""

    name: str
    path: str | None
    page: int
    why: str = ""


def pieces(app: App, hold: HoldRow) -> list[Piece]:
    """What there is to look at, the pages in question first."""
    evidence = hold.shown.get("evidence") or {}
    state = _mapping(hold.shown.get("state"))
    rows = rows_of(evidence.get("pages") if isinstance(evidence, dict) else None)
    found: list[Piece] = []
    for number, row in _pages(rows, state)[:PAGES_MAX]:
        found += _of_page(number, row, state)
    known = {piece.artifact for piece in found}
    for key, artifact in _artifacts(evidence, "evidence"):
        if artifact not in known:
            found.append(Piece(_called(app, key, artifact), artifact))
    source = state.get("source")
    if _is_artifact(source):
        kind = str(state.get("media_type"))
        found.append(Piece(f"original{ENDINGS.get(kind, '.bin')}", str(source)))
    return _apart(found)


def first_page(app: App, hold: HoldRow) -> int:
    """The page to look at first, from 1."""
    return next((piece.page for piece in pieces(app, hold) if piece.page), 1)


def rows_of(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _count(value: Any) -> int:
    return value if type(value) is int else 0


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _pages(
    rows: Sequence[dict[str, Any]], state: dict[str, Any]
) -> list[tuple[int, dict[str, Any]]]:
    """Number and record of the pages in question; of all, where none is named."""
    numbered = [
        (n, row) for row in rows if type(n := row.get("number")) is int and n > 0
    ]
    if numbered:
        return numbered
    count = min(_count(state.get("page_count")), PAGES_MAX)
    read = {row.get("number"): row for row in rows_of(state.get("read"))}
    return [(number, read.get(number, {})) for number in range(1, count + 1)]


def _of_page(
    number: int, row: dict[str, Any], state: dict[str, Any]
) -> Iterator[Piece]:
    if _is_artifact(row.get("picture")):
        yield Piece(f"page-{number}.jpg", row["picture"], number)
    elif (
        _is_artifact(state.get("source"))
        and state.get("media_type") in DRAWN
        and row.get("source") != "text"  # that is shown as it is
    ):
        yield Piece(f"page-{number}.png", "", number)
    for at, cut in enumerate(rows_of(row.get("crops")), start=1):
        if _is_artifact(cut.get("artifact")):
            name = f"page-{number}-line-{at}.png"
            yield Piece(name, cut["artifact"], number, crop=True)


def _is_artifact(value: Any) -> bool:
    return isinstance(value, str) and ARTIFACT.fullmatch(value) is not None


def _artifacts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Every artifact's name within JSON data, beside the key it stands at."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _artifacts(inner, str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _artifacts(inner, key)
    elif _is_artifact(value):
        yield key, value


def _called(app: App, key: str, artifact: str) -> str:
    """A name for an artifact of a stage of one's own: its key, its kind."""
    try:
        with app.artifacts.path(artifact).open("rb") as file:
            head = file.read(TELLING)
    except OSError:
        head = b""  # whoever wants to see it is told
    stem = re.sub(r"[^\w-]+", "_", key, flags=re.ASCII)[:40] or "file"
    return stem + (ending_of(head) or ".bin")


def _apart(found: Sequence[Piece]) -> list[Piece]:
    """The same, each artifact once, and no name twice."""
    named: dict[str, Piece] = {}
    seen: set[str] = set()
    for piece in found:
        if piece.artifact in seen:
            continue
        seen |= {piece.artifact} - {""}
        name, number = piece.name, 2
        while name in named:
            stem, dot, suffix = piece.name.rpartition(".")
            name, number = f"{stem}-{number}{dot}{suffix}", number + 1
        named[name] = piece._replace(name=name)
    return list(named.values())


# -- on the desk ----------------------------------------------------------------------


async def lay_out(
    app: App, hold: HoldRow, text: str, beneath: Path | None = None
) -> list[Laid]:
    """
    Write every piece of `hold`, and the `text` in question, into a folder of its own.

    What cannot be had, such as a page that nothing can draw, is named with its reason.

    Args:
        beneath: Where that folder lies; None: on the desk, until the hold is decided.
    """
    folder = _desk(app, hold) if beneath is None else beneath / f"h{hold.id}"
    laid: list[Laid] = []
    for piece in pieces(app, hold):
        try:
            if piece.artifact:
                data = await app.artifacts.get(piece.artifact)
            else:
                data = await drawn(app, hold, piece.page)
        except WaybillError as error:
            laid.append(Laid(piece.name, None, piece.page, error.message))
            continue
        laid.append(await _written(folder / piece.name, data, piece.page))
    if (folder / TEXT).exists():
        laid.append(Laid(TEXT, str(folder / TEXT), 0))  # somebody may be mending it
    elif text:
        laid.append(await _written(folder / TEXT, text.encode(), 0))
    return laid


def _desk(app: App, hold: HoldRow) -> Path:
    return app.settings.home / "desk" / f"h{hold.id}"


async def _written(path: Path, data: bytes, page: int) -> Laid:
    await in_thread(write_atomically, path, data)
    return Laid(path.name, str(path), page)


async def drawn(
    app: App, hold: HoldRow, page: int, *, with_crops: bool = False
) -> bytes:
    """
    A page as PNG; `with_crops`, with what was cut out of it beneath.

    Raises:
        NotFound: NO_PICTURE, there is no such page, or it is text.
        WaybillError: it cannot be drawn, as when it is read.
    """
    of_page = [piece for piece in pieces(app, hold) if piece.page == page]
    kept = [p.artifact for p in of_page if p.artifact and not p.crop]
    crops = [p.artifact for p in of_page if p.crop] if with_crops else []
    encoded = ""
    if of_page:
        state = _mapping(hold.shown.get("state"))
        first = state.get("first_page")
        asked = SheetRequest(
            page=PageRequest(
                path=str(app.artifacts.path(kept[0] if kept else state["source"])),
                media_type=JPEG if kept else state["media_type"],
                index=0 if kept else page - 1 + max(0, _count(first) - 1),
                passwords=tuple(
                    secret_lines(app.services.secrets, hold.tenant, PASSWORDS)
                ),
            ),
            crops=tuple(str(app.artifacts.path(crop)) for crop in crops),
        )
        encoded = await app.services.jail.run(
            sheet,
            timeout_s=DRAWN_S,
            cpu_s=DRAWN_CPU_S,
            request=asked.model_dump(mode="json"),
        )
    if not encoded:
        raise NotFound(
            f"hold h{hold.id} has no picture of page {page}",
            code="NO_PICTURE",
            hint=f"waybill review open h{hold.id} writes what there is",
        )
    return base64.b64decode(encoded)


def put_away(app: App, hold: HoldRow) -> None:
    """Take a hold's files off the desk: they are a tenant's documents."""
    shutil.rmtree(_desk(app, hold), ignore_errors=True)
