"""
A document's record: JSON, and by setting hOCR and ALTO, of pages, blocks, lines and
words, each with its box and confidence.

Written page by page: one page's words are in memory, never a document's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from stages.layout import Box, Layout, ReadLine, ReadWord
from stages.publishing.request import Request, Sheet

CROPS = "crops"  # the folder, beside a record, of the cuttings that it links to
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Page(NamedTuple):
    """A page to write of."""

    sheet: Sheet
    layout: Layout | None
    text: str


def owner(item: int, source: str) -> str:
    """How the record of an item begins."""
    return json.dumps({"item": item, "source": source})[:-1]


def write_json(
    path: Path, request: Request, pages: Iterator[Page], pdfa: str
) -> dict[str, str]:
    """Write the record, a line a page; returns the cuttings that it links to."""
    crops: dict[str, str] = {}
    head = {
        "name": request.name,
        "media_type": request.media_type,
        "page_count": len(request.sheets),
        "confidence": request.confidence,
        "pdfa": pdfa,
    }
    with path.open("w", encoding="utf-8") as out:
        begun = owner(request.item, request.source)
        out.write(f"{begun}, {_json(head)[1:-1]}, " + '"pages": [\n')
        for number, page in enumerate(pages):
            out.write(",\n" if number else "")
            out.write(_json(_page(page, request.item, crops)))
        out.write("\n]}\n")
    return crops


def _page(page: Page, item: int, crops: dict[str, str]) -> dict[str, Any]:
    sheet, layout = page.sheet, page.layout
    shown = sheet.model_dump(exclude={"layout"})
    if layout is None:
        return {**shown, "text": page.text, "blocks": []}
    names = (f"{CROPS}/{item:08d}-{sheet.number}-{n}.png" for n in count(1))

    def line_of(line: ReadLine) -> dict[str, Any]:
        made: dict[str, Any] = {"box": line.box, "text": line.text}
        if line.crop:
            made["crop"] = name = next(names)
            crops[name] = line.crop
        return {**made, "words": [_word(word) for word in line.words]}

    shown |= {
        "width": layout.width,
        "height": layout.height,
        "dpi": layout.dpi,
        "turned": layout.turned,
        "text": page.text,
    }
    blocks = [
        {"box": block.box, "lines": [line_of(line) for line in block.lines]}
        for block in layout.blocks
    ]
    return {**shown, "blocks": blocks}


def _word(word: ReadWord) -> dict[str, Any]:
    """What every word has, and of a doubtful one what makes it so."""
    shown = word.model_dump(include={"text", "box", "confidence"})
    if word.doubtful:
        shown |= {"doubtful": True, "other": word.other}
    return shown


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


# -- forms of others -------------------------------------------------------------------


def write_hocr(path: Path, request: Request, pages: Iterator[Page]) -> None:
    """Write hOCR 1.2: what is read of a page, as HTML."""
    with path.open("w", encoding="utf-8", errors="replace") as out:
        out.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml"><head>'
            f"<title>{_text(request.name)}</title>"
            '<meta charset="utf-8"/><meta name="ocr-system" content="waybill"/>'
            '<meta name="ocr-capabilities" '
            'content="ocr_page ocr_carea ocr_line ocrx_word"/></head><body>\n'
        )
        for page in pages:
            out.write(_hocr_page(page))
        out.write("</body></html>\n")


def _hocr_page(page: Page) -> str:
    number, layout = page.sheet.number, page.layout
    box: Box = (0, 0, 0, 0) if layout is None else (0, 0, layout.width, layout.height)
    dpi = f"; scan_res {layout.dpi} {layout.dpi}" if layout else ""
    lines = [_tag("ocr_page", f"page_{number}", box, f"; ppageno {number - 1}{dpi}")]
    ids = _ids(number)
    for block in layout.blocks if layout else ():
        lines.append(_tag("ocr_carea", ids("block"), block.box))
        for line in block.lines:
            words = " ".join(
                _tag("ocrx_word", ids("word"), w.box, f"; x_wconf {w.confidence:.0f}")
                + f"{_text(w.text)}</span>"
                for w in line.words
            )
            lines.append(f"{_tag('ocr_line', ids('line'), line.box)}{words}</span>")
        lines.append("</div>")
    return "\n".join([*lines, "</div>\n"])


def _tag(kind: str, name: str, box: Box, more: str = "") -> str:
    element = "span" if kind in ("ocr_line", "ocrx_word") else "div"
    where = "bbox " + " ".join(map(str, box))
    return f"<{element} class='{kind}' id='{name}' title='{where}{more}'>"


def write_alto(path: Path, request: Request, pages: Iterator[Page]) -> None:
    """Write ALTO 4.2: what is read of a page, as libraries keep it."""
    with path.open("w", encoding="utf-8", errors="replace") as out:
        out.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Description>'
            "<MeasurementUnit>pixel</MeasurementUnit><sourceImageInformation>"
            f"<fileName>{_text(request.name)}</fileName></sourceImageInformation>"
            "</Description><Layout>\n"
        )
        for page in pages:
            out.write(_alto_page(page))
        out.write("</Layout></alto>\n")


def _alto_page(page: Page) -> str:
    number, layout = page.sheet.number, page.layout
    ids = _ids(number)
    width, height = (layout.width, layout.height) if layout else (0, 0)
    space = _place((0, 0, width, height))
    lines = [
        f'<Page ID="page_{number}" PHYSICAL_IMG_NR="{number}" '
        f'WIDTH="{width}" HEIGHT="{height}"><PrintSpace{space}>'
    ]
    for block in layout.blocks if layout else ():
        lines.append(f'<TextBlock ID="{ids("block")}"{_place(block.box)}>')
        for line in block.lines:
            words = "<SP/>".join(
                f'<String ID="{ids("word")}" CONTENT={quoteattr(_plain(w.text))}'
                f'{_place(w.box)} WC="{w.confidence / 100:.2f}"/>'
                for w in line.words
            )
            name = ids("line")
            lines.append(f'<TextLine ID="{name}"{_place(line.box)}>{words}</TextLine>')
        lines.append("</TextBlock>")
    return "\n".join([*lines, "</PrintSpace></Page>\n"])


def _place(box: Box) -> str:
    left, top, right, bottom = box
    size = f'WIDTH="{right - left}" HEIGHT="{bottom - top}"'
    return f' HPOS="{left}" VPOS="{top}" {size}'


def _ids(page: int) -> Callable[[str], str]:
    numbers = count(1)
    return lambda kind: f"{kind}_{page}_{next(numbers)}"


def _plain(text: str) -> str:
    return NOT_XML.sub("\ufffd", text)


def _text(text: str) -> str:
    return escape(_plain(text))


WRITERS = {"hocr": write_hocr, "alto": write_alto}
