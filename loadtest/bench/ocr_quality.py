"""
`bench ocr-quality`: is what the service reads better than what tesseract reads?

The same pages, in the same run, go through the product's own `read_page`, in the
jail it runs in, and through `tesseract FILE stdout` as anybody would call it:

    degraded   generated pages (corpora/degrade.py): character error rate, and how
               far the page's confidence can be believed
    typed,     real pages of the samples folder, where it is there: share of words
    receipts   found, in any order (a column read later is no error here)

Text is compared without regard to white space.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import typer
from rapidfuzz.distance import Levenshtein

from loadtest.corpora import degrade
from loadtest.corpora.truth import recall
from loadtest.trial import Progress
from pipeline.jail.pool import JailPool
from stages.formats.kinds import JPEG, PDF
from stages.reading import page as reading
from stages.reading.codes import CODES
from stages.reading.page import read_page
from stages.reading.picture import open_page
from stages.reading.protocol import PageReading, PageRequest, ReaderSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE_MAX_S = 120.0
RATIO_MAX = 1 / 3  # of plain tesseract's errors
# Bands of a page's confidence, cut where a second reader and a person are asked.
BANDS = ((92.0, 101.0), (75.0, 92.0), (0.0, 75.0))
TYPED = ("Lettre244", "Lettre246", "Lettre60")
TYPED_PDF = "scanned_multipage_pdfs/ehri_en_BF-19380509b_EN"

NOT_READ = PageReading(status="EMPTY", text="", words=0, confidence=0.0)


@dataclass(slots=True)
class Page:
    """A page to be read, and what became of it."""

    kind: str
    wear: str  # "" of a real page
    path: Path  # of a picture
    truth: str
    media_type: str = JPEG
    ours: PageReading = NOT_READ
    plain: str = ""

    @property
    def errors(self) -> int:
        """Characters wrong in our reading."""
        return distance(self.ours.text, self.truth)

    @property
    def plain_errors(self) -> int:
        """Characters wrong in plain tesseract's."""
        return distance(self.plain, self.truth)


def measure(
    count: int, seed: int, samples: Path, engine: str, say: Progress
) -> dict[str, Any]:
    """The figures of both; `good` when ours are as much better as they must be."""
    with tempfile.TemporaryDirectory(prefix="waybill-quality-") as place:
        folder = Path(place)
        say(f"drawing {count} pages")
        pages = list(drawn(folder, count, seed))
        real = [*receipts(samples), *typed(samples, folder)]
        if not real:
            say(f"no real pages at {samples}: generated ones only")
        anyio.run(read_all, [*pages, *real], folder, engine)
    figures = error_rates(pages)
    classes = {
        kind: recalls([page for page in real if page.kind == kind])
        for kind in sorted({page.kind for page in real})
    }
    better = all(kind["recall"] > kind["plain_recall"] for kind in classes.values())
    return {
        **figures,
        "pages": len(pages),
        "engine": engine,
        "by_kind": split(pages, lambda page: page.kind),
        "by_wear": split(pages, lambda page: page.wear),
        "by_confidence": believed([*pages, *real]),
        "real": classes,
        "real_pages": len(real),
        "good": figures["cer"] <= figures["plain_cer"] * RATIO_MAX and better,
    }


# -- pages ----------------------------------------------------------------------------


def drawn(folder: Path, count: int, seed: int) -> Iterator[Page]:
    """Generated pages, as files."""
    for number, page in enumerate(degrade.pages(count, seed)):
        path = folder / f"{number:03}-{page.name}.jpg"
        path.write_bytes(page.data)
        yield Page(page.kind, page.wear, path, page.truth)


def receipts(samples: Path) -> Iterator[Page]:
    """Photographed and scanned receipts."""
    for path in sorted((samples / "receipts_sroie/img").glob("*.jpg")):
        truth = samples / "receipts_sroie/gt_txt" / f"{path.stem}.txt"
        yield Page("receipts", "", path, truth.read_text(encoding="utf-8"))


