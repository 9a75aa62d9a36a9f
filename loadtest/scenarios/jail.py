"""
The jail run: a process that a document took over tries everything, between two tenants.

One tenant's calls attack (`loadtest/hostile/breakouts.py`, and every way of
`pipeline/jail/jailbreak.py`); another one's calls read their own pages at the same time
and afterwards, in the same pool.  Counted is what was allowed, what was seen of the
other tenant, and what was left: processes, files, bytes of the disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from loadtest.hostile import breakouts
from loadtest.trial import Progress
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import WaybillError
from pipeline.jail import jailbreak
from pipeline.jail.pool import JailPool

CALL_S = 60.0
SPY_S = 1.0
# A scratch folder may have 1 GiB; others write to the same disk meanwhile.
DISK_BYTES_MAX = 2 << 30
LEFT_S = 5.0
THEIRS = "what the other tenant sent"

WORKER = """
import sys, anyio
from pathlib import Path
from loadtest.hostile import breakouts
from pipeline.jail.pool import JailPool

async def main():
    async with JailPool(1, allow=[breakouts], scratch=Path(sys.argv[1])) as pool:
        await pool.run(breakouts.linger, timeout_s=600)

anyio.run(main)
"""


@dataclass
class Seen:
    """What the run came to; each entry says where."""

    attempts: int = 0
    allowed: list[str] = field(default_factory=list)
    of_others: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)


def run(
    say: Progress,
    *,
    rounds: int = 2,
    gigabytes: int = 6,
    files: int = 200_000,
    tier: int = 3,
) -> dict[str, Any]:
    """
    Everything, `rounds` times; the figures.

    Args:
        gigabytes: What is tried to be written into a scratch folder.
        files: How many files, likewise.
        tier: The highest tier of the jail to try.
    """
    seen = Seen()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="waybill-jail-", dir="/var/tmp") as place:
        os.chmod(place, 0o711)  # noqa: S103  whoever runs this passes through
        for number in range(1, rounds + 1):
            folder = Path(place, str(number))
            folder.mkdir()
            began = time.monotonic()
            report = anyio.run(Round(folder, seen, (gigabytes, files), tier).all)
            say(f"round {number} took {time.monotonic() - began:.0f} s")
    for word in (*seen.allowed, *seen.of_others, *seen.left):
        say(word)
    return {
        "attempts": seen.attempts,
        "allowed": len(seen.allowed),
        "seen_of_others": len(seen.of_others),
        "left_behind": len(seen.left),
        "tier": report.get("tier", 0),
        "alone": report.get("alone", False),
        "bounded": report.get("bounded", False),
        "codes": seen.codes,
    }


class Round:
    """Every attempt once, in one pool that two tenants share."""

    def __init__(
        self, folder: Path, seen: Seen, sizes: tuple[int, int], tier: int
    ) -> None:
        self._scratch = folder / "scratch"
        self._scratch.mkdir()
        self._artifacts = FileArtifacts(folder / "objects")
        self._seen = seen
        self._sizes = sizes
        self._tier = tier

    async def all(self) -> dict[str, Any]:
        """The report of the jail that was tried."""
        pool = JailPool(
            2,
            allow=[breakouts, jailbreak],
            readable=[self._artifacts.root],
            scratch=self._scratch,
            tier=self._tier,
        )
        async with pool:
            await self._walls(pool)
            await self._neighbours(pool)
            await self._shares(pool)
            await self._staying(pool)
            report = pool.jail
        await self._lost_worker()
        self._look_for_left("the end")
        if list(self._scratch.iterdir()):
            self._seen.left.append("scratch folders are left at the end")
        return report

    async def _walls(self, pool: JailPool) -> None:
        found = await jailbreak.self_test(pool)
        self._seen.attempts += len(found["attempts"])
        for way, met in found["attempts"].items():
            if met == jailbreak.ALLOWED:
                self._seen.allowed.append(f"{way} was allowed")

    async def _neighbours(self, pool: JailPool) -> None:
        """See what the other one's calls bring, while they run."""
        root = list(os.fspath(self._artifacts.root).encode())
        old = await self._artifacts.put(THEIRS.encode())
        heard: list[str] = []

        async def spy() -> None:
            heard.extend(
                await pool.run(
                    breakouts.spy, timeout_s=CALL_S, store=root, wait_s=SPY_S
                )
            )

        async with anyio.create_task_group() as group:
            group.start_soon(spy)
            for number in range(5):
                await self._other(pool, f"{THEIRS} {number}")
                await anyio.sleep(SPY_S / 5)
        hidden = list(os.fspath(self._artifacts.path(old)).encode())
        read = await pool.run(breakouts.read_hidden, timeout_s=CALL_S, path=hidden)
        self._seen.attempts += 2
        self._seen.of_others += [f"saw {word}" for word in heard]
        if read:
            self._seen.of_others.append("read a document by its name")

    async def _shares(self, pool: JailPool) -> None:
        """Take more than a share; each ends with a code, and the disk stays free."""
        gigabytes, files = self._sizes
        greedy: dict[str, Callable[[], Awaitable[Any]]] = {
            "fill": lambda: pool.run(
                breakouts.fill, timeout_s=CALL_S, gigabytes=gigabytes, unlinked=False
            ),
            "fill_unlinked": lambda: pool.run(
                breakouts.fill, timeout_s=CALL_S, gigabytes=gigabytes, unlinked=True
            ),
            "scatter": lambda: pool.run(
                breakouts.scatter, timeout_s=CALL_S, files=files
            ),
            "hoard": lambda: pool.run(breakouts.hoard, timeout_s=CALL_S, gigabytes=4),
        }
        for name, attempt in greedy.items():
            await self._attempt(pool, name, attempt)
        # Folders are no more than files: these are bounded, and removed.
        self._seen.attempts += 1
        await pool.run(breakouts.nest, timeout_s=CALL_S)
        self._look_for_left("nest")

    async def _attempt(
        self, pool: JailPool, name: str, attempt: Callable[[], Awaitable[Any]]
    ) -> None:
        self._seen.attempts += 1
        free = shutil.disk_usage(self._scratch).free
        least = free
        try:
            async with anyio.create_task_group() as group:

                async def watch() -> None:
                    nonlocal least
                    while True:
                        least = min(least, shutil.disk_usage(self._scratch).free)
                        await anyio.sleep(0.05)

                group.start_soon(watch)
                try:
                    await attempt()
                    self._seen.allowed.append(f"{name} was allowed")
                except WaybillError as error:
                    self._seen.codes[name] = error.code
                group.cancel_scope.cancel()
        finally:
            if free - least > DISK_BYTES_MAX:
                self._seen.allowed.append(f"{name} took {free - least:,} of the disk")
        await self._other(pool, name)
        self._look_for_left(name)

    async def _staying(self, pool: JailPool) -> None:
        """Stay after the own call, and be there in the other one's."""
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "stay": lambda: pool.run(breakouts.stay, timeout_s=CALL_S),
            "poison": lambda: pool.run(breakouts.poison, timeout_s=CALL_S),
            "lie": lambda: pool.run(breakouts.lie, timeout_s=CALL_S),
            "linger": lambda: pool.run(breakouts.linger, timeout_s=1.0),
        }
        for name, attempt in ways.items():
            self._seen.attempts += 1
            try:
                await attempt()
            except WaybillError as error:
                self._seen.codes[name] = error.code[:80]
                if len(error.code) > 64:
                    self._seen.allowed.append(f"{name}: a code of {len(error.code)}")
            self._look_for_left(name)
            await self._other(pool, name)

    async def _other(self, pool: JailPool, word: str) -> None:
        """A call of the other tenant: it must meet its own page and nobody."""
        name = await self._artifacts.put(f"{THEIRS}: {word}".encode())
        page = str(self._artifacts.path(name))
        answer = await pool.run(breakouts.look_around, timeout_s=CALL_S, page=page)
        if answer != {"page": f"{THEIRS}: {word}", "found": []}:
            self._seen.of_others.append(f"{word}: the next call was touched")

    async def _lost_worker(self) -> None:
        """kill -9 of a worker ends what it jailed, and what that started."""
        self._seen.attempts += 1
        worker = await anyio.open_process(
            [sys.executable, "-c", WORKER, str(self._scratch)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with anyio.move_on_after(CALL_S):
            while not staying(self._scratch):  # noqa: ASYNC110  another process starts it
                await anyio.sleep(0.05)
        worker.kill()
        await worker.aclose()
        self._look_for_left("a killed worker")
        for folder in self._scratch.iterdir():
            shutil.rmtree(folder)  # the next pool would

    def _look_for_left(self, after: str) -> None:
        """Processes that stayed, shortly after."""
        until = time.monotonic() + LEFT_S * (after in ("a killed worker",))
        while (pids := staying(self._scratch)) and time.monotonic() < until:
            time.sleep(0.05)
        if pids:
            self._seen.left.append(f"{after}: {len(pids)} processes are left")
        inside = [
            p for f in self._scratch.glob("waybill-*") for p in f.glob("jailed-*")
        ]
        if inside and after != "a killed worker":
            self._seen.left.append(f"{after}: {len(inside)} folders are left")


def staying(scratch: Path) -> list[int]:
    """
    Processes of a call that live: what it started, and what was forked for it.

    A guard and a template whose folder lies in `scratch` are a pool's own.
    """
    found: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            theirs = breakouts.STAYING.encode() in command
            theirs |= f"TMPDIR={scratch}/".encode() in (folder / "environ").read_bytes()
            state, parent = (
                (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
            )
        except OSError:
            continue
        if theirs and state not in "ZX":
            found[int(folder.name)] = int(parent)
    guards = [pid for pid, parent in found.items() if parent == os.getpid()]
    own = [*guards, *(pid for pid, parent in found.items() if parent in guards)]
    return [pid for pid in found if pid not in own]
