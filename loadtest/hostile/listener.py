"""
A listener on loopback that nobody may ever reach, and attempts to reach it.

Documents of the hostile corpus name its address in every way that documents can
call.  `attempts` runs jailed and tries by hand, so that "nobody called"
is known to mean "nobody could" and not only "nobody wanted to".
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

TRY_S = 2.0


class Listener:
    """
    TCP and UDP on one port of 127.0.0.1; counts whoever comes.

    Raises:
        RuntimeError: it does not hear even a call of our own.
    """

    def __init__(self) -> None:
        self.heard = 0
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self._end, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    @property
    def url(self) -> str:
        """What hostile documents call."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        answer = attempts(self.port, only="tcp")
        if answer["allowed"] != ["tcp"] or not self.heard_within(TRY_S):
            raise RuntimeError(
                "the listener does not hear us: its silence says nothing"
            )
        self.heard = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wake.close()
        self._thread.join(TRY_S)
        for one in (self._tcp, self._udp, self._end):
            one.close()

    def heard_within(self, limit_s: float, times: int = 1) -> bool:
        """Whether somebody came so often, at the latest in `limit_s` seconds."""
        pause = threading.Event()
        for _ in range(int(limit_s / 0.02)):
            if self.heard >= times:
                return True
            pause.wait(0.02)
        return False

    def _listen(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for one in (self._tcp, self._udp, self._end):
                waiting.register(one, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    if key.fileobj is self._end:
                        return
                    if key.fileobj is self._tcp:
                        caller, _ = self._tcp.accept()
                        caller.close()
                    else:
                        self._udp.recv(2048)
                    self.heard += 1


# -- in the jail ----------------------------------------------------------------------


def attempts(port: int, only: str = "") -> dict[str, Any]:
    """
    Try to reach 127.0.0.1:`port`, and to hold a socket at all.

    Returns:
        `tried` and `allowed`: words for the ways.
    """
    here = ("127.0.0.1", port)
    ways: dict[str, Callable[[], object]] = {
        "tcp": lambda: socket.create_connection(here, TRY_S).close(),
        "udp": lambda: _sent(socket.AF_INET, here),
        "tcp6-mapped": lambda: _connected(socket.AF_INET6, ("::ffff:127.0.0.1", port)),
        "unix-socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "raw": lambda: _sent(socket.AF_INET, here, socket.SOCK_RAW),
        "name": lambda: socket.getaddrinfo("example.org", 80),
        "another-process": lambda: _by_another(port),
    }
    tried, allowed = [], []
    for word, way in ways.items():
        if only not in ("", word):
            continue
        tried.append(word)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            way()
            allowed.append(word)
    return {"tried": tried, "allowed": allowed}


def _connected(family: int, where: tuple[Any, ...]) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(TRY_S)
        one.connect(where)


def _sent(family: int, where: tuple[Any, ...], kind: int = socket.SOCK_DGRAM) -> None:
    with socket.socket(family, kind) as one:
        one.sendto(b"hello", where)


def _by_another(port: int) -> None:
    call = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
    subprocess.run([sys.executable, "-I", "-c", call], check=True, timeout=20)