def typed(samples: Path, folder: Path) -> Iterator[Page]:
    """Typewritten letters of 1905 and 1938."""
    for stem in TYPED:
        path = samples / f"letters_stanford1905/{stem}.jpg"
        if path.exists():
            truth = path.with_suffix(".gt.txt").read_text(encoding="utf-8")
            yield Page("typed", "", path, truth)
    path = samples / f"{TYPED_PDF}.pdf"
    if not path.exists():
        return
    truths = path.with_suffix(".gt.txt").read_text(encoding="utf-8").split("\f")
    for index, truth in enumerate(truths):
        # Plain tesseract takes no PDF: both read the picture of the page.
        request = PageRequest(path=str(path), media_type=PDF, index=index)
        with open_page(request) as page:
            picture, dpi = page.picture()
        image = folder / f"typed-{index}.png"
        picture.save(image, dpi=(dpi, dpi))
        yield Page("typed", "", image, truth, "image/png")


# -- reading --------------------------------------------------------------------------


async def read_all(pages: Sequence[Page], folder: Path, engine: str) -> None:
    """Read each page twice, as many at once as there are cores."""
    size = os.cpu_count() or 1
    scratch = folder / "scratch"
    scratch.mkdir()
    readable = sorted({page.path.parent for page in pages})
    waiting = iter(pages)
    with typer.progressbar(
        length=len(pages), label="reading", file=typer.get_text_stream("stderr")
    ) as bar:
        async with JailPool(
            size,
            allow=[reading],
            warm=[reading.warm],
            codes=CODES,
            paths=[ROOT],
            readable=readable,
            scratch=scratch,
            nice=0,
        ) as pool:

            async def lane() -> None:
                for page in waiting:
                    request = PageRequest(
                        path=str(page.path),
                        media_type=page.media_type,
                        index=0,
                        reader=ReaderSettings.model_validate({"engine": engine}),
                    )
                    page.ours = PageReading.model_validate(
                        await pool.run(
                            read_page,
                            timeout_s=PAGE_MAX_S,
                            request=request.model_dump(mode="json"),
                        )
                    )
                    page.plain = await plain(page.path)
                    bar.update(1)

            async with anyio.create_task_group() as group:
                for _ in range(size):
                    group.start_soon(lane)


async def plain(path: Path) -> str:
    """What `tesseract FILE stdout` makes of it."""
    with anyio.fail_after(PAGE_MAX_S):
        ran = await anyio.run_process(
            ["tesseract", str(path), "stdout"],
            env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            check=False,
        )
    return ran.stdout.decode("utf-8", "replace")


# -- figures --------------------------------------------------------------------------


def error_rates(pages: Sequence[Page]) -> dict[str, Any]:
    """Wrong characters by true ones, of all pages together."""
    letters = sum(len(bare(page.truth)) for page in pages) or 1
    cer = sum(page.errors for page in pages) / letters
    plain_cer = sum(page.plain_errors for page in pages) / letters
    return {
        "cer": round(cer, 4),
        "plain_cer": round(plain_cer, 4),
        "ratio": round(cer / plain_cer, 3) if plain_cer else None,
    }


def split(pages: Sequence[Page], by: Callable[[Page], str]) -> dict[str, Any]:
    """The error rates of each group."""
    groups: dict[str, list[Page]] = {}
    for page in pages:
        groups.setdefault(by(page), []).append(page)
    return {name: error_rates(group) for name, group in groups.items()}


def recalls(pages: Sequence[Page]) -> dict[str, Any]:
    """The mean share of a page's words that were found."""
    ours = [recall(page.ours.text, page.truth) for page in pages]
    plain = [recall(page.plain, page.truth) for page in pages]
    ends = Counter(page.ours.status for page in pages)
    return {
        "recall": round(statistics.mean(ours), 4),
        "plain_recall": round(statistics.mean(plain), 4),
        "pages": len(pages),
        "ends": dict(ends),
    }


def believed(pages: Sequence[Page]) -> dict[str, Any]:
    """What the confidence of a page says about its errors."""
    bands = {}
    for low, high in BANDS:
        rates = [
            page.errors / max(1, len(bare(page.truth)))
            for page in pages
            if low <= page.ours.confidence < high
        ]
        bands[f"from {low:.0f}"] = {
            "pages": len(rates),
            "cer_median": round(statistics.median(rates), 3) if rates else None,
            "cer_worst": round(max(rates), 3) if rates else None,
        }
    return bands


def distance(text: str, truth: str) -> int:
    """Edits from one to the other; never more than the truth is long."""
    there = bare(truth)
    return int(min(Levenshtein.distance(bare(text), there), len(there)))


def bare(text: str) -> str:
    """Words with one space between them."""
    return " ".join(text.split())
