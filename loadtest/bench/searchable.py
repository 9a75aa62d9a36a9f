"""
`bench searchable`: scans to searchable PDFs, beside OCRmyPDF.

The same scanned pages, as PDFs, go through the pipeline `documents` from admission to
their files, once for each way of reading, and through `ocrmypdf -j $(nproc)`, which
gets them as one document: so it keeps every core busy, and starts once.

    word_recall   by class, of what `pdftotext` finds in the PDFs; a page that is
                  held for a person has none, and counts as unread
    in_place      share of the words that were read which `pdftotext -bbox`, and a
                  search by PDFium, finds where they stand on the page
    size_ratio    of our PDFs to what was given
"""

from __future__ import annotations

import ctypes
import html
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest.corpora import degrade, layouts
from loadtest.corpora.scans import pages as real_pages
from loadtest.corpora.truth import recall
from loadtest.trial import SAMPLES, Progress, Trial, trial
from pipeline.errors import Usage

RUN_MAX_S = 3600.0
STAGES = ("intake", "ocr", "searchable")
READINGS = ("fast", "balanced")
DEGRADED, FORMS = 0.2, 0.1  # of the pages, drawn in code; the others are real
FINE = 100_000  # parts of a page's side
PLACES_MAX = 40  # words of a page that are looked for
RATIOS = {"fast": 2.0, "balanced": 0.8}
SIZE_RATIO_MAX = 1.1
IN_PLACE_MIN = 0.98
# Classes of which balanced reading misses at most half the words that OCRmyPDF does.
HARD = ("receipts", "forms", "degraded")


@dataclass(slots=True)
class Scan:
    """A page to be read, and what `pdftotext` found on it afterwards, by reader."""

    kind: str
    truth: str
    path: Path
    text: dict[str, str] = field(default_factory=dict)


def measure(count: int, say: Progress, *, seed: int = 1) -> dict[str, Any]:
    """Both ways of reading beside OCRmyPDF; `good` when they are as they must be."""
    rival = program()
    with trial() as it:
        say(f"making {count} scans")
        scans = list(scanned(it.folder / "scans", count, seed))
        say("OCRmyPDF")
        pace = len(scans) / by_rival(rival, scans, it.folder)
        figures = {
            name: {
                "pages_per_s_ratio": round(len(scans) / seconds / pace, 3),
                **figures_of(name, scans, it),
            }
            for name, seconds in ours(scans, it, say)
        }
    whole = {
        **figures,
        "ocrmypdf_pages_per_s": round(pace, 3),
        "pages": len(scans),
        "cores": os.cpu_count(),
    }
    return {**whole, "good": all(good(name, figures[name]) for name in READINGS)}


def good(name: str, found: dict[str, Any]) -> bool:
    """Whether one way of reading is as quick, as right and as small as it must be."""
    mine, theirs = found["word_recall"], found["ocrmypdf_word_recall"]
    if name == "balanced":
        right = all(
            1 - mine[kind] <= (1 - theirs[kind]) / 2 for kind in HARD if kind in mine
        )
    else:
        right = all(mine[kind] >= theirs[kind] for kind in mine)
    return (
        right
        and found["pages_per_s_ratio"] >= RATIOS[name]
        and found["size_ratio"] <= SIZE_RATIO_MAX
        and found["qpdf_failed"] == 0
        and min(found["in_place"].values()) >= IN_PLACE_MIN
    )


def program() -> str:
    """
    Where OCRmyPDF is.

    Raises:
        Usage: it is not installed, or what checks the PDFs is not.
    """
    for name in ("pdftotext", "qpdf"):
        if shutil.which(name) is None:
            raise Usage(
                f"there is no {name} on this machine",
                hint="install it (Debian, Ubuntu: apt-get install poppler-utils qpdf)",
            )
    beside = Path(sys.executable).with_name("ocrmypdf")
    found = str(beside) if beside.exists() else shutil.which("ocrmypdf")
    if found is None:
        raise Usage(
            "there is no OCRmyPDF to compare with",
            hint="install it: pip install 'waybill[bench]'",
        )
    return found


# -- pages ----------------------------------------------------------------------------


