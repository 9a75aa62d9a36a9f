"""The text layer: each word is found where it stands, whichever way its page lies."""

from __future__ import annotations

import ctypes
import io
import math
import re
from typing import Any

import pikepdf
import pypdfium2
import pytest
from pypdfium2 import raw

from stages.layout import Box, Layout, ReadBlock, ReadLine, ReadWord, around, unturned
from stages.publishing import earlier
from stages.publishing.layer import EM, Frame, TextLayer, empty_font, placed

WIDTH, HEIGHT = 1000, 1400  # pixels of a page as it is seen


def layout_of(*lines: list[tuple[str, Box]], turned: Any = 0, **size: int) -> Layout:
    made = tuple(
        ReadLine(
            box=around([box for _, box in line]),
            words=tuple(ReadWord(text=t, box=b, confidence=90) for t, b in line),
        )
        for line in lines
    )
    block = ReadBlock(box=around([line.box for line in made]), lines=made)
    whole = {"width": WIDTH, "height": HEIGHT, "dpi": 100, **size}
    return Layout(
        **whole, turned=turned, source="ocr", reader="tesserocr", blocks=(block,)
    )


def pdf_with(layout: Layout, rotate: int = 0, crop: float = 0.0) -> bytes:
    """A page as large as `layout`, shown turned by `rotate`, with its words."""
    size = (layout.width / 2, layout.height / 2)
    width, height = size[::-1] if rotate in (90, 270) else size
    box = [crop, crop, crop + width, crop + height]
    pdf = pikepdf.new()
    pdf.add_blank_page(page_size=(width + 3 * crop, height + 3 * crop))
    page = pdf.pages[0]
    page.obj.CropBox, page.obj.Rotate = pikepdf.Array(box), rotate
    layer = TextLayer(pdf)
    layer.put(page, Frame(tuple(box), rotate), layout)
    layer.close()
    out = io.BytesIO()
    pdf.save(out)
    return out.getvalue()


def found(pdf: bytes, word: str) -> Box:
    """Where a viewer marks a word that was searched, in pixels of the page seen."""
    document = pypdfium2.PdfDocument(pdf)
    page = document[0]
    text = page.get_textpage()
    at, count = text.search(word).get_next()
    corners = []
    for index in range(at, at + count):
        left, bottom, right, top = text.get_charbox(index)
        for x, y in ((left, bottom), (right, top)):
            on = ctypes.c_int(), ctypes.c_int()
            width, height = (round(2 * side) for side in page.get_size())
            raw.FPDF_PageToDevice(page.raw, 0, 0, width, height, 0, x, y, *on)
            corners.append((on[0].value, on[1].value))
    document.close()
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def near(box: Box, other: Box, pixels: float = 3) -> bool:
    return all(abs(a - b) <= pixels for a, b in zip(box, other, strict=True))


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
@pytest.mark.parametrize(("rotate", "crop"), [(0, 0), (90, 20), (180, 7), (270, 30)])
def test_a_word_is_found_where_it_stands(turned: Any, rotate: int, crop: float) -> None:
    """Pages that are shown turned, are cut, or were fed sideways."""
    read = [("Invoice", (100, 200, 260, 240)), ("total", (280, 202, 380, 241))]
    boxes = {word: unturned(box, turned, WIDTH, HEIGHT) for word, box in read}

    pdf = pdf_with(layout_of(list(boxes.items()), turned=turned), rotate, crop)

    line = around(list(boxes.values()))
    for word, box in boxes.items():
        upright = turned in (0, 180)  # along the line a word has its own ends
        expected = (
            (box[0], line[1], box[2], line[3])
            if upright
            else (line[0], box[1], line[2], box[3])
        )
        assert near(found(pdf, word), expected), (word, found(pdf, word), expected)


