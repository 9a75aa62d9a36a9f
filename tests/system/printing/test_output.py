"""Output: what is printed is what was written, once, in one piece."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pikepdf
import pypdfium2
import pytest

from pipeline.artifacts.durable import new_part
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Permanent
from pipeline.jail.pool import JailPool
from pipeline.model import Item
from pipeline.stage import Advance, Hold
from stages.document import Document, Printed, Reply
from stages.output import output
from stages.printing import proofs, typesetter
from stages.printing.fonts import face_of
from stages.printing.names import slug
from stages.printing.typesetter import PrintSettings

SAMPLES = Path(__file__).parents[3].parent / "shared" / "samples"
SLOTH = "\U0001f9a5"  # in no face of the test machine


class FakeContext:
    """What output needs of a context: a real pool, a real artifact store."""

    def __init__(self, folder: Path, pool: JailPool, **settings: Any) -> None:
        name = settings.pop("name", "Anna's letter.jpg")
        self.item = Item(7, "acme", "b1", 1, name, {})
        self.settings = PrintSettings(**settings)
        self.artifacts = FileArtifacts(folder / "artifacts")
        self.out_dir = folder / "printed" / "b1"
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._pool = pool
        self.products: dict[str, tuple[str, dict[str, Any]]] = {}
        self.effects: list[tuple[Any, ...]] = []

    async def effect(
        self, name: str, sink: str, payload: Any, *, artifacts: Any, irreversible: bool
    ) -> None:
        self.effects.append((name, sink, payload, artifacts, irreversible))

    def product(self, name: str, artifact: str, **facts: Any) -> None:
        self.products[name] = (artifact, facts)

    async def jailed_files(
        self, fn: Callable[..., Any], /, *, pool: str, **kwargs: Any
    ) -> tuple[Any, dict[str, str]]:
        assert pool == "print"
        return await self._pool.run_files(
            fn, timeout_s=30, keep=self.artifacts, **kwargs
        )


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[JailPool]:
    kinds = {"warm": [typesetter.warm], "threadless": [typesetter.warm_compiler]}
    async with JailPool(1, allow=[typesetter, proofs], **kinds) as pool:
        yield pool


@pytest.fixture(autouse=True)
def fonts() -> None:
    for family in ("Klee One", "DejaVu Sans"):
        try:
            face_of(family)
        except Permanent as missing:
            pytest.skip(f"{missing.message}: {missing.hint}")


def replying(*paragraphs: str, greeting: str = "Dear friend,") -> Document:
    reply = Reply(
        greeting=greeting,
        paragraphs=list(paragraphs or ("Your letter came this morning.",)),
        closing="With love,\nSanta",
        writer="test",
    )
    return Document(source="f" * 64, reply=reply)


async def printed(letter: Document, ctx: FakeContext) -> tuple[Printed, bytes]:
    outcome = await output(letter, ctx)
    assert isinstance(outcome, Advance), outcome
    row = outcome.updates["printed"]
    assert isinstance(row, Printed)
    return row, (ctx.out_dir / row.file).read_bytes()


def text_of(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    try:
        pages = [page.get_textpage().get_text_bounded() for page in document]
    finally:
        document.close()
    # Where lines break is the typesetter's business.
    return " ".join(" ".join(pages).split())


async def test_the_manifest_names_the_file_that_is_there(
    tmp_path: Path, pool: JailPool
) -> None:
    """Artifact, copy and manifest row agree, and no part is left behind."""
    ctx = FakeContext(tmp_path, pool)

    row, pdf = await printed(replying(), ctx)

    assert row.file == "00000007-anna-s-letter.pdf"
    assert row.artifact == hashlib.sha256(pdf).hexdigest()
    assert (row.pages, row.size_bytes) == (1, len(pdf))
    assert await ctx.artifacts.get(row.artifact) == pdf
    assert [path.name for path in ctx.out_dir.iterdir()] == [row.file]
    facts = row.model_dump(exclude={"artifact"})
    assert ctx.products == {"printed": (row.artifact, facts)}


async def test_printing_again_gives_the_same_bytes(
    tmp_path: Path, pool: JailPool
) -> None:
    """A repeated stage replaces the file by itself, also in another process."""
    ctx = FakeContext(tmp_path, pool, bleed_mm=3)
    first, _ = await printed(replying(), ctx)

    async with JailPool(1, allow=[typesetter]) as others:
        second, _ = await printed(replying(), FakeContext(tmp_path, others, bleed_mm=3))

    assert first == second


HOSTILE = [
    '#import "x": * $x^2$ *bold* _em_ \\n \\u{41} @ref <label> // no /* no */',
    '#eval("1+1") #read("/etc/passwd") [block] {code} `raw` ~ -- --- ... \'q\'',
    '"}]} , {"fonts": ["x"] \\" = heading - item + item / term: x',
    "$ # % & \\ ^ _ { } ~ | < > ` ' \" @ ! ? *",
]


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_markup_in_a_reply_prints_as_it_is(
    hostile: str, tmp_path: Path, pool: JailPool
) -> None:
    """The reply is data: typst parses none of it."""
    _, pdf = await printed(
        replying(hostile, greeting=hostile), FakeContext(tmp_path, pool)
    )

    assert text_of(pdf).count(" ".join(hostile.split())) == 2


async def test_naughty_strings_print_or_are_held(
    tmp_path: Path, pool: JailPool
) -> None:
    """Every known nasty string ends as a page or as a hold, never as an error."""
    path = SAMPLES / "naughty_strings" / "blns.json"
    if not path.exists():
        pytest.skip(f"the naughty strings are not in {path.parent}")
    strings = [text for text in json.loads(path.read_text("utf-8")) if text.strip()]
    ctx = FakeContext(tmp_path, pool, pages_max=50)

    outcomes = [
        await output(replying(*strings[start : start + 25]), ctx)
        for start in range(0, len(strings), 25)
    ]
    dropping = FakeContext(tmp_path, pool, pages_max=50, missing="drop")
    row, _ = await printed(replying(*strings), dropping)

    assert all(isinstance(outcome, Advance | Hold) for outcome in outcomes)
    assert row.pages > 5


async def test_a_character_no_face_has_is_held_with_its_code_point(
    tmp_path: Path, pool: JailPool
) -> None:
    """No empty boxes on paper: the reviewer sees which characters to replace."""
    ctx = FakeContext(tmp_path, pool)

    outcome = await output(replying(f"A sloth: {SLOTH}"), ctx)

    assert isinstance(outcome, Hold)
    assert (outcome.code, outcome.ask) == ("GLYPH_MISSING", ("reply",))
    assert outcome.evidence["code_points"] == ["U+1F9A5"]
    assert list(ctx.out_dir.iterdir()) == []


async def test_missing_characters_may_be_dropped(
    tmp_path: Path, pool: JailPool
) -> None:
    """With missing="drop" the rest of the line still prints."""
    ctx = FakeContext(tmp_path, pool, missing="drop")

    _, pdf = await printed(replying(f"A {SLOTH} sloth."), ctx)

    assert "A sloth." in text_of(pdf)


async def test_what_the_handwriting_lacks_another_face_draws(
    tmp_path: Path, pool: JailPool
) -> None:
    """Both faces are embedded, and the text can be read back."""
    _, pdf = await printed(replying("Šárka ♥ Łódź, ɸ"), FakeContext(tmp_path, pool))

    with pikepdf.open(io.BytesIO(pdf)) as document:
        found = " ".join(
            str(font.BaseFont)
            for font in document.pages[0].Resources.Font.values()
            if font.DescendantFonts[0].FontDescriptor
        )
    assert "KleeOne" in found
    assert "DejaVuSans" in found
    assert "Šárka ♥ Łódź" in text_of(pdf)


async def test_direction_and_control_marks_never_reach_paper(
    tmp_path: Path, pool: JailPool
) -> None:
    """Marks that turn text around are taken out, and line ends are kept."""
    _, pdf = await printed(
        replying("one\u202etwo\u0000\u200b three\r\nfour"),
        FakeContext(tmp_path, pool),
    )

    assert "onetwo three four" in text_of(pdf)


async def test_a_long_reply_flows_over_pages_and_has_a_bound(
    tmp_path: Path, pool: JailPool
) -> None:
    """Pages follow each other; too many are a person's decision."""
    long = replying(*["It snowed all day, and then it snowed again. " * 12] * 6)

    row, pdf = await printed(long, FakeContext(tmp_path, pool))
    held = await output(long, FakeContext(tmp_path, pool, pages_max=1))

    assert row.pages >= 2
    assert text_of(pdf).count("snowed") == 144
    assert isinstance(held, Hold)
    assert held.code == "LETTER_TOO_LONG"


