"""Pages of pictures and PDFs: upright, bounded, and their layers believed or not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pikepdf
import pillow_heif
import pytest
from pikepdf import Dictionary, Name, Pdf, Stream
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import Unacceptable
from stages.formats.kinds import BMP, GIF, HEIC, JPEG, PDF, PNG, TIFF, WEBP
from stages.formats.probe import DocumentBounds, look
from stages.reading.layer.layer import Layer
from stages.reading.picture import SourcePage, open_page
from stages.reading.protocol import PageRequest, ReaderSettings

Font = Callable[[Pdf], Dictionary]
# Fewer than a pipeline may ask for.
SMALL = DocumentBounds().model_copy(update={"max_decoded_pixels": 100_000})


def corner(size: tuple[int, int] = (300, 200)) -> Image.Image:
    """A page with a black corner, top left."""
    page = Image.new("L", size, 255)
    ImageDraw.Draw(page).rectangle((0, 0, size[0] // 4, size[1] // 4), fill=0)
    return page


def asked(path: Path, kind: str, index: int = 0, **how: Any) -> PageRequest:
    """A page, to be read with these passwords and settings."""
    passwords = how.pop("passwords", ())
    return PageRequest(
        path=str(path),
        media_type=kind,
        index=index,
        reader=ReaderSettings(**how),
        passwords=passwords,
    )


def seen(path: Path, kind: str, index: int = 0, **limits: Any) -> tuple[Any, int]:
    with open_page(asked(path, kind, index, **limits)) as page:
        assert page.text() is None
        return page.picture()


def is_corner(picture: Image.Image) -> bool:
    """Whether the black corner, and it alone, is where it was drawn."""
    width, height = picture.size
    dark = [
        (x, y)
        for x in (0.1, 0.9)
        for y in (0.1, 0.9)
        if picture.getpixel((int(x * width), int(y * height))) < 60  # type: ignore[operator]
    ]
    return picture.mode == "L" and dark == [(0.1, 0.1)]


# -- pictures -------------------------------------------------------------------------


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


# -- pages of PDFs --------------------------------------------------------------------


def text_at(x: float, y: float, text: str, size: float = 12, more: str = "") -> str:
    return f"q {more} BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET Q\n"


def helvetica(_pdf: Pdf) -> Dictionary:
    return Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)


def one_page(
    folder: Path,
    content: str,
    *,
    size: tuple[float, float] = (595, 842),
    images: dict[str, Image.Image] | None = None,
    font: Font | None = None,
    **keys: Any,
) -> Path:
    """A PDF of one page; its pictures are drawn by `/NAME Do`."""
    pdf = Pdf.new()
    drawn = {
        f"/{name}": pdf.make_indirect(
            Stream(
                pdf,
                image.convert("L").tobytes(),
                Type=Name.XObject,
                Subtype=Name.Image,
                Width=image.width,
                Height=image.height,
                BitsPerComponent=8,
                ColorSpace=Name.DeviceGray,
            )
        )
        for name, image in (images or {}).items()
    }
    page = Dictionary(
        Type=Name.Page,
        MediaBox=[0, 0, *size],
        Contents=pdf.make_stream(content.encode("latin-1")),
        Resources=Dictionary(
            Font=Dictionary(F1=pdf.make_indirect((font or helvetica)(pdf))),
            XObject=Dictionary(drawn),
        ),
        **keys,
    )
    pdf.pages.append(pikepdf.Page(pdf.make_indirect(page)))
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".pdf", delete=False) as file:
        pdf.save(file)
    return Path(file.name)


@contextmanager
def first(path: Path, **limits: Any) -> Iterator[SourcePage]:
    with open_page(asked(path, PDF, **limits)) as page:
        yield page


def layer(path: Path, verify: Callable[[Image.Image], str] | None = None) -> Layer:
    with first(path) as page:
        found = page.layer(verify)
        assert found is not None
        return found


def test_a_page_is_drawn_at_the_resolution_asked_for(tmp_path: Path) -> None:
    """A4 at 200 dpi; and no page has more pixels than allowed."""
    path = one_page(tmp_path, text_at(50, 800, "Dear all"))

    with first(path, dpi=200) as page:
        picture, dpi = page.picture()
    with first(path, max_pixels=1_000_000) as page:
        small, small_dpi = page.picture()

    assert (dpi, picture.size) == (200, (1653, 2339))
    assert 950_000 < small.width * small.height <= 1_000_000
    assert small_dpi == pytest.approx(small.height / 842 * 72, abs=1)


@pytest.mark.parametrize("size", [(14_400, 14_400), (1, 1), (3, 14_400)])
def test_pages_of_any_size_can_be_drawn(
    size: tuple[float, float], tmp_path: Path
) -> None:
    """Five metres square, or one point: a picture within the cap."""
    path = one_page(tmp_path, "0 g 0 0 1 1 re f", size=size)

    with first(path, max_pixels=2_000_000) as page:
        picture, dpi = page.picture()

    assert 1 <= picture.width * picture.height <= 2_000_000
    assert dpi >= 70


@pytest.mark.parametrize(("pixels", "dpi"), [(827, 100), (1654, 200), (4960, 300)])
def test_a_scan_is_drawn_at_its_own_resolution(
    pixels: int, dpi: int, tmp_path: Path
) -> None:
    """No pixels are invented, none above 300 dpi are kept; a layer changes nothing."""
    scan = corner((pixels, round(pixels * 1.414)))
    path = one_page(
        tmp_path,
        "q 595 0 0 842 0 0 cm /Im Do Q " + text_at(50, 800, "read", more="3 Tr"),
        images={"Im": scan},
    )

    with first(path) as page:
        picture, found = page.picture()

    assert found == pytest.approx(dpi, abs=1)
    assert picture.width == pytest.approx(595 * dpi / 72, abs=3)
    assert is_corner(picture)


def test_a_drawn_page_with_a_picture_is_no_scan(tmp_path: Path) -> None:
    """Letters over a coarse background are drawn as sharp as ever."""
    path = one_page(
        tmp_path,
        "q 595 0 0 842 0 0 cm /Im Do Q " + text_at(50, 800, "Dear all"),
        images={"Im": Image.new("L", (100, 141), 250)},
    )

    with first(path) as page:
        _, dpi = page.picture()

    assert dpi == 300


def locked(folder: Path, user: str, owner: str) -> Path:
    source = one_page(folder, text_at(50, 800, "Dear all"))
    made = folder / "locked.pdf"
    with Pdf.open(source) as pdf:
        pdf.save(made, encryption=pikepdf.Encryption(user=user, owner=owner))
    return made


def test_passwords_are_tried_in_turn(tmp_path: Path) -> None:
    """A PDF opens with the one that fits, and is refused without it."""
    path = locked(tmp_path, "sesame", "owner")

    with pytest.raises(Unacceptable) as caught:
        look(str(path), passwords=["wrong"])
    found = look(str(path), passwords=["wrong", "sesame"])
    with first(path, passwords=["wrong", "sesame"]) as page:
        picture, _ = page.picture()

    assert caught.value.code == "PDF_ENCRYPTED"
    assert "sesame" not in f"{caught.value}{caught.value.hint}"
    assert found.pages == 1
    assert picture.getextrema()[0] < 100


def test_an_owners_password_does_not_lock(tmp_path: Path) -> None:
    """Restrictions on printing and copying are no reason to refuse."""
    path = locked(tmp_path, "", "owner")

    assert look(str(path)).pages == 1


def test_form_fields_are_drawn_and_attachments_listed(tmp_path: Path) -> None:
    """What a person typed into a field is on the page; files inside stay closed."""
    path = one_page(tmp_path, text_at(50, 800, "Dear all"))
    with Pdf.open(path, allow_overwriting_input=True) as pdf:
        pdf.attachments["a list.csv"] = b"1,2"
        pdf.save()

    assert look(str(path)).attachments == ("a list.csv",)


def test_a_broken_page_does_not_cost_the_others(tmp_path: Path) -> None:
    """The document is taken, the note names the page, and it alone is refused."""
    path = tmp_path / "three.pdf"
    with Pdf.new() as pdf:
        for _ in range(3):
            pdf.add_blank_page()
        pdf.pages[1].obj.Type = Name.Wrong
        pdf.save(path)

    found = look(str(path))

    assert found.pages == 3
    assert "page 2 of 3 cannot be read" in found.note
    assert seen(path, PDF, 2)[0].mode == "L"
    with pytest.raises(Unacceptable) as caught:
        seen(path, PDF, 1)
    assert caught.value.code == "PDF_CORRUPT"


# -- text layers ----------------------------------------------------------------------

PROSE = [
    "Dear all, this is a letter of some lines",
    "which a person can read without any trouble,",
    "and so can the machine, from its text layer.",
]


def prose(y: float = 780, more: str = "") -> str:
    return "".join(
        text_at(60, y - 20 * number, line, more=more)
        for number, line in enumerate(PROSE)
    )


def picture_of(text: str) -> Image.Image:
    """Words as a scan shows them."""
    page = Image.new("L", (1200, 500), 255)
    font = ImageFont.load_default(size=28)
    for number in range(8):
        ImageDraw.Draw(page).text((20, 20 + 50 * number), text, 0, font)
    return page


def test_a_layer_that_a_person_sees_is_trusted(tmp_path: Path) -> None:
    """Lines come as they stand on the page, and nothing is hidden."""
    found = layer(one_page(tmp_path, prose()))

    assert found == Layer("\n".join(PROSE), 26, 0, True)


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_a_turned_page_has_its_layer(rotate: int, tmp_path: Path) -> None:
    """A page's rotation moves the picture and the letters alike."""
    found = layer(one_page(tmp_path, prose(), Rotate=rotate))

    assert (found.trusted, found.hidden) == (True, 0)


