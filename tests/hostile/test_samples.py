"""Real broken, odd and hostile files: each ends in a named outcome, none in us."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from PIL import Image, ImageDraw, ImageStat

from pipeline.errors import Unacceptable, WaybillError
from pipeline.jail.pool import JailPool
from stages.formats import kinds, probe
from stages.formats.kinds import JPEG, PNG
from stages.formats.probe import DocumentBounds, Probed, look
from stages.reading import codes, page
from stages.reading.page import read_page
from stages.reading.picture import open_page
from stages.reading.protocol import PageReading, PageRequest
from tests.hostile import looking

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT.parent / "shared" / "samples"
FOLDERS = (
    "odd_pdfs",
    "odd_images",
    "tesseract_test",
    "exif_orientation",
    "invoices_invoice2data",
    "scanned_multipage_pdfs",
)
CODES = {
    "EMPTY_FILE",
    "UNSUPPORTED_TYPE",
    "TRUNCATED",
    "CORRUPT",
    "PDF_ENCRYPTED",
    "PDF_CORRUPT",
    "NO_PAGES",
    "TOO_MANY_PAGES",
    "PIXEL_LIMIT",
    "TOO_LARGE",
    "MEMORY_LIMIT",
    "JAIL_CRASHED",
}
EXPECTED = {
    "005-libreoffice-writer-password__libreoffice-writer-password.pdf": "PDF_ENCRYPTED",
    "decompression_bomb.gif": "PIXEL_LIMIT",
    "truncated_image.png": "TRUNCATED",
    "truncated_jpeg.jpg": "TRUNCATED",
    "broken_data_stream.png": "CORRUPT",
    "invalid.pdf": "PDF_CORRUPT",
    "hugemono.pdf": "",  # 35,000 x 35,000 pixels in 12 KB: rendered smaller
    "corruptionOneByteMissing.pdf": "",
    "multipage.tiff": "",
    "hopper.webp": "",
    "hopper.bmp": "",
    "decompression_bomb.ico": "UNSUPPORTED_TYPE",
    "T01_006_header-invalid-syntax-no-pdf.pdf": "UNSUPPORTED_TYPE",
    "T02-02_002_page-tree-kids-links-recursive.pdf": "PDF_CORRUPT",
    "linn.txt": "",
}


def sample(relative: str) -> Path:
    """A sample, or a skip that names the folder it should be in."""
    path = SAMPLES / relative
    if not path.exists():
        pytest.skip(f"the folder of samples {SAMPLES} has no {relative}")
    return path


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the whole file: its pool imports for a second or two."""
    return "asyncio"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a test puts what the pool is to read."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="module")
async def pool(
    made: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[JailPool]:
    scratch = tmp_path_factory.mktemp("scratch")
    async with JailPool(
        2,
        allow=[probe, page, looking],
        codes=codes.CODES,
        paths=[ROOT],
        readable=[SAMPLES, made],
        scratch=scratch,
    ) as pool:
        yield pool


async def outcome(pool: JailPool, path: Path) -> str:
    """Probe one file and look at its first pages; its code, "" when accepted."""
    try:
        answer = await pool.run(
            probe.probe,
            timeout_s=60,
            path=str(path),
            name=path.name,
            bounds=DocumentBounds().model_dump(),
            passwords=[],
        )
        found = Probed.model_validate(answer)
    except WaybillError as error:
        return error.code
    assert found.bundle == (found.pages == 0)
    for index in range(min(2, found.pages)):
        try:
            page = await pool.run(
                looking.look,
                timeout_s=60,
                path=str(path),
                media_type=found.media_type,
                index=index,
            )
        except WaybillError as error:
            return error.code
        if "text" not in page:
            assert page["mode"] == "L"
            assert 0 < page["pixels"] <= 40_000_000
            assert page["dpi"] >= 70
    return ""


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.proof)])
async def test_every_odd_file_ends_in_a_named_outcome(
    pool: JailPool, every: int
) -> None:
    """Each sample is accepted or refused with a stable code; the pool lives on."""
    sample("odd_pdfs")
    found = [
        file
        for folder in FOLDERS
        for file in sorted((SAMPLES / folder).rglob("*"))
        if file.is_file()
    ]
    files = [f for n, f in enumerate(found) if n % every == 0 or f.name in EXPECTED]
    outcomes: dict[str, str] = {}

    async def take(number: int, file: Path) -> None:
        outcomes[f"{number} {file.name}"] = await outcome(pool, file)

    async with anyio.create_task_group() as group:
        for number, file in enumerate(files):
            group.start_soon(take, number, file)

    assert len(outcomes) >= 20
    assert set(outcomes.values()) <= {"", *CODES}
    named = {key.split(" ", 1)[1]: code for key, code in outcomes.items()}
    assert {name: named[name] for name in EXPECTED} == EXPECTED
    seen = pool.statistics()
    assert (seen.busy, seen.disowned) == (0, 0)
    good = await outcome(pool, sample("tesseract_test/phototest.tif"))
    assert good == ""