async def test_a_bleed_is_outside_the_trim_box(tmp_path: Path, pool: JailPool) -> None:
    """Printers cut at the trim box: it is the paper, and the bleed lies around."""
    ctx = FakeContext(tmp_path, pool, bleed_mm=3, paper="a4")

    _, pdf = await printed(replying(), ctx)

    with pikepdf.open(io.BytesIO(pdf)) as document:
        media, trim = document.pages[0].mediabox, document.pages[0].trimbox
        width_mm = (float(trim[2]) - float(trim[0])) / typesetter.POINTS_PER_MM
        edge_mm = (float(trim[0]) - float(media[0])) / typesetter.POINTS_PER_MM
    assert width_mm == pytest.approx(210, abs=0.01)
    assert edge_mm == pytest.approx(3, abs=0.01)


async def test_metadata_names_nobody(tmp_path: Path, pool: JailPool) -> None:
    """The file's properties carry a neutral title, no date and no name."""
    ctx = FakeContext(tmp_path, pool)

    _, pdf = await printed(replying("For Anna", greeting="Dear Anna,"), ctx)

    with pikepdf.open(io.BytesIO(pdf)) as document:
        properties = {str(k): str(v) for k, v in document.docinfo.items()}
    assert properties.pop("/Title") == "Letter"
    assert set(properties) <= {"/Creator"}
    assert b"Anna" not in pdf


