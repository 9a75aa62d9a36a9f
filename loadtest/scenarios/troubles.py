"""
Ways to bring a machine into trouble, and out of it again.

Each is a pair: `strike` makes it so, `mend` undoes it.  Most need root: a small file
system of their own is mounted in the home, so that no other disk is filled.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import asyncpg

from loadtest.scenarios.processes import WORKER, tree
from pipeline.store import embedded, keeper

BUSY_S = 10.0  # a disk somebody writes to cannot be made read-only at that moment
SMALL = "size=96m,mode=0700"
FEW = "size=96m,nr_inodes=4000,mode=0700"
SERVER = "size=400m,mode=0700"  # of a database that is new


class Struck:
    """One home, the service that runs in it, and what was mounted for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.service = 0  # process id of `waybill up`
        self.mounted: list[Path] = []

    @property
    def data(self) -> Path:
        """The database's files."""
        return self.home / "postgres"

    def mount(self, folder: Path, options: str) -> None:
        """A file system of its own at `folder`, with what was there."""
        folder.mkdir(parents=True, exist_ok=True)
        before = folder.with_name(f".before-{folder.name}")
        folder.rename(before)
        folder.mkdir(mode=0o700)
        _run("mount", "-t", "tmpfs", "-o", options, "none", str(folder))
        self.mounted.append(folder)
        _run("cp", "-a", f"{before}/.", str(folder))
        shutil.rmtree(before)

    def remount(self, folder: Path, how: str) -> None:
        """`ro` or `rw`; waits for those who write just now."""
        until = time.monotonic() + BUSY_S
        while subprocess.run(
            ["mount", "-o", f"remount,{how}", str(folder)],
            capture_output=True,
            check=False,
        ).returncode:
            if time.monotonic() > until:
                raise TimeoutError(f"{folder} cannot be made {how}")
            time.sleep(0.01)

    def workers(self) -> list[int]:
        """Process ids of the service's workers."""
        return [p.pid for p in tree(self.service) if WORKER in p.command]

    def url(self) -> str:
        """The database, as its owner; asking does not make us its user."""
        state = keeper.state_of(self.data)
        sockets = state[1] if state is not None else self.data
        return f"postgresql://postgres@/waybill?host={sockets}"

    def clear(self) -> None:
        """Take away what was mounted."""
        for folder in reversed(self.mounted):
            _run("umount", "-l", str(folder))
        self.mounted.clear()


class Trouble(ABC):
    """
    One kind of trouble.

    Attributes:
        root: Whether it takes root to make it.
        again_s: Struck again this often while it lasts; 0: once.
    """

    root = True
    again_s = 0.0

    def prepare(self, it: Struck) -> None:  # noqa: B027  # most need nothing
        """Before the service starts, in a home that has a database."""

    @abstractmethod
    async def strike(self, it: Struck) -> None:
        """Make it so."""

    async def mend(self, it: Struck) -> None:  # noqa: B027  # some pass by themselves
        """Undo it."""


class Full(Trouble):
    """A disk without room."""

    def __init__(self, where: str, options: str = SMALL) -> None:
        self._where, self._options = where, options

    def prepare(self, it: Struck) -> None:
        it.mount(it.home / self._where, self._options)

    async def strike(self, it: Struck) -> None:
        with (it.home / self._where / "filler").open("ab", buffering=0) as filler:
            _until_full(lambda: filler.write(bytes(1 << 16)))
            _until_full(lambda: filler.write(bytes(256)))

    async def mend(self, it: Struck) -> None:
        (it.home / self._where / "filler").unlink()


class NoInodes(Full):
    """A disk with room, and no file can be made."""

    async def strike(self, it: Struck) -> None:
        folder = it.home / self._where / "fillers"
        folder.mkdir()
        made = count()

        def make() -> None:
            (folder / str(next(made))).touch()

        _until_full(make)

    async def mend(self, it: Struck) -> None:
        shutil.rmtree(it.home / self._where / "fillers")


class ReadOnly(Full):
    """A disk that nobody may write to."""

    async def strike(self, it: Struck) -> None:
        it.remount(it.home / self._where, "ro")

    async def mend(self, it: Struck) -> None:
        it.remount(it.home / self._where, "rw")


class OutIsAFile(Trouble):
    """Something else is where documents should go."""

    root = False

    async def strike(self, it: Struck) -> None:
        out = it.home / "out"
        out.mkdir(exist_ok=True)
        out.rename(it.home / "out-away")
        out.touch()

    async def mend(self, it: Struck) -> None:
        (it.home / "out").unlink()
        (it.home / "out-away").rename(it.home / "out")


class NoDescriptors(Trouble):
    """A worker that can open no file any more."""

    root = False

    def __init__(self) -> None:
        self._were: dict[int, tuple[int, int]] = {}

    async def strike(self, it: Struck) -> None:
        for pid in it.workers():
            opened = len(os.listdir(f"/proc/{pid}/fd"))
            hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
            self._were[pid] = resource.prlimit(
                pid, resource.RLIMIT_NOFILE, (opened, hard)
            )

    async def mend(self, it: Struck) -> None:
        for pid, were in self._were.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, were)


class NoConnections(Trouble):
    """A server that lets nobody in any more, and those who were in are out."""

    root = False

    async def strike(self, it: Struck) -> None:
        await self._execute(it, "alter role waybill_app connection limit 0")
        await self._execute(
            it,
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where usename = 'waybill_app'",
        )

    async def mend(self, it: Struck) -> None:
        await self._execute(it, "alter role waybill_app connection limit -1")

    async def _execute(self, it: Struck, sql: str) -> None:
        con = await asyncpg.connect(it.url(), timeout=10)
        try:
            await con.execute(sql)
        finally:
            await con.close()


class ServerKilled(Trouble):
    """`kill -9` to the embedded server, again and again."""

    root = False
    again_s = 4.0

    async def strike(self, it: Struck) -> None:
        state = keeper.state_of(it.data)
        if state is not None:
            with suppress(ProcessLookupError):
                os.kill(state[0], signal.SIGKILL)


class KeeperKilled(Trouble):
    """`kill -9` to whoever keeps it."""

    root = False
    again_s = 4.0

    async def strike(self, it: Struck) -> None:
        text = keeper.beside(it.data, "keeper").read_text(encoding="ascii")
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(text), signal.SIGKILL)


TROUBLES: dict[str, Callable[[], Trouble]] = {
    "objects_full": lambda: Full("objects"),
    "objects_read_only": lambda: ReadOnly("objects"),
    "objects_without_inodes": lambda: NoInodes("objects", FEW),
    "no_descriptors": NoDescriptors,
    "out_is_a_file": OutIsAFile,
    "out_read_only": lambda: ReadOnly("out"),
    "no_connections": NoConnections,
    "database_full": lambda: Full("postgres", SERVER),
    "scratch_full": lambda: Full("tmp"),
    "server_killed": ServerKilled,
    "keeper_killed": KeeperKilled,
}


def new_home(home: Path) -> None:
    """A home with a database that nobody uses."""
    embedded.start(home / "postgres")
    embedded.end(home / "postgres")


def _until_full(write: Callable[[], object]) -> None:
    try:
        while True:
            write()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
