"""
The keeper: the program that runs the embedded PostgreSQL while somebody uses it.

    python -I keeper.py DATA PROGRAMS

Started by `pipeline.store.embedded`, one a data folder, never by hand.  A server that
dies is started again within a second or two, as long as one process holds the lock of
the users; when the last of them has ended, also by `kill -9`, the server is shut down
and the keeper with it.  A keeper that is killed takes its server along.

The server runs as whoever started it.  PostgreSQL refuses to be root, so for root it
runs in a user namespace where root has another number: no user is made, no folder is
given away, and none above it is opened to others.

Standard library alone: it stays for as long as the service does.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

LOOK_S = 0.2  # how soon a death, or the end of the last user, is noticed
YOUNG_S = 3.0  # a server that ended sooner did not run
GIVE_UP_AFTER = 3  # young deaths in a row of a server that never ran
RESTART_MAX_S = 5.0
STOP_S = 60.0  # a fast shutdown writes a checkpoint
LOG_BYTES_MAX = 16 << 20
SOCKET = ".s.PGSQL.5432"
SOCKET_BYTES_MAX = 100  # of its path; the kernel takes 107, macOS 103
PLAIN_PATH = re.compile(r"[\w./-]+", re.ASCII)  # what needs no quoting in a setting

# For a small machine that also reads documents.  Durability stays on.
SETTINGS = {
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "off",
    "autovacuum_naptime": "10s",
    "log_min_messages": "fatal",
    "log_statement": "none",
    "log_min_error_statement": "panic",  # a failed statement may carry texts
}

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1


def beside(data: Path, what: str) -> Path:
    """A file of ours beside the data folder: PostgreSQL wants that for itself."""
    return data.with_name(f".{data.name}.{what}")


def try_lock(path: Path, how: int) -> IO[bytes] | None:
    """The locked file; None when others hold it.  Closed, or dead, it is free."""
    file = path.open("ab")
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def state_of(data: Path) -> tuple[int, Path, str] | None:
    """Process id, socket folder and status that the server's pid file tells."""
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        return int(lines[0]), Path(lines[4]), lines[7].strip()
    except (OSError, ValueError, IndexError):
        return None


def main() -> None:
    """Keep the server of a data folder until nobody uses it."""
    data, programs = Path(sys.argv[1]), Path(sys.argv[2])
    lock = try_lock(beside(data, "keeper"), fcntl.LOCK_EX)
    if lock is None:
        return  # another one keeps it
    lock.truncate(0)  # opened to append, it stands at its end
    with suppress(OSError):  # for people, and not worth a server: its disk may be full
        os.write(lock.fileno(), b"%d" % os.getpid())
    os.umask(0o077)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    keeper = Keeper(data, programs)
    signal.signal(signal.SIGTERM, lambda *_: keeper.stop())
    sys.exit(keeper.run())


class Keeper:
    """One server, started as often as it must be."""

    def __init__(self, data: Path, programs: Path) -> None:
        self._data = data
        self._programs = programs
        self._become = _other_than_root(data) if os.geteuid() == 0 else _orphan_ends
        self._stopping = False
        self._ran = False
        self._last: IO[bytes] | None = None

    def stop(self) -> None:
        """Shut the server down, whoever uses it."""
        self._stopping = True

    def run(self) -> int:
        """Until nobody is left (0), or until it is clear that it cannot run (1)."""
        _end_stray(self._data)
        self._make()
        young = 0
        while not self._over():
            began = time.monotonic()
            _end_left_behind(self._data)
            _forget(self._data)
            server = self._start()
            while server.poll() is None and not self._over():
                time.sleep(LOOK_S)
            if server.poll() is None:
                _shut_down(server)
            if self._over():
                break
            young = young + 1 if time.monotonic() - began < YOUNG_S else 0
            if young >= GIVE_UP_AFTER and not self._ran:
                return 1
            self._rest(min(LOOK_S * 2**young, RESTART_MAX_S))
        note = beside(self._data, "socket-at")
        if note.exists():  # a temporary folder: nobody else would tidy it up
            shutil.rmtree(note.read_text(encoding="utf-8"), ignore_errors=True)
            note.unlink()
        return 0

    def _over(self) -> bool:
        state = state_of(self._data)
        self._ran = self._ran or (state is not None and state[2] == "ready")
        if not self._stopping:
            try:
                # Held until this process ends: who comes now waits, and starts anew.
                self._last = try_lock(beside(self._data, "users"), fcntl.LOCK_EX)
                self._stopping = self._last is not None
            except FileNotFoundError:
                self._stopping = True  # the whole home was deleted
        return self._stopping

    def _rest(self, for_s: float) -> None:
        until = time.monotonic() + for_s
        while time.monotonic() < until and not self._over():
            time.sleep(LOOK_S)

    def _make(self) -> None:
        """A data folder, whole or not at all, and our settings in it, once."""
        if not (self._data / "PG_VERSION").exists():
            fresh = beside(self._data, "fresh")
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            _give(fresh, self._become)
            self._call(
                "initdb",
                "--auth=trust",
                "--encoding=utf8",
                "--username=postgres",
                f"--pgdata={fresh}",
            )
            fresh.replace(self._data)
        else:
            _give(self._data, self._become)
        conf = self._data / "postgresql.conf"
        text = conf.read_text(encoding="utf-8")
        if "# waybill" not in text:
            lines = [f"{key} = '{value}'" for key, value in SETTINGS.items()]
            new = "\n".join([text, "# waybill", *lines, ""])
            conf.write_text(new, encoding="utf-8")

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            preexec_fn=self._become,  # there is one thread here
            stdin=subprocess.DEVNULL,
            stdout=self._log(),
            stderr=subprocess.STDOUT,
            check=True,
        )

    def _start(self) -> subprocess.Popen[bytes]:
        sockets = _socket_folder(self._data)
        _give(sockets, self._become)
        return subprocess.Popen(
            [
                str(self._programs / "postgres"),
                *("-D", str(self._data)),
                *("-h", ""),  # no network
                *("-k", str(sockets)),
                *("-c", "unix_socket_permissions=0700"),
            ],
            preexec_fn=self._become,  # noqa: PLW1509  # there is one thread here
            stdin=subprocess.DEVNULL,
            stdout=self._log(),
            stderr=subprocess.STDOUT,
        )

    def _log(self) -> IO[bytes]:
        path = beside(self._data, "log")
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(beside(self._data, "log.old"))
        return path.open("ab")


