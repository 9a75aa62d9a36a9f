"""
The processes of a run, as the operating system sees them: who, and how large.

Read from /proc alone, so that a service cannot flatter itself.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import anyio

JAILED = "pipeline.jail.template"  # on the command line of a jailed process
WORKER = "waybill work"
EVERY_S = 0.1
START_LOOKS = (
    100  # 10 s: a jailed process sets its limit within 0.1 s, on a calm machine
)


class Process(NamedTuple):
    """One living process; memory in bytes."""

    pid: int
    parent: int
    session: int
    command: str
    resident: int
    peak: int  # the largest it was resident with, by the kernel's own count


def tree(pid: int) -> list[Process]:
    """The living descendants of `pid`, and itself."""
    found = {p.pid: p for p in map(_look, _pids()) if p is not None}
    inside = {pid} & found.keys()
    while more := {p.pid for p in found.values() if p.parent in inside} - inside:
        inside |= more
    return [found[number] for number in sorted(inside)]


def address_limit(pid: int) -> int:
    """Bytes of address space that `pid` may have; 0: no limit, or it is gone."""
    for line in _read(f"/proc/{pid}/limits").splitlines():
        if line.startswith("Max address space"):
            soft = line.split()[3]
            return 0 if soft == "unlimited" else int(soft)
    return 0


def _pids() -> list[int]:
    return [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]


def _look(pid: int) -> Process | None:
    stat = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not stat or stat[0] in "ZX":
        return None
    sizes = {"VmRSS": 0, "VmHWM": 0}
    for line in _read(f"/proc/{pid}/status").splitlines():
        word, _, value = line.partition(":")
        if word in sizes:
            sizes[word] = int(value.split()[0]) << 10
    command = _read(f"/proc/{pid}/cmdline").replace("\0", " ")
    return Process(
        pid, int(stat[1]), int(stat[3]), command, sizes["VmRSS"], sizes["VmHWM"]
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # it ended while we looked


@dataclass
class Jailed:
    """
    A jailed process and what it started (a tesseract): they share a session.

    Attributes:
        peak: The largest they were together, bytes.
        limit: Address space that each of them may have; 0: none was set yet.
    """

    peak: int = 0
    limit: int = 0
    looks: int = 0

    @property
    def unbound(self) -> bool:
        """Whether it outgrew its limit, or has none and cannot be just starting."""
        return self.peak > self.limit if self.limit else self.looks > START_LOOKS


@dataclass
class Sizes:
    """The largest that workers were, bytes, and every jailed process that was seen."""

    worker: int = 0
    jailed: dict[int, Jailed] = field(default_factory=dict)

    @property
    def peak_jailed(self) -> int:
        """The largest that any jailed process was, bytes."""
        return max((j.peak for j in self.jailed.values()), default=0)

    def look(self, root: int) -> None:
        """Take in one moment of the processes under `root`."""
        now = tree(root)
        leaders = {p.pid for p in now if JAILED in p.command and p.pid == p.session}
        for leader in leaders:
            jailed = self.jailed.setdefault(leader, Jailed())
            together = [p for p in now if p.session == leader]
            grown = sum(p.resident for p in together)
            jailed.peak = max(jailed.peak, grown, *(p.peak for p in together))
            jailed.limit = jailed.limit or address_limit(leader)
            jailed.looks += 1
        workers = [p.peak for p in now if WORKER in p.command]
        self.worker = max(self.worker, *workers, 0)

    @asynccontextmanager
    async def watching(self, root: int) -> AsyncIterator[None]:
        """Look again and again while the block runs."""

        async def look_on() -> None:
            while True:
                self.look(root)
                await anyio.sleep(EVERY_S)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look_on)
            yield
            tasks.cancel_scope.cancel()


@contextmanager
def loops(count: int) -> Iterator[None]:
    """So many processes that do nothing, as fast as they can."""
    burning = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()
