"""
OCR: a document's pages in, text with its confidence out.

Reads   `source`, `media_type`, `page_count`, left by intake; `typed`, by a person.
Writes  `read` (each page), `text` (pages in order, form feed between), `confidence`.
Steps   `page-<n>` from 1, so a crash repeats at most the pages being read.
Limits  `parallel_pages` of one document at once; the jail's pool bounds all, and
        gives a free slot to the document that has the fewest.
Ends    Advance; Reject BLANK; Hold OCR_UNREADABLE, which needs the text, or of
        several pages the missing ones; the error of the first page when not one
        could be read.

A page is rendered when it is read, and never before: what a long document costs
in memory and on disk is what two of its pages cost.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Literal, assert_never

import anyio
import structlog
from pydantic import Field

from pipeline.errors import Permanent, Transient, Unacceptable, WaybillError
from pipeline.jail.codes import End
from pipeline.stage import Advance, Context, Hold, Outcome, Reject, Retry, stage
from stages.document import Crop, Document, PageStatus, PageText
from stages.formats.kinds import PASSWORDS
from stages.reading import engines, vision
from stages.reading.codes import CODES
from stages.reading.compare import agreement
from stages.reading.layer.fonts import KNOWN_MAX
from stages.reading.page import WHY_HELD, read_again, read_page, together
from stages.reading.placing import with_crops, words_of
from stages.reading.protocol import PageReading, PageRequest, ReaderSettings

log = structlog.get_logger()

FAILED = (
    PageStatus.TIMEOUT,
    PageStatus.KILLED_MEMORY,
    PageStatus.ERROR,
    PageStatus.SKIPPED_LIMIT,
)
Again = Literal["", "numbers", "page"]
WORDS_MAX = 8_000  # of the first reading that the second is shown: a request's 1 MiB
PATIENCE = 10  # a busy machine takes so much longer for the same processor time
DRAFT_CHARS = 4_000  # of a text in doubt that a reviewer is shown


class OcrSettings(ReaderSettings):
    """Keys of `[stage.ocr]`."""

    # Which pages are read a second time, by the better and slower reader: `fast` those
    # that would be held; `balanced` also what is not certain or has numbers on it;
    # `careful` all, and every word that is read differently is in doubt.
    reading: Literal["fast", "balanced", "careful"] = "balanced"
    # Who reads a second time: `auto` is rapidocr where it is installed.
    second: Literal["auto", "off", "rapidocr"] = "auto"
    # Confidence of a page at which `balanced` reads it once.
    certain_above: float = Field(default=97.0, ge=0, le=100)
    # Processor seconds.  A dense page takes 5; noise can keep tesseract for hours.
    page_timeout_s: float = Field(default=120.0, gt=0)
    # An OpenAI-compatible service for what neither can read, such as handwriting.
    vision: bool = False
    # A model's reading is grounded when this share of what another reader made
    # out is in it: a model that invents a text shares next to nothing.
    grounded_above: float = Field(default=0.3, ge=0, le=1)
    # Two keep a long document from crawling.
    parallel_pages: int = Field(default=2, ge=1)
    # A document that broke its reader so often is not read further: 500 pages that
    # each hang would hold a slot for a day.
    failed_pages_max: int = Field(default=5, ge=1)


@stage(settings=OcrSettings, timeout_s=6 * 3600, retry=Retry(attempts=3), window=8)
async def ocr(document: Document, ctx: Context) -> Outcome:
    """Read every page, resuming after the pages recorded."""
    reading = Reading(document, ctx)
    read = await reading.pages()
    if all(page.status is PageStatus.EMPTY for page in read):
        return Reject("BLANK", "there is no ink on any page", read=without_text(read))
    if reading.first_failure and all(
        page.status in (*FAILED, PageStatus.EMPTY) for page in read
    ):
        failure = reading.first_failure
        if isinstance(failure, Unacceptable):
            return Reject(failure.code, failure.message, read=without_text(read))
        raise failure

    # Text of an unreadable page is a guess: it is shown to the reviewer with the
    # page, and never becomes part of the document's text.
    text = "\f".join(page.text if page.status is PageStatus.OK else "" for page in read)
    updates: dict[str, Any] = {
        "read": without_text(read),
        "text": text,
        "confidence": mean_confidence(read),
    }
    facts: dict[str, Any] = {}
    if hidden := sum(page.hidden for page in read):
        facts["hidden_characters"] = hidden
    if seen := sorted({page.noticed for page in read} - {""}):
        facts["languages_noticed"] = seen
    if facts:
        updates["facts"] = facts
    waiting = [p for p in read if p.status not in (PageStatus.OK, PageStatus.EMPTY)]
    if not waiting:
        return Advance(**updates)
    evidence = {"pages": [page_line(page) for page in waiting]}
    why = why_held(waiting, len(read))
    if len(read) == 1:
        return Hold(
            "OCR_UNREADABLE", why, evidence=evidence, needs=("text",), **updates
        )
    # Of a longer document a person types the missing pages, and this stage puts
    # them between the others.
    return Hold("OCR_UNREADABLE", why, evidence=evidence, ask=("typed",))


class Reading:
    """The pages of one document, some of them at once."""

    def __init__(self, document: Document, ctx: Context) -> None:
        self.first_failure: WaybillError | None = None
        self._document = document
        self._ctx = ctx
        self._settings: OcrSettings = ctx.settings
        self._failed_pages = 0
        self._ended: set[int] = set()
        # Each page is read in a process of its own, which knows what it is told.
        self._fonts: dict[str, bool] = {}

    async def pages(self) -> list[PageText]:
        """
        Every page, in order: as many as the document has, whatever became of each.

        When something fails that is not a page's fault no further page begins,
        those being read are finished and recorded, and then it is raised: a
        retry repeats the missing pages only.
        """
        count = self._document.page_count
        self._ctx.progress(0, count)
        read: dict[int, PageText] = {}
        troubles: list[WaybillError] = []
        waiting = iter(range(1, count + 1))

        async def read_on() -> None:
            for number in waiting:
                if troubles:
                    return
                try:
                    read[number] = await self._one(number)
                    self._report(number)
                except WaybillError as error:
                    troubles.append(error)

        # Tasks of this scope only: they end before the stage does.
        async with anyio.create_task_group() as group:
            for _ in range(min(self._settings.parallel_pages, count)):
                group.start_soon(read_on)
        if troubles:
            raise troubles[0]
        return [read[number] for number in range(1, count + 1)]

    def _report(self, number: int) -> None:
        """One page more; what was in the record counts like what was read now."""
        self._ended.add(number)
        self._ctx.progress(len(self._ended), self._document.page_count)

    async def _one(self, number: int) -> PageText:
        """
        One page, from its record or read now.

        A page that ends its reader is not recorded as a step: when the stage
        runs again, after a person's retry, it has another chance.
        """
        if typed := self._document.typed.get(str(number), ""):
            return PageText(
                number=number,
                status=PageStatus.OK,
                text=typed,
                words=len(typed.split()),
                confidence=100.0,
                source="person",
            )
        if self._failed_pages >= self._settings.failed_pages_max:
            return PageText(
                number=number, status=PageStatus.SKIPPED_LIMIT, code="TOO_MANY_FAILED"
            )
        try:
            return await self._ctx.step(f"page-{number}", self._read, number)
        except (Transient, Permanent, Unacceptable) as error:
            status = page_end(error)
            if status is None or self._ctx.left_s() < 1.0:
                raise  # nobody's fault here, or the stage's own time is over
            self._failed_pages += 1
            if self.first_failure is None:
                self.first_failure = final(error, status)
            log.info(
                "page_failed", item=self._ctx.item.id, page=number, code=error.code
            )
            return PageText(number=number, status=status, code=error.code)

    async def _read(self, number: int) -> PageText:
        """The step: read a page; again by others, where it is worth it."""
        log.debug("page_began", item=self._ctx.item.id, page=number)
        reading = await self._by_machine(read_page, number)
        if what := again(reading, self._settings):
            reading = await self._again(number, reading, what)
        if reading.source == "ocr" and reading.doubtful and self._settings.vision:
            seen = await vision.read(reading.picture, self._ctx, number)
            if grounded(seen, reading, self._settings.grounded_above):
                reading = seen
        page = await self._kept(number, reading)
        self._report(number)  # here, too: it is committed with the page
        return page

    async def _again(self, number: int, first: PageReading, what: Again) -> PageReading:
        """What both readings come to; where the second fails, its doubt is left."""
        try:
            second = await self._by_machine(
                read_again, number, pool="second", first=first, what=what
            )
        except (Transient, Permanent, Unacceptable) as error:
            if page_end(error) is None or self._ctx.left_s() < 1.0:
                raise
            item = self._ctx.item.id
            log.info("second_reader_failed", item=item, page=number, code=error.code)
            return first
        return together(first, second, numbers_alone=what == "numbers")

    async def _by_machine(
        self,
        fn: Callable[..., Any],
        number: int,
        *,
        pool: str = "",
        first: PageReading | None = None,
        what: Again = "",
    ) -> PageReading:
        settings, ctx = self._settings, self._ctx
        layout = first.layout if first else None
        request = PageRequest(
            path=str(ctx.artifacts.path(self._document.source)),
            media_type=self._document.media_type,
            index=self._document.first_page + number - 2,
            reader=settings.model_copy(
                update={"strict": settings.strict or settings.reading == "careful"}
            ),
            passwords=tuple(ctx.secrets(PASSWORDS)),
            once=engines.has_second(settings.second),
            first=words_of(layout)[:WORDS_MAX] if layout else (),
            turned=layout.turned if layout else 0,
            numbers_alone=what == "numbers",
            fonts=self._fonts,
        )
        answer = await ctx.jailed(
            fn,
            pool=pool,
            timeout_s=min(settings.page_timeout_s * PATIENCE, ctx.left_s()),
            cpu_s=settings.page_timeout_s,
            request=request.model_dump(mode="json"),
        )
        reading = PageReading.model_validate(answer)
        known = {**self._fonts, **reading.fonts}
        self._fonts = known if len(known) <= KNOWN_MAX else reading.fonts
        return reading

    async def _kept(self, number: int, reading: PageReading) -> PageText:
        """The record of a reading; its layout and its pictures are artifacts."""
        same = PageText.model_fields.keys() - {"picture", "crops", "layout", "doubtful"}
        page = PageText(number=number, **reading.model_dump(include=same))
        crops = {cut.line: await self._keep(cut.png) for cut in reading.crops}
        if reading.layout is not None:
            layout = with_crops(reading.layout, crops)
            page.language = layout.language
            page.doubtful = sum(w.doubtful for line in layout.lines for w in line.words)
            data = layout.model_dump_json(exclude_defaults=True).encode()
            page.layout = await self._ctx.artifacts.put(data)
        if page.status is PageStatus.UNREADABLE:
            page.picture = await self._keep(reading.picture)
            page.crops = [
                Crop(
                    page=number,
                    box=cut.box,
                    artifact=crops[cut.line],
                    readings=list(cut.readings),
                )
                for cut in reading.crops
            ]
        return page

    async def _keep(self, encoded: str) -> str:
        """A picture that came as base64, as an artifact."""
        if not encoded:
            return ""
        return await self._ctx.artifacts.put(base64.b64decode(encoded))


# -- judging --------------------------------------------------------------------------


def again(first: PageReading, settings: OcrSettings) -> Again:
    """What of a page the second reader is to look at, where there is one."""
    unread = first.source != "ocr" or first.status == "EMPTY"
    if unread or not engines.has_second(settings.second):
        return ""
    match settings.reading:
        case "fast":
            return "page" if first.status == "UNREADABLE" else ""
        case "balanced":
            if first.doubtful or first.confidence < settings.certain_above:
                return "page"
            if not first.numbers:
                return ""
            return "numbers" if first.words <= WORDS_MAX else "page"
        case "careful":
            return "page"
        case _:
            assert_never(settings.reading)


def page_end(error: WaybillError) -> PageStatus | None:
    """How a page ended that raised this; None when the page is not to blame."""
    if isinstance(error, Unacceptable):
        return PageStatus.ERROR
    known = CODES.get(error.code)
    if known is None:
        return None
    match known.end:
        case End.OVERRAN:
            return PageStatus.TIMEOUT
        case End.STARVED:
            return PageStatus.KILLED_MEMORY
        case End.BROKE:
            return PageStatus.ERROR
        case End.UNBEGUN | End.REFUSED:
            return None  # no engine, no space, no process
        case _:
            assert_never(known.end)


def final(error: WaybillError, status: PageStatus) -> WaybillError:
    """
    The error for a document of which not one page could be read.

    What is transient for a stage is not for a page that was given its time:
    trying the whole document again would take as long and end the same.
    """
    if isinstance(error, Transient):
        return Permanent(error.message, code=f"PAGE_{status}", hint=error.hint)
    return error


def grounded(seen: PageReading, read: PageReading, enough: float) -> bool:
    """Whether a model's reading is believed: an engine made out some of it, too."""
    return seen.status == "OK" and agreement(read.text, seen.text) >= enough