def _shut_down(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGINT)  # fast: sessions are ended, nothing is lost
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)  # at once: the next start recovers
        server.wait()


def _end_stray(data: Path) -> None:
    """
    End a server that is nobody's: its keeper was killed, or it was started by hand.

    PostgreSQL itself refuses a second server on a folder; waiting for it to refuse
    would take ours down instead.
    """
    while (state := state_of(data)) is not None and _serves(state[0], data):
        try:
            os.kill(state[0], signal.SIGINT)
        except ProcessLookupError:
            return
        time.sleep(LOOK_S)


def _end_left_behind(data: Path) -> None:
    """
    End what outlived a server that was killed: while it lives no other can start.

    Its processes end when they see that it did, but one that waits for a lock never
    looks.  All of them work in the data folder, and nobody else.
    """
    for pid in _left_behind(data):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _left_behind(data: Path) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended by itself, or is another user's
            ours = (process / "comm").read_bytes() == b"postgres\n"
            if ours and (process / "cwd").samefile(data):
                yield int(process.name)


def _forget(data: Path) -> None:
    """Drop the pid files of a server that is gone; anybody may have its number now."""
    if not Path("/proc/self").exists():  # nobody knows who has a number
        return
    for file in (data / "postmaster.pid", _socket_folder(data) / f"{SOCKET}.lock"):
        with suppress(OSError, ValueError):
            pid = int(file.read_text(encoding="utf-8").split("\n", 1)[0])
            # PostgreSQL takes whoever it is for that server, and refuses to start.
            if not _serves(pid, data) and not any(_left_behind(data)):
                file.unlink()


def _serves(pid: int, data: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return False
    return os.fsencode(data) in words


def _socket_folder(data: Path) -> Path:
    """
    A folder that is ours alone, for the server's socket; the same at every start.

    `trust` lets in whoever reaches the socket: so nobody else may reach it.  Where the
    path is too long for a socket, or needs quoting, the folder is a temporary one,
    whose name nobody can guess and which is written down beside the data.
    """
    mine = beside(data, "socket")
    path = str(mine / SOCKET)
    if len(path) <= SOCKET_BYTES_MAX and PLAIN_PATH.fullmatch(path):
        mine.mkdir(mode=0o700, exist_ok=True)
        return mine
    note = beside(data, "socket-at")
    try:
        noted = Path(note.read_text(encoding="utf-8"))
        found = noted.lstat()
        if stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700:
            return noted
    except OSError:
        pass  # none yet, or somebody tidied up
    made = Path(tempfile.mkdtemp(prefix="waybill-"))
    note.write_text(str(made), encoding="utf-8")
    return made


# -- who the server is -----------------------------------------------------------------


def _orphan_ends() -> None:
    """In the server before its program starts: end when the keeper does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


class _Namespace:
    """Root by another number, in a user namespace: `become` of a server."""

    def __init__(self) -> None:
        # initdb asks for the name of its user: any that has one will do.
        self._who = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __call__(self) -> None:
        uid, gid = os.geteuid(), os.getegid()
        if self._libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{self._who.pw_uid} {uid} 1"),
            ("gid_map", f"{self._who.pw_gid} {gid} 1"),
        ):
            Path("/proc/self", name).write_text(text, encoding="ascii")
        _orphan_ends()

    def works(self) -> bool:
        """Whether this kernel, or this container, lets us."""
        pid = os.fork()
        if pid == 0:
            try:
                self()
            except OSError:
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1] == 0


class _User:
    """A user of this machine: where root may have no namespace of its own."""

    def __init__(self, name: str) -> None:
        self.entry = pwd.getpwnam(name)

    def __call__(self) -> None:
        os.setgroups([])
        os.setgid(self.entry.pw_gid)
        os.setuid(self.entry.pw_uid)
        _orphan_ends()


USERS = ("postgres", "nobody")
Become = Callable[[], None]


def _other_than_root(data: Path) -> Become:
    namespace = _Namespace()
    if namespace.works():
        return namespace
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = _User(next(name for name in USERS if name in names))
    for folder in data.parents:
        if not folder.stat().st_mode & 0o001:
            sys.exit(
                f"{folder} is closed to the user {user.entry.pw_name}, as whom "
                "PostgreSQL would have to run here: choose a home elsewhere"
            )
    return user


def _give(folder: Path, become: Become) -> None:
    """Make everything in `folder` the server's own."""
    if os.geteuid() != 0:
        return
    uid = gid = 0
    if isinstance(become, _User):
        uid, gid = become.entry.pw_uid, become.entry.pw_gid
    if folder.stat().st_uid == uid:
        return
    os.chown(folder, uid, gid)
    for inside in folder.rglob("*"):
        os.chown(inside, uid, gid, follow_symlinks=False)


if __name__ == "__main__":
    main()
