"""
The real command, as a person or a service manager runs it, and what it left.

What happened is weighed by SQL of our own, as the database's owner, and by /proc:
never by asking the code under test alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import asyncpg
from PIL import Image

from pipeline.store import embedded, keeper
from pipeline.store.migrate import migrate

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
COMMAND_S = 250.0  # for one command; far more than any takes
STAGE = '''
"""{doc}"""

import os
import signal

import anyio

from pipeline.errors import Permanent, Transient
from pipeline.stage import Advance, Hold, Reject, Retry, Wait, stage


@stage(timeout_s=60, window=10_000, retry=Retry(base_s=0.1))
async def {name}(letter, ctx):
{body}
'''


class Ran(NamedTuple):
    """What a finished command said; bytes that are no UTF-8 as surrogates."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Its stdout, which must be one JSON value and nothing else."""
        return json.loads(self.out)

    def error(self) -> tuple[int, str]:
        """Exit code and code word of an error told as JSON."""
        body = self.json()
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message", "hint"}
        assert body["error"]["message"]
        return self.code, body["error"]["code"]


class Forks:
    """The process that runs commands; started by the first one."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = Lock()

    def run(self, call: dict[str, Any]) -> int:
        """The exit code of a call; see `forks.py`."""
        with self._starting:
            if self._folder is None:
                self._start()
        assert self._folder is not None
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(COMMAND_S)
            connection.connect(f"{self._folder.name}/door")
            connection.sendall(json.dumps(call).encode() + b"\n")
            return int(connection.makefile().readline())

    def _start(self) -> None:
        self._folder = TemporaryDirectory()
        door = Path(self._folder.name, "door")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.system.forks", door], cwd=ROOT
        )
        assert eventually(lambda: _listens(door), within_s=60)

    def close(self) -> None:
        """End it."""
        if self._process is not None and self._folder is not None:
            self._process.terminate()
            self._process.wait(10)
            self._folder.cleanup()
            self._process = self._folder = None


def _listens(door: Path) -> bool:
    """Whether somebody answers there: a socket has its name before that."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(door))
        return True
    return False


FORKS = Forks()


async def _owners(url: str) -> asyncpg.Connection:
    settings = {"search_path": "waybill"}
    # No statement stays prepared: a migration may change what it speaks of.
    return await asyncpg.connect(
        url, timeout=5, server_settings=settings, statement_cache_size=0
    )


