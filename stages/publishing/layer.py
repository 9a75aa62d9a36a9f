"""
The invisible text layer: each word of a page lies on its picture, drawn by no one.

Words are set line by line, each at the height of its line where it stands: lines slope
in a crooked scan, and run sideways on some pages.  Text mode 3 draws nothing; the
font's one glyph is empty, and has a code for each character of the document, which
says what it is.
"""

from __future__ import annotations

import importlib
import io
import statistics
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from stages.layout import Box, Layout, ReadLine, unturned

FONT = "WaybillText"
CODES_MAX = 0xFFFE  # two bytes a character, and none is 0
EM = 1000
# A line that is drawn by hand or by a wrong box may run anywhere; a crooked scan not.
SLOPE_MAX = 0.2
SLOPE_WORDS = 3  # from so many words on a line's own slope is known
TALL = 1.6  # times its line's height a word stands alone
INVISIBLE = 3  # text mode


class Frame(NamedTuple):
    """
    A page as a person sees it.

    Attributes:
        box: What of it is seen, in the page's own units: left, bottom, right, top.
        rotate: Degrees clockwise by which it is shown.
    """

    box: tuple[float, float, float, float]
    rotate: int

    @property
    def size(self) -> tuple[float, float]:
        """Its width and height, as it is shown."""
        left, bottom, right, top = self.box
        across, down = right - left, top - bottom
        return (down, across) if self.rotate in (90, 270) else (across, down)


class Placed(NamedTuple):
    """
    A word, from the left end of its foot, in units of its picture.

    It is level, in its place on its line: of a word that slopes by half a point,
    poppler makes two.
    """

    text: str
    left: float
    foot: float  # grows downwards
    width: float
    height: float


class TextLayer:
    """The layers of one document, which share their font."""

    def __init__(self, pdf: Any) -> None:
        self._pdf = pdf
        self._codes: dict[str, int] = {}
        self._font: Any = None

    def put(self, page: Any, frame: Frame, layout: Layout) -> None:
        """Write a page's words beneath what is drawn on it, where nothing disturbs."""
        import pikepdf

        words = placed(layout)
        if not words:
            return
        if self._font is None:
            self._font = self._pdf.make_indirect(self._pdf_dictionary())
        name = page.add_resource(
            self._font, pikepdf.Name.Font, pikepdf.Name("/" + FONT)
        )
        content = self._content(words, frame, layout, str(name))
        page.contents_add(content, prepend=True)

    def close(self) -> None:
        """Complete the font, once all words are known."""
        if self._font is None:
            return
        import pikepdf

        pdf, name = self._pdf, pikepdf.Name
        count = len(self._codes) + 1
        program = pdf.make_stream(empty_font())
        program.Length1 = len(empty_font())
        descriptor = pikepdf.Dictionary(
            Type=name.FontDescriptor,
            FontName=name("/" + FONT),
            FontBBox=[0, -1, EM, EM],
            Flags=4,
            ItalicAngle=0,
            Ascent=EM,
            Descent=-1,
            CapHeight=EM,
            StemV=80,
            FontFile2=program,
        )
        self._font.DescendantFonts = [
            pdf.make_indirect(
                pikepdf.Dictionary(
                    Type=name.Font,
                    Subtype=name.CIDFontType2,
                    BaseFont=name("/" + FONT),
                    CIDSystemInfo=pikepdf.Dictionary(
                        Registry=pikepdf.String("Adobe"),
                        Ordering=pikepdf.String("Identity"),
                        Supplement=0,
                    ),
                    FontDescriptor=pdf.make_indirect(descriptor),
                    DW=EM,
                    # Every character is the one empty glyph; 0 is none.
                    CIDToGIDMap=pdf.make_stream(b"\0\0" + b"\0\1" * (count - 1)),
                )
            )
        ]
        self._font.ToUnicode = pdf.make_stream(to_unicode(self._codes))

    def _pdf_dictionary(self) -> Any:
        import pikepdf

        return pikepdf.Dictionary(
            Type=pikepdf.Name.Font,
            Subtype=pikepdf.Name.Type0,
            BaseFont=pikepdf.Name("/" + FONT),
            Encoding=pikepdf.Name("/Identity-H"),
        )

    def _content(
        self, words: Iterable[Placed], frame: Frame, layout: Layout, name: str
    ) -> bytes:
        width, height = _turned_size(layout)
        matrix, across, down = _matrix(frame, layout.turned)
        x, y = across / width, down / height
        lines = ["q", f"{_numbers(matrix)} cm", "BT", f"{INVISIBLE} Tr"]
        size = stretched = left = foot = 0.0
        for word in words:
            codes = [self._code(char) for char in visual(word.text)]
            # In units of the page, whose pixels need not be square.
            wide, tall = x * word.width, round(y * word.height, 1)
            if not codes or tall <= 0 or wide <= 0:
                continue
            if tall != size:
                lines.append(f"{name} {_number(tall)} Tf")
                size = tall
            stretch = round(100 * wide / (tall * len(codes)), 1)
            if stretch != stretched:
                lines.append(f"{_number(stretch)} Tz")
                stretched = stretch
            along = round(x * word.left - left, 1)
            up = round(down - y * word.foot - foot, 1)
            left, foot = left + along, foot + up
            # The space behind a word is part of it for those who copy text.
            shown = "".join((*codes, self._code(" ")))
            lines.append(f"{_number(along)} {_number(up)} Td <{shown}> Tj")
        lines += ["ET", "Q", ""]
        return "\n".join(lines).encode()

    def _code(self, char: str) -> str:
        code = self._codes.get(char)
        if code is None:
            code = min(len(self._codes) + 1, CODES_MAX)
            self._codes.setdefault(char, code)
        return f"{code:04x}"


