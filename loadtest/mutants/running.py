"""
Applying each seeded bug to a copy of the tree, and looking whether its test fails.

The working tree is never written.  Every copy has a nest (`nest.py`) in which its tests
are hatched, and all of them share one server.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import asyncpg

from loadtest.mutants.listed import HERE, ROOT, Mutant, listed
from pipeline.store import embedded

TREES = ("pipeline", "waybill", "stages", "ingest", "loadtest", "tests", "examples")
LIMIT_S = 240.0  # of one test: many times what it takes
SLOW_S = 1800.0  # of all of them without a bug
FAILED = 1  # pytest's word for tests that failed

Say = Callable[[str], None]


class Verdict(NamedTuple):
    """
    What became of one seeded bug.

    Attributes:
        result: caught, survived, or why that cannot be said.
        why: The first line of how the test failed.
    """

    name: str
    test: str
    result: str
    why: str


class Copy:
    """A copy of the tree, and where its tests run."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._log = folder / "pytest.log"
        self._written_at = time.time()
        folder.mkdir()
        for name in (*TREES, "docs", "scripts"):
            kept = shutil.ignore_patterns(".*", "node_modules")
            shutil.copytree(ROOT / name, folder / name, ignore=kept)
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy2(path, folder / path.name)
        self._nest = subprocess.Popen(
            [sys.executable, str(HERE / "nest.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "WAYBILL_TEST_DATABASE_URL": url},
        )

    def tests(self, names: Sequence[str], limit_s: float = LIMIT_S) -> tuple[int, str]:
        """How pytest ended, and what it printed."""
        args = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-x", "--tb=short"]
        args += ["--durations=0", "--timeout=120"]
        # What is imported already has no need of better messages.
        args += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        asked = {
            "tree": str(self.folder),
            "args": [*args, *names],
            "log": str(self._log),
            "limit_s": limit_s,
        }
        assert self._nest.stdin is not None
        assert self._nest.stdout is not None
        self._nest.stdin.write(json.dumps(asked) + "\n")
        self._nest.stdin.flush()
        code = int(self._nest.stdout.readline() or "-2")
        return code, self._log.read_text(errors="replace")

    def write(self, file: str, text: str) -> None:
        """
        Replace a file, in a second of its own: what Python has compiled of it is known
        by its second and its size.
        """
        path = self.folder / file
        path.write_text(text, encoding="utf-8")
        self._written_at += 2
        os.utime(path, (self._written_at, self._written_at))

    def close(self) -> None:
        """End its nest."""
        assert self._nest.stdin is not None
        self._nest.stdin.close()
        self._nest.wait(30)


def run(say: Say, *, only: Sequence[str], processes: int) -> dict[str, Any]:
    """Try every seeded bug, or `only` these; see the keys."""
    began = time.monotonic()
    mutants = [m for m in listed() if not only or m.name in only]
    with tempfile.TemporaryDirectory(prefix="waybill-mutants-") as place:
        folder = Path(place)
        server = embedded.start(folder / "pg")
        try:
            anyio.run(_hurry, server.owner_url)
            verdicts = _tried(say, folder, server.owner_url, mutants, processes)
        finally:
            embedded.end(folder / "pg")
    caught = [v for v in verdicts if v.result == "caught"]
    survived = [v.name for v in verdicts if v.result == "survived"]
    return {
        "total": len(mutants),
        "caught": len(caught),
        "survived": survived,
        "unclear": [
            v._asdict() for v in verdicts if v.result not in ("caught", "survived")
        ],
        "each": {v.name: f"{v.test}: {v.why}" for v in caught},
        "seconds": round(time.monotonic() - began, 1),
        "good": len(caught) == len(mutants) > 0,
    }


async def _hurry(url: str) -> None:
    """Nobody pulls the plug of this server: it need not wait for the disk."""
    con = await asyncpg.connect(url)
    await con.execute("alter system set fsync = off")
    await con.execute("select pg_reload_conf()")
    await con.close()


def _tried(
    say: Say, folder: Path, url: str, mutants: Sequence[Mutant], processes: int
) -> list[Verdict]:
    waiting = deque(mutants)
    verdicts: list[Verdict] = []
    places = range(min(processes, len(mutants)))
    copies = [Copy(folder / f"tree-{place}", url) for place in places]

    def work(copy: Copy) -> None:
        while waiting:
            mutant = waiting.popleft()
            verdict = tried(copy, mutant)
            verdicts.append(verdict)
            said = f"{len(verdicts)} of {len(mutants)}: {verdict.name} {verdict.result}"
            say(f"{said}: {verdict.why}")

    try:
        tests = sorted({m.test for m in mutants})
        say(f"{len(tests)} tests without a bug")
        code, text = copies[0].tests(tests, SLOW_S)
        if code:
            return [
                Verdict(m.name, m.test, "without a bug tests fail", _last(text))
                for m in mutants
            ]
        with ThreadPoolExecutor(len(copies)) as pool:
            list(pool.map(work, copies))
    finally:
        for copy in copies:
            copy.close()
    return verdicts


def tried(copy: Copy, mutant: Mutant) -> Verdict:
    """One seeded bug: its test, and no other, in a tree that has the bug."""
    before = (ROOT / mutant.file).read_text(encoding="utf-8")
    try:
        copy.write(mutant.file, mutant.applied(before))
    except ValueError as error:
        return Verdict(mutant.name, mutant.test, "not found", str(error))
    try:
        code, text = copy.tests([mutant.test])
    finally:
        copy.write(mutant.file, before)
    # A test that could not even begin has caught nothing.
    failed = re.search(rf"^FAILED {re.escape(mutant.test)}", text, re.MULTILINE)
    if code == FAILED and failed:
        return Verdict(mutant.name, mutant.test, "caught", _why(text))
    if code == 0:
        return Verdict(mutant.name, mutant.test, "survived", "")
    ended = "took too long" if code == -1 else f"pytest ended with {code}"
    return Verdict(mutant.name, mutant.test, ended, _last(text))


def _why(text: str) -> str:
    found = re.search(r"^E +(.*)$", text, re.MULTILINE)
    return found.group(1)[:160] if found else ""


def _last(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-3:])[-300:]
