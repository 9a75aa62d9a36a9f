"""
The OCR benchmark: what does everything around tesseract cost?

The same generated pages go through `xargs -P$(nproc) tesseract` (one process a
page, OMP_THREAD_LIMIT=1), through the whole pipeline from admission to printed
reply, and through xargs again; the ratio is against the mean of the two.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from loadtest.corpora import letters
from loadtest.trial import Progress, trial

RUN_MAX_S = 3600.0
STAGES = ("intake", "ocr", "moderation", "generation", "output")


def measure(
    count: int, seed: int, engine: str, reading: str, say: Progress
) -> dict[str, Any]:
    """Pages a second of both, and their ratio."""
    with trial() as it:
        say(f"making {count} pages")
        files = letters.pages(it.folder / "pages", count=count, seed=seed)
        ocr = f'[stage.ocr]\nengine = "{engine}"\nreading = "{reading}"'
        it.pipeline("letters", STAGES, more=ocr)
        say("tesseract alone")
        before = raw(files)
        say(f"the whole pipeline, with {engine}, {reading}")
        report = it.ingest(it.folder / "pages", "letters")
        if report.get("done") != count:
            raise RuntimeError(f"not every page was finished: {report}")
        through = count / report["seconds"]
        say("tesseract alone, again")
        after = raw(files)
    base = (before + after) / 2
    return {
        "pages_per_s": round(through, 3),
        "raw_pages_per_s": round(base, 3),
        "raw_before_and_after": [round(before, 3), round(after, 3)],
        "ratio": round(through / base, 3),
        "engine": engine,
        "reading": reading,
        "pages": count,
        "cores": os.cpu_count(),
    }


def raw(files: list[Path]) -> float:
    """Pages a second of one tesseract process a page, as many as cores at once."""
    listed = "\0".join(str(f) for f in files).encode()
    command = [
        "xargs",
        "-0",
        f"-P{os.cpu_count()}",
        "-I{}",
        "tesseract",
        "{}",
        "stdout",
    ]
    began = time.perf_counter()
    subprocess.run(
        command,
        input=listed,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        timeout=RUN_MAX_S,
        check=True,
    )
    return len(files) / (time.perf_counter() - began)
