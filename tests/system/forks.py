"""
Commands without the second that their imports take: a process that forks.

    python -m tests.system.forks SOCKET

Every connection is one call: a JSON line with `args`, `environment`, `folder` and
the files for `out` and `err`; the answer is its exit code.  The command itself runs
in a process of its own, which is what `python -m waybill` is after its imports.  It
ends as a program does, but leaves its memory to the kernel: to take down all of the
modules it would have to copy every page of them first.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import typer.main
import uvloop  # noqa: F401  # commands import it late
from anyio._backends import _asyncio  # noqa: F401  # likewise
from pydantic import BaseModel

from waybill import cli

OURS = ("ingest", "pipeline", "stages", "waybill")


def main() -> None:
    """Serve until whoever started us is gone."""
    parent = os.getppid()
    # The tree of commands is made once.  Nothing of all this is looked through again.
    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]
    for model in _models(BaseModel):  # or each command builds those that it needs
        if model.__module__.startswith(OURS):
            model.model_rebuild()
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
        run()
    _, status = os.waitpid(pid, 0)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def run() -> NoReturn:
    """The command, and what the interpreter does at its end but for its memory."""
    code: object = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 120  # as the interpreter says it
    os._exit(code if isinstance(code, int) else bool(code))


def _models(above: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in above.__subclasses__():
        yield model
        yield from _models(model)


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
