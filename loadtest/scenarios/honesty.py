"""
`run honesty`: does the service say so where it cannot read?

Four sets of pages go through the real intake and OCR:

    cursive     handwriting of 1905-1918 from the samples folder, if it is there
    unreadable  generated: soaked, scribbled, blurred, far too small, only noise
    blank       generated: shade, grain, dust, punched holes, scanner edges
    readable    generated: typed pages, to show that holding everything is no pass

A page of the first two must end held or marked unreadable.  One that was taken
as read counts as invented, unless what it says is on the page.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.corpora.illegible import BLANK, UNREADABLE
from loadtest.corpora.letters import compose
from loadtest.corpora.noise import A5, TYPED, page
from loadtest.corpora.truth import precision
from loadtest.trial import Ended, Progress, trial

# Handwriting among the samples: two clear letters, one in faint pencil, a will.
CURSIVE = (
    "letters_stanford1905/Lettre251.jpg",
    "letters_stanford1905/Lettre252.jpg",
    "letters_stanford1905/SC0033B_s4_b01_f14_i082.jpg",
    "scanned_multipage_pdfs/poilus_AD78_0020.pdf",
)
PRECISION_MIN = 0.8  # of the words taken as read, so many are on the page


def run(
    say: Progress, *, pages: int, engine: str, samples: Path, seed: int
) -> dict[str, Any]:
    """Run the four sets; `invented` and `blanks_missed` must be 0."""
    with trial() as it:
        inbox = it.folder / "pages"
        inbox.mkdir()
        truths = make(inbox, pages, seed)
        cursive = copy_cursive(samples, inbox)
        truths |= cursive
        if not cursive:
            say(f"no cursive samples at {samples}: generated pages only")
        it.pipeline(
            "reading", ["intake", "ocr"], more=f'[stage.ocr]\nengine = "{engine}"'
        )
        say(f"reading {len(truths)} documents")
        it.ingest(inbox, "reading")
        return figures(it.ended(), truths, bool(cursive))


def make(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write `count` pages of each generated set; file name -> what is on it."""
    truths = {}
    for kind, draws in (("unreadable", UNREADABLE), ("blank", BLANK), ("readable", ())):
        for number in range(count):
            rng = random.Random(f"{kind}:{seed}:{number}")
            name = f"{kind}-{number:03}.jpg"
            text = "" if kind == "blank" else compose(rng, "Ida", words=90)
            if draws:
                image = draws[number % len(draws)](text, rng)
            else:
                image = page(text, TYPED[number % len(TYPED)], A5, "scan", rng)
            image.convert("RGB").save(
                folder / name, quality=85, dpi=(A5.dpi, A5.dpi), subsampling=0
            )
            truths[name] = text
    return truths


def copy_cursive(samples: Path, folder: Path) -> dict[str, str]:
    """Handwritten pages of the samples and their transcription, by file name."""
    truths = {}
    for relative in CURSIVE:
        source = samples / relative
        if source.exists():
            name = f"cursive-{source.name}"
            shutil.copyfile(source, folder / name)
            truth = source.with_suffix(".gt.txt")
            truths[name] = truth.read_text(encoding="utf-8")
    return truths


def figures(
    ended: Sequence[Ended], truths: dict[str, str], cursive: bool
) -> dict[str, Any]:
    """The figures: what was invented, missed, and rightly read."""
    sets: dict[str, Counter[str]] = {}
    invented = blanks_missed = controls_read = 0
    liars: list[str] = []
    for item in ended:
        kind = item.name.partition("-")[0]
        end = item.code or item.state
        sets.setdefault(kind, Counter())[end] += 1
        text = str(item.values.get("text", "")) if item.state == "done" else ""
        if kind == "blank":
            blanks_missed += item.code != "BLANK"
        elif kind == "readable":
            read = item.state == "done"
            controls_read += read and precision(text, truths[item.name]) > PRECISION_MIN
        elif item.state == "done" and not (
            text.split() and precision(text, truths[item.name]) >= PRECISION_MIN
        ):
            invented += 1
            liars.append(item.name)
    return {
        "invented": invented,
        "blanks_missed": blanks_missed,
        "controls_read": controls_read,
        "controls": sum(sets.get("readable", Counter()).values()),
        "documents": len(ended),
        "submitted": len(truths),
        "cursive_samples": cursive,
        "ends": {kind: dict(counts) for kind, counts in sorted(sets.items())},
        "invented_in": liars,
    }
