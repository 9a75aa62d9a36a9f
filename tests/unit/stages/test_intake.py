"""Intake says what a file is, and makes the parts of a bundle items of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Transient, Unacceptable
from pipeline.stage import Advance, Done, Item, Part, Reject
from stages.document import Document
from stages.formats import bundle
from stages.formats.kinds import EML, PDF, PNG, TIFF, ZIP
from stages.formats.probe import DocumentBounds
from stages.intake import IntakeSettings, intake
from tests.steps import Steps

SOURCE = "5" * 64


class FakeArtifacts:
    """Names files instead of keeping them."""

    def path(self, name: str) -> Path:
        return Path("/artifacts") / name


class FakeContext(Steps):
    """
    A document as the jailed processes would describe it, and what was spawned.

    Args:
        parts: Of a bundle, as `bundle.unpack` answers.
        between: The pages that are separators.
        recorded: Results of steps before a crash.
        lose: A file that does not arrive from the jail.
    """

    def __init__(
        self,
        media_type: str = PDF,
        pages: int = 1,
        *,
        parts: Sequence[dict[str, Any]] = (),
        skipped: dict[str, int] | None = None,
        between: Sequence[int] = (),
        recorded: dict[str, Any] | None = None,
        lose: str = "",
        refusal: Unacceptable | None = None,
        name: str = "post.zip",
        **settings: Any,
    ) -> None:
        super().__init__(recorded)
        self.item = Item(1, "t", "b", 1, name, {})
        self.settings = IntakeSettings(**settings)
        self.artifacts = FakeArtifacts()
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.spawned: dict[str, list[Part]] = {}
        self._media_type = media_type
        self._pages = pages
        self._parts = list(parts)
        self._skipped = skipped or {}
        self._between = between
        self._lose = lose
        self._refusal = refusal

    def secrets(self, name: str) -> list[str]:
        return [f"a secret of {name}"]

    async def spawn(self, parts: Sequence[Part], *, name: str = "parts") -> None:
        assert name not in self.spawned
        self.ran.append(f"spawn:{name}")
        self.spawned[name] = list(parts)

    async def jailed(self, fn: Callable[..., Any], /, **kwargs: Any) -> Any:
        self.called.append((fn.__name__, kwargs))
        asked = kwargs.get("file", kwargs)
        assert asked["path"] == f"/artifacts/{SOURCE}"
        match fn.__name__:
            case "probe":
                if self._refusal is not None:
                    raise self._refusal
                nothing = self._parts == [] and self._media_type != ZIP
                pages = self._pages if nothing else 0
                return {"media_type": self._media_type, "pages": pages}
            case "contents":
                return {
                    "parts": len(self._parts),
                    "nests": sum(part["nests"] for part in self._parts),
                    "pages": sum(part["pages"] for part in self._parts),
                    "bytes": sum(part["size_bytes"] for part in self._parts),
                    "skipped": self._skipped,
                    "ranges": ranges(len(self._parts), kwargs["range_parts"]),
                }
        assert fn.__name__ == "separators"
        wanted = range(kwargs["first"], kwargs["last"] + 1)
        return [page for page in self._between if page in wanted]

    async def jailed_files(
        self, fn: Callable[..., Any], /, **kwargs: Any
    ) -> tuple[Any, dict[str, str]]:
        assert fn is bundle.unpack
        made = self._parts[kwargs["first"] - 1 : kwargs["last"]]
        files = [part["file"] for part in made if part["file"] not in ("", self._lose)]
        return made, {file: f"sha-of-{file}" for file in files}

    def parts(self) -> list[Part]:
        """Everything that was spawned, in order."""
        return [part for parts in self.spawned.values() for part in parts]


def ranges(count: int, size: int) -> list[list[int]]:
    return [[n, min(n + size - 1, count)] for n in range(1, count + 1, size)]


def part(number: int, **more: Any) -> dict[str, Any]:
    """A part of a bundle, as `bundle.unpack` answers it."""
    return {
        "number": number,
        "name": f"letter {number}.png",
        "size_bytes": 100,
        "nests": False,
        "pages": 0,
        "code": "",
        "why": "",
        "file": f"{number:05}.bin",
    } | more


# -- documents ------------------------------------------------------------------------


async def test_a_document_of_pages_goes_on_with_its_kind_and_their_number() -> None:
    """Nothing is rendered and no step is recorded for a picture."""
    ctx = FakeContext(PNG, 1)

    outcome = await intake(Document(source=SOURCE), ctx)

    assert outcome == Advance(media_type=PNG, page_count=1)
    assert ctx.ran == []


async def test_a_fault_of_the_document_rejects_it() -> None:
    """The reader's code reaches the worker as it is."""
    locked = Unacceptable("the PDF needs a password", code="PDF_ENCRYPTED")
    ctx = FakeContext(refusal=locked)

    with pytest.raises(Unacceptable) as caught:
        await intake(Document(source=SOURCE), ctx)

    assert caught.value.code == "PDF_ENCRYPTED"


