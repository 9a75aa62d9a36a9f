"""
Word documents as a person sees them, from the tree that python-docx opened.

Text comes in the order of the file: headers, body with its tables and text boxes,
footers, notes.  Runs that Word does not show, white text on white paper and
text too small to read are left out and counted; what is neither text nor a picture is
named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from stages.formats import marks
from stages.formats.formulas import M, formula
from stages.formats.kinds import IMAGES, by_signature
from stages.formats.marks import STYLES_DEEP, W

MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
EMBED = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}embed"
RID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
BLIP = "{http://schemas.openxmlformats.org/drawingml/2006/main}blip"
IMAGEDATA = "{urn:schemas-microsoft-com:vml}imagedata"
NOTES = ("/footnotes", "/endnotes")

TINY_HALF_POINTS = 6  # text below 3 pt is not read by a person
DECORATION_PX = 64  # a picture smaller than this on a side is a bullet or an icon
# What is drawn by a program of its own, and named when it is left out.
DRAWN = {
    "{http://schemas.openxmlformats.org/drawingml/2006/chart}chart": "chart",
    "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds": "diagram",
    "{urn:schemas-microsoft-com:office:office}OLEObject": "embedded object",
}
PLAIN_TABLES = ("", "TableNormal", "TableGrid")
PRIVATE = re.compile("[\uf000-\uf0ff]")  # where symbol fonts have their signs
BREAKS = {W + "tab": "\t", W + "cr": "\n", W + "noBreakHyphen": "-"}
# Twice in the file, or no part of what is shown: changes taken back, field codes.
PASSED_OVER = frozenset(
    {MC + "Fallback", W + "del", W + "moveFrom", W + "instrText", W + "rubyPr"}
)


def text_of(document: Any) -> tuple[str, int]:
    """What a person sees, form feeds at page breaks; and the hidden characters."""
    visible = _gathered(document)
    return tidy("".join(visible.parts)), visible.hidden


def unread(document: Any) -> list[str]:
    """What a person sees in the body and the text has not: `2 x chart`."""
    counts = Counter(DRAWN[node.tag] for node in document.element.body.iter(*DRAWN))
    counts["symbol"] += _gathered(document).unknown
    counts["picture"] += other_pictures(document)
    return [f"{count} x {what}" for what, count in counts.items() if count]


def _gathered(document: Any) -> _VisibleText:
    """All stories of a document."""
    visible = _VisibleText(document)
    for section in document.sections:
        for part in (section.first_page_header, section.header):
            if not part.is_linked_to_previous:
                visible.read(part._element)
    visible.read(document.element.body)
    for section in document.sections:
        for part in (section.first_page_footer, section.footer):
            if not part.is_linked_to_previous:
                visible.read(part._element)
    from docx.oxml.parser import parse_xml

    for relation in document.part.rels.values():
        if not relation.is_external and relation.reltype.endswith(NOTES):
            visible.read(parse_xml(relation.target_part.blob))
    return visible


def tidy(text: str) -> str:
    """Cells of a row on one line, one empty line at most, no page without text."""
    text = text.replace("\n\t", "\t")
    text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    # Word notes a page's end both where it was asked for and where it came.
    text = re.sub(r"\s*\f\s*", "\f", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def pictures_of(document: Any) -> list[bytes]:
    """Pictures in the body, in order, each once; icons and drawings left out."""
    from PIL import Image as images

    found: dict[str, bytes] = {}
    for node in document.element.body.iter(BLIP, IMAGEDATA):
        name = node.get(EMBED) or node.get(RID)
        relation = document.part.rels.get(name)
        # What lies outside the file is not fetched.
        if relation is None or relation.is_external:
            continue
        data = relation.target_part.blob
        if by_signature(data[:64]) not in IMAGES:
            continue
        try:
            with images.open(BytesIO(data)) as image:
                icon = min(image.size) < DECORATION_PX
        except (OSError, ValueError, SyntaxError):
            icon = False  # reading it will say what is wrong with it
        if not icon:
            found.setdefault(str(relation.target_part.partname), data)
    return list(found.values())


def other_pictures(document: Any) -> int:
    """How many pictures in the body are of kinds that are not read, or elsewhere."""
    found: set[str] = set()
    for node in document.element.body.iter(BLIP, IMAGEDATA):
        name = node.get(EMBED) or node.get(RID)
        relation = document.part.rels.get(name)
        here = relation is not None and not relation.is_external
        if not here or by_signature(relation.target_part.blob[:64]) not in IMAGES:
            found.add(str(name))
    return len(found)


class _VisibleText:
    """
    Walks elements in order and gathers what is seen.

    Attributes:
        unknown: Symbols that have no character.
    """

    def __init__(self, document: Any) -> None:
        self.parts: list[str] = []
        self.hidden = 0
        self.unknown = 0
        self._styles = {
            style.get(W + "styleId"): style
            for style in document.styles.element.iter(W + "style")
        }
        self._lists = marks.Lists(numbering_of(document), self._styles)

    def read(self, root: Any) -> None:
        """Take one story: a body, a header, the notes."""
        # No recursion: how deep tables and boxes nest is the sender's choice.
        waiting: list[Any] = [root]
        while waiting:
            node = waiting.pop()
            if isinstance(node, str):
                self.parts.append(node)
            elif node.tag == W + "r":
                waiting += self._run(node)
            elif node.tag == M + "oMath":
                self.parts.append(formula(node))
            elif node.tag == W + "checkBox":
                self.parts.append(marks.box(node))
            elif node.tag == W + "ddList":
                self.parts.append(marks.chosen(node))
            elif node.tag not in PASSED_OVER:
                after = AFTER.get(node.tag)
                if after:
                    waiting.append(after)
                waiting += reversed(list(node))
                if node.tag == W + "p":
                    waiting.append(self._lists.label(node))

    def _run(self, run: Any) -> list[Any]:
        """Take one run; what is in it that has runs of its own."""
        seen = self._seen(run)
        inner: list[Any] = []
        for node in run:
            if node.tag == W + "t":
                text = node.text or ""
                if seen:
                    self.parts.append(self._signs(text, run))
                else:
                    self.hidden += sum(not c.isspace() for c in text)
            elif node.tag == W + "br":
                page = node.get(W + "type") == "page"
                self.parts.append("\f" if page else "\n")
            elif node.tag == W + "lastRenderedPageBreak":
                self.parts.append("\f")
            elif node.tag == W + "sym" and seen:
                code = str(node.get(W + "char", ""))
                known = re.fullmatch("[0-9A-Fa-f]{1,6}", code)
                font = str(node.get(W + "font", ""))
                self._sign(int(code, 16) if known else 0, font)
            elif node.tag in BREAKS:
                self.parts.append(BREAKS[node.tag])
            elif node.tag not in PASSED_OVER:
                inner.append(node)
        return inner[::-1]

    def _sign(self, code: int, font: str) -> None:
        shown = marks.sign(code, font)
        self.parts.append(shown)
        self.unknown += not shown

    def _signs(self, text: str, run: Any) -> str:
        """Text in which signs of a symbol font are characters that mean the same."""
        if not PRIVATE.search(text):
            return text
        fonts = run.find(f"{W}rPr/{W}rFonts")
        font = "" if fonts is None else str(fonts.get(W + "ascii", ""))
        shown = PRIVATE.sub(lambda m: marks.sign(ord(m[0]), font), text)
        self.unknown += len(text) - len(shown)
        return shown

    def _seen(self, run: Any) -> bool:
        """Whether a run's text can be seen on the page."""
        hidden = colour = size = fill = None
        for properties in self._properties(run):
            hidden = value_of(properties, "vanish", "1") if hidden is None else hidden
            colour = value_of(properties, "color", "") if colour is None else colour
            size = value_of(properties, "sz", "") if size is None else size
            fill = painted(properties) if fill is None else fill
        if hidden not in (None, "0", "false", "off"):
            return False
        if marks.number(size, TINY_HALF_POINTS) < TINY_HALF_POINTS:
            return False
        white = (colour or "").upper() in ("FFFFFF", "WHITE")
        return not white or bool(fill) or on_colour(run)

    def _properties(self, run: Any) -> Iterator[Any]:
        """Where a run's look is set: itself, then its styles, nearest first."""
        own = run.find(W + "rPr")
        if own is not None:
            yield own
            yield from self._style(value_of(own, "rStyle", ""))
        paragraph = next(run.iterancestors(W + "p"), None)
        if paragraph is not None:
            properties = paragraph.find(W + "pPr")
            if properties is not None:
                yield from self._style(value_of(properties, "pStyle", ""))

    def _style(self, name: str | None) -> Iterator[Any]:
        for _ in range(STYLES_DEEP):
            style = self._styles.get(name)
            if style is None:
                return
            properties = style.find(W + "rPr")
            if properties is not None:
                yield properties
            name = value_of(style, "basedOn", "")


