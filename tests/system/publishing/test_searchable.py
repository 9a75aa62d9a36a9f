"""Searchable: what was read becomes files that other programs read, in the jail."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pikepdf
import pypdfium2
import pytest
from PIL import Image, ImageDraw

from loadtest.bench.searchable import by_pdfium, placed
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Permanent
from pipeline.jail.pool import JailPool
from pipeline.model import Item
from pipeline.stage import Advance
from stages.document import Document, PageStatus, PageText
from stages.formats.kinds import JPEG, PDF, PNG, TIFF, TXT, WEBP
from stages.layout import Layout, ReadBlock, ReadLine, ReadWord
from stages.publishing import archival, making
from stages.publishing.request import SearchableSettings
from stages.searchable import searchable


class FakeContext:
    """What the stage needs of a context: a real pool, a real artifact store."""

    def __init__(self, folder: Path, pool: JailPool, name: str, **settings: Any):
        self.item = Item(7, "acme", "b1", 1, name, {})
        self.settings = SearchableSettings(**settings)
        self.artifacts = FileArtifacts(folder / "artifacts")
        self.out_dir = folder / "out" / "b1"
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._pool = pool
        self.products: dict[str, tuple[str, dict[str, Any]]] = {}

    def product(self, name: str, artifact: str, **facts: Any) -> None:
        self.products[name] = (artifact, facts)

    def secrets(self, name: str) -> list[str]:
        return ["wrong", "sesame"]

    async def jailed_files(
        self, fn: Callable[..., Any], /, *, pool: str, **kwargs: Any
    ) -> tuple[Any, dict[str, str]]:
        return await self._pool.run_files(
            fn, timeout_s=60, keep=self.artifacts, **kwargs
        )


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[JailPool]:
    # Every test keeps its artifacts beneath this folder, which the jail may read.
    root = tmp_path_factory.getbasetemp()
    async with JailPool(1, allow=[making], warm=[making.warm], readable=[root]) as made:
        yield made


@pytest.fixture
def given(tmp_path: Path, pool: JailPool) -> Callable[..., Any]:
    """Run the stage on bytes that were read so; returns the context after it."""

    async def run(
        data: bytes,
        kind: str,
        name: str,
        *pages: Any,
        folder: str = "",
        **settings: Any,
    ) -> FakeContext:
        ctx = FakeContext(tmp_path, pool, name, **settings)
        read = []
        for number, (_, layout, more) in enumerate(pages, 1):
            kept = ""
            if layout is not None:
                kept = await ctx.artifacts.put(layout.model_dump_json().encode())
            source = "ocr" if layout is not None else "layer"
            whole = {"status": PageStatus.OK, "source": source, "layout": kept, **more}
            read.append(PageText(number=number, **whole))
        document = Document(
            source=await ctx.artifacts.put(data),
            media_type=kind,
            read=read,
            text="\f".join(text for text, _, _ in pages),
            confidence=91.5,
            page_count=len(pages),
            facts={"folder": folder} if folder else {},
        )
        outcome = await searchable(document, ctx)
        assert isinstance(outcome, Advance)
        ctx.files = outcome.updates["files"]  # type: ignore[attr-defined]
        return ctx

    return run


def words(*texts: str, size: tuple[int, int] = (400, 300), crop: str = "") -> Layout:
    """A page with these words in one line, at the left of its middle."""
    boxes = [(20 + 90 * n, 140, 100 + 90 * n, 160) for n in range(len(texts))]
    line = ReadLine(
        box=(20, 140, 100 + 90 * len(texts), 160),
        crop=crop,
        words=tuple(
            ReadWord(text=t, box=b, confidence=88.5, doubtful=bool(crop), other="0")
            for t, b in zip(texts, boxes, strict=True)
        ),
    )
    block = ReadBlock(box=line.box, lines=(line,))
    return Layout(
        width=size[0],
        height=size[1],
        dpi=100,
        source="ocr",
        reader="tesserocr",
        language="eng",
        blocks=(block,),
    )


def picture(kind: str, mode: str = "RGB", **how: Any) -> bytes:
    drawn = "RGB" if mode == "P" else mode
    image = Image.new(drawn, (400, 300), how.pop("fill", "white"))
    ImageDraw.Draw(image).text((20, 140), "seen", fill=how.pop("ink", "black"))
    out = io.BytesIO()
    image.convert(mode).save(out, kind, **how)
    return out.getvalue()


def scan(pages: int = 2, **save: Any) -> bytes:
    """A PDF of pages that are pictures."""
    first, *others = [
        Image.new("L", (400, 300), 200 + number) for number in range(pages)
    ]
    out = io.BytesIO()
    first.save(out, "PDF", save_all=True, append_images=others, resolution=100)
    if not save:
        return out.getvalue()
    locked = io.BytesIO()
    with pikepdf.open(out) as pdf:
        pdf.save(locked, **save)
    return locked.getvalue()


def page_texts(path: Path) -> list[str]:
    document = pypdfium2.PdfDocument(path)
    texts = [page.get_textpage().get_text_bounded().strip() for page in document]
    document.close()
    return texts


def check_archival(path: Path) -> None:
    """What ISO 19005-2 asks, level B, of what is in our pages."""
    with pikepdf.open(path) as pdf:
        [intent] = pdf.Root.OutputIntents
        assert intent.S == "/GTS_PDFA1"
        profile = intent.DestOutputProfile
        assert profile.read_bytes() == archival.srgb()
        assert int(profile.N) == 3
        assert "/ID" in pdf.trailer
        assert not pdf.is_encrypted
        with pdf.open_metadata() as said:
            assert (said["pdfaid:part"], said["pdfaid:conformance"]) == ("2", "B")
        assert pdf.Root.Metadata.get("/Filter") is None
        for page in pdf.pages:
            for drawn in page.resources.get("/XObject", {}).values():
                assert "/SMask" not in drawn
                assert not drawn.get("/Interpolate", False)
                assert "/Alternates" not in drawn
                assert drawn.get("/ColorSpace", None) != "/DeviceCMYK"
            for font in page.resources.get("/Font", {}).values():
                for child in font.get("/DescendantFonts", [font]):
                    assert "/FontFile2" in child.FontDescriptor or (
                        "/FontFile3" in child.FontDescriptor
                    )
            assert "/AA" not in page.obj


async def test_a_picture_becomes_a_searchable_archive(given: Any) -> None:
    """Its bytes are in the PDF as they came; text and record lie beside it."""
    data = picture("JPEG", quality=90)

    ctx = await given(
        data, JPEG, "March.jpg", ("seen text", words("seen", "text"), {}), folder="in"
    )

    assert ctx.files == {
        product: f"in/March.{suffix}"
        for product, suffix in (("text", "txt"), ("pdf", "pdf"), ("record", "json"))
    }
    out = ctx.out_dir / "in"
    assert (out / "March.txt").read_text() == "seen text"
    assert page_texts(out / "March.pdf") == ["seen text"]
    check_archival(out / "March.pdf")
    with pikepdf.open(out / "March.pdf") as pdf:
        [image] = pdf.pages[0].resources.XObject.values()
        assert image.read_raw_bytes() == data
        assert [float(side) for side in pdf.pages[0].mediabox] == [0, 0, 288, 216]
    for product, (artifact, facts) in ctx.products.items():
        copy = ctx.out_dir / facts["file"]
        assert copy.read_bytes() == ctx.artifacts.path(artifact).read_bytes(), product


async def test_the_record_says_where_each_word_stands(
    given: Any, tmp_path: Path
) -> None:
    """And links to the cutting of what is doubtful; hOCR and ALTO by setting."""
    crop = await FileArtifacts(tmp_path / "artifacts").put(picture("PNG"))

    ctx = await given(
        picture("PNG"),
        PNG,
        "a <b> & c.png",
        ("l0O", words("l0O", crop=crop), {"confidence": 80.0, "doubtful": 1}),
        layouts=["hocr", "alto"],
    )

    record = json.loads((ctx.out_dir / ctx.files["record"]).read_text())
    assert (record["item"], record["name"]) == (7, "a <b> & c.png")
    [page] = record["pages"]
    assert (page["width"], page["height"], page["text"]) == (400, 300, "l0O")
    [line] = page["blocks"][0]["lines"]
    word = {"text": "l0O", "box": [20, 140, 100, 160], "confidence": 88.5}
    assert line["words"] == [{**word, "doubtful": True, "other": "0"}]
    beside = (ctx.out_dir / ctx.files["record"]).parent
    assert (beside / line["crop"]).read_bytes() == ctx.artifacts.path(crop).read_bytes()
    hocr = ElementTree.parse(ctx.out_dir / ctx.files["hocr"])
    [read] = [e for e in hocr.iter() if e.get("class") == "ocrx_word"]
    assert (read.text, read.get("title")) == ("l0O", "bbox 20 140 100 160; x_wconf 88")
    alto = ElementTree.parse(ctx.out_dir / ctx.files["alto"])
    [said] = [e for e in alto.iter() if e.tag.endswith("}String")]
    place = [said.get(name) for name in ("CONTENT", "HPOS", "VPOS", "WIDTH", "HEIGHT")]
    assert place == ["l0O", "20", "140", "80", "20"]


async def test_digital_pages_stay_as_they_are(given: Any) -> None:
    """Of a mixed PDF the read page gets a layer; the other keeps its very bytes."""
    data = scan()
    with pikepdf.open(io.BytesIO(data)) as before:
        contents = [page.Contents.read_bytes() for page in before.pages]

    ctx = await given(
        data, PDF, "mixed.pdf", ("own", None, {}), ("seen", words("seen"), {})
    )

    with pikepdf.open(ctx.out_dir / "mixed.pdf") as pdf:
        assert pdf.pages[0].Contents.read_bytes() == contents[0]
        assert pdf.pages[1].Contents[1].read_bytes() == contents[1]
    assert page_texts(ctx.out_dir / "mixed.pdf") == ["", "seen"]


async def test_a_pdf_without_anything_to_add_is_the_same_file(given: Any) -> None:
    """Signatures and all."""
    data = scan()

    ctx = await given(data, PDF, "own.pdf", *[("own", None, {})] * 2)

    assert (ctx.out_dir / "own.pdf").read_bytes() == data


async def test_a_locked_pdf_comes_out_open(given: Any) -> None:
    """Its text lies beside it anyway."""
    lock = pikepdf.Encryption(owner="o", user="sesame")

    ctx = await given(
        scan(1, encryption=lock), PDF, "locked.pdf", ("seen", words("seen"), {})
    )

    assert page_texts(ctx.out_dir / "locked.pdf") == ["seen"]


PICTURES = {
    "transparent PNG": (PNG, picture("PNG", "RGBA", fill=(0, 0, 0, 0))),
    "palette PNG": (PNG, picture("PNG", "P")),
    "CMYK JPEG": (JPEG, picture("JPEG", "CMYK", fill=0, ink=(0, 0, 0, 255))),
    "16 bits": (TIFF, picture("TIFF", "I;16", fill=60000, ink=0)),
    "bilevel TIFF": (TIFF, picture("TIFF", "1", fill=1, ink=0)),
    "WebP": (WEBP, picture("WEBP", quality=60)),
}


@pytest.mark.parametrize("name", PICTURES)
async def test_every_picture_becomes_a_page_of_an_archive(
    given: Any, name: str
) -> None:
    """Whatever its colours are, and about as small."""
    kind, data = PICTURES[name]

    ctx = await given(data, kind, name, ("seen", words("seen"), {}))

    path = ctx.out_dir / f"{name}.pdf"
    check_archival(path)
    assert page_texts(path) == ["seen"]
    drawn = pypdfium2.PdfDocument(path)[0].render().to_pil().convert("L")
    dark, light = drawn.getextrema()
    assert dark < 100
    assert light > 200
    assert path.stat().st_size < len(data) * 1.1 + 6000


@pytest.mark.parametrize("turn", range(1, 9))
async def test_a_photograph_lies_as_it_is_seen(given: Any, turn: int) -> None:
    """Turned and mirrored ones too: upright, with its words where they are seen."""
    exif = Image.Exif()
    exif[0x0112] = turn
    data = picture("JPEG", exif=exif)
    seen = (300, 400) if turn > 4 else (400, 300)

    ctx = await given(data, JPEG, "p.jpg", ("seen", words("seen", size=seen), {}))

    page = pypdfium2.PdfDocument(ctx.out_dir / "p.pdf")[0]
    width, height = page.get_size()
    assert (round(width), round(height)) == (seen[0] * 0.72, seen[1] * 0.72)
    place = placed([20, 140, 100, 160], *seen)
    assert by_pdfium(ctx.out_dir / "p.pdf", [("seen", place)]) == [True]
    check_archival(ctx.out_dir / "p.pdf")


async def test_text_becomes_pages_that_are_set(given: Any) -> None:
    """Line by line; what no face can draw is said to be there."""
    text = "Name      Price\n  tea       3.00\n\n" + "x" * 300 + "\nnever: \U0001f9a5"

    ctx = await given(text.encode(), TXT, "list.txt", (text, None, {"source": "text"}))

    check_archival(ctx.out_dir / "list.pdf")
    [shown] = page_texts(ctx.out_dir / "list.pdf")
    lines = [line.replace("\u00a0", " ") for line in shown.splitlines()]
    assert lines[0].split() == ["Name", "Price"]
    assert "tea" in lines[1]
    assert "never: \ufffd" in lines[-1]
    assert (ctx.out_dir / "list.txt").read_text() == text


async def test_what_a_person_typed_is_found_on_its_page(given: Any) -> None:
    """Where its lines were seen, when there are as many; else somewhere on it."""
    doubt = {"status": PageStatus.UNREADABLE}

    ctx = await given(
        scan(3),
        PDF,
        "typed.pdf",
        ("right words", words("wr0ng"), doubt),
        ("two\nlines", words("wr0ng"), doubt),
        ("typed", None, {"source": "person"}),
    )

    found = page_texts(ctx.out_dir / "typed.pdf")
    assert [text.split() for text in found] == [
        ["right", "words"],
        ["two", "lines"],
        ["typed"],
    ]
    record = json.loads((ctx.out_dir / "typed.json").read_text())
    assert [page["source"] for page in record["pages"]] == ["person"] * 3
    [line] = record["pages"][0]["blocks"][0]["lines"]
    assert line["text"] == "right words"


def test_without_ghostscript_its_setting_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is looked for on the path, and named."""
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(Permanent) as caught:
        archival.by_ghostscript(Path("x.pdf"), Path(), 1)

    assert caught.value.code == "GHOSTSCRIPT_MISSING"
