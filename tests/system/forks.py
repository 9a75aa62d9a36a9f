"""
Commands without the second that their imports take: a process that forks.

    python -m tests.system.forks SOCKET

Every connection is one call: a JSON line with `args`, `environment`, `folder` and
the files for `out` and `err`; the answer is its exit code.  The command itself runs
in a process of its own, which is what `python -m waybill` is after its imports.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys

import typer.main
import uvloop  # noqa: F401  # commands import it late
from anyio._backends import _asyncio  # noqa: F401  # likewise

from waybill import cli


def main() -> None:
    """Serve until whoever started us is gone."""
    parent = os.getppid()
    # The tree of commands is made once.  Nothing of all this is looked through again.
    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(sys.argv[1])
        door.listen(64)
        door.settimeout(0.5)
        while os.getppid() == parent:
            try:
                connection, _ = door.accept()
            except TimeoutError:
                continue
            finally:
                _reap()
            with connection:
                if os.fork() == 0:
                    door.close()
                    answer(connection)
                    os._exit(0)


def answer(connection: socket.socket) -> None:
    """Run one call in a process of our own and say how it ended."""
    connection.settimeout(None)
    line = connection.makefile().readline()
    if not line:
        return  # somebody looked whether we listen
    call = json.loads(line)
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(call)
        sys.argv = ["waybill", *call["args"]]
        cli.main()
        sys.exit(0)
    _, status = os.waitpid(pid, 0)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def become(call: dict[str, object]) -> None:
    """Environment, folder and files as the caller wants them."""
    os.environ.clear()
    os.environ.update(call["environment"])
    os.chdir(call["folder"])
    flags = os.O_WRONLY | os.O_CREAT
    opened = (
        os.open(os.devnull, os.O_RDONLY),
        os.open(call["out"], flags, 0o600),
        os.open(call["err"], flags, 0o600),
    )
    for target, descriptor in enumerate(opened):
        os.dup2(descriptor, target)
        os.close(descriptor)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    main()