# -- where words stand -----------------------------------------------------------------


def placed(layout: Layout) -> list[Placed]:
    """The words of a page in reading order, on the page turned to be read."""
    words: list[Placed] = []
    usual = _usual_slope(layout)
    for line in layout.lines:
        boxes = [_upright(word.box, layout) for word in line.words]
        words += _on_line(line, boxes, usual)
    return words


def _on_line(line: ReadLine, boxes: Sequence[Box], usual: float) -> list[Placed]:
    slope = _slope(boxes)
    slope = usual if slope is None else slope
    # A box around sloping words is higher than they are: what the slope adds goes.
    # And what is left, as if the line were level at the page's edge.
    level = []
    for box in boxes:
        off, added = slope * (box[0] + box[2]) / 2, _added(box, slope)
        level.append((box[1] + added - off, box[3] - added - off))
    usual_height = statistics.median(foot - top for top, foot in level) if level else 0
    usual_ones = [(t, f) for t, f in level if f - t <= TALL * usual_height] or level
    line_top = min((top for top, _ in usual_ones), default=0)
    line_foot = max((foot for _, foot in usual_ones), default=0)
    found = []
    for word, box, own in zip(line.words, boxes, level, strict=True):
        usually = own[1] - own[0] <= TALL * usual_height
        top, foot = (line_top, line_foot) if usually else own
        left, _, right, _ = box
        width, height = max(right - left, 1), max(foot - top, 1)
        foot += slope * (left + right) / 2
        found.append(Placed(word.text, left, foot, width, height))
    return found


def _added(box: Box, slope: float) -> float:
    """Half of the height that its slope adds to a word's box."""
    left, top, right, bottom = box
    return min(abs(slope) * (right - left), 0.6 * (bottom - top)) / 2


def _slope(boxes: Sequence[Box]) -> float | None:
    """How far a line falls a pixel to the right; None of too few words."""
    if not boxes:
        return None
    usual = statistics.median(foot - top for _, top, _, foot in boxes)
    boxes = [box for box in boxes if box[3] - box[1] <= TALL * usual]
    if len(boxes) < SLOPE_WORDS:
        return None
    middles = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in boxes]
    heights = statistics.median(foot - top for _, top, _, foot in boxes)
    across = max(x for x, _ in middles) - min(x for x, _ in middles)
    if across < 4 * heights:
        return None
    slope, _ = statistics.linear_regression(*zip(*middles, strict=True))
    # Within what capitals and tails make of level words it is level.
    return slope if heights * 0.15 / across < abs(slope) < SLOPE_MAX else 0.0


