"""Pictures as pages: upright, bounded, black on white however they are stored."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image, ImageDraw, ImageFont, TiffImagePlugin

from pipeline.errors import Unacceptable
from stages.formats.images import to_gray
from stages.formats.kinds import BMP, GIF, HEIC, JPEG, PNG, TIFF, WEBP
from stages.formats.probe import DocumentBounds, look
from stages.reading.judging import INK_MIN, Ink
from tests.system.drawn import corner, is_corner, seen

# Fewer than a pipeline may ask for.
SMALL = DocumentBounds().model_copy(update={"max_decoded_pixels": 100_000})


@pytest.mark.parametrize(
    ("kind", "form", "mode"),
    [
        (PNG, "PNG", "L"),
        (PNG, "PNG", "1"),
        (PNG, "PNG", "P"),
        (PNG, "PNG", "RGB"),
        (PNG, "PNG", "RGBA"),
        (PNG, "PNG", "LA"),
        (PNG, "PNG", "I;16"),
        (JPEG, "JPEG", "L"),
        (JPEG, "JPEG", "RGB"),
        (JPEG, "JPEG", "CMYK"),
        (TIFF, "TIFF", "1"),
        (TIFF, "TIFF", "CMYK"),
        (TIFF, "TIFF", "I;16"),
        (TIFF, "TIFF", "F"),
        (TIFF, "TIFF", "LAB"),
        (WEBP, "WEBP", "RGB"),
        (WEBP, "WEBP", "RGBA"),
        (BMP, "BMP", "RGB"),
        (GIF, "GIF", "P"),
    ],
)
def test_every_way_of_storing_a_page_shows_it(
    kind: str, form: str, mode: str, tmp_path: Path
) -> None:
    """Palettes, 16 bits, CMYK, alpha: black stays black and paper white."""
    path = tmp_path / "page"
    page = corner()
    if mode in ("I;16", "F", "LAB"):
        page = {
            "I;16": lambda: page.convert("I").point(lambda v: v * 200).convert("I;16"),
            "F": lambda: page.convert("F"),
            "LAB": lambda: Image.merge("LAB", [page, *[page.point(lambda _: 0)] * 2]),
        }[mode]()
    else:
        page = page.convert("RGB").convert(mode) if mode == "P" else page.convert(mode)
    page.save(path, form)

    found = look(str(path))
    picture, _ = seen(path, kind)

    assert (found.media_type, found.pages) == (kind, 1)
    assert picture.size == (300, 200)
    assert is_corner(picture)


def test_what_is_transparent_is_paper(tmp_path: Path) -> None:
    """Black ink on nothing is black on white, never black on black."""
    path = tmp_path / "page"
    page = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    ImageDraw.Draw(page).rectangle((0, 0, 75, 50), fill=(0, 0, 0, 255))
    for form, kind in (("PNG", PNG), ("WEBP", WEBP)):
        page.save(path, form, **({"lossless": True} if form == "WEBP" else {}))

        picture, _ = seen(path, kind)

        assert is_corner(picture)


def test_a_gray_colour_of_a_png_may_be_transparent(tmp_path: Path) -> None:
    """A PNG whose black stands for nothing is a blank page."""
    path = tmp_path / "page.png"
    corner().save(path, transparency=0)

    picture, _ = seen(path, PNG)

    assert picture.getextrema() == (255, 255)


STORED = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_shows_the_same_page(
    orientation: int, form: str, tmp_path: Path
) -> None:
    """Whatever EXIF says, the black corner ends where it was written; once."""
    page = corner((320, 192))
    for turn in STORED[orientation]:
        page = page.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo"
    if form == "HEIF":
        photo = pillow_heif.from_pillow(page.convert("RGB"))
        photo.save(path, exif=exif.tobytes())
    else:
        page.convert("RGB").save(path, form, exif=exif)

    found = look(str(path))
    picture, _ = seen(path, found.media_type)

    assert picture.size == (320, 192)
    assert is_corner(picture)


def test_a_heic_photo_is_a_page(tmp_path: Path) -> None:
    """What phones make is decoded, and refused by its header when too large."""
    path = tmp_path / "photo.heic"
    pillow_heif.from_pillow(corner((640, 480)).convert("RGB")).save(path, quality=80)

    found = look(str(path), path.name)
    picture, _ = seen(path, HEIC)
    with pytest.raises(Unacceptable) as caught:
        look(str(path), path.name, SMALL)

    assert (found.media_type, found.pages, found.note) == (HEIC, 1, "")
    assert is_corner(picture)
    assert caught.value.code == "PIXEL_LIMIT"


def test_frames_of_a_tiff_are_pages(tmp_path: Path) -> None:
    """Each frame is a page of its own size; one behind the last has a code."""
    path = tmp_path / "fax.tif"
    frames = [corner((300 + 10 * number, 200)) for number in range(4)]
    frames[0].save(path, save_all=True, append_images=frames[1:])

    sizes = [seen(path, TIFF, index)[0].size for index in range(4)]
    with pytest.raises(Unacceptable) as caught:
        seen(path, TIFF, 4)

    assert sizes == [(300, 200), (310, 200), (320, 200), (330, 200)]
    assert caught.value.code == "NO_SUCH_PAGE"


@pytest.mark.parametrize(("form", "kind"), [("GIF", GIF), ("PNG", PNG), ("WEBP", WEBP)])
def test_an_animation_is_its_first_frame(form: str, kind: str, tmp_path: Path) -> None:
    """The other frames are no pages, and the note says that there are some."""
    path = tmp_path / "moving"
    corner().convert("P").save(
        path, form, save_all=True, append_images=[Image.new("P", (300, 200), 255)]
    )

    found = look(str(path))
    picture, _ = seen(path, kind)

    assert found.pages == 1
    assert "first" in found.note
    assert is_corner(picture)


def test_a_photo_of_a_page_has_the_resolution_of_a_page(tmp_path: Path) -> None:
    """72 dpi in a camera's file would be a page of a metre: it is estimated."""
    path = tmp_path / "photo.jpg"
    corner((3000, 2000)).save(path, dpi=(72, 72))

    _, dpi = seen(path, JPEG)
    small, small_dpi = seen(path, JPEG, max_pixels=1_500_000)

    assert dpi == pytest.approx(3000 / 11.69, abs=1)
    assert 1_400_000 < small.width * small.height <= 1_500_000
    assert small_dpi == pytest.approx(dpi / 2, abs=1)


WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("mode", "paper", "ink"),
    [
        ("RGB", (255, 0, 0), (0, 130, 0)),
        ("RGB", (255, 255, 0), WHITE),
        ("RGB", WHITE, (255, 255, 0)),
        ("RGBA", (0, 0, 0, 0), (*WHITE, 255)),
        ("LA", (255, 0), (255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 255, 90)),
        ("L", 255, 238),
        ("L", 235, 255),
    ],
)
def test_ink_is_what_differs_from_its_paper(mode: str, paper: Any, ink: Any) -> None:
    """In colour, in transparency, and if it is ever so pale."""
    image = Image.new(mode, (900, 360), paper)
    draw = ImageDraw.Draw(image)
    draw.text(
        (90, 90), "What a person reads", fill=ink, font=ImageFont.load_default(36)
    )

    gray = to_gray(image)

    low, high = gray.crop((80, 80, 600, 150)).getextrema()
    assert high - low > 100  # type: ignore[operator]
    assert Ink(gray).share > INK_MIN


def test_usual_pages_keep_their_usual_gray() -> None:
    """Black on white, with a touch of colour, is left as it is."""
    image = Image.new("RGB", (900, 1200), WHITE)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(40)
    for line in range(12):
        draw.text((60, 90 * line), "Words in black", 0, font)
    draw.rectangle((600, 20, 640, 60), (255, 250, 120))

    assert to_gray(image).tobytes() == image.convert("L").tobytes()


@pytest.mark.parametrize("place", [(10, 0), (10, 1165), (0, 600), (800, 600)])
def test_the_border_is_part_of_the_page(place: tuple[int, int]) -> None:
    """A word at the very edge is ink; a scanner's edge along it is none."""
    page = Image.new("L", (900, 1200), 255)
    edge = page.copy()
    ImageDraw.Draw(edge).rectangle((0, 0, 12, 1200), 20)
    font = ImageFont.load_default(32)
    ImageDraw.Draw(page).text(place, "4711 due", fill=0, font=font)

    assert Ink(page).share > INK_MIN
    assert Ink(edge).share < INK_MIN


@pytest.mark.parametrize("tag", [{254: 1}, {254: 4}, {255: 2}])
def test_copies_and_masks_in_a_tiff_are_no_pages(
    tag: dict[int, int], tmp_path: Path
) -> None:
    """Unless there is nothing else."""
    path = tmp_path / "a.tif"

    def made(*tags: dict[int, int]) -> int:
        with TiffImagePlugin.AppendingTiffWriter(str(path), True) as file:
            for number, each in enumerate(tags):
                frame = Image.new("L", (200 - number, 100), 255)
                frame.save(file, "TIFF", tiffinfo=each)
                file.newFrame()
        return look(str(path)).pages

    assert (made({}, tag, {}), made(tag, {}), made(tag, tag)) == (2, 1, 1)


@pytest.mark.parametrize(("mark", "marked"), [("7", True), ("x", True), (".", False)])
def test_one_letter_on_a_page_is_a_mark(mark: str, marked: bool) -> None:
    """Ten points high on A4: too little to measure, and yet not blank."""
    page = Image.new("L", (2480, 3508), 255)
    font = ImageFont.load_default(44)
    ImageDraw.Draw(page).text((1200, 1700), mark, fill=0, font=font)

    assert Ink(page).share < INK_MIN
    assert Ink(page).marked is marked


def test_dust_is_no_mark() -> None:
    """However many specks: a blank page is blank."""
    page = Image.new("L", (2480, 3508), 250)
    draw, rng = ImageDraw.Draw(page), random.Random(1)
    for _ in range(40):
        x, y, r = rng.randrange(2480), rng.randrange(3508), rng.randint(2, 9)
        draw.ellipse((x, y, x + r, y + r), fill=70)

    assert not Ink(page).marked
