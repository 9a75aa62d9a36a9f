"""
Loads: foreign code is imported aside, and waited for no longer than somebody likes.

The top level of a pipeline's file may take seconds, or never end, and a thread that
imports cannot be stopped.  So it is a daemon, which keeps no process from its end; a
version is imported once, and whoever asks again waits for the same thread; and who
has waited long enough gets an error that names the file.  Only the main thread hears
of a signal: a KeyboardInterrupt here is the file's own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Generic, TypeVar

import anyio
from anyio import from_thread
from anyio.lowlevel import current_token

from pipeline.errors import Usage
from pipeline.proc import EXCUSED, thread_queued_s
from pipeline.trouble import trouble_of

T = TypeVar("T")

IMPORT_S = 10.0  # for who only wants to know what a pipeline is
WORK_S = 120.0  # for a worker: machine learning takes its time on a busy machine
_importing: dict[int, Path] = {}  # thread -> the file whose top level it runs


@contextmanager
def importing(path: Path) -> Iterator[None]:
    """This thread runs a file's top level: it is to blame while that takes its time."""
    thread = threading.get_ident()
    _importing[thread] = path
    try:
        yield
    finally:
        del _importing[thread]


def hangs(path: Path, patience_s: float) -> Usage:
    """The error of a file whose top level does not come to its end."""
    return Usage(
        f"{path} takes longer than {patience_s:g} s to import",
        code="PIPELINE_HANGS",
        hint="try again when the machine is less busy; else: what takes long belongs "
        "into a stage, not at the top of its file",
    )


class Loads(Generic[T]):
    """
    What was loaded from folders, the newest version of each, and what is on its way.

    Args:
        load: Loads a folder; called in a thread, once a version, and again after it
            failed.
    """

    def __init__(self, load: Callable[[Path], T]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._of: dict[Path, _Load[T]] = {}

    def __repr__(self) -> str:
        return f"<Loads of {len(self._of)} folders>"

    def get(self, root: Path, version: str, patience_s: float) -> T:
        """
        What a version of a folder is loaded as; blocking.

        Raises:
            Usage: PIPELINE_HANGS, it is not loaded so long after that began; or
                whatever loading it raises.
        """
        load = self._begun(root, version)
        while not load.done.is_set() and (left_s := load.left_s(patience_s)) > 0:
            load.done.wait(left_s)
        return self._end(root, load, patience_s)

    async def wait(self, root: Path, version: str, patience_s: float) -> T:
        """Like `get`, and the loop turns meanwhile."""
        load = self._begun(root, version)
        # By the thread's clock: it is not the loop's time that an import takes.
        while not load.done.is_set() and (left_s := load.left_s(patience_s)) > 0:
            await load.heard(left_s)
        return self._end(root, load, patience_s)

    def forget(self, root: Path) -> None:
        """What was loaded is not what lies there."""
        with self._lock:
            self._of.pop(root, None)

    def _begun(self, root: Path, version: str) -> _Load[T]:
        with self._lock:
            load = self._of.get(root)
            if load is None or load.version != version:
                load = _Load(self._load, root, version)
                load.thread.start()
                self._of[root] = load
        return load

    def _end(self, root: Path, load: _Load[T], patience_s: float) -> T:
        if not load.done.is_set():
            at = _importing.get(load.thread.ident or 0, root)
            raise hangs(at, patience_s)
        if load.error is not None:
            with self._lock:
                if self._of.get(root) is load:
                    del self._of[root]
            raise load.error
        return load.found[0]


class _Load(Generic[T]):
    """One version on its way."""

    def __init__(self, load: Callable[[Path], T], root: Path, version: str) -> None:
        self.version = version
        self.done = threading.Event()
        self.found: list[T] = []
        self.error: Exception | None = None
        self.thread = threading.Thread(
            target=self._run, args=(load, root), daemon=True, name="import"
        )
        self._began = time.monotonic()

    def _run(self, load: Callable[[Path], T], root: Path) -> None:
        try:
            self.found.append(load(root))
        except Exception as error:
            self.error = trouble_of(error) or error
        finally:
            self.done.set()

    def left_s(self, patience_s: float) -> float:
        """
        What is left of somebody's patience: it began when this began.

        Time that the thread spent in line for a core is not the file's, up to a bound.
        """
        line_s = min(thread_queued_s(self.thread.native_id or 0), EXCUSED * patience_s)
        return max(0.0, self._began + patience_s + line_s - time.monotonic())

    async def heard(self, wait_s: float) -> None:
        """Return when it is done, or after `wait_s`."""
        heard, loop = anyio.Event(), current_token()

        def wait() -> None:
            self.done.wait(wait_s)
            with suppress(RuntimeError):  # nobody waits any more: the loop has ended
                from_thread.run_sync(heard.set, token=loop)

        if not self.done.is_set() and wait_s > 0:
            threading.Thread(target=wait, daemon=True, name="import-wait").start()
            await heard.wait()