def _usual_slope(layout: Layout) -> float:
    """Of the page's lines: a crooked scan is crooked in every one."""
    found = [
        slope
        for line in layout.lines
        if (slope := _slope([_upright(w.box, layout) for w in line.words])) is not None
    ]
    return statistics.median(found) if found else 0.0


def _turned_size(layout: Layout) -> tuple[int, int]:
    """Width and height of the page when it is turned to be read."""
    aside = layout.turned in (90, 270)
    size = (layout.height, layout.width) if aside else (layout.width, layout.height)
    return max(size[0], 1), max(size[1], 1)


def _upright(box: Box, layout: Layout) -> Box:
    """A box on the page turned to be read."""
    if not layout.turned:
        return box
    back: Any = (360 - layout.turned) % 360
    return unturned(box, back, *_turned_size(layout))


def _matrix(frame: Frame, turned: int) -> tuple[tuple[float, ...], float, float]:
    """
    From the page turned to be read, y upwards, to its own units.

    Returns:
        The matrix, and the turned page's width and height.
    """
    left, bottom, right, top = frame.box
    turn = (frame.rotate + turned) % 360
    matrices = {
        0: (1.0, 0.0, 0.0, 1.0, left, bottom),
        90: (0.0, 1.0, -1.0, 0.0, right, bottom),
        180: (-1.0, 0.0, 0.0, -1.0, right, top),
        270: (0.0, -1.0, 1.0, 0.0, left, top),
    }
    return (matrices[turn], *frame._replace(rotate=turn).size)


def visual(text: str) -> str:
    """
    A word in the order in which its characters stand from left to right.

    Programs that read a PDF turn what runs from right to left by themselves.
    """
    clean = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    if not any(unicodedata.bidirectional(c) in ("R", "AL") for c in clean):
        return clean
    return clean[::-1]


# -- the font --------------------------------------------------------------------------


@lru_cache(maxsize=1)
def empty_font() -> bytes:
    """A TrueType font of one glyph that has a size, a square, and no ink."""
    builder_of = importlib.import_module("fontTools.fontBuilder").FontBuilder
    glyphs = importlib.import_module("fontTools.ttLib.tables._g_l_y_f")
    programs = importlib.import_module("fontTools.ttLib.tables.ttProgram")
    # Two outlines of a single point each, in opposite corners.  Of a glyph without
    # any PDFium would mark the foot of a word that was searched, and not the word.
    corners = glyphs.Glyph()
    corners.numberOfContours, corners.endPtsOfContours = 2, [0, 1]
    corners.coordinates = glyphs.GlyphCoordinates([(0, 0), (EM, EM)])
    corners.flags, corners.program = bytearray((1, 1)), programs.Program()
    builder = builder_of(EM, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({})
    builder.setupGlyf({".notdef": glyphs.Glyph(), "square": corners})
    builder.setupHorizontalMetrics({".notdef": (EM, 0), "square": (EM, 0)})
    builder.setupHorizontalHeader(ascent=EM, descent=-1)
    builder.setupPost(keepGlyphNames=False)
    builder.font["head"].created = builder.font["head"].modified = 0
    builder.font.recalcTimestamp = False
    out = io.BytesIO()
    builder.font.save(out)
    return out.getvalue()


def to_unicode(codes: dict[str, int]) -> bytes:
    """The CMap that says which character each code is."""
    rows = [
        f"<{code:04x}> <{char.encode('utf-16-be').hex()}>"
        for char, code in codes.items()
    ]
    parts = [
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def",
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
        "1 begincodespacerange <0000> <ffff> endcodespacerange",
    ]
    for at in range(0, len(rows), 100):  # the most that a section may have
        some = rows[at : at + 100]
        parts += [f"{len(some)} beginbfchar", *some, "endbfchar"]
    end = "endcmap CMapName currentdict /CMap defineresource pop end end"
    return "\n".join([*parts, end]).encode()


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _numbers(values: Iterable[float]) -> str:
    return " ".join(
        f"{value:.4f}".rstrip("0").rstrip(".") for value in map(_zero, values)
    )


def _zero(value: float) -> float:
    return value if abs(value) >= 0.00005 else 0.0