def test_words_of_a_crooked_line_lie_on_it() -> None:
    """Each at its own height: the line runs with them."""
    angle = math.radians(2)
    words = ["Crooked", "scans", "are", "gently", "sloping", "Every", "one"]
    boxes = []
    for number in range(len(words)):
        left, wide = 60 + 125 * number, 110
        top = round(300 + math.tan(angle) * left)
        boxes.append((left, top, left + wide, top + 30 + round(wide * math.tan(angle))))

    pdf = pdf_with(layout_of(list(zip(words, boxes, strict=True))))

    for word, box in zip(words, boxes, strict=True):
        assert near(found(pdf, word), box, 5), (word, found(pdf, word), box)
    page = pypdfium2.PdfDocument(pdf)[0].get_textpage()
    at, count = page.search("sloping").get_next()
    feet = {round(page.get_charbox(at + n)[1], 1) for n in range(count)}
    assert len(feet) == 1, "poppler would make two words of one that slopes"


def test_one_tall_word_does_not_stretch_its_line() -> None:
    """A line that a stamp runs through is as high as its other words."""
    line = [("one", (100, 100, 160, 130)), ("STAMP", (170, 40, 300, 250))]
    line += [("two", (310, 101, 370, 131)), ("three", (380, 100, 470, 130))]

    heights = {word.text: word.height for word in placed(layout_of(line))}

    assert heights["one"] == heights["two"] == heights["three"] <= 32
    assert heights["STAMP"] > 150


@pytest.mark.parametrize("word", ["Grüße", "naïve", "日本語", "𝔘nicode", "a<b>&(c)\\"])
def test_every_character_comes_out_as_it_was_read(word: str) -> None:
    """Also those that no code of two bytes has."""
    pdf = pdf_with(layout_of([(word, (100, 100, 300, 140))]))

    page = pypdfium2.PdfDocument(pdf)[0]

    assert page.get_textpage().get_text_bounded().strip() == word


def test_a_word_from_right_to_left_is_found_as_it_is_spelled() -> None:
    """Hebrew is laid down from the left as it stands, and read from the right."""
    pdf = pdf_with(layout_of([("שלום", (100, 100, 300, 140))]))

    page = pypdfium2.PdfDocument(pdf)[0]

    assert page.get_textpage().get_text_bounded().strip() == "שלום"


def test_nothing_of_the_layer_is_drawn() -> None:
    """A page with a layer looks as one without."""
    layout = layout_of([("nothing", (100, 100, 900, 900))])

    drawn = pypdfium2.PdfDocument(pdf_with(layout))[0].render().to_pil()

    assert drawn.convert("L").getextrema() == (255, 255)


def test_the_font_is_what_archives_ask_for() -> None:
    """Embedded, as wide as it says, no character is the glyph that is none."""
    layout = layout_of([("words", (100, 100, 300, 140))])
    with pikepdf.open(io.BytesIO(pdf_with(layout))) as pdf:
        [font] = pdf.pages[0].resources.Font.values()
        child = font.DescendantFonts[0]
        assert child.FontDescriptor.FontFile2.read_bytes() == empty_font()
        assert int(child.DW) == EM
        glyphs = child.CIDToGIDMap.read_bytes()
        content = pdf.pages[0].Contents[0].read_bytes()
    codes = [
        int(code, 16)
        for shown in re.findall(rb"<([0-9a-f]+)> Tj", content)
        for code in re.findall(rb"....", shown)
    ]
    assert len(set(codes)) == len(set("words "))
    assert all(glyphs[2 * code : 2 * code + 2] == b"\0\1" for code in codes)


def test_an_earlier_layer_gives_way() -> None:
    """What nobody saw goes; what is drawn stays."""
    pdf = pikepdf.new()
    pdf.add_blank_page()
    pdf.pages[0].Contents = pdf.make_stream(
        b"q BT 3 Tr /F 9 Tf (unseen) Tj ET Q BT /F 9 Tf (seen) Tj ET"
    )

    earlier.remove(pdf, pdf.pages[0])

    kept = pdf.pages[0].Contents.read_bytes()
    assert b"unseen" not in kept
    assert b"seen" in kept
