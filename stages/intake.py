"""
Intake: a file of any accepted type in, upright page images out.

Reads   `source`, the raw bytes as they came.
Writes  `media_type` and `pages`, images that tesseract reads as they lie.
Steps   `pages-<first>-<last>`, so a crash repeats at most one range of pages.
Limits  one child process a range; bytes, pages and pixels by its settings.
Ends    Advance; Unacceptable (PDF_ENCRYPTED, TRUNCATED, ...) rejects the document.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import BaseModel, Field

from pipeline.errors import Transient
from pipeline.stage import Advance, Context, Outcome, Retry, Settings, stage
from stages import reader
from stages.document import Document, Page


class IntakeSettings(Settings):
    """Keys of `[stage.intake]`; bounds keep one document from taking the machine."""

    max_bytes: int = Field(default=256 << 20, gt=0)
    max_pages: int = Field(default=500, gt=0)
    dpi: int = Field(default=300, ge=72, le=600)  # at which PDF pages are rendered
    # A4 at 600 dpi is 35 million; larger pages are made smaller, not refused.
    max_pixels: int = Field(default=40_000_000, ge=1_000_000)
    # Of an image as it came; 200 million are 800 MB while it is decoded.
    max_decoded_pixels: int = Field(default=200_000_000, ge=1_000_000)
    # About 6 s of rendering: what a crash repeats, and how long a range keeps
    # its child from other documents.
    pages_per_step: int = Field(default=20, gt=0)


class PageRange(BaseModel):
    """What one step leaves: consecutive pages."""

    pages: list[Page]


@stage(settings=IntakeSettings, timeout_s=1800, retry=Retry(attempts=3), window=64)
async def intake(letter: Document, ctx: Context) -> Outcome:
    """Make every page of the source an upright image in the artifact store."""
    settings: IntakeSettings = ctx.settings
    source = ctx.artifacts.path(letter.source)

    async def normalise(first: int, last: int) -> PageRange:
        with tempfile.TemporaryDirectory(prefix="waybill-pages-") as folder:
            made = await ctx.child(
                reader.normalise,
                path=str(source),
                out_dir=folder,
                first=first,
                last=last,
                dpi=settings.dpi,
                max_pixels=settings.max_pixels,
                max_decoded_pixels=settings.max_decoded_pixels,
            )
            pages: list[Page] = []
            for page in made:
                file = page.pop("file")
                # A page that is readable as it came is the source itself.
                name = letter.source
                if file is not None:
                    name = await ctx.artifacts.put_file(Path(file))
                pages.append(Page(artifact=name, **page))
            return PageRange(pages=pages)

    # Not a step: it takes milliseconds, and a document of one page (most letters)
    # is spared a checkpoint.  Admission has decoded the images already.
    found = await ctx.child(
        reader.probe,
        path=str(source),
        name=ctx.item.name,
        max_bytes=settings.max_bytes,
        max_pages=settings.max_pages,
        max_pixels=settings.max_decoded_pixels,
        decode=False,
    )
    count: int = found["pages"]
    pages: list[Page] = []
    for first in range(1, count + 1, settings.pages_per_step):
        last = min(count, first + settings.pages_per_step - 1)
        made = await ctx.step(f"pages-{first}-{last}", normalise, first, last)
        pages.extend(made.pages)

    # A renderer that skips a page silently must not go unnoticed.
    if [page.number for page in pages] != list(range(1, count + 1)):
        raise Transient(
            f"{len(pages)} pages were made of {count}",
            code="PAGES_MISSING",
            hint="retry; if it stays, convert the document and send it again",
        )
    return Advance(media_type=found["media_type"], pages=pages)