def without_text(read: list[PageText]) -> list[PageText]:
    """The pages for the state, which has their text in one piece."""
    return [page.model_copy(update={"text": ""}) for page in read]


def mean_confidence(read: list[PageText]) -> float:
    """Mean over the words of all pages, 0-100; 0 without words."""
    words = sum(page.words for page in read)
    total = sum(page.confidence * page.words for page in read)
    return round(total / words, 1) if words else 0.0


def why_held(waiting: list[PageText], count: int) -> str:
    """One sentence for the reviewer."""
    numbers = ", ".join(str(page.number) for page in waiting[:10])
    more = f" and {len(waiting) - 10} more" if len(waiting) > 10 else ""
    codes = {page.code for page in waiting}
    why = WHY_HELD[codes.pop()] if len(codes) == 1 and codes <= WHY_HELD.keys() else ""
    return f"page {numbers}{more} of {count} {why or 'cannot be read by machine'}"


def page_line(page: PageText) -> dict[str, Any]:
    """What a reviewer is shown of a page; the readings stand with their crops."""
    line = page.model_dump(
        mode="json",
        exclude={"text", "covered", "words", "layout", "doubtful", "language"},
        exclude_defaults=True,
    )
    # Never part of the text: what a person corrects is quicker than what he types.
    return {**line, "draft": page.text[:DRAFT_CHARS]} if page.text else line
