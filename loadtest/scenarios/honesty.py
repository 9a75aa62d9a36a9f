"""
`run honesty`: does the service say so where it cannot read?

Six sets of documents go through the real intake and OCR:

    cursive     handwriting of 1905-1918 from the samples folder, if it is there
    unreadable  generated: soaked, scribbled, blurred, far too small, only noise
    blank       generated: shade, grain, dust, punched holes, scanner edges
    inked       generated: colours alike in gray, ink at the border, pale, on nothing
    readable    generated: typed pages, to show that holding everything is no pass
    clear       generated: what may be taken for something else (corpora/readable.py);
                of the samples a letterhead, a strip, layers in Arabic and Korean

A page of the first two must end held or marked unreadable.  One that was taken
as read counts as invented, unless what it says is on the page.  Only the blank ones
may be rejected as blank, and of the last two next to none may be held.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtest.corpora import field, readable
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
# Documents among the samples that were held for nothing, or read in another script.
CLEAR = (
    "field/letterhead-stanford-i086-2000px.jpg",
    "field/one-line-strip.png",
    "field/right_to_left_01.pdf",
    "field/korean-text-with-tables.pdf",
    "field/24_german.png",
    "field/21_two_columns.png",
)
READABLE = ("readable", "clear", "inked")
PRECISION_MIN = 0.8  # of the words taken as read, so many are on the page


def run(
    say: Progress, *, pages: int, engine: str, samples: Path, seed: int
) -> dict[str, Any]:
    """Run the six sets; `invented` and `blank_but_inked` must be 0."""
    with trial() as it:
        inbox = it.folder / "pages"
        inbox.mkdir()
        truths = make(inbox, pages, seed)
        cursive = copied(samples, inbox, "cursive", CURSIVE)
        truths |= cursive | copied(samples, inbox, "clear", CLEAR)
        truths |= made(inbox, pages, seed)
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


def made(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write what has ink that gray does not show, and what is held for nothing."""
    truths = {}
    for kind in field.pictures():
        if kind.name.startswith("ink-"):
            name = f"inked-{kind.name}"
            (folder / name).write_bytes(kind.data)
            truths[name] = " ".join(kind.says)
    for document in readable.documents(count, seed):
        name = f"clear-{document.name}"
        (folder / name).write_bytes(document.data)
        truths[name] = document.truth
    return truths


def copied(
    samples: Path, folder: Path, kind: str, names: Sequence[str]
) -> dict[str, str]:
    """Samples and what is on them, by file name; "" where nobody wrote it down."""
    truths = {}
    for relative in names:
        source = samples / relative
        if source.exists():
            name = f"{kind}-{source.name}"
            shutil.copyfile(source, folder / name)
            truth = source.with_suffix(".gt.txt")
            truths[name] = truth.read_text(encoding="utf-8") if truth.exists() else ""
    return truths


def figures(
    ended: Sequence[Ended], truths: dict[str, str], cursive: bool
) -> dict[str, Any]:
    """The figures: what was invented, missed, and rightly read."""
    sets: dict[str, Counter[str]] = {}
    count: Counter[str] = Counter()
    named: dict[str, list[str]] = {"invented": [], "inked": [], "held": []}
    for item in ended:
        kind = item.name.partition("-")[0]
        sets.setdefault(kind, Counter())[item.code or item.state] += 1
        if kind == "blank":
            count["blanks_missed"] += item.code != "BLANK"
            continue
        if item.code == "BLANK":
            named["inked"].append(item.name)
        text = str(item.values.get("text", ""))
        truth = truths[item.name]
        true = text != "" and (not truth or precision(text, truth) >= PRECISION_MIN)
        if kind in READABLE:
            count["controls"] += 1
            count["controls_read"] += item.state == "done" and true
        if item.state == "done" and not true:
            named["invented"].append(item.name)
        elif item.state == "held" and kind in READABLE:
            named["held"].append(item.name)
    return {
        "invented": len(named["invented"]),
        "blank_but_inked": len(named["inked"]),
        "held_but_readable": round(len(named["held"]) / max(1, count["controls"]), 3),
        "blanks_missed": count["blanks_missed"],
        "controls_read": count["controls_read"],
        "controls": count["controls"],
        "documents": len(ended),
        "submitted": len(truths),
        "cursive_samples": cursive,
        "ends": {kind: dict(counts) for kind, counts in sorted(sets.items())},
        "invented_in": named["invented"],
        "blank_in": named["inked"],
        "held_in": named["held"],
    }