class Judge:
    """
    A connection of the owner's that stays: who waits for something asks ten times a
    second, and a new session costs the server far more than the question.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._connection: asyncpg.Connection | None = None
        self._asking = Lock()

    def ask(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of a query."""
        with self._asking:
            return self._runner.run(self._ask(query, *args))

    async def _ask(self, query: str, *args: Any) -> list[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await _owners(self._url)
        return await self._connection.fetch(query, *args)

    def close(self) -> None:
        """Ask no more."""
        if self._connection is not None:
            self._runner.run(self._connection.close())
        self._runner.close()


class Home:
    """
    A WAYBILL_HOME of its own, and the commands run in it.

    Args:
        owner_url: Its database as the owner; "" for the embedded one.
        steady: Nobody ends or moves its server: one connection asks to the end.
    """

    def __init__(
        self,
        folder: Path,
        owner_url: str = "",
        service_url: str = "",
        *,
        steady: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.inbox = folder / "inbox"
        self.pipelines = folder / "made" / "pipelines"
        self._owner_url = owner_url
        self._judge = Judge(owner_url) if steady else None
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith("WAYBILL_")
        }
        self.environment |= {"WAYBILL_HOME": str(folder), "PYTHONPATH": str(ROOT)}
        if owner_url:
            self.environment["WAYBILL_DATABASE_URL"] = service_url
            self.environment["WAYBILL_OWNER_URL"] = owner_url

    def run(self, *args: str | Path, **environment: str) -> Ran:
        """Run a command to its end; `REVIEWER="a"` becomes WAYBILL_REVIEWER."""
        with TemporaryDirectory() as written:
            call = {
                "args": [os.fspath(arg) for arg in args],
                "environment": self._environment(environment),
                "folder": str(self.folder),
                "out": f"{written}/out",
                "err": f"{written}/err",
            }
            code = FORKS.run(call)
            told = [Path(written, name).read_bytes() for name in ("out", "err")]
        return Ran(code, *(text.decode("utf-8", "surrogateescape") for text in told))

    def ok(self, *args: str | Path, **environment: str) -> Any:
        """Run a command that must succeed; what it prints as JSON."""
        ran = self.run(*args, "--json", **environment)
        assert ran.code == 0, ran
        return ran.json()

    def together(self, *calls: Sequence[str | Path], **environment: str) -> list[Ran]:
        """Run several commands at the same time; answers in their order."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda args: self.run(*args, **environment), calls))

    @contextmanager
    def started(
        self, *args: str, **environment: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A command in the background, in a session of its own; killed at the end."""
        with (self.folder / "stderr.log").open("ab") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "waybill", *args],
                env=self._environment(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def logged(self, event: str) -> int:
        """How often started commands logged `event`."""
        text = (self.folder / "stderr.log").read_text(encoding="utf-8")
        return text.count(f'"event": "{event}"')

    def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of a query of ours, as the database's owner."""
        if self._judge is not None:
            return self._judge.ask(query, *args)

        async def ask() -> list[asyncpg.Record]:
            con = await _owners(self._owner_url)
            try:
                return await con.fetch(query, *args)
            finally:
                await con.close()

        return asyncio.run(ask())

    def judged_at(self, owner_url: str) -> None:
        """Its database is elsewhere now."""
        self._owner_url = owner_url

    def one(self, query: str, *args: Any) -> Any:
        """The one value of a query."""
        [[value]] = self.sql(query, *args)
        return value

    def ends(self) -> dict[str, int]:
        """How many items ended in each final state."""
        rows = self.sql("select state, count(*) from outcomes group by state")
        return {r["state"]: r["count"] for r in rows}

    def pipeline(self, name: str, **stages: str) -> Path:
        """Write a pipeline folder of custom stages; their bodies, not indented."""
        folder = self.pipelines / name
        folder.mkdir(parents=True)
        for stage, body in stages.items():
            lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
            text = STAGE.format(name=stage, doc=stage.capitalize(), body=lines)
            (folder / f"{stage}.py").write_text(text.lstrip(), encoding="utf-8")
        listed = ", ".join(f'"{stage}"' for stage in stages)
        text = f'name = "{name}"\ndeadline = "1d"\nstages = [{listed}]\n'
        (folder / "pipeline.toml").write_text(text, encoding="utf-8")
        return folder

    def processes(self) -> dict[int, str]:
        """Living processes of this home, by their environment or command line."""
        return {pid: told for pid, told in _processes() if str(self.folder) in told}

    def remove(self) -> None:
        """Delete it; end what a failed test left running, and an embedded server."""
        if self._judge is not None:
            self._judge.close()
        for pid in self.processes():
            with_pid(pid, signal.SIGKILL)
        Cluster(self.folder / "postgres").remove()

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        return self.environment | {f"WAYBILL_{k}": v for k, v in more.items()}


class Cluster:
    """A PostgreSQL server of the wheel, which tests may stop and start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pattern = ""

    def database(self, name: str) -> embedded.Embedded:
        """A database of this name; the server is started when it is not up."""
        return embedded.start(self.folder, database=name)

    def migrated(self, name: str) -> embedded.Embedded:
        """A fresh database with the schema: a copy of one that was migrated once."""
        if not self._pattern:
            self._pattern = self.database("pattern").owner_url
            asyncio.run(migrate(self._pattern))
        url = self.database("postgres").owner_url
        asyncio.run(_execute(url, f"create database {name} template pattern"))
        return self.database(name)

    def hurry(self) -> None:
        """
        Every home is a database of minutes: it need not look through all of them
        several times a second for what could be vacuumed.
        """
        url = self.database("postgres").owner_url
        asyncio.run(_execute(url, "alter system set autovacuum = off"))
        asyncio.run(_execute(url, "select pg_reload_conf()"))

    def stop(self) -> None:
        """What a power cut is to it: no goodbye, no checkpoint, nobody to start it."""
        state = keeper.state_of(self.folder)
        with_pid(int(keeper.beside(self.folder, "keeper").read_text()), signal.SIGKILL)
        if state is not None:
            with_pid(state[0], signal.SIGQUIT)
            assert eventually(lambda: not alive([state[0]]), within_s=10)

    def remove(self) -> None:
        """Stop it and delete its files, with what lies beside them."""
        if (self.folder / "postmaster.pid").exists():
            self.stop()
        home = self.folder.parent

        def gone() -> bool:
            # Backends outlive their server by a moment, and write.
            shutil.rmtree(home, ignore_errors=True)
            return not home.exists()

        assert eventually(gone, within_s=10)


def eventually(check: Callable[[], T], *, within_s: float) -> T:
    """Ask until the answer is true, at most `within_s` seconds; the last answer."""
    end = time.monotonic() + within_s
    while not (answer := check()) and time.monotonic() < end:
        time.sleep(0.1)
    return answer


def with_pid(pid: int, what: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return


def children_of(pid: int) -> dict[int, str]:
    """Command lines of the living descendants of a process."""
    told = dict(_processes())
    parents = {child: _parent(child) for child in told}
    found: set[int] = {pid}
    while more := {c for c, p in parents.items() if p in found} - found:
        found |= more
    return {child: told[child].split("\n")[0] for child in found - {pid}}


def alive(pids: Sequence[int]) -> list[int]:
    """Those of `pids` that are neither gone nor zombies."""
    living = dict(_processes())
    return [pid for pid in pids if pid in living]


def pictures(folder: Path, names: Sequence[str | bytes]) -> list[Path]:
    """Small images, each with other bytes, so that none is a duplicate."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number, name in enumerate(names, 1):
        path = folder / os.fsdecode(name)
        image = Image.new("RGB", (64, 64), (number % 256, number // 256, 99))
        with path.open("wb") as file:
            image.save(file, "PNG")
        made.append(path)
    return made


async def _execute(url: str, statement: str) -> None:
    con = await asyncpg.connect(url, timeout=5)
    try:
        await con.execute(statement)
    finally:
        await con.close()


def _processes() -> Iterator[tuple[int, str]]:
    """Command line and environment of everything that lives."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            around = (folder / "environ").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue  # it ended while we looked, or is not ours to see
        if line:  # a zombie and a kernel thread have none
            yield int(folder.name), f"{os.fsdecode(line)}\n{os.fsdecode(around)}"


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
