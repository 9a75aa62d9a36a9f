"""
The long run: one long scanned document, its worker killed in the middle.

A short document of the same kind goes first, through a worker of its own: what
the long one costs in memory is compared with that.  Pages are counted where they
begin, by the log that the worker writes at level debug, because a checkpoint
only tells which pages were finished.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import asyncpg
from PIL import Image, ImageDraw, ImageFont

from loadtest.corpora.pdf_writer import pdf, stream
from loadtest.corpora.slips import WISHES, saved
from loadtest.scenarios.processes import WORKER, Sizes, tree
from loadtest.trial import Progress, Trial, trial
from pipeline.store import embedded

SHORT = 8  # pages: more than are in hand at once
SIZE = (560, 794)  # pixels: A5 at 96 dpi, in large type, cheap to read
REREAD_MAX = 2  # as many pages of a document are in hand at once
GROWTH_MAX = 1.25  # long against short; a leak of a page's pixels would be 10 x
END_S = 900.0
LOOK_S = 0.01  # a page takes a tenth of a second at least


def scanned(pages: int, seed: int) -> bytes:
    """A scanned PDF, one picture a page; each page shows its number and a wish."""
    rng = random.Random(f"long:{seed}")
    font = ImageFont.load_default(52)
    kids = " ".join(f"{3 + 3 * n} 0 R" for n in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode(),
    ]
    for number in range(1, pages + 1):
        sheet = Image.new("L", SIZE, 250)
        lines = [f"PAGE {number}", "PLEASE MAY I", "HAVE", rng.choice(WISHES)]
        ImageDraw.Draw(sheet).multiline_text(
            (60, 90), "\n".join(lines), fill=20, font=font, spacing=28
        )
        at = len(objects) + 1
        objects += [
            (
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 420 595]"
                f" /Contents {at + 1} 0 R"
                f" /Resources << /XObject << /S {at + 2} 0 R >> >> >>"
            ).encode(),
            stream(b"q 420 0 0 595 0 0 cm /S Do Q"),
            stream(
                saved(sheet, "jpg", quality=70),
                f"/Type /XObject /Subtype /Image /Width {SIZE[0]} /Height {SIZE[1]}"
                " /BitsPerComponent 8 /ColorSpace /DeviceGray /Filter /DCTDecode",
            ),
        ]
    return pdf(objects)


def run(say: Progress, *, pages: int, kill_at: int, seed: int) -> dict[str, Any]:
    """A short document, then one of `pages`, with a kill at page `kill_at`."""
    began = time.monotonic()
    with trial() as it:
        it.pipeline("long", ["intake", "ocr"])
        say(f"a document of {SHORT} pages")
        short, sizes_short = _through(it, scanned(SHORT, seed), 0, say)
        say(f"a document of {pages} pages; its worker is killed at page {kill_at}")
        long, sizes_long = _through(it, scanned(pages, seed + 1), kill_at, say)
        counted = begun(it.folder / "log", long)
        ends = {e.id: e for e in it.ended()}
    read = ends[long].values.get("read") or []
    worker = [s.worker >> 20 for s in (sizes_short, sizes_long)]
    jailed = [s.peak_jailed >> 20 for s in (sizes_short, sizes_long)]
    grown = max(worker[1] / worker[0], jailed[1] / jailed[0])
    result: dict[str, Any] = {
        "pages": len({page["number"] for page in read}),
        "pages_ok": sum(page["status"] == "OK" for page in read),
        "pages_begun": len(counted),
        "pages_reread": sum(count - 1 for count in counted.values()),
        "state": ends[long].state,
        "killed_at": kill_at,
        "rss_worker_mb_short": worker[0],
        "rss_worker_mb_long": worker[1],
        "rss_jailed_mb_short": jailed[0],
        "rss_jailed_mb_long": jailed[1],
        "flat": grown <= GROWTH_MAX,
        "seconds": round(time.monotonic() - began, 1),
    }
    result["bad"] = [
        *(["reread"] if result["pages_reread"] > REREAD_MAX else []),
        *(["grown"] if not result["flat"] else []),
        *(["pages"] if not result["pages"] == result["pages_begun"] == pages else []),
        *(["state"] if {ends[i].state for i in (short, long)} != {"done"} else []),
    ]
    return result


def _through(
    it: Trial, document: bytes, kill_at: int, say: Progress
) -> tuple[int, Sizes]:
    """Take a document in and read it with a worker of its own; item, and sizes."""
    path = it.folder / f"{len(document)}.pdf"
    path.write_bytes(document)
    [file] = it.run("ingest", str(path), "--pipeline", "long")["files"]
    item = int(file["item"])
    server = embedded.start(it.home / "postgres")
    return item, anyio.run(_read, it, server.owner_url, item, kill_at, say)


async def _read(it: Trial, url: str, item: int, kill_at: int, say: Progress) -> Sizes:
    """Work until the item is final; with `kill_at`, kill the worker once before."""
    sizes = Sizes()
    con = await asyncpg.connect(url)
    worker = _work(it)
    try:
        if kill_at:
            async with sizes.watching(worker.pid):
                await _until(con, PAGES, item, kill_at - 1)
            kill(worker)
            say(f"killed after {await con.fetchval(PAGES, item)} pages")
            worker = _work(it)
        async with sizes.watching(worker.pid):
            await _until(con, FINAL, item, 1)
        worker.terminate()
        await anyio.to_thread.run_sync(worker.wait, 60)
    finally:
        if worker.poll() is None:
            kill(worker)
        await con.close()
    return sizes


def _work(it: Trial) -> subprocess.Popen[bytes]:
    return it.start("worker", WAYBILL_LOG_LEVEL="debug")


def kill(supervisor: subprocess.Popen[bytes]) -> None:
    """SIGKILL a supervisor and its workers, none of whom may notice it coming."""
    # Stopped first: it would replace a dead worker, or tell living ones to drain.
    supervisor.send_signal(signal.SIGSTOP)
    for process in tree(supervisor.pid):
        if WORKER in process.command:
            os.kill(process.pid, signal.SIGKILL)
    supervisor.kill()
    supervisor.wait(10)


PAGES = """
select count(*) from waybill.checkpoints
 where item_id = $1 and stage = 'ocr' and step like 'page-%'
"""
# A held item is final too for this run: nobody is here to decide.
FINAL = """
select (select count(*) from waybill.outcomes where item_id = $1)
     + (select count(*) from waybill.holds where item_id = $1 and open)
"""


async def _until(con: asyncpg.Connection, query: str, item: int, count: int) -> None:
    end = time.monotonic() + END_S
    while await con.fetchval(query, item) < count:
        if time.monotonic() > end:
            raise TimeoutError(f"waited {END_S:.0f} s for {count} of item {item}")
        await anyio.sleep(LOOK_S)


def begun(log: Path, item: int) -> Counter[int]:
    """How often the reading of each page began, as the workers logged it."""
    found: Counter[int] = Counter()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"page_began"' in line:
            event = json.loads(line)
            if event["item"] == item:
                found[event["page"]] += 1
    return found
