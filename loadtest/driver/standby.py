"""
A standby of the run's server: made by `pg_basebackup`, kept by a keeper of its own, and
promoted when the first is gone for good.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote

import asyncpg

from pipeline.store import embedded, keeper
from pipeline.store.migrate import APP_ROLE

UP_S = 120.0
UP = ("ready", "standby")  # what its pid file says: answering, or following alone
LOOK_S = 0.05
FOLLOWING = "select count(*) > 0 from pg_stat_replication where state = 'streaming'"


class Standby:
    """
    A second server.

    Args:
        first: The data folder of the first.
        data: Its own, which is not there yet.
    """

    def __init__(self, first: Path, data: Path) -> None:
        self.data = data
        self._first = first
        self._keeper: subprocess.Popen[bytes] | None = None
        self._use: IO[bytes] | None = None

    def start(self) -> None:
        """
        Copy the first, follow it; blocks until it answers.

        Raises:
            TimeoutError: it does not come up.
            CalledProcessError: it cannot be copied.
        """
        programs = embedded.programs()
        source = f"host={_sockets(self._first)} user=postgres application_name=standby"
        command = [str(programs / "pg_basebackup"), "-D", str(self.data)]
        command += ["-d", source, "-R", "-X", "stream", "-c", "fast"]
        log = keeper.beside(self.data, "log")
        with log.open("ab") as file:
            subprocess.run(command, check=True, stdout=file, stderr=file)
            self.data.chmod(0o700)
            self._use = keeper.try_lock(
                keeper.beside(self.data, "users"), fcntl.LOCK_SH
            )
            self._keeper = subprocess.Popen(
                [
                    *(sys.executable, "-I", keeper.__file__),
                    *(str(self.data), str(programs)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd="/",
            )
        until = time.monotonic() + UP_S
        while (state := keeper.state_of(self.data)) is None or state[2] not in UP:
            if time.monotonic() > until:
                raise TimeoutError(f"the standby does not come up; see {log}")
            time.sleep(LOOK_S)

    def url(self, role: str) -> str:
        """Both servers, as `docs/operations.md` says: whichever writes."""
        hosts = ",".join(
            quote(str(_sockets(data)), safe="/") for data in (self._first, self.data)
        )
        only = "target_session_attrs=primary"
        return f"postgresql://{role}@/waybill?host={hosts}&{only}"

    @property
    def server(self) -> embedded.Embedded:
        """The URLs of whichever writes."""
        return embedded.Embedded(self.url("postgres"), self.url(APP_ROLE))

    @property
    def socket(self) -> Path:
        """Its own."""
        return _sockets(self.data) / keeper.SOCKET

    def kill_first(self) -> None:
        """The first server is killed, and never comes again."""
        with suppress(OSError, ValueError):
            kept_by = int(keeper.beside(self._first, "keeper").read_text("ascii"))
            os.kill(kept_by, signal.SIGSTOP)  # else it starts it again
            state = keeper.state_of(self._first)
            if state is not None:
                os.kill(state[0], signal.SIGKILL)
            os.kill(kept_by, signal.SIGKILL)

    async def promoted(self) -> bool:
        """It writes from now on; whether it does."""
        sockets = quote(str(_sockets(self.data)), safe="/")
        url = f"postgresql://postgres@/waybill?host={sockets}"
        con = await asyncpg.connect(url, timeout=10)
        try:
            return bool(await con.fetchval("select pg_promote()"))
        finally:
            await con.close()

    def end(self) -> None:
        """Nobody uses it any more: its keeper shuts it down."""
        if self._use is not None:
            self._use.close()
        if self._keeper is not None:
            try:
                self._keeper.wait(60)
            except subprocess.TimeoutExpired:
                self._keeper.kill()
                self._keeper.wait()


def _sockets(data: Path) -> Path:
    state = keeper.state_of(data)
    if state is not None:
        return state[1]
    return keeper.beside(data, "socket")
