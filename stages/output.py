"""
Output: the reply in, a print-ready PDF out.

Reads   `reply` left by generation.
Writes  `printed`, as state and as product; the PDF as an artifact, and a copy in the
        batch's output folder as `<item>-<name>.pdf`; with `sink` an effect that hands
        it to the printer, once.
Steps   none: typesetting again is cheaper than a checkpoint, and gives the same
        bytes and the same name.
Limits  none; one jailed process at a time per item.
Ends    Advance; Hold(GLYPH_MISSING), Hold(LETTER_TOO_LONG); a missing font fails.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.artifacts.durable import new_part, sweep, write_atomically
from pipeline.errors import Permanent, Transient
from pipeline.stage import Advance, Context, Hold, Outcome, Retry, stage
from pipeline.threads import in_thread
from stages.document import PRINTED, Document, Printed
from stages.printing import typesetter
from stages.printing.names import slug
from stages.printing.typesetter import PrintSettings, Typeset, Wording


@stage(settings=PrintSettings, timeout_s=60, retry=Retry(attempts=4))
async def output(document: Document, ctx: Context) -> Outcome:
    """Typeset the reply, keep it as an artifact, and put it where printing looks."""
    if document.reply is None:
        raise Permanent(
            "there is no reply to print",
            code="REPLY_MISSING",
            hint="put generation before output in pipeline.toml",
        )
    settings: PrintSettings = ctx.settings
    await in_thread(_make_room, ctx.out_dir)
    reply = document.reply.model_dump(include={"greeting", "paragraphs", "closing"})
    answer, files = await ctx.jailed_files(
        typesetter.typeset,
        pool="print",
        wording=Wording(date=settings.date, **reply).model_dump(mode="json"),
        settings=settings.model_dump(mode="json"),
    )
    made = Typeset.model_validate(answer)
    if held := _objection(made, settings):
        return held
    artifact = files.get(typesetter.PRINT, "")
    if artifact != made.sha256:
        raise Transient(
            "the typeset file changed on its way to the artifact store",
            code="PRINT_CHANGED",
            hint="check the disk under the home folder",
        )
    file = f"{ctx.item.id:08d}-{slug(ctx.item.name)}.pdf"
    data = await ctx.artifacts.get(artifact)
    await in_thread(write_atomically, ctx.out_dir / file, data)
    printed = Printed(
        artifact=artifact, file=file, pages=made.pages, size_bytes=made.size_bytes
    )
    ctx.product(PRINTED, **printed.model_dump())
    if settings.sink:
        await ctx.effect(
            "print",
            settings.sink,
            {"file": file, "pages": made.pages, "document": ctx.item.name},
            artifacts={"print.pdf": artifact},
            irreversible=not settings.released,
        )
    return Advance(printed=printed)


def _objection(made: Typeset, settings: PrintSettings) -> Hold | None:
    # A reviewer answers with another reply, and the stage runs again with it.
    if made.missing:
        return Hold(
            "GLYPH_MISSING",
            "No configured font can draw some characters of the reply.",
            evidence={"code_points": list(made.missing), "fonts": [settings.font]},
            ask=("reply",),
        )
    if made.pages > settings.pages_max:
        return Hold(
            "LETTER_TOO_LONG",
            f"The reply takes {made.pages} pages; {settings.pages_max} are allowed.",
            evidence={"pages": made.pages, "pages_max": settings.pages_max},
            ask=("reply",),
        )
    return None


def _make_room(folder: Path) -> None:
    """
    Before anything is typeset: whether it can be put there.

    A killed attempt leaves its part behind; nobody else would sweep it.
    """
    sweep(folder)
    with new_part(folder):
        pass
