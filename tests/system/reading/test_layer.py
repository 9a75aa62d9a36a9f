"""Text layers: what a person sees is read, what is hidden is counted and left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pikepdf import Dictionary, Name, Pdf, Stream
from PIL import Image, ImageDraw, ImageFont

from loadtest.corpora.noise import font_file
from stages.formats.kinds import PDF
from stages.reading import languages
from stages.reading.layer.fonts import Known
from stages.reading.layer.layer import Layer
from stages.reading.page import first_reading
from stages.reading.protocol import PageRequest, ReaderSettings
from stages.reading.reader import Reader
from tests.system.drawn import Font, first, helvetica, one_page, text_at


def layer(
    path: Path,
    verify: Callable[[Image.Image, str], str | None] | None = None,
    known: Known | None = None,
) -> Layer:
    with first(path) as page:
        found = page.layer({} if known is None else known, verify)
        assert found is not None
        return found


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


@pytest.mark.parametrize("rotate", [0, 90, 270])
def test_its_words_stand_where_they_are_drawn(rotate: int, tmp_path: Path) -> None:
    """In the pixels of the layout, each box is around the word's ink, and no other."""
    path = one_page(tmp_path, prose(), Rotate=rotate)

    layout = layer(path).layout

    assert layout is not None
    assert [line.text for line in layout.lines] == PROSE
    with first(path) as page:
        picture, _ = page.picture()
    ink = picture.resize((layout.width, layout.height)).point(lambda v: 255 * (v < 128))
    whole = ink.histogram()[255]
    draw = ImageDraw.Draw(ink)
    for line in layout.lines:
        for word in line.words:
            left, top, right, bottom = word.box
            assert ink.crop(word.box).histogram()[255] > 0
            draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=0)
    assert ink.histogram()[255] < 0.02 * whole


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
        page.layer({})
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

    def read(line: Image.Image, said: str) -> str:
        shown.append(line)
        return "abcdefghij hagfed"

    known: Known = {}
    believed, found = layer(path), layer(path, read, known)
    again = layer(path, read, dict(known))

    assert believed.text == "qrstuvwxyz xqwvut"
    assert (found.trusted, found.why) == (False, "DIFFERS")
    assert again == found
    assert len(shown) == 1  # what is known of a font serves the next page
    assert [len(font) for font in known] == [16]
    assert shown[0].getextrema() == (0, 255)


def test_a_page_whose_fonts_are_known_starts_no_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first page of a document told of its fonts is enough for the others."""
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")  # as in the jail
    asked = PageRequest(path=str(one_page(tmp_path, prose())), media_type=PDF, index=0)

    found = first_reading(asked)
    monkeypatch.setattr(Reader, "line", None)
    again = first_reading(asked.model_copy(update={"fonts": found.fonts}))

    assert (found.source, list(found.fonts.values())) == ("layer", [True])
    assert again == found


def test_an_honest_font_is_believed(tmp_path: Path) -> None:
    """A reader that makes small mistakes does not cast doubt on a layer."""
    path = one_page(tmp_path, prose())

    found = layer(path, lambda *_: PROSE[1].replace("e", "c").upper())

    assert found.trusted


# -- scripts that no data here read ---------------------------------------------------

HEBREW = "שלום לכולם וברוכים הבאים"


def shown(text: str) -> Image.Image:
    """A line of these letters, as a layer's font shows them."""
    font = ImageFont.truetype(font_file("DejaVuSans.ttf", "fonts-dejavu-core"), 48)
    line = Image.new("L", (1400, 120), 255)
    ImageDraw.Draw(line).text((30, 20), text, 0, font)
    return line


def test_a_line_that_nobody_can_read_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hebrew that looks like Hebrew; Latin letters that are said to be it are not."""
    monkeypatch.setattr(languages, "installed_languages", lambda: ["eng"])
    reader = Reader(ReaderSettings(engine="tesserocr"))

    assert reader.line(shown(HEBREW), HEBREW) is None
    read = reader.line(shown("Nothing of the kind is written here"), HEBREW)
    assert read is not None
    assert "Nothing" in read
