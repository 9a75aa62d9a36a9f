"""
`bench ocr-quality`: is what the service reads better than what tesseract reads?

The same pages, in the same run, go through the product's own readers, in the jail they
run in, and through `tesseract FILE stdout` as anybody would call it:

    generated        degraded pages (corpora/degrade.py), with their text in order
    columns, forms   pages whose words must be put in order (corpora/layouts.py)
    receipts, typed, real pages of the samples folder, where it is there; of receipts
    french           the truth has another order, so that words count, not characters

Each page is read once and twice; what `fast`, `balanced` and `careful` come to is told
by what the stage would have done with it.  A held page counts as unread: nothing of
it was found.  Text is compared without regard to white space.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import typer
from rapidfuzz.distance import Levenshtein

from loadtest.bench import calibration, timed
from loadtest.corpora import degrade, layouts, scans
from loadtest.corpora.truth import recall
from loadtest.trial import Progress
from pipeline.jail.pool import JailPool
from pipeline.threads import in_thread
from stages.formats.kinds import JPEG
from stages.ocr import Again, OcrSettings, again
from stages.reading import page as reading
from stages.reading.codes import CODES
from stages.reading.placing import words_of
from stages.reading.protocol import PageReading, PageRequest, ReaderSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE_MAX_S = 600.0
ORDERED = ("generated", "columns", "forms")  # classes whose truth has a page's order
RECALL_MIN = {"receipts": 0.90, "typed": 0.92}
READINGS = ("fast", "balanced", "careful")
NOT_READ = PageReading(status="EMPTY", text="", words=0, confidence=0.0)


@dataclass(slots=True)
class Page:
    """A page to be read, and what became of it; `cpu_s` of each that read it."""

    kind: str
    path: Path  # of a picture
    truth: str
    media_type: str = JPEG
    first: PageReading = NOT_READ
    again: dict[Again, PageReading] = field(default_factory=dict)
    plain: str = ""
    cpu_s: dict[str, float] = field(default_factory=dict)

    def read(self, settings: OcrSettings) -> tuple[PageReading, float]:
        """What the stage makes of it, and the processor seconds that takes."""
        what = again(self.first, settings)
        if not what:
            return self.first, self.cpu_s["first"]
        read = reading.together(
            self.first, self.again[what], numbers_alone=what == "numbers"
        )
        return read, self.cpu_s["first"] + self.cpu_s[what]


def measure(
    count: int, seed: int, samples: Path, engine: str, say: Progress
) -> dict[str, Any]:
    """The figures of both; `good` when ours are as good as they must be."""
    with tempfile.TemporaryDirectory(prefix="waybill-quality-") as place:
        folder = Path(place)
        say(f"drawing {count} degraded pages, and as many of columns and forms")
        pages = list(drawn(folder, count, seed))
        real = [Page(*scan) for scan in scans.pages(samples, folder)]
        if not real:
            say(f"no real pages at {samples}: generated ones only")
        pages += real
        anyio.run(read_all, pages, folder, engine)
    figures: dict[str, Any] = {
        name: by_class(pages, OcrSettings.model_validate({"reading": name}))
        for name in READINGS
    }
    ours = OcrSettings()
    ended = [(page.truth, page.read(ours)[0], page.kind) for page in pages]
    believed = calibration.bins(ended)
    amounts = calibration.amounts(ended)
    return {
        **figures,
        "calibration": believed,
        "amounts": amounts,
        "engine": engine,
        "pages": len(pages),
        "real_pages": len(real),
        "good": not worse(figures["balanced"])
        and calibration.honest(believed)
        and amounts["wrong_unmarked_share"] <= calibration.AMOUNTS_WRONG_MAX,
    }


# -- pages ----------------------------------------------------------------------------


def drawn(folder: Path, count: int, seed: int) -> Iterator[Page]:
    """Generated pages, as files."""
    for number, page in enumerate(degrade.pages(count, seed)):
        path = folder / f"{number:03}-{page.name}.jpg"
        path.write_bytes(page.data)
        yield Page("generated", path, page.truth)
    for number, laid in enumerate(layouts.pages(max(1, count // 6), seed)):
        path = folder / f"{number:03}-{laid.kind}.jpg"
        path.write_bytes(laid.data)
        yield Page(laid.kind, path, laid.truth)


# -- reading --------------------------------------------------------------------------


async def read_all(pages: Sequence[Page], folder: Path, engine: str) -> None:
    """Read each page three times, as many at once as there are cores."""
    size = os.cpu_count() or 1
    scratch = folder / "scratch"
    scratch.mkdir()
    waiting = iter(pages)
    common: dict[str, Any] = {
        "allow": [timed],
        "codes": CODES,
        "paths": [ROOT],
        "readable": sorted({page.path.parent for page in pages}),
        "scratch": scratch,
        "nice": 0,
    }
    with typer.progressbar(
        length=len(pages), label="reading", file=typer.get_text_stream("stderr")
    ) as bar:
        async with (
            JailPool(size, warm=[reading.warm], **common) as firsts,
            JailPool(
                size,
                memory_bytes=4 << 30,
                **reading.second_warmth(),
                **common,
            ) as seconds,
        ):

            async def lane() -> None:
                for page in waiting:
                    await read(page, engine, firsts, seconds)
                    page.plain, page.cpu_s["plain"] = await in_thread(plain, page.path)
                    bar.update(1)

            async with anyio.create_task_group() as group:
                for _ in range(size):
                    group.start_soon(lane)


async def read(page: Page, engine: str, firsts: JailPool, seconds: JailPool) -> None:
    """By the first reader, and by both."""
    request = PageRequest(
        path=str(page.path),
        media_type=page.media_type,
        index=0,
        reader=ReaderSettings.model_validate({"engine": engine}),
    )
    answer = await firsts.run(
        timed.first, timeout_s=PAGE_MAX_S, request=request.model_dump(mode="json")
    )
    page.first, page.cpu_s["first"] = answered(answer)
    if layout := page.first.layout:
        beside = {"first": words_of(layout), "turned": layout.turned}
        request = request.model_copy(update=beside)
    wanted: set[Again] = {"page", again(page.first, OcrSettings())}
    for what in wanted - {""}:
        asked = request.model_copy(update={"numbers_alone": what == "numbers"})
        answer = await seconds.run(
            timed.second, timeout_s=PAGE_MAX_S, request=asked.model_dump(mode="json")
        )
        page.again[what], page.cpu_s[what] = answered(answer)


def answered(answer: dict[str, Any]) -> tuple[PageReading, float]:
    """A reading, and its processor seconds."""
    return PageReading.model_validate(answer["reading"]), float(answer["cpu_s"])


def plain(path: Path) -> tuple[str, float]:
    """What `tesseract FILE stdout` makes of it, and its processor seconds."""
    with subprocess.Popen(
        ["tesseract", str(path), "stdout"],
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return text.decode("utf-8", "replace"), used.ru_utime + used.ru_stime


# -- figures --------------------------------------------------------------------------


def by_class(pages: Sequence[Page], settings: OcrSettings) -> dict[str, Any]:
    """The figures of each class, by one reading."""
    kinds = sorted({page.kind for page in pages})
    return {
        kind: figures_of([page for page in pages if page.kind == kind], settings)
        for kind in kinds
    }


def figures_of(pages: Sequence[Page], settings: OcrSettings) -> dict[str, Any]:
    """Errors and words found, beside plain tesseract's; seconds a page."""
    ended = [page.read(settings) for page in pages]
    texts = [read.text if read.status == "OK" else "" for read, _ in ended]
    letters = sum(len(bare(page.truth)) for page in pages) or 1
    wrong = sum(distance(t, page.truth) for t, page in zip(texts, pages, strict=True))
    plain_wrong = sum(distance(page.plain, page.truth) for page in pages)
    found = [recall(t, page.truth) for t, page in zip(texts, pages, strict=True)]
    return {
        "pages": len(pages),
        "recall": round(statistics.mean(found), 4),
        "plain_recall": round(
            statistics.mean(recall(page.plain, page.truth) for page in pages), 4
        ),
        "cer": round(wrong / letters, 4),
        "plain_cer": round(plain_wrong / letters, 4),
        "held": sum(read.status != "OK" for read, _ in ended),
        "readers": dict(Counter(read.engine for read, _ in ended)),
        "cpu_s": round(statistics.mean(cpu for _, cpu in ended), 2),
        "plain_cpu_s": round(statistics.mean(p.cpu_s["plain"] for p in pages), 2),
    }


def worse(figures: dict[str, Any]) -> list[str]:
    """The classes that are not as good as they must be."""
    return [
        kind
        for kind, one in figures.items()
        if one["recall"] < max(one["plain_recall"] - 0.005, RECALL_MIN.get(kind, 0))
        or (kind in ORDERED and one["cer"] > one["plain_cer"] + 0.005)
    ]


def distance(text: str, truth: str) -> int:
    """Edits from one to the other; never more than the truth is long."""
    there = bare(truth)
    return int(min(Levenshtein.distance(bare(text), there), len(there)))


def bare(text: str) -> str:
    """Words with one space between them."""
    return " ".join(text.split())
