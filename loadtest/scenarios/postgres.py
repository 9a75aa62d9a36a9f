"""
PostgreSQL of one's own, from the embedded server's programs: a primary, a standby that
streams from it, and an address that moves from one to the other.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import asyncpg

from pipeline.store import embedded, keeper
from pipeline.store.migrate import APP_ROLE

READY_S = 120.0  # for a start, a recovery, or a promotion, on a loaded machine
SETTINGS = {
    "shared_buffers": "64MB",
    "max_connections": "100",
    "wal_level": "replica",
    "listen_addresses": "",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",  # a failed statement may carry texts
    "hot_standby": "on",
}


class Server:
    """One server in a folder of its own, on a socket of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.data = folder / "data"
        self.sockets = folder / "at"
        self.sockets.mkdir(mode=0o700)
        self._log = folder / "log"
        self._programs = embedded.programs()
        # Not root: PostgreSQL would refuse.
        self._become = (
            keeper._other_than_root(self.data)
            if os.geteuid() == 0
            else keeper._orphan_ends
        )
        keeper._give(folder, self._become)
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Server in {self.data.parent.name}>"

    def make(self) -> None:
        """An empty cluster."""
        options = ("--auth=trust", "--encoding=utf8", "--username=postgres")
        self._call("initdb", *options, f"--pgdata={self.data}")
        lines = [f"{key} = '{value}'" for key, value in SETTINGS.items()]
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("\n".join(["", *lines, ""]))

    def follow(self, primary: Server) -> None:
        """Become a standby that streams from `primary`, from a copy of it."""
        self._call(
            "pg_basebackup",
            *("-h", str(primary.sockets), "-U", "postgres", "-D", str(self.data)),
            *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"),
            "--no-sync",
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    str(self._programs / "postgres"),
                    *("-D", str(self.data), "-k", str(self.sockets)),
                ],
                preexec_fn=self._become,  # noqa: PLW1509  # there is one thread here
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        until = time.monotonic() + READY_S
        while (state := keeper.state_of(self.data)) is None or state[2] not in (
            "ready",
            "standby",
        ):
            if self.process.poll() is not None or time.monotonic() > until:
                words = self._log.read_text(errors="replace")[-500:]
                raise TimeoutError(f"{self!r} does not start: {words}")
            time.sleep(0.02)

    def end(self, how: signal.Signals) -> None:
        """Signal it, and wait for its end; what it leaves behind is ended too."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(READY_S)
        keeper._end_left_behind(self.data)

    def remove(self) -> None:
        """End it and delete its files."""
        self.end(signal.SIGKILL)
        shutil.rmtree(self.data.parent, ignore_errors=True)

    def url(self, sockets: Path | None = None, *, role: str = "postgres") -> str:
        """Of Waybill's database here, or wherever `sockets` lead."""
        return f"postgresql://{role}@/waybill?host={sockets or self.sockets}"

    async def prepare(self) -> None:
        """The service's role and its database."""
        con = await self.connect("postgres")
        await con.execute(f"create role {APP_ROLE} login")
        await con.execute("create database waybill")
        await con.close()

    async def connect(self, database: str = "waybill") -> asyncpg.Connection:
        """As its owner."""
        return await asyncpg.connect(
            user="postgres", database=database, host=str(self.sockets), timeout=30
        )

    async def says(self, sql: str, database: str = "postgres") -> object:
        """One value."""
        con = await self.connect(database)
        try:
            return await con.fetchval(sql)
        finally:
            await con.close()

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            preexec_fn=self._become,  # there is one thread here
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-500:].decode()}")


def lead(address: Path, to: Server) -> None:
    """Have the address lead to another server, from one moment to the next."""
    fresh = address.with_suffix(".fresh")
    fresh.symlink_to(to.sockets)
    fresh.replace(address)