def test_a_cropped_page_shows_what_is_inside(tmp_path: Path) -> None:
    """Words outside the crop box are not on the page."""
    content = prose() + text_at(60, 100, "cut off")

    found = layer(one_page(tmp_path, content, CropBox=[0, 400, 595, 842]))

    assert found == Layer("\n".join(PROSE), 26, 6, True)


WORD = "hiddenwords"


@pytest.mark.parametrize(
    "hiding",
    [
        text_at(60, 300, WORD, more="3 Tr"),
        text_at(60, 300, WORD, more="7 Tr"),
        text_at(60, 300, WORD, more="1 g"),
        text_at(60, 300, WORD, more="0.98 1 0.97 rg"),
        text_at(60, 300, WORD, size=1),
        text_at(60, 300, WORD, more="0.1 0 0 0.1 0 0 cm"),
        text_at(-500, 300, WORD),
        text_at(60, 2000, WORD),
        text_at(60, 300, WORD, more="0 0 10 10 re W n"),
        text_at(60, 300, WORD) + "1 g 50 290 300 30 re f 0 g\n",
        "0.2 0.4 0.8 rg 50 290 300 30 re f\n"
        + text_at(60, 300, WORD, more="0.2 0.4 0.8 rg"),
    ],
    ids=[
        "not drawn",
        "clip only",
        "white",
        "nearly white",
        "one point",
        "scaled down",
        "left of the page",
        "above the page",
        "clipped away",
        "covered",
        "blue on blue",
    ],
)
def test_what_a_person_does_not_see_is_no_text(hiding: str, tmp_path: Path) -> None:
    """Hidden words are counted and left out; the words around them are kept."""
    found = layer(one_page(tmp_path, prose() + hiding))

    assert found.text == "\n".join(PROSE)
    assert found.hidden == len(WORD)
    assert found.trusted


