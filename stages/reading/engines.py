"""
Engines: what reads a picture of a page, behind one small protocol.

    pytesseract   the default: one process of tesseract a page
    tesserocr     the same engine kept in this process: 1.3-1.5 x the pages a second
    rapidocr      neural nets, models in the wheel: slow, and right where the others
                  are not; the second reader

Engines run jailed and are imported inside functions, when they are
used: rapidocr alone weighs 0.8 GB.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipeline.errors import Permanent, Transient, WaybillError
from stages.layout import Box

if TYPE_CHECKING:
    from PIL.Image import Image

TESSDATA = (
    "/usr/share/tesseract-ocr/5/tessdata",  # Debian, Ubuntu
    "/usr/share/tessdata",  # Fedora, Arch
    "/opt/homebrew/share/tessdata",
    "/usr/local/share/tessdata",
)
SHORT_LINE = 3  # words of a line; a torn receipt has one or two


class Word(NamedTuple):
    """One word as an engine found it; `line` and `block` number what it is in."""

    text: str
    box: Box
    confidence: float  # 0-100, on the engine's own scale
    block: int
    line: int


class Engine(Protocol):
    """Reads a gray picture of a page."""

    name: str

    def read(
        self, image: Image, *, dpi: int, lang: str, psm: int, timeout_s: float
    ) -> list[Word]:
        """
        The words of the page, in reading order.

        Args:
            dpi: 0 lets the engine estimate it.
            lang: tesseract's names, joined by `+`.
            psm: tesseract's page segmentation mode.

        Raises:
            Transient: OCR_TIMEOUT, OCR_CRASHED.
            Permanent: OCR_MISSING, OCR_LANGUAGE, OCR_FAILED, ENGINE_MISSING.
        """
        ...


@cache
def available(name: str) -> bool:
    """Whether the engine's package is installed; imports nothing."""
    return importlib.util.find_spec(name) is not None


@cache
def engine(name: str) -> Engine:
    """
    The engine of this process.

    Raises:
        Permanent: ENGINE_MISSING.
    """
    if not available(name):
        raise Permanent(
            f"the OCR engine {name} is not installed",
            code="ENGINE_MISSING",
            hint=f"pip install 'waybill[{name}]', then retry the items",
        )
    kinds: dict[str, type[Engine]] = {
        "pytesseract": Pytesseract,
        "tesserocr": Tesserocr,
        "rapidocr": RapidOcr,
    }
    return kinds[name]()


def text_of(words: Sequence[Word]) -> str:
    """Words as text: a line break between lines, an empty line between blocks."""
    parts: list[str] = []
    last: Word | None = None
    for word in words:
        if last is not None:
            same = " " if word.line == last.line else "\n"
            parts.append(same if word.block == last.block else "\n\n")
        parts.append(word.text)
        last = word
    return "".join(parts)


def torn(words: Sequence[Word]) -> float:
    """
    The share of words in rows that the engine tore apart, 0-1.

    A row is torn where two short lines of different blocks stand side by side: a
    receipt whose prices were read as a column of their own.  Lines of text set in
    columns are longer.
    """
    lines: dict[int, list[Word]] = {}
    for word in words:
        lines.setdefault(word.line, []).append(word)
    short = [
        (min(w.box[1] for w in line), max(w.box[3] for w in line), line)
        for line in lines.values()
        if len(line) <= SHORT_LINE
    ]
    count = sum(
        len(line)
        for top, bottom, line in short
        if any(
            other[0].block != line[0].block and above < (top + bottom) / 2 < below
            for above, below, other in short
        )
    )
    return count / max(1, len(words))


# -- tesseract ------------------------------------------------------------------------


