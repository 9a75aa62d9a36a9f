"""
Limits of this process (memory, files), which a stage may set for all.

They are put back.  Python tells of its own calls, so that one which somebody sets from
outside stays as it is.  C code that calls the kernel itself is not seen.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

import structlog

from pipeline.run.holding import HOLDING, Holding

log = structlog.get_logger()

LIMITS = (
    *(resource.RLIMIT_AS, resource.RLIMIT_DATA),
    *(resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE),
)
EVENTS = frozenset({"resource.setrlimit", "resource.prlimit"})


class Rlimits:
    """The limits of this process, as they were before anybody in it set one."""

    def __init__(self) -> None:
        self.touched = False  # somebody was about to
        self._were: list[tuple[int, int]] = []
        self._by: Holding | None = None

    def __repr__(self) -> str:
        return f"<Rlimits touched={self.touched} {limits()}>"

    def listen(self) -> None:
        """From now on, hear who sets one."""
        if not LISTENING:
            sys.addaudithook(_heard)  # for as long as the process lives
        LISTENING[:] = [self]

    def note(self) -> None:
        """Somebody in this process, in whatever thread, is about to set one."""
        if not self.touched:
            self._were, self._by = limits(), HOLDING.get()
            self.touched = True

    def put_back(self) -> bool:
        """Put back what was set; False where the process may not any more."""
        names = {} if self._by is None else self._by.names()
        try:
            if limits() != self._were:
                for what, were in zip(LIMITS, self._were, strict=True):
                    resource.setrlimit(what, were)
                log.warning("limits_mended", **names)
        except (OSError, ValueError):  # the hard one is lower, for good
            log.warning("limits_lowered", **names)
            return False
        finally:
            self.touched = False
        return True


LISTENING: list[Rlimits] = []


def limits() -> list[tuple[int, int]]:
    """The soft and the hard limit of each of `LIMITS`."""
    return [resource.getrlimit(what) for what in LIMITS]


def _heard(event: str, _: tuple[Any, ...]) -> None:
    if event in EVENTS:
        for each in LISTENING:
            each.note()
