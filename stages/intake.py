"""
Intake: a file of any accepted kind in; what it is, and how many pages, out.

Reads   `source`, the raw bytes as they came; `media_type` and `facts.pages`, which
        admission found; `first_page` and `last_page` of a part.
Writes  `media_type` and `page_count`; `facts`: what is left out of a document, by
        name; of a bundle also parts, skipped, refused.
Steps   `contents`, `unpack-<first>-<last>`, `separators-<first>-<last>`, and the
        spawns of a bundle's parts, so that a crash repeats at most one range.
Limits  one jailed process a call; bytes, pages, parts and depth by its settings.
Ends    Advance; Done, a bundle whose parts are items of their own; Reject
        EMPTY_BUNDLE; Unacceptable (PDF_ENCRYPTED, BUNDLE_DEPTH, ...) rejects.

No page is rendered here: a page is made a picture when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from pipeline.errors import Transient, Unacceptable
from pipeline.stage import Advance, Context, Done, Outcome, Part, Reject, Retry, stage
from stages.document import Document
from stages.formats import bundle
from stages.formats.bundle import BundleFile, Overview, Unpacked
from stages.formats.enclosed import shortened
from stages.formats.kinds import BUNDLES, EML, PASSWORDS, PDF
from stages.formats.probe import DocumentBounds, Probed, probe
from stages.formats.separators import groups

# Of a part: 3 is a file in an archive in a mail in an archive.
DEPTH_MAX = 3
PARTS_A_STEP = 200  # children, receipts and their checkpoint are one transaction
PAGES_A_STEP = 50  # 2 s of looking for separators: what a crash repeats
# Parts that a nested bundle may have though its bundle left no room for them: mails
# are nested by the thousand, each with its text and an attachment or two.
NESTED_PARTS = 20
BUNDLE_NAME_CHARS = 120


class IntakeSettings(DocumentBounds):
    """Keys of `[stage.intake]`; bounds keep one document from taking the machine."""

    # Which pages of a PDF stand between two documents; [] for none.
    separators: tuple[Literal["barcode", "blank"], ...] = ("barcode",)
    # Of one file that comes in, nested bundles included.
    max_parts: int = Field(default=10_000, gt=0, le=100_000)
    max_unpacked_bytes: int = Field(default=4 << 30, gt=0)


@stage(settings=IntakeSettings, timeout_s=1800, retry=Retry(attempts=3), window=64)
async def intake(document: Document, ctx: Context) -> Outcome:
    """Say what the source is; make the parts of a bundle items of their own."""
    if document.last_page:
        # Pages that the bundle's own intake has looked at: 500 parts of a PDF
        # would each load its 500 pages.
        return Advance(page_count=document.last_page - document.first_page + 1)
    found = await what_it_is(document, ctx)
    if found.bundle:
        return await Opening(document, ctx, found.media_type).run()
    settings: IntakeSettings = ctx.settings
    if found.media_type == PDF and found.pages > 1 and settings.separators:
        between = await separators(document, ctx, found.pages)
        if between:
            return await divide(document, ctx, found.pages, between)
    return Advance(
        media_type=found.media_type, page_count=found.pages, **listed(found.left_out)
    )


def listed(left_out: Sequence[str]) -> dict[str, Any]:
    """The channels that say what was left out of a document, if anything was."""
    return {"facts": {"left_out": list(left_out)}} if left_out else {}


def lying(document: Document) -> dict[str, str]:
    """Where its bundle lay is where a part lies."""
    folder = document.facts.get("folder")
    return {"folder": folder} if folder else {}


async def what_it_is(document: Document, ctx: Context) -> Probed:
    """As admission found it; what nobody has looked at yet is looked at now."""
    pages, media_type = document.facts.get("pages", 0), document.media_type
    if media_type in (*BUNDLES, EML) or (media_type and pages):
        return Probed(media_type=media_type, pages=pages)
    settings: IntakeSettings = ctx.settings
    # Not a step: it takes milliseconds, and parts of bundles are spared a checkpoint.
    answer = await ctx.jailed(
        probe,
        path=str(ctx.artifacts.path(document.source)),
        name=ctx.item.name,
        bounds=settings.bounds().model_dump(),
        passwords=ctx.secrets(PASSWORDS),
    )
    return Probed.model_validate(answer)


# -- archives and mail --------------------------------------------------------------


class Opening:
    """A bundle that becomes items, a range of its parts after the other."""

    def __init__(self, document: Document, ctx: Context, media_type: str) -> None:
        settings: IntakeSettings = ctx.settings
        self._document = document
        self._ctx = ctx
        self._depth = next_depth(document)
        self._parts_max, self._bytes_max = document.facts.get(
            "room", self._room_of(settings)
        )
        self._file = BundleFile(
            path=str(ctx.artifacts.path(document.source)),
            media_type=media_type,
            parts_max=self._parts_max,
            part_bytes_max=settings.max_bytes,
            passwords=tuple(ctx.secrets(PASSWORDS)),
        )

    async def run(self) -> Outcome:
        """Every part is an item, or has a receipt that says why not; then done."""
        ctx = self._ctx
        found = await ctx.step("contents", self._contents)
        skipped = sum(found.skipped.values())
        if not found.parts:
            return Reject("EMPTY_BUNDLE", f"no documents in it, {skipped} skipped")
        if found.parts == 1 and found.pages:  # a mail with logos only
            return Advance(
                media_type=self._file.media_type,
                page_count=found.pages,
                **listed(found.left_out),
            )
        refused = 0
        for first, last in found.ranges:
            made = await ctx.step(f"unpack-{first}-{last}", self._unpack, first, last)
            parts = [self._part(unpacked, found) for unpacked in made]
            await ctx.spawn(parts, name=f"{first}-{last}")
            refused += sum(bool(part.refused_code) for part in parts)
        facts: dict[str, Any] = {
            "parts": found.parts,
            "skipped": skipped,
            "refused": refused,
        }
        if found.left_out:
            facts["left_out"] = list(found.left_out)
        return Done(media_type=self._file.media_type, facts=facts)

    async def _contents(self) -> Overview:
        answer = await self._ctx.jailed(
            bundle.contents,
            file=self._file.model_dump(),
            unpacked_bytes_max=self._bytes_max,
            range_parts=PARTS_A_STEP,
        )
        return Overview.model_validate(answer)

    async def _unpack(self, first: int, last: int) -> list[Unpacked]:
        """These parts; `file` is now the artifact of its bytes."""
        answer, kept = await self._ctx.jailed_files(
            bundle.unpack, file=self._file.model_dump(), first=first, last=last
        )
        made = [Unpacked.model_validate(part) for part in answer]
        # A part that is neither kept nor refused must not go unnoticed.
        if len(made) != last - first + 1 or any(
            part.file and part.file not in kept for part in made
        ):
            raise Transient(
                f"parts {first} to {last} of the bundle were not all unpacked",
                code="PARTS_MISSING",
                hint="retry; if it stays, unpack it and send the files",
            )
        return [
            part.model_copy(update={"file": kept.get(part.file, "")}) for part in made
        ]

    def _part(self, unpacked: Unpacked, found: Overview) -> Part:
        """The item, or the refusal, that a part becomes."""
        name = part_name(self._ctx, unpacked.name)
        if unpacked.code:
            return Part(
                name,
                {},
                size_bytes=unpacked.size_bytes,
                refused_code=unpacked.code,
                refused_why=unpacked.why,
            )
        facts = {
            "name": unpacked.name,
            "part": unpacked.number,
            "of": found.parts,
            "depth": self._depth,
            **lying(self._document),
        }
        source = self._document.source
        if unpacked.pages:  # its text is read from the bundle itself
            body = {
                "source": source,
                "media_type": self._file.media_type,
                "last_page": unpacked.pages,
            }
            return Part(name, body | {"facts": facts}, key=f"{source}:text")
        if unpacked.nests:
            facts["room"] = self._room_in(unpacked, found)
        return Part(
            name,
            {"source": unpacked.file, "facts": facts},
            key=unpacked.file,
            size_bytes=unpacked.size_bytes,
        )

    def _room_of(self, settings: IntakeSettings) -> list[int]:
        """Parts and bytes of a bundle that no other one has given any."""
        parts = (settings.max_parts, NESTED_PARTS, 0)[min(self._depth - 1, 2)]
        return [parts, settings.max_unpacked_bytes]

    def _room_in(self, unpacked: Unpacked, found: Overview) -> list[int]:
        """
        Parts and bytes that one nested bundle may have.

        Bytes go by size, so that no level of nesting unpacks more than the first
        may; parts that are left are shared evenly.  Archives of archives of
        archives thus end, however many they are.
        """
        parts = (self._parts_max - found.parts) // found.nests
        if self._depth == 1:
            parts = max(parts, NESTED_PARTS)
        return [parts, self._bytes_max * unpacked.size_bytes // max(found.bytes, 1)]


# -- stacks of pages ----------------------------------------------------------------


async def separators(document: Document, ctx: Context, count: int) -> list[int]:
    """The pages of a PDF that stand between two documents, a range a step."""
    settings: IntakeSettings = ctx.settings
    passwords = ctx.secrets(PASSWORDS)

    async def look(first: int, last: int) -> list[int]:
        found: list[int] = await ctx.jailed(
            bundle.separators,
            path=str(ctx.artifacts.path(document.source)),
            first=first,
            last=last,
            kinds=list(settings.separators),
            passwords=passwords,
        )
        return found

    between: list[int] = []
    for first in range(1, count + 1, PAGES_A_STEP):
        last = min(count, first + PAGES_A_STEP - 1)
        between += await ctx.step(f"separators-{first}-{last}", look, first, last)
    return between


async def divide(
    document: Document, ctx: Context, count: int, between: Sequence[int]
) -> Outcome:
    """Make each run of pages between separators an item of its own."""
    depth = next_depth(document)
    runs = groups(between, count)
    if not runs:
        return Reject("EMPTY_BUNDLE", "there are only separator sheets in it")
    for at in range(0, len(runs), PARTS_A_STEP):
        parts: list[Part] = []
        for number, (first, last) in enumerate(runs[at : at + PARTS_A_STEP], at + 1):
            label = f"page {first}" if first == last else f"pages {first}-{last}"
            facts = {"name": label, "part": number, "of": len(runs), "depth": depth}
            facts |= lying(document)
            parts.append(
                Part(
                    part_name(ctx, label),
                    {
                        "source": document.source,
                        "media_type": PDF,
                        "first_page": first,
                        "last_page": last,
                        "facts": facts,
                    },
                    key=f"{document.source}:{first}-{last}",
                )
            )
        await ctx.spawn(parts, name=f"{at + 1}-{at + len(parts)}")
    facts = {"parts": len(runs), "skipped": len(between), "refused": 0}
    return Done(media_type=PDF, facts=facts | {"separators": list(between)})


# -- both ---------------------------------------------------------------------------


def next_depth(document: Document) -> int:
    """
    Depth of the parts of `document`: 1 in a file that came in by itself.

    Raises:
        Unacceptable: BUNDLE_DEPTH.
    """
    depth = int(document.facts.get("depth", 0)) + 1
    if depth > DEPTH_MAX:
        raise Unacceptable(
            f"bundles are opened {DEPTH_MAX} deep, this one lies deeper",
            code="BUNDLE_DEPTH",
            hint="unpack it and send its files",
        )
    return depth


def part_name(ctx: Context, name: str) -> str:
    """The name of a part, which carries its bundle's: `post.zip › letter 12.png`."""
    return f"{shortened(ctx.item.name, BUNDLE_NAME_CHARS)} › {name}"
