"""
Files after they were put away: did somebody write on?

A writer that opened a file before it was moved writes into the archive.  So it is
looked at once more in its new place.  Where the kernel vouches that nobody has it
open, nobody ever will by its old name, and that is the end.  Elsewhere (a network
drive, another user's file) it is watched for a minute.  What was written to goes
back to the inbox, to be received as it then is.  Blocking: call it in a thread.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

from ingest.answers import Prepared
from ingest.candidates import fingerprint
from ingest.copying import changed, require_rest
from ingest.shelf import Shelf
from pipeline.errors import Transient
from pipeline.model import Receipt

log = structlog.get_logger()

AFTER_S = 60.0  # a sender that pauses longer has ended, as far as anybody can tell
WATCHED_MAX = 10_000  # arbitrary: bounds memory, and a look at them stays short


class Away(NamedTuple):
    """A file that was put away at `target`."""

    target: Path
    prepared: Prepared
    receipt: Receipt


class Afterwards:
    """Looks at what was put away on this shelf."""

    def __init__(self, shelf: Shelf, *, after_s: float = AFTER_S) -> None:
        self._shelf = shelf
        self._after_s = after_s
        self._watched: deque[tuple[float, Away]] = deque(maxlen=WATCHED_MAX)

    def __repr__(self) -> str:
        return f"<Afterwards of {len(self._watched)} files>"

    def check(self, away: Away) -> None:
        """
        Look at a file that was moved just now.

        Raises:
            Transient: BEING_WRITTEN, FILE_GREW or FILE_CHANGED; it is back where
                it was.
        """
        seen = away.prepared.seen
        try:
            # A copy on another file system is ours alone, and has its own inode.
            ours = away.target.lstat().st_ino != seen.inode
            vouched = ours or require_rest(away.target, seen)
        except Transient:
            self._shelf.take_back(away.target, away.prepared.candidate)
            raise
        if not vouched:
            self._watched.append((time.monotonic() + self._after_s, away))

    def grown(self) -> Iterator[Away]:
        """Those watched that were written to meanwhile; they are back in the inbox."""
        now = time.monotonic()
        while self._watched and self._watched[0][0] < now:
            self._watched.popleft()
        for watched in list(self._watched):
            away = watched[1]
            try:
                seen = fingerprint(away.target.lstat())
                if seen == away.prepared.seen:
                    continue
                self._watched.remove(watched)
                self._shelf.take_back(away.target, away.prepared.candidate)
            except OSError as error:  # somebody took it, or its folder is gone
                log.warning(
                    "file_grew",
                    name=away.prepared.candidate.name,
                    why=os.strerror(error.errno or 0),
                )
                continue
            if changed(seen, away.prepared.seen).code == "FILE_GREW":
                yield away