class Pytesseract:
    """tesseract as a process of its own, one a page."""

    name = "pytesseract"

    def read(
        self, image: Image, *, dpi: int, lang: str, psm: int, timeout_s: float
    ) -> list[Word]:
        """See `Engine.read`."""
        import pytesseract

        # Four threads of OpenMP on two cores ran at 0.23 x the speed.
        assert os.environ.get("OMP_THREAD_LIMIT") == "1"
        if "+" in lang and installed_languages():
            tessdata(lang)  # tesseract itself would leave out what it does not have
        config = f"--psm {psm}" + (f" --dpi {dpi}" if dpi else "")
        # pytesseract hands the picture over in its own format: as PNG, which it
        # takes for a picture without one, the packing costs 0.7 s a page.
        image.format = "PPM"
        try:
            # One call for text and confidence: a second would read the page again.
            table: str = pytesseract.image_to_data(
                image, lang=lang, config=config, timeout=timeout_s
            )
        except pytesseract.TesseractNotFoundError:
            raise Permanent(
                "tesseract is not installed, or not on PATH",
                code="OCR_MISSING",
                hint="install it (Debian: apt install tesseract-ocr), "
                "then retry the items",
            ) from None
        except pytesseract.TesseractError as error:
            raise refused(error.status, str(error.message), lang) from None
        except RuntimeError:
            # How pytesseract reports its timeout; it has killed tesseract by then.
            raise timed_out(timeout_s) from None
        return words_of(table)


class Tesserocr:
    """tesseract's library, loaded once for each language."""

    name = "tesserocr"

    def read(
        self, image: Image, *, dpi: int, lang: str, psm: int, timeout_s: float
    ) -> list[Word]:
        """See `Engine.read`."""
        api = loaded(lang)
        api.SetPageSegMode(psm)
        width, height = image.size
        api.SetImageBytes(image.tobytes(), width, height, 1, width)
        if dpi:
            api.SetSourceResolution(dpi)
        try:
            # The library looks at the clock between words.
            if not api.Recognize(max(1, int(timeout_s * 1000))):
                raise timed_out(timeout_s)
            return words_of("header\n" + api.GetTSVText(0))
        finally:
            api.Clear()


@cache
def loaded(lang: str) -> Any:
    """
    The library with its models.

    Raises:
        Permanent: OCR_LANGUAGE.
    """
    import tesserocr

    try:
        return tesserocr.PyTessBaseAPI(path=tessdata(lang), lang=lang)
    except RuntimeError:
        raise no_language(lang) from None


def tessdata(lang: str) -> str:
    """The folder of language data that has `lang`."""
    wanted = [f"{part}.traineddata" for part in lang.split("+")]
    prefix = os.environ.get("TESSDATA_PREFIX", "")
    for folder in filter(None, (prefix, f"{prefix}/tessdata", *TESSDATA)):
        if all((Path(folder) / file).is_file() for file in wanted):
            return folder + "/"
    raise no_language(lang)


def installed_languages() -> list[str]:
    """The languages that tesseract can read here, without `osd`."""
    found = {
        path.stem
        for folder in filter(None, (os.environ.get("TESSDATA_PREFIX"), *TESSDATA))
        for path in Path(folder).glob("*.traineddata")
    }
    return sorted(found - {"osd", "equ"})


def languages() -> tuple[str, str]:
    """What `auto` stands for: the language tried first, and all of them together."""
    found = installed_languages()
    first = "eng" if "eng" in found or not found else found[0]
    return first, "+".join(found) if len(found) > 1 else ""


def words_of(table: str) -> list[Word]:
    """
    The words of tesseract's TSV.

    Columns: level, page, block, paragraph, line, word, left, top, width, height,
    confidence, text.  Level 5 is a word.
    """
    words: list[Word] = []
    blocks: dict[tuple[str, str], int] = {}
    lines: dict[tuple[str, str, str], int] = {}
    for row in table.split("\n")[1:]:
        columns = row.split("\t", 11)
        if len(columns) < 12 or columns[0] != "5":
            continue
        text, confidence = columns[11].strip(), float(columns[10])
        if confidence < 0 or not text:
            continue
        left, top, width, height = map(int, columns[6:10])
        block, par, line = columns[2:5]
        words.append(
            Word(
                text,
                (left, top, left + width, top + height),
                confidence,
                blocks.setdefault((block, par), len(blocks)),
                lines.setdefault((block, par, line), len(lines)),
            )
        )
    return words


