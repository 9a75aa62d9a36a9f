"""
Bundles at work: an archive of 500 letters with a poisoned one, a stack of 60.

Both go through the real command, in a home of their own, and become items: every
letter ends, the poisoned one alone fails, and everything received is accounted
for by SQL of this module's own.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import zipfile
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pikepdf
import zxingcpp
from PIL import Image

from loadtest.corpora.letters import (
    NAMES,
    as_jpeg,
    as_png,
    compose,
    save_pdf,
    save_text_pdf,
)
from loadtest.corpora.noise import TYPED, Sheet, grainy, page
from loadtest.trial import Progress, Trial, trial
from pipeline.store import embedded

LETTERS, STACK = 500, 60
PIPELINE = "bundle"
# Small pages of a few words, so that the 226 that are pictures are soon read.
A6 = Sheet(620, 874, dpi=150, pitch=40)
POISON = "letter-0250-poison.pdf"
SETTINGS = """
[stage.ocr]
second = "off"
"""
ASK_S = 2.0  # between two looks at how far it is

# What was received, and what became of it; neither asks the code under test.
RECEIPTS = "select disposal, count(*)::int from waybill.receipts group by disposal"
ASTRAY = """
select count(*)::int from waybill.receipts r
 where disposal = 'item'
   and not exists (select from waybill.items i where i.id = r.item_id)
"""
PROGRESS = """
select (select count(*) from waybill.items)::int,
       (select count(*) from waybill.outcomes)::int