def scanned(folder: Path, count: int, seed: int) -> Iterator[Scan]:
    """Real pages, by stride, forms, and pages in bad light; each a PDF of its own."""
    import img2pdf

    folder.mkdir()
    drawn, forms = round(count * DEGRADED), round(count * FORMS)
    real = list(real_pages(SAMPLES, folder.parent))
    wanted = min(len(real), count - drawn - forms)
    some = [real[n * len(real) // wanted] for n in range(wanted)]
    pages = [
        (scan.kind, scan.path.stem, scan.path.read_bytes(), scan.truth) for scan in some
    ]
    pages += [
        (laid.kind, laid.kind, laid.data, laid.truth)
        for laid in layouts.pages(forms, seed)
        if laid.kind == "forms"
    ]
    pages += [
        ("degraded", page.name, page.data, page.truth)
        for page in degrade.pages(count - len(pages), seed)
    ]
    for number, (kind, name, data, truth) in enumerate(pages):
        path = folder / f"{number:03}-{name}.pdf"
        path.write_bytes(img2pdf.convert(data, nodate=True))
        yield Scan(kind, truth, path)


# -- runs -----------------------------------------------------------------------------


def by_rival(rival: str, scans: Sequence[Scan], folder: Path) -> float:
    """Seconds that OCRmyPDF takes for all scans, as one document."""
    import pikepdf

    given, made = folder / "all.pdf", folder / "all-searchable.pdf"
    with pikepdf.new() as whole:
        for scan in scans:
            with pikepdf.open(scan.path) as pdf:
                whole.pages.extend(pdf.pages)
        whole.save(given)
    began = time.perf_counter()
    jobs = ["-j", str(os.cpu_count()), "--output-type", "pdf", "--quiet"]
    subprocess.run([rival, *jobs, str(given), str(made)], timeout=RUN_MAX_S, check=True)
    took = time.perf_counter() - began
    texts = pdftotext(made).split("\f")
    for scan, text in zip(scans, texts, strict=False):
        scan.text["ocrmypdf"] = text
    return took


def ours(
    scans: Sequence[Scan], it: Trial, say: Progress
) -> Iterator[tuple[str, float]]:
    """Each way of reading, and the seconds that it took."""
    for name in READINGS:
        say(f"documents, read {name}")
        more = f'[stage.ocr]\nreading = "{name}"'
        it.pipeline(f"searchable-{name}", STAGES, like="documents", more=more)
        report = it.run(
            *("ingest", str(scans[0].path.parent), "--batch", name, "--wait"),
            *("--pipeline", f"searchable-{name}", "--tenant", name),
        )
        if report.get("done", 0) + report.get("held", 0) != len(scans):
            raise RuntimeError(f"not every page was read or held: {report}")
        yield name, report["seconds"]


def figures_of(name: str, scans: Sequence[Scan], it: Trial) -> dict[str, Any]:
    """What came out of one way of reading."""
    out = it.home / "out" / name / name
    made = [out / scan.path.name for scan in scans]
    there = [(scan, pdf) for scan, pdf in zip(scans, made, strict=True) if pdf.exists()]
    for scan, pdf in there:
        scan.text[name] = pdftotext(pdf)
    given = sum(scan.path.stat().st_size for scan, _ in there)
    places = [found_in_place(pdf) for _, pdf in there]
    return {
        "word_recall": recalls(scans, name),
        "ocrmypdf_word_recall": recalls(scans, "ocrmypdf"),
        "size_ratio": round(sum(pdf.stat().st_size for _, pdf in there) / given, 3),
        "held": len(scans) - len(there),
        "qpdf_failed": sum(not checked(pdf) for _, pdf in there),
        "in_place": {
            finder: round(share([place[finder] for place in places]), 4)
            for finder in ("pdftotext", "pdfium")
        },
    }


# -- figures --------------------------------------------------------------------------


def recalls(scans: Sequence[Scan], reader: str) -> dict[str, float]:
    """The mean share of a page's words that were found, by class of pages."""
    return {
        kind: round(
            statistics.mean(
                recall(scan.text.get(reader, ""), scan.truth)
                for scan in scans
                if scan.kind == kind
            ),
            4,
        )
        for kind in sorted({scan.kind for scan in scans})
    }


def share(found: Sequence[tuple[int, int]]) -> float:
    """Of all that was looked for, what was found."""
    return sum(n for n, _ in found) / max(1, sum(of for _, of in found))


def checked(pdf: Path) -> bool:
    """Whether `qpdf --check` has nothing to say."""
    ran = subprocess.run(
        ["qpdf", "--check", str(pdf)], capture_output=True, check=False
    )
    return ran.returncode == 0


def pdftotext(pdf: Path, *options: str) -> str:
    """What poppler finds in a PDF."""
    ran = subprocess.run(
        ["pdftotext", *options, str(pdf), "-"], capture_output=True, check=True
    )
    return ran.stdout.decode("utf-8", "replace")


Place = tuple[float, float, float, float]  # left, top, right, bottom; shares of a page
WORD = re.compile(
    r'<word xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)">'
    r"(.*?)</word>"
)
PAGE = re.compile(r'<page width="([\d.]+)" height="([\d.]+)">')


def found_in_place(pdf: Path) -> dict[str, tuple[int, int]]:
    """Of a page's words, as its record has them: how many each finder finds there."""
    record = json.loads(pdf.with_suffix(".json").read_text(encoding="utf-8"))
    [page] = record["pages"]
    words = [
        (word["text"], placed(word["box"], page["width"], page["height"]))
        for block in page["blocks"]
        for line in block["lines"]
        for word in line["words"]
        # Shorter ones are found in others; what has marks is cut by finders.
        if len(word["text"]) > 2 and word["text"].isalnum()
    ]
    step = max(1, len(words) // PLACES_MAX)
    asked = words[::step]
    return {
        "pdftotext": (sum(by_poppler(pdf, asked)), len(asked)),
        "pdfium": (sum(by_pdfium(pdf, asked)), len(asked)),
    }


def placed(box: Sequence[float], width: float, height: float) -> Place:
    """A box as shares of its page."""
    left, top, right, bottom = box
    return left / width, top / height, right / width, bottom / height


def by_poppler(pdf: Path, asked: Sequence[tuple[str, Place]]) -> list[bool]:
    """Whether `pdftotext -bbox` has each word where it was read."""
    said = pdftotext(pdf, "-bbox")
    [size] = PAGE.findall(said)
    width, height = map(float, size)
    found = [
        (html.unescape(text), placed([float(n) for n in box], width, height))
        for *box, text in WORD.findall(said)
    ]
    return [
        any(word in text and meets(at, box) for text, box in found)
        for word, at in asked
    ]


def by_pdfium(pdf: Path, asked: Sequence[tuple[str, Place]]) -> list[bool]:
    """Whether a search by PDFium, a browser's engine, marks each where it was read."""
    import pypdfium2

    document = pypdfium2.PdfDocument(pdf)
    page = document[0]
    text = page.get_textpage()
    marked = []
    for word, at in asked:
        searcher = text.search(word, match_case=True)
        hit = False
        while not hit and (found := searcher.get_next()) is not None:
            boxes = [text.get_charbox(n) for n in range(found[0], sum(found))]
            hit = meets(at, seen(page, boxes))
        marked.append(hit)
    document.close()
    return marked


def seen(page: Any, boxes: Sequence[tuple[float, float, float, float]]) -> Place:
    """What holds these boxes of a page's own units, on the page as it is shown."""
    from pypdfium2 import raw

    xs, ys = [], []
    for left, bottom, right, top in boxes:
        for x, y in ((left, bottom), (right, top)):
            on = ctypes.c_int(), ctypes.c_int()
            raw.FPDF_PageToDevice(page.raw, 0, 0, FINE, FINE, 0, x, y, *on)
            xs.append(on[0].value / FINE)
            ys.append(on[1].value / FINE)
    return min(xs), min(ys), max(xs), max(ys)


def meets(at: Place, box: Place) -> bool:
    """Whether a box covers the middle of a word, and its middle lies in the word."""
    return covers(at, box) and covers(box, at)


def covers(box: Place, other: Place) -> bool:
    """Whether `box` covers the middle of `other`."""
    x, y = (other[0] + other[2]) / 2, (other[1] + other[3]) / 2
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]