async def test_a_font_that_is_not_installed_is_named(
    tmp_path: Path, pool: JailPool
) -> None:
    """FONT_MISSING says which face, not merely that something is missing."""
    ctx = FakeContext(tmp_path, pool, font="Nobody's Hand")

    with pytest.raises(Permanent) as caught:
        await output(replying(), ctx)

    assert caught.value.code == "FONT_MISSING"
    assert "Nobody's Hand" in caught.value.message


async def test_a_killed_attempts_part_is_swept(tmp_path: Path, pool: JailPool) -> None:
    """What nobody writes any more goes; what a living attempt writes stays."""
    ctx = FakeContext(tmp_path, pool)
    (ctx.out_dir / ".dead.part").write_bytes(b"half")
    with new_part(ctx.out_dir) as living:
        row, _ = await printed(replying(), ctx)
        left = sorted(path.name for path in ctx.out_dir.iterdir())

    assert left == sorted([Path(living.name).name, row.file])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Letter 12.jpg", "letter-12"),
        ("../../etc/passwd", "passwd"),
        ("C:\\scans\\Ünïcode.PDF", "ünïcode"),
        ("\u202egpj.exe", "gpj"),
        ("a\0b\nc\td.png", "ab-c-d"),
        ("письмо Деду.tif", "письмо-деду"),
        ("", "letter"),
        ("....", "letter"),
        ("-rf ~", "rf"),
        ("\ud800.jpg", "letter"),
        ("😀.png", "letter"),
    ],
)
def test_any_name_gives_a_safe_file_name(name: str, expected: str) -> None:
    """Separators, controls, direction marks and dots never reach a file name."""
    assert slug(name) == expected


@pytest.mark.parametrize("char", ["x", "é", "字", "\u0301", "🎄", "ﷺ"])
def test_a_file_name_is_short_enough_for_any_file_system(char: str) -> None:
    """Cut by bytes, never inside a character."""
    made = slug(char * 5000)

    assert 1 <= len(made.encode()) <= 80
    assert made.encode().decode() == made


async def test_a_print_is_handed_over_once_when_a_sink_is_named(
    tmp_path: Path, pool: JailPool
) -> None:
    """The copy in the output folder stays; a person may have to release it."""
    ctx = FakeContext(tmp_path, pool, sink="print", released=False)
    plain = FakeContext(tmp_path, pool)

    await output(replying("Thank you."), ctx)
    await output(replying("Thank you."), plain)

    [(name, sink, payload, files, irreversible)] = ctx.effects
    artifact, facts = ctx.products["printed"]
    assert (name, sink, irreversible) == ("print", "print", True)
    assert files == {"print.pdf": artifact}
    assert payload["file"] == facts["file"]
    assert (ctx.out_dir / facts["file"]).exists()
    assert plain.effects == []


async def test_a_proof_sheet_shows_the_first_page_of_each(
    tmp_path: Path, pool: JailPool
) -> None:
    """Sixteen on a sheet; what is no PDF leaves its place empty."""
    ctx = FakeContext(tmp_path, pool)
    await output(replying("Thank you."), ctx)
    printed = ctx.artifacts.path(ctx.products["printed"][0])
    odd = ctx.artifacts.path(await ctx.artifacts.put(b"no PDF"))
    paths = [str(printed)] * 16 + [str(odd)]

    sheets, files = await ctx.jailed_files(
        proofs.proofs,
        pool="print",
        paths=paths,
        labels=[f"Größe {n}" for n in range(17)],
    )

    drawn = pypdfium2.PdfDocument(await ctx.artifacts.get(files[proofs.PROOF]))
    assert (sheets, len(drawn)) == (2, 2)
    ink = [min(drawn[n].render().to_pil().convert("L").getextrema()) for n in (0, 1)]
    assert ink[0] < 200