async def test_passwords_of_the_tenant_are_tried() -> None:
    """A locked PDF opens with the tenant's own passwords."""
    ctx = FakeContext(PDF, 2)

    await intake(Document(source=SOURCE), ctx)

    given = {name: kwargs["passwords"] for name, kwargs in ctx.called}
    secret = ["a secret of pdf-passwords"]
    assert given == {"probe": secret, "separators": secret}


ADMITTED = {"name": "letter.png", "pages": 3}


@pytest.mark.parametrize(
    ("facts", "asked"), [(ADMITTED, []), ({"part": 3}, ["probe"]), ({}, ["probe"])]
)
async def test_what_admission_found_is_not_asked_again(
    facts: dict[str, Any], asked: list[str]
) -> None:
    """A part of a bundle, and what came without facts, was looked at by nobody."""
    ctx = FakeContext(TIFF, 3)
    known = {"media_type": TIFF} if facts is ADMITTED else {}

    outcome = await intake(Document(source=SOURCE, facts=facts, **known), ctx)

    assert outcome == Advance(media_type=TIFF, page_count=3)
    assert [name for name, _ in ctx.called] == asked


async def test_a_bundle_that_was_admitted_is_opened() -> None:
    """It has no pages; admission knew it for a bundle, and its parts are made."""
    ctx = FakeContext(ZIP, parts=[part(1)])
    admitted = Document(source=SOURCE, media_type=ZIP, facts={"name": "post.zip"})

    outcome = await intake(admitted, ctx)

    assert isinstance(outcome, Done)
    assert [name for name, _ in ctx.called] == ["contents"]


async def test_what_is_probed_is_bounded_by_the_pipeline() -> None:
    """A part of a bundle may be as large as what comes in by itself."""
    ctx = FakeContext(PNG, 1, max_bytes=1000, max_pages=7)

    await intake(Document(source=SOURCE), ctx)

    [(_, asked)] = ctx.called
    bounds = DocumentBounds(max_bytes=1000, max_pages=7)
    assert asked["bounds"] == bounds.model_dump()


# -- archives and mail ----------------------------------------------------------------


async def test_every_part_of_a_bundle_becomes_an_item() -> None:
    """450 parts are spawned in three transactions, each part with its bytes."""
    ctx = FakeContext(ZIP, parts=[part(n) for n in range(1, 451)])

    outcome = await intake(Document(source=SOURCE), ctx)

    facts = {"parts": 450, "skipped": 0, "refused": 0}
    assert outcome == Done(media_type=ZIP, facts=facts)
    assert [len(parts) for parts in ctx.spawned.values()] == [200, 200, 50]
    assert [p.key for p in ctx.parts()] == [f"sha-of-{n:05}.bin" for n in range(1, 451)]
    first = ctx.parts()[0]
    assert first.name == "post.zip › letter 1.png"
    assert first.input == {
        "source": "sha-of-00001.bin",
        "facts": {"name": "letter 1.png", "part": 1, "of": 450, "depth": 1},
    }


