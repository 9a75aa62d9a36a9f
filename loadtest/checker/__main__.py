"""
`python -m loadtest.checker RUN_DIR`: whether a run's promises were kept.

A process of its own: its SQL, its log (`looked.sqlite` in the folder) and the run's
list of what was submitted share nothing with the service.  With `--follow` it looks
every few seconds, while faults run, until SIGTERM or Ctrl-C; without, once, when all
is over, and tells what both found.  Writes `checker.json`; the verdict in short goes to
stderr.  Exits with 8 when a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

import anyio
from anyio.abc import TaskStatus

from loadtest.checker.looking import Checker, write
from loadtest.checker.memory import Memory

BROKEN, AWAY = 8, 1
PATIENCE_S = 600.0  # a look included
BOOK = "vendors.sqlite"
DATABASE = "WAYBILL_DATABASE_URL"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code."""
    given = _parser().parse_args(arguments)
    database = given.database or os.environ.get(DATABASE, "")
    if not database:
        print(f"--database URL, or {DATABASE}, says where to look", file=sys.stderr)
        return 2
    run: Path = given.run
    if not run.is_dir():
        print(f"there is no folder {run}", file=sys.stderr)
        return 2
    own = [run / BOOK] if (run / BOOK).exists() else []
    books = list(given.book or own)
    memory = Memory(run)
    try:
        checker = Checker(run, database, books, memory, _say)
        return anyio.run(_check, checker, given.follow, given.every)
    finally:
        memory.close()


async def _check(checker: Checker, follow: bool, every_s: float) -> int:
    if follow:
        async with anyio.create_task_group() as tasks:
            await tasks.start(_until_asked, tasks.cancel_scope)
            await checker.follow(every_s)
        results = checker.last
    else:
        try:
            results = await checker.all(PATIENCE_S)
        except TimeoutError:
            _say(f"the database was away for {PATIENCE_S:.0f} s: there is no verdict")
            return AWAY
    verdict = checker.verdict(results)
    path = write(checker.run, verdict)
    broken = [line for line in verdict if line["violations"]]
    for line in broken:
        _say(f"{line['invariant']} BROKEN {line['violations']} times: {line['says']}")
        _say(f"   {'; '.join(line['examples'])}")
    _say(
        f"{len(verdict)} checks, {len(broken)} broken,"
        f" {checker.memory.looks} looks during faults: {path}"
    )
    return BROKEN if broken else 0


async def _until_asked(
    scope: anyio.CancelScope,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _say(line: str) -> None:
    print(f"checker: {line}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.checker", description=__doc__
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the run's folder")
    parser.add_argument(
        "--database", metavar="URL", help=f"where the service's rows are; or {DATABASE}"
    )
    parser.add_argument(
        "--book",
        type=Path,
        action="append",
        metavar="PATH",
        help=f"a vendors' book; may be said again; {BOOK} of the folder by itself",
    )
    parser.add_argument(
        "--follow", action="store_true", help="look while faults run, until SIGTERM"
    )
    parser.add_argument(
        "--every",
        type=float,
        default=3.0,
        metavar="SECONDS",
        help="between two looks; more when looking takes long",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
