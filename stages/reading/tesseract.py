"""
tesseract: as a process of its own for each page, or its library kept in this process.

Both read with the same language data and give the same words.
"""

from __future__ import annotations

import os
import signal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import Permanent, Transient, WaybillError
from stages.reading.words import Word

if TYPE_CHECKING:
    from PIL.Image import Image

TESSDATA = (
    "/usr/share/tesseract-ocr/5/tessdata",  # Debian, Ubuntu
    "/usr/share/tessdata",  # Fedora, Arch
    "/opt/homebrew/share/tessdata",
    "/usr/local/share/tessdata",
)


class Pytesseract:
    """tesseract as a process of its own, one a page."""

    name = "pytesseract"

    def read(self, image: Image, *, dpi: int, lang: str, psm: int) -> list[Word]:
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
            table: str = pytesseract.image_to_data(image, lang=lang, config=config)
        except pytesseract.TesseractNotFoundError:
            raise Permanent(
                "tesseract is not installed, or not on PATH",
                code="OCR_MISSING",
                hint="install it (Debian: apt install tesseract-ocr), "
                "then retry the items",
            ) from None
        except pytesseract.TesseractError as error:
            raise refused(error.status, str(error.message), lang) from None
        return words_of(table)


class Tesserocr:
    """tesseract's library, loaded once for each language."""

    name = "tesserocr"

    def read(self, image: Image, *, dpi: int, lang: str, psm: int) -> list[Word]:
        """See `Engine.read`."""
        api = loaded(lang)
        api.SetPageSegMode(psm)
        width, height = image.size
        api.SetImageBytes(image.tobytes(), width, height, 1, width)
        if dpi:
            api.SetSourceResolution(dpi)
        try:
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
    if status == -signal.SIGXCPU:
        return Transient(
            "one page took more of the processor than it may",
            code="OCR_TIMEOUT",
            hint="raise page_timeout_s, or lower dpi for this document",
        )
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
        hint=f"install it: {package_of(lang.split('+')[-1])}",
    )


def package_of(lang: str) -> str:
    """How data of a language are installed."""
    name = lang.removeprefix("script/").lower().replace("_", "-")
    kind = "script-" if lang.startswith("script/") else ""
    elsewhere = "(macOS: brew install tesseract-lang)"
    return f"apt-get install tesseract-ocr-{kind}{name} {elsewhere}"