async def test_a_crash_repeats_one_range_of_a_bundle_at_most() -> None:
    """What was unpacked before is spawned from its record, the rest unpacked."""
    parts = [part(n) for n in range(1, 251)]
    done = [bundle.Unpacked(**p | {"file": "recorded"}) for p in parts[:200]]
    ctx = FakeContext(ZIP, parts=parts, recorded={"unpack-1-200": done})

    await intake(Document(source=SOURCE), ctx)

    assert ctx.ran == ["contents", "spawn:1-200", "unpack-201-250", "spawn:201-250"]
    assert {p.key for p in ctx.parts()[:200]} == {"recorded"}


async def test_a_bad_part_is_refused_alone() -> None:
    """It has a receipt with its code, and the others are items."""
    bad = part(2, code="PART_CORRUPT", why="its checksum is wrong", file="")
    ctx = FakeContext(ZIP, parts=[part(1), bad, part(3)])

    outcome = await intake(Document(source=SOURCE), ctx)

    assert [p.refused_code for p in ctx.parts()] == ["", "PART_CORRUPT", ""]
    assert isinstance(outcome, Done)
    assert outcome.updates["facts"] == {"parts": 3, "skipped": 0, "refused": 1}


async def test_a_part_that_vanishes_is_noticed() -> None:
    """Bytes that do not arrive from the jail cannot become a lost letter."""
    ctx = FakeContext(ZIP, parts=[part(1), part(2)], lose="00002.bin")

    with pytest.raises(Transient) as caught:
        await intake(Document(source=SOURCE), ctx)

    assert caught.value.code == "PARTS_MISSING"
    assert ctx.spawned == {}


async def test_an_empty_bundle_is_rejected() -> None:
    """Nobody waits for the parts of an archive of folders and litter."""
    ctx = FakeContext(ZIP, skipped={"junk": 2, "folder": 1})

    outcome = await intake(Document(source=SOURCE), ctx)

    assert isinstance(outcome, Reject)
    assert outcome.code == "EMPTY_BUNDLE"


async def test_the_text_of_a_mail_is_read_from_the_mail() -> None:
    """It is an item beside the attachments, and has no bytes of its own."""
    text = part(1, name="message", pages=2, file="", size_bytes=0)
    ctx = FakeContext(EML, parts=[text, part(2)], name="re.eml")

    await intake(Document(source=SOURCE), ctx)

    said, attached = ctx.parts()
    assert said.name == "re.eml › message"
    assert said.input["source"] == SOURCE
    assert attached.input["source"] == "sha-of-00002.bin"
    again = await intake(Document(**said.input), ctx)
    assert again == Advance(page_count=2)


async def test_a_mail_without_documents_is_a_document_itself() -> None:
    """Logos in its signature do not make it a bundle."""
    text = part(1, name="message", pages=1, file="", size_bytes=0)
    ctx = FakeContext(EML, parts=[text], skipped={"decoration": 2})

    outcome = await intake(Document(source=SOURCE), ctx)

    assert outcome == Advance(media_type=EML, page_count=1)
    assert ctx.spawned == {}


@pytest.mark.parametrize(
    ("media_type", "between"), [(ZIP, []), (PDF, [2])], ids=["zip", "pdf"]
)
async def test_bundles_in_bundles_end(media_type: str, between: list[int]) -> None:
    """The fourth level is refused, whatever it is made of."""
    ctx = FakeContext(media_type, 3, between=between)

    with pytest.raises(Unacceptable) as caught:
        await intake(Document(source=SOURCE, facts={"part": 1, "depth": 3}), ctx)

    assert caught.value.code == "BUNDLE_DEPTH"
    assert ctx.spawned == {}