"""


def run(say: Progress, *, letters: int, stack: int, seed: int) -> dict[str, Any]:
    """Ingest both bundles; what became of every part."""
    with trial() as bed:
        say(f"making an archive of {letters} letters and a stack of {stack}")
        files = bed.folder / "files"
        files.mkdir()
        write_archive(files / "letters.zip", letters, seed)
        write_stack(files / "stack.pdf", stack, seed)
        bed.pipeline(PIPELINE, ["intake", "ocr"], more=SETTINGS)
        bed.home.mkdir()
        url = embedded.start(bed.home / "postgres").owner_url
        began = time.perf_counter()
        exit_code = ingest(bed, files, url, say)
        seconds = time.perf_counter() - began
        return figures(bed, url, letters, stack) | {
            "exit_code": exit_code,
            "seconds": round(seconds, 1),
        }


def ingest(bed: Trial, files: Path, url: str, say: Progress) -> int:
    """`waybill ingest --wait`, with a line on how far it is; its exit code."""
    process = bed.start("ingest", str(files), "--pipeline", PIPELINE, "--wait")
    last = ""
    try:
        while True:
            try:
                process.wait(timeout=ASK_S)
            except subprocess.TimeoutExpired:
                line = progress(url)
                if line != last:
                    say(line)
                    last = line
            else:
                return process.returncode
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def progress(url: str) -> str:
    """How far it is."""
    try:
        [(items, ended)] = rows(url, PROGRESS)
    except asyncpg.UndefinedTableError:
        return "starting"
    return f"{ended} of {items} items have ended"


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    """Rows of a query."""

    async def ask() -> list[tuple[Any, ...]]:
        con = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await con.fetch(query)]
        finally:
            await con.close()

    return anyio.run(ask)


def figures(bed: Trial, url: str, letters: int, stack: int) -> dict[str, Any]:
    """What came of it; `good` says whether it is what it must be."""
    ended = bed.ended()
    parents = [item for item in ended if item.parent is None]
    children = [item for item in ended if item.parent is not None]
    states = Counter(item.state for item in ended)
    failed = [item for item in ended if item.state == "failed"]
    receipts = dict(rows(url, RECEIPTS))
    [(astray,)] = rows(url, ASTRAY)
    conserved = (
        astray == 0
        and receipts.get("item", 0) == len(ended)
        and states["nowhere"] == 0
        and sum(receipts.values())
        == states.total()
        + receipts.get("duplicate", 0)
        + receipts.get("quarantined", 0)
    )
    good = (
        conserved
        and len(children) == letters + stack
        and len(parents) == 2
        and [item.name.endswith(POISON) for item in failed] == [True]
        and states["done"] == len(ended) - 1
    )
    return {
        "good": good,
        "conserved": conserved,
        "children": len(children),
        "failed": len(failed),
        "parents": len(parents),
        "states": dict(states),
        "receipts": receipts,
        "poisoned": {item.name: f"{item.stage} {item.code}" for item in failed},
    }


# -- what is sent --------------------------------------------------------------------


def write_archive(path: Path, count: int, seed: int) -> None:
    """A ZIP of `count` letters of several kinds; the one in the middle is poisoned."""
    kinds = cycle(("png", "txt", "pdf", "jpg", "txt", "pdf"))
    scratch = path.with_suffix(".part")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for number in range(1, count + 1):
            kind = next(kinds)
            rng = random.Random(f"bundle:{seed}:{number}")
            name = rng.choice(NAMES)
            text = f"{compose(rng, name, words=1)}\nLetter {number}"
            entry = f"letters/letter-{number:04}-{name.lower()}.{kind}"
            if number == (count + 1) // 2:
                entry, kind = f"letters/{POISON}", "poison"
            match kind:
                case "poison":
                    write_poison(scratch)
                    data = scratch.read_bytes()
                case "txt":
                    data = text.encode()
                case "pdf":
                    save_text_pdf(scratch, text)
                    data = scratch.read_bytes()
                case "png":
                    data = as_png(drawn(text, number, rng), A6.dpi)
                case _:
                    data = as_jpeg(drawn(text, number, rng), A6.dpi)
            # Its time would be now, and the bytes others every time.
            packed.writestr(zipfile.ZipInfo(entry), data, zipfile.ZIP_DEFLATED)
    scratch.unlink(missing_ok=True)


def write_stack(path: Path, count: int, seed: int) -> None:
    """A scanned PDF of `count` letters with a separator sheet between every two."""
    sheets: list[Image.Image] = []
    for number in range(1, count + 1):
        rng = random.Random(f"stack:{seed}:{number}")
        text = f"{compose(rng, rng.choice(NAMES), words=1)}\nPage {number}"
        if sheets:
            sheets.append(separator(rng))
        sheets.append(drawn(text, number, rng))
    save_pdf(path, sheets, A6)


def drawn(text: str, number: int, rng: random.Random) -> Image.Image:
    """A typed letter, as it comes from a scanner."""
    return page(text, TYPED[number % len(TYPED)], A6, "scan", rng)


def separator(rng: random.Random) -> Image.Image:
    """A separator sheet, scanned askew."""
    code = zxingcpp.create_barcode("PATCHT", zxingcpp.BarcodeFormat.Code128)
    bars = Image.fromarray(code.to_image(scale=3)).resize((360, 120))
    sheet = Image.new("RGB", (A6.width, A6.height), "white")
    sheet.paste(bars.convert("RGB"), ((A6.width - 360) // 2, A6.height // 3))
    turned = sheet.rotate(
        rng.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, fillcolor="white"
    )
    return grainy(turned, 6, rng)


def write_poison(path: Path) -> None:
    """
    A PDF that never ends: a drawing of drawings, 16 in each, 13 deep.

    A reader that follows it needs 10^15 objects; its jailed process runs out of memory
    or time first.
    """
    with pikepdf.new() as pdf:
        leaf = pdf.add_blank_page(page_size=(298, 420))
        content, inside = b"0 0 9 9 re f", pikepdf.Dictionary()
        for _ in range(13):
            form = pdf.make_stream(
                content,
                Type=pikepdf.Name.XObject,
                Subtype=pikepdf.Name.Form,
                BBox=[0, 0, 298, 420],
                Resources=inside,
            )
            content = b"/F Do " * 16
            inside = pikepdf.Dictionary(XObject=pikepdf.Dictionary(F=form))
        leaf.Resources, leaf.Contents = inside, pdf.make_stream(b"/F Do")
        pdf.save(path, deterministic_id=True)
