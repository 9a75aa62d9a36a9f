"""
Real scanned pages of the samples folder, with their text.

Of receipts the truth has another order than a person reads them in: score their words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from stages.formats.kinds import JPEG, PDF, PNG
from stages.reading.picture import open_page
from stages.reading.protocol import PageRequest

KINDS = {"sroie": "receipts", "ehri": "typed", "stan_typed": "typed"}  # else French
TYPED = ("Lettre244", "Lettre246", "Lettre60")
TYPED_PDF = "scanned_multipage_pdfs/ehri_en_BF-19380509b_EN"


class Scan(NamedTuple):
    """A page: `receipts`, `typed` or `french`; its picture and its text."""

    kind: str
    path: Path
    truth: str
    media_type: str = JPEG


def pages(samples: Path, folder: Path) -> Iterator[Scan]:
    """All there are; `folder` is for those that come as a PDF."""
    yield from receipts(samples)
    yield from typed(samples, folder)
    yield from others(samples)


def receipts(samples: Path) -> Iterator[Scan]:
    """Photographed and scanned receipts."""
    for path in sorted((samples / "receipts_sroie/img").glob("*.jpg")):
        truth = samples / "receipts_sroie/gt_txt" / f"{path.stem}.txt"
        yield Scan("receipts", path, truth.read_text(encoding="utf-8"))


def others(samples: Path) -> Iterator[Scan]:
    """Receipts, typed pages of 1905-45 and French ones."""
    for path in sorted((samples / "pages_real").glob("*.jpg")):
        truth = path.with_name(f"{path.name.removesuffix('.jpg')}.gt.txt")
        kind = KINDS.get(path.name.partition("-")[0], "french")
        yield Scan(kind, path, truth.read_text(encoding="utf-8"))


def typed(samples: Path, folder: Path) -> Iterator[Scan]:
    """Typewritten letters of 1905 and 1938."""
    for stem in TYPED:
        path = samples / f"letters_stanford1905/{stem}.jpg"
        if path.exists():
            truth = path.with_suffix(".gt.txt").read_text(encoding="utf-8")
            yield Scan("typed", path, truth)
    path = samples / f"{TYPED_PDF}.pdf"
    if not path.exists():
        return
    truths = path.with_suffix(".gt.txt").read_text(encoding="utf-8").split("\f")
    for index, truth in enumerate(truths):
        # Plain tesseract takes no PDF: all readers get the picture of the page.
        request = PageRequest(path=str(path), media_type=PDF, index=index)
        with open_page(request) as page:
            picture, dpi = page.picture()
        image = folder / f"typed-{index}.png"
        picture.save(image, dpi=(dpi, dpi))
        yield Scan("typed", image, truth, PNG)
