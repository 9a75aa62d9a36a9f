"""
Where a run takes place: a home with a database, vendors, and one real `waybill up`.

Everything is a process of its own, started as a person would; whoever asks what became
of the items asks the database, and the vendors' own book.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg

from loadtest.driver.declare import plays, vendors_toml
from loadtest.driver.folder import RunFolder
from loadtest.driver.placing import lay_pipeline
from loadtest.driver.scenario import Scenario
from loadtest.driver.standby import Standby
from loadtest.scenarios.processes import WORKER, tree
from loadtest.scenarios.troubles import Struck
from loadtest.trial import unset
from loadtest.vendors.playing import Steered, playing
from pipeline.run.spare import PARENT
from pipeline.store import embedded, keeper
from pipeline.store.migrate import migrate

# What asking a database comes to that is away, or went while it was asked.
AWAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
COMMAND_S = 180.0
STOP_S = 60.0
LOG_TAIL = 3000
# Of a disk that is to be filled: before anything is on it, and for each item.
ROOM_MB, ITEM_KB = 256, 250


class Stand:
    """A home and the processes in it."""

    def __init__(
        self, run: RunFolder, scenario: Scenario, home: Path, world: Steered
    ) -> None:
        self.run = run
        self.scenario = scenario
        self.home = home
        self.world = world
        self.pipelines = home / "pipeline-folders"
        self.pipeline = lay_pipeline(scenario, run.beside, self.pipelines)
        self.server = embedded.start(home / "postgres")
        anyio.run(migrate, self.server.owner_url)
        self.proxy: Network | None = None
        self.standby: Standby | None = None
        self.small = Struck(home)  # disks of its own that the home has
        self.failed_over = False
        self.service: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        return f"<Stand in {self.home}>"

    # -- processes -------------------------------------------------------------------

    @property
    def data(self) -> Path:
        """The files of the database that writes."""
        if self.standby is not None and self.failed_over:
            return self.standby.data
        return self.home / "postgres"

    @property
    def service_url(self) -> str:
        """The database as the service is told of it: over the bad network, if any."""
        if self.proxy is None:
            return self.server.app_url
        return f"postgresql://waybill_app@127.0.0.1:{self.proxy.port}/waybill?sslmode=disable"

    def env(self, url: str = "", **more: str) -> dict[str, str]:
        """The environment of a `waybill` process."""
        settings = {
            f"WAYBILL_{key.upper()}": str(value)
            for key, value in self.scenario.workers.settings.items()
        }
        return {
            **unset(),
            PARENT: str(os.getpid()),
            "WAYBILL_HOME": str(self.home),
            "WAYBILL_DATABASE_URL": url or self.server.app_url,
            "WAYBILL_PIPELINES": str(self.pipelines),
            "WAYBILL_PIPELINE": self.pipeline,
            "WAYBILL_SETTLE_S": "0.5",
            **settings,
            **more,
        }

    def start(
        self, *command: str, url: str = "", **env: str
    ) -> subprocess.Popen[bytes]:
        """A `waybill` process in a session of its own; it logs into the folder."""
        with (self.run.path / "service.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "waybill", *command],
                env=self.env(url or self.service_url, **env),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._others.append(process)
        return process

    def up(self) -> None:
        """Start the service."""
        many = str(self.scenario.workers.processes)
        self.service = self.start("up", "--processes", many)

    def workers(self) -> list[int]:
        """Process ids of the service's workers."""
        if self.service is None:
            return []
        return [p.pid for p in tree(self.service.pid) if WORKER in p.command]

    async def command(self, *words: str, **env: str) -> Any:
        """What `waybill … --json` prints; None where it failed."""

        def run() -> subprocess.CompletedProcess[bytes]:
            return subprocess.run(
                [sys.executable, "-m", "waybill", *words, "--json"],
                env=self.env(**env),
                cwd=self.home,
                capture_output=True,
                timeout=COMMAND_S,
                check=False,
            )

        try:
            done = await anyio.to_thread.run_sync(run)
            return json.loads(done.stdout)
        except (ValueError, subprocess.TimeoutExpired):
            return None

    def log_tail(self) -> str:
        """The last words of the service."""
        log = self.run.path / "service.log"
        return log.read_text(errors="replace")[-LOG_TAIL:] if log.exists() else ""

    # -- the end ---------------------------------------------------------------------

    def stop(self, process: subprocess.Popen[bytes], wait_s: float = STOP_S) -> None:
        """SIGTERM, then SIGKILL to the session that was started."""
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def end(self) -> None:
        """Everything that was started."""
        for process in self._others:
            self.stop(process)
        if self.proxy is not None:
            self.proxy.end()
        if self.standby is not None:
            self.standby.end()
        self.small.clear()

    def stand_by(self) -> None:
        """A second server follows the first, and every URL names both."""
        self.standby = Standby(self.home / "postgres", self.home / "standby")
        self.standby.start()
        self.server = self.standby.server

    def mount_small(self) -> None:
        """Folders that are filled later get a disk of their own, where root may."""
        room_mb = ROOM_MB + self.scenario.items * ITEM_KB // 1024
        for phase in self.scenario.phase:
            for where in getattr(phase, "where", ()):
                with suppress(subprocess.CalledProcessError):
                    size_mb = room_mb if where == "objects" else ROOM_MB
                    self.small.mount(self.home / where, f"size={size_mb}m,mode=0700")


class Network:
    """The proxy's process, steered from here."""

    def __init__(self, socket: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loadtest.driver.proxy", str(socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port = int(self._answer()["port"])

    def steer(self, **order: Any) -> int:
        """Another way from now on; how many answers to a COMMIT were cut off so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._answer()["cuts"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return cast(dict[str, Any], json.loads(self._process.stdout.readline()))

    def end(self) -> None:
        """The process ends with its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def socket_of(url: str) -> Path:
    """The unix socket behind an embedded server's URL."""
    [folder] = parse_qs(urlsplit(url).query)["host"]
    return Path(folder) / keeper.SOCKET


def _copy_book(book: Path, to: Path) -> None:
    """Whole, with what stands in its journal."""
    with closing(sqlite3.connect(book)) as source, closing(sqlite3.connect(to)) as copy:
        source.backup(copy)


@contextmanager
def standing(
    run: RunFolder, scenario: Scenario, home: Path, *, labels: Path | None = None
) -> Iterator[Stand]:
    """A stand that is taken down afterwards; `labels` is what the OCR vendor reads."""
    vendors = plays(scenario)
    if labels is not None:
        for play in vendors.values():
            if play.get("kind") == "ocr":
                play["labels"] = str(labels)
    with ExitStack() as stack:
        world = stack.enter_context(
            playing(vendors, seed=scenario.seed, for_s=86_400.0)
        )
        home.mkdir(parents=True, exist_ok=True)
        declared = vendors_toml(scenario, world.url)
        (home / "vendors.toml").write_text(declared, encoding="utf-8")
        stack.callback(embedded.end, home / "postgres")
        it = Stand(run, scenario, home, world)
        stack.callback(it.end)
        if scenario.uses("disk-full") and os.geteuid() == 0:
            it.mount_small()
        if scenario.uses("network") or scenario.uses("failover"):
            it.proxy = Network(socket_of(it.server.app_url))
        if scenario.uses("failover"):
            it.stand_by()
        run.write(
            "stand.json",
            {
                "database_url": it.server.owner_url,
                "book": str(world.book),
                "control": world.shown["control"],
                "home": str(home),
            },
        )
        yield it
        if world.book.exists():
            world.rows("select 1")  # everything is in the file
            _copy_book(world.book, run.path / "vendors.sqlite")