async def test_nested_bundles_share_what_room_is_left() -> None:
    """However many there are, together they have no more parts and bytes."""
    nested = [part(n, nests=True, size_bytes=1000) for n in (1, 2)]
    ctx = FakeContext(
        ZIP, parts=[*nested, part(3)], max_parts=103, max_unpacked_bytes=21_000
    )

    await intake(Document(source=SOURCE), ctx)

    rooms = [p.input["facts"].get("room") for p in ctx.parts()]
    assert rooms == [[50, 10_000], [50, 10_000], None]


async def test_a_nested_bundle_has_the_room_it_was_given() -> None:
    """Its settings would allow more."""
    ctx = FakeContext(ZIP, parts=[part(1)])
    inner = Document(source=SOURCE, facts={"part": 1, "depth": 1, "room": [7, 9000]})

    await intake(inner, ctx)

    [(_, kwargs)] = [call for call in ctx.called if call[0] == "contents"]
    room = (kwargs["file"]["parts_max"], kwargs["unpacked_bytes_max"])
    assert room == (7, 9000)


# -- stacks of pages ------------------------------------------------------------------


async def test_a_stack_is_divided_at_its_separators() -> None:
    """Each run of pages is an item over the same bytes; separators are in none."""
    ctx = FakeContext(PDF, 7, between=[3, 6], name="stack.pdf")

    outcome = await intake(Document(source=SOURCE), ctx)

    made = [(p.input["first_page"], p.input["last_page"]) for p in ctx.parts()]
    assert made == [(1, 2), (4, 5), (7, 7)]
    assert [p.name for p in ctx.parts()] == [
        "stack.pdf › pages 1-2",
        "stack.pdf › pages 4-5",
        "stack.pdf › page 7",
    ]
    assert [p.key for p in ctx.parts()] == [
        f"{SOURCE}:1-2",
        f"{SOURCE}:4-5",
        f"{SOURCE}:7-7",
    ]
    facts = {"parts": 3, "skipped": 2, "refused": 0, "separators": [3, 6]}
    assert outcome == Done(media_type=PDF, facts=facts)


async def test_a_part_of_a_stack_is_not_looked_into_again() -> None:
    """Its pages are known: 500 parts do not each load 500 pages."""
    ctx = FakeContext(PDF, 7, between=[3, 6])
    await intake(Document(source=SOURCE), ctx)
    before = len(ctx.called)

    outcome = await intake(Document(**ctx.parts()[0].input), ctx)

    assert outcome == Advance(page_count=2)
    assert len(ctx.called) == before


async def test_separators_are_looked_for_in_ranges() -> None:
    """A crash in a long stack repeats the looking at 50 pages at most."""
    ctx = FakeContext(PDF, 120, between=[119], recorded={"separators-1-50": [40]})

    await intake(Document(source=SOURCE), ctx)

    assert ctx.ran == ["separators-51-100", "separators-101-120", "spawn:1-3"]


async def test_a_document_without_separators_stays_one() -> None:
    """Most are no stack."""
    ctx = FakeContext(PDF, 3)

    outcome = await intake(Document(source=SOURCE), ctx)

    assert outcome == Advance(media_type=PDF, page_count=3)
    assert ctx.spawned == {}


async def test_nobody_looks_for_separators_where_a_pipeline_has_none() -> None:
    """`separators = []` takes every PDF as one document."""
    ctx = FakeContext(PDF, 3, between=[2], separators=[])

    outcome = await intake(Document(source=SOURCE), ctx)

    assert outcome == Advance(media_type=PDF, page_count=3)
    assert [name for name, _ in ctx.called] == ["probe"]


async def test_a_stack_of_separators_alone_is_rejected() -> None:
    """Somebody scanned the sheets and forgot the letters."""
    ctx = FakeContext(PDF, 2, between=[1, 2])

    outcome = await intake(Document(source=SOURCE), ctx)

    assert isinstance(outcome, Reject)
    assert outcome.code == "EMPTY_BUNDLE"