def numbering_of(document: Any) -> Any:
    """The definitions of a document's lists; None where it has none."""
    from docx.oxml.parser import parse_xml

    for relation in document.part.rels.values():
        if not relation.is_external and relation.reltype.endswith("/numbering"):
            return parse_xml(relation.target_part.blob)
    return None


# What stands behind an element once its content is read.
AFTER = {W + "p": "\n", W + "tc": "\t", W + "tr": "\n", W + "tbl": "\n"}


def value_of(node: Any, name: str, bare: str) -> str | None:
    """The value of a property, `bare` when it is only named; None: not there."""
    found = node.find(W + name)
    return None if found is None else found.get(W + "val", bare)


def painted(properties: Any) -> str | None:
    """The colour behind text, "" for white; None: it is not set here."""
    for name, key in (("highlight", "val"), ("shd", "fill")):
        found = properties.find(W + name)
        if found is not None:
            colour = str(found.get(W + key, "auto")).upper()
            return "" if colour in ("AUTO", "NONE", "FFFFFF", "WHITE") else colour
    return None


def on_colour(run: Any) -> bool:
    """Whether a paragraph, cell, table or text box around a run may be coloured."""
    for around in run.iterancestors():
        properties = around.find(around.tag + "Pr")
        if around.tag in (W + "p", W + "tc") and properties is not None:
            fill = painted(properties)
            if fill is not None:
                return bool(fill)
        if around.tag == W + "tbl" and properties is not None:
            style = value_of(properties, "tblStyle", "") or ""
            if style not in PLAIN_TABLES or painted(properties):
                return True  # a table's style may colour its first row
        if around.tag == W + "txbxContent":
            return True  # a text box may be filled; its look is another language
    return False
