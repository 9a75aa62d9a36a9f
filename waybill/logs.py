"""
Logs: JSON lines of an event name and keys, never the text of a document.

Commands that show progress write to a file under the home folder; services write
to stderr, for whatever collects it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog

from pipeline.errors import Usage

Level = Literal["debug", "info", "warning", "error"]
LEVELS: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(level: Level, *, file: Path | None = None) -> None:
    """
    Send what is of `level` and above to `file`, or to stderr.

    Raises:
        Usage: HOME_UNUSABLE, the file's folder cannot be written to.
    """
    stream: TextIO = sys.stderr
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            stream = file.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise Usage(
                f"{file.parent} cannot be written to: {error.strerror}",
                code="HOME_UNUSABLE",
                hint="choose a folder of your own: WAYBILL_HOME=…",
            ) from None
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _flat,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    # Libraries speak only when something is wrong.
    logging.basicConfig(level=logging.ERROR, stream=stream, force=True)


def _flat(
    logger: Any, name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    # A line is an event: whatever a value holds, it stays on its line (JSON
    # escapes control characters), and it stays short.
    for key, value in event.items():
        if isinstance(value, str) and len(value) > 500:
            event[key] = value[:500] + "…"
    return event