def in_form(folder: Path, content: str) -> Path:
    """A page whose words are drawn by a form that it calls."""
    path = one_page(folder, "/Fm Do")
    with Pdf.open(path, allow_overwriting_input=True) as pdf:
        resources = pdf.pages[0].obj.Resources
        resources.XObject.Fm = Stream(
            pdf,
            content.encode(),
            Type=Name.XObject,
            Subtype=Name.Form,
            BBox=[0, 0, 595, 842],
            Resources=Dictionary(Font=resources.Font),
        )
        pdf.save()
    return path


def test_words_in_a_form_are_looked_at_as_well(tmp_path: Path) -> None:
    """A layer may be drawn at one remove: it is seen, or hidden, all the same."""
    path = in_form(tmp_path, prose() + text_at(60, 300, WORD, more="1 g"))

    found = layer(path)

    assert found == Layer("\n".join(PROSE), 26, len(WORD), True)


def test_a_note_upon_a_page_is_not_overlooked(tmp_path: Path) -> None:
    """Annotations and fields are seen and are not in the layer: it is no longer all
    there is."""
    path = one_page(tmp_path, prose())
    with Pdf.open(path, allow_overwriting_input=True) as pdf:
        words = "".join(text_at(0, 12 * n, "and this as well") for n in range(6))
        looks = Stream(
            pdf,
            words.encode(),
            Type=Name.XObject,
            Subtype=Name.Form,
            BBox=[0, 0, 300, 100],
            Resources=Dictionary(Font=Dictionary(F1=helvetica(pdf))),
        )
        note = Dictionary(
            Type=Name.Annot,
            Subtype=Name.FreeText,
            Rect=[60, 300, 360, 400],
            F=4,
            AP=Dictionary(N=pdf.make_indirect(looks)),
        )
        pdf.pages[0].obj.Annots = pdf.make_indirect([pdf.make_indirect(note)])
        pdf.save()

    found = layer(path)

    assert (found.text, found.trusted, found.why) == ("\n".join(PROSE), False, "SPARSE")


