"""
Servers as other people run them: PostgreSQL over TCP with passwords, its standby, and
the real PgBouncer; and `docs/operations.md`, whose lines are run as they stand there.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import asyncpg

from pipeline.store import embedded, keeper
from tests.system.command import ROOT, eventually

PAGE = ROOT / "docs" / "operations.md"
PGBOUNCER = "apt-get install pgbouncer (macOS: brew install pgbouncer)"


class Block(NamedTuple):
    """A fenced block of a page: its language and its lines."""

    language: str
    text: str

    def put(self, names: Mapping[str, str]) -> str:
        """The block with names that stand for others: hosts, ports, files."""
        text = self.text
        for name, real in names.items():
            assert name in text, f"{name} is not in the documented block:\n{text}"
            text = text.replace(name, real)
        return text


def documented(heading: str) -> list[Block]:
    """The fenced blocks below a heading of docs/operations.md, in their order."""
    _, _, below = PAGE.read_text(encoding="utf-8").partition(f"\n### {heading}\n")
    section = re.split(r"^##", below, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert found, f"docs/operations.md has no blocks below {heading!r}"
    return [Block(*each) for each in found]


def shell(
    text: str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run documented lines in a shell, to their end."""
    return subprocess.run(
        ["sh", "-euc", text],
        env=environment
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Program:
    """A server program in a folder of its own; never root, as it would refuse."""

    def __init__(self) -> None:
        self.home = Path(mkdtemp(prefix="waybill-elsewhere-"))
        self.home.chmod(0o711)
        self.folder = self.home / "data"
        self.folder.mkdir(mode=0o700)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._become: Callable[[], None] | None = None
        if os.geteuid() == 0:
            self._become = keeper._other_than_root(self.folder)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def call(self, *command: str | Path, **more: Any) -> str:
        """Run one of its programs to its end, as its user; what it printed."""
        self._own()
        done = subprocess.run(
            [os.fspath(part) for part in command],
            preexec_fn=self._become,
            capture_output=True,
            text=True,
            cwd="/",
            timeout=60,
            check=False,
            **more,
        )
        assert done.returncode == 0, done
        return done.stdout

    def spawn(self, *command: str | Path) -> None:
        """Start it, and wait until it listens."""
        self._own()
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [os.fspath(part) for part in command],
                preexec_fn=self._become,  # noqa: PLW1509  # of a program that forks
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        assert eventually(lambda: listens(self.port), within_s=20), self.log()

    def end(self, how: signal.Signals) -> None:
        """Signal it and wait for its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()  # none of ours may stay
                self.process.wait(20)
                raise

    def log(self) -> str:
        """What it said."""
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")

    def remove(self) -> None:
        """End it and delete its files."""
        if self.process is not None:
            self.process.kill()  # nobody needs what it has
            self.process.wait(20)

        def gone() -> bool:
            shutil.rmtree(self.home, ignore_errors=True)
            return not self.home.exists()

        assert eventually(gone, within_s=10)

    def _own(self) -> None:
        if self._become is not None:
            keeper._give(self.folder, self._become)


class Postgres(Program):
    """PostgreSQL over TCP with scram passwords; its superuser by a socket alone."""

    def make(self, **settings: str | int) -> Postgres:
        """A fresh server of these settings, started."""
        self.call(
            _program("initdb"),
            *("-D", self.folder, "-U", "postgres", "-E", "utf8", "-N"),
            *("--auth-local=trust", "--auth-host=scram-sha-256"),
        )
        self.start(**settings)
        return self

    def start(self, **settings: str | int) -> None:
        """Start it, or start it again."""
        wanted = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            **settings,
        }
        given = [part for k, v in wanted.items() for part in ("-c", f"{k}={v}")]
        self.spawn(_program("postgres"), "-D", self.folder, *given)
        assert eventually(self._answers, within_s=20), self.log()

    def standby(self, **settings: str | int) -> Postgres:
        """A copy that follows this server."""
        other = Postgres()
        other.call(  # by the socket, where no password is asked for
            _program("pg_basebackup"),
            *("-D", other.folder, "-R", "-X", "stream", "-c", "fast"),
            *("-d", f"host={self.folder} port={self.port} user=postgres"),
        )
        other.start(**settings)
        return other

    def says(self, text: str, database: str = "postgres") -> str:
        """What psql prints for these statements, as the superuser."""
        return self.call(
            _program("psql"),
            *("-h", self.folder, "-p", str(self.port), "-U", "postgres"),
            *("-d", database, "-v", "ON_ERROR_STOP=1", "-qAt"),
            input=text,
        ).strip()

    def _answers(self) -> bool:
        try:
            return self.says("select 1") == "1"
        except AssertionError:
            return False


class PgBouncer(Program):
    """The real one, by the documented file."""

    def make(self, ini: str, users: str) -> PgBouncer:
        """Started with this `pgbouncer.ini` and `userlist.txt`."""
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, PGBOUNCER
        for name, text in (("pgbouncer.ini", ini), ("userlist.txt", users)):
            (self.folder / name).write_text(text, encoding="utf-8")
        self.spawn(program, self.folder / "pgbouncer.ini")
        return self


def ask(url: str, query: str, *args: Any) -> list[asyncpg.Record]:
    """Rows of one query, by a connection of our own that works everywhere."""

    async def run() -> list[asyncpg.Record]:
        con = await asyncpg.connect(url, timeout=5, statement_cache_size=0)
        try:
            async with con.transaction():
                return await con.fetch(query, *args)
        finally:
            await con.close()

    return asyncio.run(run())


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _program(name: str) -> Path:
    return embedded.programs() / name
