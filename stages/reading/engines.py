"""
Engines: what reads a picture of a page, behind one small protocol.

    tesserocr     tesseract's library, kept in this process: the first reader where it
                  is installed, 1.3-1.5 x the pages a second
    pytesseract   elsewhere: one process of tesseract a page
    rapidocr      neural nets, models in the wheel: slow, and right where the others
                  are not; the second reader

Engines run jailed and are imported inside functions, when they are
used: rapidocr alone weighs 0.7 GB.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Protocol

from pipeline.errors import Permanent
from stages.reading.rapid import NAME, RapidOcr
from stages.reading.tesseract import Pytesseract, Tesserocr
from stages.reading.words import Word

if TYPE_CHECKING:
    from PIL.Image import Image


class Engine(Protocol):
    """Reads a gray picture of a page."""

    name: str

    def read(self, image: Image, *, dpi: int, lang: str, psm: int) -> list[Word]:
        """
        The words of the page, in its own order, for as long as the process may run.

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


def has_second(name: str) -> bool:
    """Whether there is a second reader; `auto` is rapidocr where it is installed."""
    return available(NAME) if name == "auto" else name != "off"


def first(name: str) -> Engine:
    """
    The first reader; `auto` is tesserocr where it is installed.

    Raises:
        Permanent: ENGINE_MISSING.
    """
    if name == "auto":
        name = "tesserocr" if available("tesserocr") else "pytesseract"
    return engine(name)


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
