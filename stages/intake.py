"""
Intake: a file of any accepted kind in; what it is, and how many pages, out.

Reads   `source`, the raw bytes as they came; `first_page` and `last_page` of a part.
Writes  `media_type` and `page_count`; of a bundle `facts`: parts, skipped, refused.
Steps   `contents`, `unpack-<first>-<last>`, `separators-<first>-<last>`, and the
        spawns of a bundle's parts, so that a crash repeats at most one range.
Limits  one jailed process a call; bytes, pages, pixels, parts, depth by its settings.
Ends    Advance; Done, a bundle whose parts are items of their own; Reject
        EMPTY_BUNDLE; Unacceptable (PDF_ENCRYPTED, BUNDLE_DEPTH, ...) rejects.

No page is rendered here: a page is made a picture when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from pipeline.errors import Transient, Unacceptable
from pipeline.stage import (
    Advance,
    Context,
    Done,
    Outcome,
    Part,
    Reject,
    Retry,
    Settings,
    stage,
)
from stages.document import Document
from stages.formats import bundle
from stages.formats import probe as reader
from stages.formats.enclosed import shortened
from stages.formats.kinds import PASSWORDS, PDF
from stages.formats.separators import groups

# Of a part: 3 is a letter in an archive in a mail in an archive.
DEPTH_MAX = 3
PARTS_A_STEP = 200  # children, receipts and their checkpoint are one transaction
PAGES_A_STEP = 50  # 2 s of looking for separators: what a crash repeats
# Parts that a nested bundle may have though its bundle left no room for them: mails
# are nested by the thousand, each with its text and an attachment or two.
NESTED_PARTS = 20
BUNDLE_NAME_CHARS = 120


class IntakeSettings(Settings):
    """Keys of `[stage.intake]`; bounds keep one document from taking the machine."""

    max_bytes: int = Field(default=256 << 20, gt=0)
    max_pages: int = Field(default=500, gt=0)
    # Of an image as it came; 200 million are 800 MB while it is decoded.
    max_decoded_pixels: int = Field(default=200_000_000, ge=1_000_000)
    # Which pages of a PDF stand between two documents; [] for none.
    separators: tuple[Literal["barcode", "blank"], ...] = ("barcode",)
    # Of one file that comes in, nested bundles included.
    max_parts: int = Field(default=10_000, gt=0, le=100_000)
    max_unpacked_bytes: int = Field(default=4 << 30, gt=0)


@stage(settings=IntakeSettings, timeout_s=1800, retry=Retry(attempts=3), window=64)
async def intake(letter: Document, ctx: Context) -> Outcome:
    """Say what the source is; make the parts of a bundle items of their own."""
    if letter.last_page:
        # Pages that the bundle's own intake has looked at: 500 parts of a PDF
        # would each load its 500 pages.
        return Advance(page_count=letter.last_page - letter.first_page + 1)
    settings: IntakeSettings = ctx.settings
    passwords = ctx.secrets(PASSWORDS)
    # Not a step: it takes milliseconds, and most documents are spared a checkpoint.
    found = await ctx.jailed(
        reader.probe,
        path=str(ctx.artifacts.path(letter.source)),
        name=ctx.item.name,
        max_bytes=settings.max_bytes,
        max_pages=settings.max_pages,
        max_pixels=settings.max_decoded_pixels,
        # Admission has decoded what came in by itself, but not what a bundle held.
        decode="part" in letter.facts,
        passwords=passwords,
    )
    media_type: str = found["media_type"]
    if found["bundle"]:
        return await Opening(letter, ctx, media_type).run()
    count: int = found["pages"]
    if media_type == PDF and count > 1 and settings.separators:
        between = await separators(letter, ctx, count, passwords)
        if between:
            return await divide(letter, ctx, count, between)
    return Advance(media_type=media_type, page_count=count)


# -- archives and mail --------------------------------------------------------------


class Opening:
    """A bundle that becomes items, a range of its parts after the other."""

    def __init__(self, letter: Document, ctx: Context, media_type: str) -> None:
        settings: IntakeSettings = ctx.settings
        self._letter = letter
        self._ctx = ctx
        self._media_type = media_type
        self._depth = next_depth(letter)
        self._parts_max, self._bytes_max = letter.facts.get(
            "room", self._room_of(settings)
        )
        self._file: dict[str, Any] = {
            "path": str(ctx.artifacts.path(letter.source)),
            "media_type": media_type,
            "parts_max": self._parts_max,
            "part_bytes_max": settings.max_bytes,
        }

    async def run(self) -> Outcome:
        """Every part is an item, or has a receipt that says why not; then done."""
        ctx = self._ctx
        found = await ctx.step("contents", self._contents)
        skipped = sum(found["skipped"].values())
        if not found["parts"]:
            return Reject("EMPTY_BUNDLE", f"no documents in it, {skipped} skipped")
        if found["parts"] == 1 and found["pages"]:  # a mail with logos only
            return Advance(media_type=self._media_type, page_count=found["pages"])
        refused = 0
        for first, last in found["ranges"]:
            made = await ctx.step(f"unpack-{first}-{last}", self._unpack, first, last)
            parts = [self._part(told, found) for told in made]
            await ctx.spawn(parts, name=f"{first}-{last}")
            refused += sum(bool(part.refused_code) for part in parts)
        facts = {"parts": found["parts"], "skipped": skipped, "refused": refused}
        return Done(media_type=self._media_type, facts=facts)

    async def _contents(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._ctx.jailed(
            bundle.contents,
            **self._file,
            unpacked_bytes_max=self._bytes_max,
            range_parts=PARTS_A_STEP,
        )
        return found

    async def _unpack(self, first: int, last: int) -> list[dict[str, Any]]:
        """Descriptions of these parts; `file` is now the artifact of its bytes."""
        made, kept = await self._ctx.jailed_files(
            bundle.unpack, **self._file, first=first, last=last
        )
        # A part that is neither kept nor refused must not go unnoticed.
        if len(made) != last - first + 1 or any(
            told["file"] and told["file"] not in kept for told in made
        ):
            raise Transient(
                f"parts {first} to {last} of the bundle were not all unpacked",
                code="PARTS_MISSING",
                hint="retry; if it stays, unpack it and send the files",
            )
        return [told | {"file": kept.get(told["file"], "")} for told in made]

    def _part(self, told: dict[str, Any], found: dict[str, Any]) -> Part:
        """What the store is told of one part."""
        name = part_name(self._ctx, told["name"])
        if told["code"]:
            return Part(
                name,
                {},
                size_bytes=told["size_bytes"],
                refused_code=told["code"],
                refused_why=told["why"],
            )
        facts = {
            "name": told["name"],
            "part": told["number"],
            "of": found["parts"],
            "depth": self._depth,
        }
        source = self._letter.source
        if told["pages"]:  # its text is read from the bundle itself
            body = {
                "source": source,
                "media_type": self._media_type,
                "last_page": told["pages"],
            }
            return Part(name, body | {"facts": facts}, key=f"{source}:text")
        if told["nests"]:
            facts["room"] = self._room_in(told, found)
        return Part(
            name,
            {"source": told["file"], "facts": facts},
            key=told["file"],
            size_bytes=told["size_bytes"],
        )

    def _room_of(self, settings: IntakeSettings) -> list[int]:
        """Parts and bytes of a bundle that no other one has given any."""
        parts = (settings.max_parts, NESTED_PARTS, 0)[min(self._depth - 1, 2)]
        return [parts, settings.max_unpacked_bytes]

    def _room_in(self, told: dict[str, Any], found: dict[str, Any]) -> list[int]:
        """
        Parts and bytes that one nested bundle may have.

        Bytes go by size, so that no level of nesting unpacks more than the first
        may; parts that are left are shared evenly.  Archives of archives of
        archives thus end, however many they are.
        """
        parts = (self._parts_max - found["parts"]) // found["nests"]
        if self._depth == 1:
            parts = max(parts, NESTED_PARTS)
        size, total = told["size_bytes"], max(found["bytes"], 1)
        return [parts, self._bytes_max * size // total]


# -- stacks of pages ----------------------------------------------------------------


async def separators(
    letter: Document, ctx: Context, count: int, passwords: list[str]
) -> list[int]:
    """The pages of a PDF that stand between two documents, a range a step."""
    settings: IntakeSettings = ctx.settings

    async def look(first: int, last: int) -> list[int]:
        found: list[int] = await ctx.jailed(
            bundle.separators,
            path=str(ctx.artifacts.path(letter.source)),
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
    letter: Document, ctx: Context, count: int, between: Sequence[int]
) -> Outcome:
    """Make each run of pages between separators an item of its own."""
    depth = next_depth(letter)
    runs = groups(between, count)
    if not runs:
        return Reject("EMPTY_BUNDLE", "there are only separator sheets in it")
    for at in range(0, len(runs), PARTS_A_STEP):
        parts: list[Part] = []
        for number, (first, last) in enumerate(runs[at : at + PARTS_A_STEP], at + 1):
            label = f"page {first}" if first == last else f"pages {first}-{last}"
            facts = {"name": label, "part": number, "of": len(runs), "depth": depth}
            parts.append(
                Part(
                    part_name(ctx, label),
                    {
                        "source": letter.source,
                        "media_type": PDF,
                        "first_page": first,
                        "last_page": last,
                        "facts": facts,
                    },
                    key=f"{letter.source}:{first}-{last}",
                )
            )
        await ctx.spawn(parts, name=f"{at + 1}-{at + len(parts)}")
    facts = {"parts": len(runs), "skipped": len(between), "refused": 0}
    return Done(media_type=PDF, facts=facts | {"separators": list(between)})


# -- both ---------------------------------------------------------------------------


def next_depth(letter: Document) -> int:
    """
    Depth of the parts of `letter`: 1 in a file that came in by itself.

    Raises:
        Unacceptable: BUNDLE_DEPTH.
    """
    depth = int(letter.facts.get("depth", 0)) + 1
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
