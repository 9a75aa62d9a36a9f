"""
Output: the reply in, a print-ready PDF out.

Reads   `reply` left by generation.
Writes  `printed`, as state and as product; the PDF as an artifact, and a copy in the
        batch's output folder as `<item>-<name>.pdf`.
Steps   none: typesetting again is cheaper than a checkpoint, and gives the same
        bytes and the same name.
Limits  none; one jailed process at a time per item.
Ends    Advance; Hold(GLYPH_MISSING), Hold(LETTER_TOO_LONG); a missing font fails.
"""

from __future__ import annotations

import os
import secrets
import time
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import anyio.to_thread
from pydantic import Field

from pipeline.errors import Permanent, Transient
from pipeline.stage import Advance, Context, Hold, Outcome, Retry, Settings, stage
from stages.document import PRINTED, Document, Printed
from stages.printing import typesetter

SLUG_BYTES_MAX = 80  # file names end at 255 bytes; print software gives up earlier
STALE_PART_S = 3600.0  # a part this old belongs to no living attempt


class OutputSettings(Settings):
    """
    How the page looks.

    `font` is the handwriting face, `fallback` draws what it lacks; all of them
    must be installed, so that every machine prints the same page.
    """

    paper: Literal["a4", "a5"] = "a5"
    font: str = "Klee One"
    fallback: tuple[str, ...] = ("DejaVu Sans",)
    size_pt: Annotated[float, Field(ge=6, le=48)] = 12.0
    margin_mm: Annotated[float, Field(ge=5, le=50)] = 17.0  # kept free of ink
    bleed_mm: Annotated[float, Field(ge=0, le=10)] = 0.0  # printers ask for 3
    ink: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#1f2a44"
    date: Annotated[str, Field(max_length=80)] = ""  # printed at the top right
    missing: Literal["hold", "drop"] = "hold"  # characters that no face has
    pages_max: Annotated[int, Field(ge=1, le=50)] = 8


@stage(settings=OutputSettings, timeout_s=60, retry=Retry(attempts=4))
async def output(letter: Document, ctx: Context) -> Outcome:
    """Typeset the reply, keep it as an artifact, and put it where printing looks."""
    if letter.reply is None:
        raise Permanent(
            "there is no reply to print",
            code="REPLY_MISSING",
            hint="put generation before output in pipeline.toml",
        )
    settings: OutputSettings = ctx.settings
    await anyio.to_thread.run_sync(_make_room, ctx.out_dir, ctx.item.id)
    made, files = await ctx.jailed_files(
        typesetter.typeset,
        reply=letter.reply.model_dump(include={"greeting", "paragraphs", "closing"}),
        **settings.model_dump(mode="json"),
    )
    if held := _objection(made, settings):
        return held
    artifact = files.get(typesetter.PRINT, "")
    if artifact != made["sha256"]:
        raise Transient(
            "the typeset file changed on its way to the artifact store",
            code="PRINT_CHANGED",
            hint="check the disk under the home folder",
        )
    file = f"{ctx.item.id:08d}-{slug(ctx.item.name)}.pdf"
    # Beside its final place, so that the rename stays in one file system; a
    # random name, so that a replaced worker cannot write into ours.
    part = ctx.out_dir / f".{ctx.item.id:08d}-{secrets.token_hex(6)}.part"
    try:
        data = await ctx.artifacts.get(artifact)
        await anyio.to_thread.run_sync(_publish, data, part, ctx.out_dir / file)
    finally:
        part.unlink(missing_ok=True)
    facts = {"file": file, "pages": made["pages"], "size_bytes": made["size_bytes"]}
    ctx.product(PRINTED, artifact, **facts)
    return Advance(printed=Printed(artifact=artifact, **facts))


def _objection(made: dict[str, Any], settings: OutputSettings) -> Hold | None:
    # A reviewer answers with another reply, and the stage runs again with it.
    if points := made.get("missing"):
        return Hold(
            "GLYPH_MISSING",
            "No configured font can draw some characters of the reply.",
            evidence={"code_points": points, "fonts": [settings.font]},
            ask=("reply",),
        )
    if pages := made.get("too_long"):
        return Hold(
            "LETTER_TOO_LONG",
            f"The reply takes {pages} pages; {settings.pages_max} are allowed.",
            evidence={"pages": pages, "pages_max": settings.pages_max},
            ask=("reply",),
        )
    return None


def slug(name: str) -> str:
    """
    A file-name part made of any name: letters and digits, at most 80 bytes.

    Letters of every script stay, in composed form.  Separators, controls,
    direction marks, dots and the rest become single hyphens.
    """
    stem = PurePosixPath(name.replace("\\", "/").replace("\0", "")).stem
    words: list[str] = [""]
    for char in unicodedata.normalize("NFKC", stem[:400]).lower():
        kind = unicodedata.category(char)[0]
        if kind in "LN" or (kind == "M" and words[-1]):
            words[-1] += char
        elif words[-1]:
            words.append("")
    joined = "-".join(word for word in words if word)
    cut = joined.encode("utf-8", "ignore")[:SLUG_BYTES_MAX].decode("utf-8", "ignore")
    return cut.strip("-") or "letter"


def _make_room(folder: Path, item_id: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # A killed attempt leaves its part behind; nobody else would sweep it.
    for old in folder.glob(f".{item_id:08d}-*.part"):
        try:
            if time.time() - old.stat().st_mtime > STALE_PART_S:
                old.unlink()
        except FileNotFoundError:
            continue  # its own attempt removed it in between


def _publish(data: bytes, part: Path, target: Path) -> None:
    """Durable, then visible: a reader sees the whole file or none."""
    with part.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
