"""
OCR: page images in, text with its confidence out.

Reads   `pages`, left by intake.
Writes  `read` (each page), `text` (pages in order, form feed between), `confidence`.
Steps   `page-<n>` from 1, so a crash repeats at most the pages being read.
Limits  `parallel_pages` of one document at once; the pool of children bounds all.
Ends    Advance; Reject BLANK; Hold OCR_UNREADABLE, which needs the text.
"""

from __future__ import annotations

import anyio
from pydantic import Field

from pipeline.errors import WaybillError
from pipeline.stage import (
    Advance,
    Context,
    Hold,
    Outcome,
    Reject,
    Retry,
    Settings,
    stage,
)
from stages import page_text
from stages.document import Document, Page, PageText


class OcrSettings(Settings):
    """Keys of `[stage.ocr]`."""

    lang: str = Field(default="eng", pattern=r"^[A-Za-z_/]+(\+[A-Za-z_/]+)*$")
    psm: int = Field(default=3, ge=1, le=13)  # tesseract's page segmentation mode
    # Mean confidence of a page.  Measured: typed pages that were read well 88-97,
    # receipts 66-80, a blotted carbon copy read wrongly 51, cursive 22-38.
    hold_below: float = Field(default=60.0, ge=0, le=100)
    # A dense page takes 5 s on one core; noise can keep tesseract for hours.
    page_timeout_s: float = Field(default=120.0, gt=0)
    # Concurrency comes from items.  Two keep a long document from crawling, and
    # from holding every child while short ones wait.
    parallel_pages: int = Field(default=2, ge=1)


@stage(settings=OcrSettings, timeout_s=7200, retry=Retry(attempts=3), window=8)
async def ocr(letter: Document, ctx: Context) -> Outcome:
    """Read every page, resuming after the pages recorded."""
    read = await read_pages(letter.pages, ctx)
    if all(page.status == "empty" for page in read):
        return Reject("BLANK", "there is no ink on any page", read=read)

    # Text of an unreadable page is a guess: it is shown to the reviewer with the
    # page, and never becomes part of the document's text.
    text = "\f".join(page.text if page.status == "ok" else "" for page in read)
    confidence = mean_confidence(read)
    unreadable = [page.number for page in read if page.status == "unreadable"]
    if unreadable:
        numbers = ", ".join(map(str, unreadable[:10]))
        more = f" and {len(unreadable) - 10} more" if len(unreadable) > 10 else ""
        return Hold(
            "OCR_UNREADABLE",
            f"page {numbers}{more} of {len(read)} cannot be read by machine",
            evidence={"pages": [page.model_dump(exclude={"text"}) for page in read]},
            needs=("text",),
            read=read,
            text=text,
            confidence=confidence,
        )
    return Advance(read=read, text=text, confidence=confidence)


async def read_pages(pages: list[Page], ctx: Context) -> list[PageText]:
    """
    Read pages, a few at once; the result in page order.

    When one fails no further page begins, those being read are finished and
    recorded, and then its error is raised: a retry repeats the failed page only.
    """
    settings: OcrSettings = ctx.settings
    read: dict[int, PageText] = {}
    failures: list[WaybillError] = []
    waiting = iter(pages)

    async def read_page(page: Page) -> PageText:
        found = await ctx.child(
            page_text.read_page,
            path=str(ctx.artifacts.path(page.artifact)),
            dpi=page.dpi,
            lang=settings.lang,
            psm=settings.psm,
            page_timeout_s=min(settings.page_timeout_s, ctx.left_s()),
            hold_below=settings.hold_below,
        )
        return PageText.model_validate({"number": page.number, **found})

    async def read_on() -> None:
        for page in waiting:
            if failures:
                return
            try:
                read[page.number] = await ctx.step(
                    f"page-{page.number}", read_page, page
                )
            except WaybillError as error:
                failures.append(error)

    # Children of this scope only: they end before the stage does.
    async with anyio.create_task_group() as group:
        for _ in range(min(settings.parallel_pages, len(pages))):
            group.start_soon(read_on)
    if failures:
        raise failures[0]
    return [read[page.number] for page in pages]


def mean_confidence(read: list[PageText]) -> float:
    """Mean over the words of all pages, 0-100; 0 without words."""
    words = sum(page.words for page in read)
    total = sum(page.confidence * page.words for page in read)
    return round(total / words, 1) if words else 0.0