@pytest.mark.parametrize(
    "name", ["Landscape_3.jpg", "Landscape_6.jpg", "Portrait_8.jpg"]
)
def test_photos_come_out_upright(name: str) -> None:
    """A photo that its EXIF tag turns is turned."""
    path = sample(f"exif_orientation/{name}")

    with open_page(asked(path, JPEG)) as page:
        upright, _ = page.picture()

    assert (upright.width > upright.height) == name.startswith("Landscape")
    # The sky is brighter than the ground, as it is in all of these.
    sky = upright.crop((0, 0, upright.width, upright.height // 4))
    ground = upright.crop((0, upright.height * 3 // 4, upright.width, upright.height))
    assert ImageStat.Stat(sky).mean[0] > ImageStat.Stat(ground).mean[0]


def asked(path: Path, media_type: str) -> PageRequest:
    """The first page of a file."""
    return PageRequest(path=str(path), media_type=media_type, index=0)


async def reading(pool: JailPool, path: Path, media_type: str) -> PageReading:
    """The first page of a file, read in a jailed process."""
    answer = await pool.run(
        read_page, timeout_s=60, request=asked(path, media_type).model_dump(mode="json")
    )
    return PageReading.model_validate(answer)


def refusal(path: Path, **limits: int) -> str:
    bounds = DocumentBounds().model_copy(update=limits)
    with pytest.raises(Unacceptable) as caught:
        look(str(path), path.name, bounds)
    assert caught.value.hint
    return caught.value.code


def test_limits_are_checked_at_the_door(tmp_path: Path) -> None:
    """Empty, large, many pages, many pixels: each has its own code."""
    empty = tmp_path / "empty.pdf"
    empty.touch()
    pages = tmp_path / "pages.tif"
    frame = Image.new("1", (400, 300), 1)
    frame.save(pages, save_all=True, append_images=[frame] * 4)

    assert refusal(empty) == "EMPTY_FILE"
    assert refusal(pages, max_bytes=100) == "TOO_LARGE"
    assert refusal(pages, max_pages=4) == "TOO_MANY_PAGES"
    assert refusal(pages, max_decoded_pixels=100_000) == "PIXEL_LIMIT"
    assert refusal(tmp_path) == "UNSUPPORTED_TYPE"
    assert look(str(pages), "", DocumentBounds(max_pages=5)).pages == 5


def test_the_type_is_told_by_content(tmp_path: Path) -> None:
    """A PNG called .pdf is taken as PNG, and the note says so."""
    wrong = tmp_path / "letter.pdf"
    Image.new("L", (40, 30), 255).save(wrong, "PNG")

    found = look(str(wrong), wrong.name)

    assert found.media_type == "image/png"
    assert found.note == "the name says .pdf, the content is PNG"


def test_an_image_cut_short_is_refused(tmp_path: Path) -> None:
    """Half of a PNG, JPEG or TIFF is never taken for a whole page."""
    noise = Image.effect_noise((300, 300), 80)
    for kind in ("PNG", "JPEG", "TIFF"):
        whole = tmp_path / f"whole.{kind}"
        noise.save(whole, kind)
        cut = tmp_path / f"cut.{kind}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])

        assert refusal(cut) in ("TRUNCATED", "CORRUPT")


@pytest.mark.parametrize(
    ("relative", "status"),
    [
        ("tesseract_test/phototest.tif", "OK"),
        ("tesseract_test/phototest-rotated-180.png", "OK"),
        ("letters_stanford1905/Lettre246.jpg", "OK"),
        ("letters_stanford1905/Lettre251.jpg", "UNREADABLE"),
        *(
            pytest.param(
                f"letters_stanford1905/{name}.jpg",
                "UNREADABLE",
                marks=pytest.mark.proof,
            )
            for name in ("Lettre252", "SC0033B_s4_b01_f14_i082")
        ),
    ],
)
async def test_handwriting_is_held_and_type_is_read(
    relative: str, status: str, pool: JailPool
) -> None:
    """
    Typed pages are read; cursive is unreadable, also under a printed letterhead.
    """
    path = sample(relative)

    read = await reading(pool, path, kinds.type_of(str(path)))

    assert read.status == status, read.model_copy(update={"text": len(read.text)})


def blank(kind: str) -> Image.Image:
    """A page with nothing written on it, as scanners and cameras make them."""
    size = (1654, 2339)
    match kind:
        case "shadow":
            return Image.linear_gradient("L").resize(size).point(lambda v: 120 + v // 2)
        case "grain":
            return Image.effect_noise(size, 12).point(lambda v: min(255, v + 100))
        case "specks":
            page = Image.new("L", size, 250)
            for number in range(300):
                page.putpixel((number * 997 % size[0], number * 1009 % size[1]), 0)
            return page
        case _:
            page = Image.new("L", size, 245)
            ImageDraw.Draw(page).rectangle((0, 0, 30, size[1]), fill=0)
            return page


@pytest.mark.parametrize("kind", ["shadow", "grain", "specks", "black edge"])
async def test_blank_pages_are_known_by_ink(
    kind: str, pool: JailPool, made: Path
) -> None:
    """Shade, grain, specks and a scanner's edge are not ink."""
    path = made / f"{kind}.jpg"
    blank(kind).save(path, quality=80)

    read = await reading(pool, path, JPEG)

    assert read.status == "EMPTY", read


async def test_a_line_in_faint_pencil_is_not_blank(pool: JailPool, made: Path) -> None:
    """A scrawl that no engine reads is ink: unreadable, never empty."""
    page = Image.new("L", (1654, 2339), 235)
    draw = ImageDraw.Draw(page)
    for number in range(40):
        x = 300 + number * 14
        draw.arc((x, 600, x + 18, 640), 20, 320, fill=175, width=4)
    path = made / "faint.png"
    page.save(path)

    read = await reading(pool, path, PNG)

    assert read.status == "UNREADABLE", read
