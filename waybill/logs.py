"""
Logs: JSON lines of an event name and keys, never the text of a document.

Commands that show progress write to a file under the home folder; services write
to stderr, for whatever collects it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, TextIO, cast

import structlog

from pipeline.errors import Usage
from pipeline.trouble import trouble_of

Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: Level, *, file: Path | None = None) -> None:
    """
    Send what is of `level` and above to `file`, or to stderr.

    A line that cannot be written (a full disk, a closed pipe) is lost, and nothing
    else: a log is not worth a document.

    Raises:
        Usage: HOME_UNUSABLE, the file's folder cannot be written to.
    """
    stream: IO[bytes] | None = getattr(sys.stderr, "buffer", None)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = file.open("ab", buffering=0)
        except OSError as error:
            if trouble_of(error) is None:
                raise _unusable(file.parent, error) from None
            stream = None  # without a log the command may still say what is wrong
    steady = _Steady(stream)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _flat,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, steady)),
        cache_logger_on_first_use=True,
    )
    # Libraries speak only when something is wrong.
    logging.basicConfig(level=logging.ERROR, stream=steady, force=True)


class _Steady:
    """A place for lines that never fails."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()


def _unusable(folder: Path, error: OSError) -> Usage:
    return Usage(
        f"{folder} cannot be written to: {error.strerror}",
        code="HOME_UNUSABLE",
        hint="choose a folder of your own: WAYBILL_HOME=…",
    )


def _flat(
    logger: Any, name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # A line is an event: whatever a value holds, it stays on its line (JSON
    # escapes control characters), and it stays short.
    for key, value in event.items():
        if isinstance(value, str) and len(value) > 500:
            event[key] = value[:500] + "…"
    return event