def refused(status: int, message: str, lang: str) -> WaybillError:
    """The error for a tesseract that ended badly.  Its message stays here."""
    if status < 0:
        # A signal: the kernel short of memory, mostly.  Attempts are bounded.
        return Transient(
            f"tesseract was ended by signal {-status}",
            code="OCR_CRASHED",
            hint="look at the machine's memory, or lower max_pixels",
        )
    if "language" in message or "traineddata" in message:
        return no_language(lang)
    return Permanent(
        f"tesseract ended with status {status}",
        code="OCR_FAILED",
        hint="run tesseract on the page to see why",
    )


def no_language(lang: str) -> Permanent:
    """The error for language data that is not installed."""
    return Permanent(
        f"tesseract has no language data for {lang}",
        code="OCR_LANGUAGE",
        hint=f"install it (Debian: apt install tesseract-ocr-{lang.split('+')[-1]})",
    )


def timed_out(timeout_s: float) -> Transient:
    """The error for a page that would not end."""
    return Transient(
        f"one page was read for {timeout_s:.0f} s without an end",
        code="OCR_TIMEOUT",
        hint="raise page_timeout_s, or lower dpi for this document",
    )


# -- rapidocr -------------------------------------------------------------------------


class RapidOcr:
    """PP-OCR on onnxruntime: finds lines, reads each."""

    name = "rapidocr"

    def __init__(self) -> None:
        import logging

        from rapidocr import RapidOCR

        logging.getLogger("RapidOCR").disabled = True
        self._reader = RapidOCR(
            params={
                # The classifier turns good lines upside down.
                "Global.use_cls": False,
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )

    def read(
        self, image: Image, *, dpi: int, lang: str, psm: int, timeout_s: float
    ) -> list[Word]:
        """See `Engine.read`; `lang` and `psm` mean nothing to it."""
        import numpy

        found: Any = self._reader(numpy.asarray(image.convert("RGB")))
        if found.boxes is None or found.txts is None or found.scores is None:
            return []
        pieces = [
            (corners, text, float(score) * 100)
            for corners, text, score in zip(
                found.boxes, found.txts, found.scores, strict=True
            )
        ]
        return in_lines(pieces)


def in_lines(pieces: Sequence[tuple[Any, str, float]]) -> list[Word]:
    """
    Pieces of text, found in any order, as words in reading order.

    Pieces that share most of their height are one line, read from the left.  A
    word's box is its share of its piece.
    """
    boxes = []
    for corners, text, score in pieces:
        xs = [float(x) for x, _ in corners]
        ys = [float(y) for _, y in corners]
        boxes.append((min(ys), max(ys), min(xs), max(xs), text, score))
    boxes.sort(key=lambda box: (box[0] + box[1]) / 2)
    lines: list[list[tuple[float, float, float, float, str, float]]] = []
    for box in boxes:
        middle = (box[0] + box[1]) / 2
        if lines and lines[-1][0][0] <= middle <= lines[-1][0][1]:
            lines[-1].append(box)
        else:
            lines.append([box])
    words: list[Word] = []
    block = 0
    for number, line in enumerate(lines):
        if number and line[0][0] - lines[number - 1][0][1] > line[0][1] - line[0][0]:
            block += 1  # more than a line's height apart
        for top, bottom, left, right, text, score in sorted(line, key=lambda b: b[2]):
            wide = (right - left) / max(1, len(text))
            for match in re.finditer(r"\S+", text):
                box_ = (
                    int(left + match.start() * wide),
                    int(top),
                    int(left + match.end() * wide),
                    int(bottom),
                )
                words.append(Word(match.group(), box_, score, block, number))
    return words
