"""
Searchable: a document that was read in; its text, a searchable PDF and a record out.

Reads   `source`, `media_type`, `first_page`, `read`, `text` and `confidence`, left by
        intake and OCR, or by a person.
Writes  `files`, as state; as products `text`, `pdf`, `record` and the layouts that are
        set, and copies in the batch's output folder, named as what was dropped.
Steps   none: writing again gives the same bytes and the same names.
Limits  none; one jailed process at a time per item.
Ends    Advance; PDF_NOT_WRITTEN, FONT_MISSING or GHOSTSCRIPT_MISSING fails.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from pipeline.stage import Advance, Context, Outcome, Retry, stage
from pipeline.threads import in_thread
from stages.document import Document, PageStatus, PageText
from stages.formats.kinds import PASSWORDS
from stages.publishing import making
from stages.publishing.names import Shelf, file_names
from stages.publishing.records import owner
from stages.publishing.request import (
    LAYOUT_FILES,
    PDF_FILE,
    RECORD_FILE,
    Made,
    Request,
    SearchableSettings,
    Sheet,
)

# product -> the ending of its file
ENDINGS = {"text": "txt", "pdf": "pdf", "record": "json", "hocr": "hocr", "alto": "xml"}


@stage(settings=SearchableSettings, timeout_s=1800, retry=Retry(attempts=4), window=64)
async def searchable(document: Document, ctx: Context) -> Outcome:
    """Write what was read to files, keep them as artifacts, and put them in order."""
    text = await ctx.artifacts.put(document.text.encode("utf-8", "replace"))
    answer, written = await ctx.jailed_files(
        making.make,
        pool="print",
        request=request_of(document, ctx, text).model_dump(mode="json"),
    )
    made = Made.model_validate(answer)
    artifacts = {
        "text": text,
        "pdf": document.source if made.untouched else written[PDF_FILE],
        "record": written[RECORD_FILE],
        **{
            form: written[file]
            for form, file in LAYOUT_FILES.items()
            if file in written
        },
    }
    shelf = Shelf(ctx.out_dir, owner(ctx.item.id, document.source))
    name = await in_thread(
        shelf.put,
        file_names(ctx.item.name, document.facts.get("folder", ""), ctx.item.id),
        {ENDINGS[p]: ctx.artifacts.path(a) for p, a in artifacts.items()},
    )
    for file, artifact in made.crops.items():
        beside = str(PurePosixPath(name).parent / file)
        await in_thread(shelf.copy, ctx.artifacts.path(artifact), beside)
    files = {product: f"{name}.{ENDINGS[product]}" for product in artifacts}
    for product, artifact in artifacts.items():
        facts = {"pdfa": made.pdfa} if product == "pdf" and made.pdfa else {}
        ctx.product(product, artifact, file=files[product], **facts)
    return Advance(files=files)


def request_of(document: Document, ctx: Context, text: str) -> Request:
    """What is asked of the jail; its text is this artifact."""
    return Request(
        item=ctx.item.id,
        source=document.source,
        name=ctx.item.name,
        path=str(ctx.artifacts.path(document.source)),
        media_type=document.media_type,
        text=str(ctx.artifacts.path(text)),
        confidence=document.confidence,
        sheets=tuple(sheet_of(page, ctx) for page in document.read),
        first=document.first_page,
        settings=ctx.settings,
        passwords=tuple(ctx.secrets(PASSWORDS)),
    )


def sheet_of(page: PageText, ctx: Context) -> Sheet:
    """A page; one that no machine could read has the text that a person gave it."""
    read = page.status in (PageStatus.OK, PageStatus.EMPTY)
    return Sheet(
        number=page.number,
        status=page.status,
        code=page.code,
        source=page.source if read else "person",
        reader=page.engine,
        language=page.language,
        confidence=page.confidence,
        doubtful=page.doubtful,
        layout=str(ctx.artifacts.path(page.layout)) if page.layout else "",
    )