def test_the_picture_is_whole_after_the_layer_was_read(tmp_path: Path) -> None:
    """Looking at a page without its letters leaves nothing undrawn."""
    path = one_page(tmp_path, prose())
    with first(path) as page:
        before, _ = page.picture()
    with first(path) as page:
        page.layer()
        after, _ = page.picture()

    assert after.getextrema()[0] < 50
    assert after.tobytes() == before.tobytes()


def test_a_word_broken_at_a_lines_end_keeps_its_hyphen(tmp_path: Path) -> None:
    """What was two lines on the page is two lines of text."""
    content = text_at(60, 700, "a long ex-") + text_at(60, 685, "ample of a word")

    assert layer(one_page(tmp_path, content)).text == "a long ex-\nample of a word"


def test_a_picture_over_words_hides_them(tmp_path: Path) -> None:
    """Words behind a scan are not what the scan says."""
    scan = picture_of("something else")
    content = prose() + "q 595 0 0 842 0 0 cm /Im Do Q"

    found = layer(one_page(tmp_path, content, images={"Im": scan}))

    assert (found.text, found.trusted, found.why) == ("", False, "INVISIBLE")
    assert found.hidden == len("".join(PROSE).replace(" ", ""))


def test_white_words_on_a_dark_ground_are_seen(tmp_path: Path) -> None:
    """It is contrast that counts, not colour."""
    content = "0 g 40 700 500 120 re f\n" + prose(more="1 g")

    assert layer(one_page(tmp_path, content)).text == "\n".join(PROSE)


