"""
Where tests are hatched: everything that is not ours is imported once, and each run of
pytest is a fork of that.

Run as a script, for it must import nothing of ours: which tree that is says a line of
JSON on stdin, `{"tree", "args", "log", "limit_s"}`.  Answers with a line that holds how
pytest ended, or -1 when its time was over.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from typing import Any

OTHERS = (
    *("asyncpg", "anyio", "hypothesis", "httpx", "jsonschema", "pydantic"),
    *("pydantic_settings", "pytest", "pytest_timeout", "structlog", "trio.testing"),
    *("typer", "rich", "hypothesis.stateful", "anyio._backends._asyncio"),
    "anyio._backends._trio",
)
LOOK_S = 0.05


def main() -> None:
    """Until stdin ends."""
    for name in OTHERS:
        importlib.import_module(name)
    for line in sys.stdin:
        print(hatch(**json.loads(line)), flush=True)


def hatch(tree: str, args: list[str], log: str, limit_s: float) -> int:
    """One run of pytest in `tree`; how it ended."""
    child = os.fork()
    if not child:
        os.setsid()
        os._exit(_tests(tree, args, log))
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(LOOK_S)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def _tests(tree: str, args: list[str], log: str) -> int:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(tree)
    sys.path[0] = tree
    pytest: Any = importlib.import_module("pytest")
    code = int(pytest.main(args))
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    main()
