"""
Somebody who types one command of the service after the other.

Each is a process of its own, as for a person at a terminal, but imports nothing anew:
`python -m loadtest.driver.typist` has the service's modules and forks.  A line of JSON
asks for a command and one of JSON answers; there are no threads before a fork.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import anyio

from pipeline.run.spare import PARENT

BEFORE = ("waybill.cli", "waybill.compose", "uvloop", "asyncpg")  # are imported once


class Typed(NamedTuple):
    """How a command ended; `data` is what it printed, where that is JSON."""

    code: int
    data: Any


class Typist:
    """One of them; a command at a time."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.typed = 0

    async def type(self, *words: str, env: Mapping[str, str] | None = None) -> Typed:
        """
        What `waybill … --json` prints.

        Raises:
            RuntimeError: the typist is gone.
        """
        return await anyio.to_thread.run_sync(self._type, words, dict(env or {}))

    def _type(self, words: tuple[str, ...], env: dict[str, str]) -> Typed:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out = self._folder / "out.json"
        asked = {"words": [*words, "--json"], "env": env, "out": str(out)}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that types commands is gone")
        self.typed += 1
        try:
            data = json.loads(out.read_bytes())
        except ValueError:
            data = None
        return Typed(json.loads(line)["code"], data)


@contextmanager
def typing(env: Mapping[str, str], log: Path) -> Iterator[Typist]:
    """A typist while the block lasts; what commands say on stderr goes to `log`."""
    command = [sys.executable, "-m", "loadtest.driver.typist"]
    with (
        tempfile.TemporaryDirectory(prefix="waybill-typist-") as place,
        log.open("ab") as beside,
        subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=beside,
        ) as process,
    ):
        try:
            yield Typist(process, Path(place))
        finally:
            process.kill()


def serve() -> None:
    """Run what stdin asks for, until it ends."""
    for name in BEFORE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        if (pid := os.fork()) == 0:
            _become(asked)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def _become(asked: dict[str, Any]) -> NoReturn:
    """The command, as a process whose stdout is a file."""
    os.environ.update(asked["env"])
    os.environ[PARENT] = str(os.getppid())
    out = os.open(asked["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    sys.argv = ["waybill", *asked["words"]]
    code = 1
    try:
        runpy.run_module("waybill", run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