def test_the_layer_of_a_scan_is_not_used(tmp_path: Path) -> None:
    """Another program's reading lies invisible over the scan: we read ourselves."""
    content = "q 595 0 0 842 0 0 cm /Im Do Q " + prose(more="3 Tr")

    found = layer(one_page(tmp_path, content, images={"Im": picture_of("Dear all")}))

    assert (found.text, found.trusted, found.why) == ("", False, "INVISIBLE")


def test_a_page_without_letters_has_no_layer(tmp_path: Path) -> None:
    """Neither a scan nor a blank page is mistaken for one that was typed."""
    found = layer(one_page(tmp_path, "0 g 60 60 100 100 re f"))

    assert found == Layer("", 0, 0, False, "NONE")


def test_a_picture_with_words_is_not_left_out(tmp_path: Path) -> None:
    """A heading over a pasted scan: the layer is true and not all there is."""
    content = prose() + "q 450 0 0 190 60 300 cm /Im Do Q"

    found = layer(
        one_page(tmp_path, content, images={"Im": picture_of("and much more there")})
    )

    assert (found.text, found.trusted, found.why) == ("\n".join(PROSE), False, "SPARSE")


def test_the_rules_of_a_table_are_no_words(tmp_path: Path) -> None:
    """Lines, frames and shaded rows do not make a page unreadable."""
    rows = "".join(
        f"0.9 g 50 {y} 480 20 re f 0 G 50 {y} 480 20 re S\n"
        for y in range(100, 700, 40)
    )

    assert layer(one_page(tmp_path, rows + prose())).trusted


def test_words_over_other_words_are_not_believed(tmp_path: Path) -> None:
    """White letters under black ones make one picture and two texts."""
    content = text_at(60, 780, "x" * 40, more="1 g") + text_at(60, 780, "pay 900 " * 5)

    found = layer(one_page(tmp_path, content))

    assert (found.trusted, found.why) == (False, "DIFFERS")


def mapped(letters: str, said: str) -> Font:
    """Helvetica that draws `letters` and maps them to what is `said`."""
    pairs = "".join(
        f"<{ord(a):02x}> <{ord(b):04x}>\n" for a, b in zip(letters, said, strict=True)
    )
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "/CMapName /X def 1 begincodespacerange <00> <ff> endcodespacerange\n"
        f"{len(letters)} beginbfchar\n{pairs}endbfchar\nendcmap end end\n"
    )

    def made(pdf: Pdf) -> Dictionary:
        font = helvetica(pdf)
        font.ToUnicode = pdf.make_stream(cmap.encode())
        return font

    return made


def test_a_layer_of_nonsense_is_garbled(tmp_path: Path) -> None:
    """Letters that stand for nothing in Unicode's own words."""
    font = mapped("abcdefghij", "".join(chr(0xE000 + n) for n in range(10)))

    found = layer(one_page(tmp_path, text_at(60, 700, "abcdefghij" * 4), font=font))

    assert (found.trusted, found.why) == (False, "GARBLED")


def test_a_font_that_shows_other_letters_is_found_out(tmp_path: Path) -> None:
    """One line of a font is read from its picture and compared."""
    font = mapped("abcdefghij", "qrstuvwxyz")
    path = one_page(tmp_path, text_at(60, 700, "abcdefghij hagfed"), font=font)
    shown: list[Image.Image] = []

    def read(line: Image.Image) -> str:
        shown.append(line)
        return "abcdefghij hagfed"

    believed, found, again = layer(path), layer(path, read), layer(path, read)

    assert believed.text == "qrstuvwxyz xqwvut"
    assert (found.trusted, found.why) == (False, "DIFFERS")
    assert again == found
    assert len(shown) == 1  # what is known of a font is kept for the next page
    assert shown[0].getextrema() == (0, 255)


def test_an_honest_font_is_believed(tmp_path: Path) -> None:
    """A reader that makes small mistakes does not cast doubt on a layer."""
    path = one_page(tmp_path, prose())

    found = layer(path, lambda _: PROSE[1].replace("e", "c").upper())

    assert found.trusted
