"""Lines of JSON, an object each: how a file of labelled cases of any kind is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import Usage
from pipeline.spoken import Ambiguous, read_json

LINE_BYTES_MAX = 16 << 20  # a document may stand in its line
LINES_MAX = 20_000  # of one file; arbitrary

Bad = Callable[[str], Usage]


def read_lines(
    file: Path, bad: Bad
) -> Iterator[tuple[int, bytes, dict[str, Any] | None]]:
    """
    Each line: its number from 1, its bytes, its object; None: it is blank.  Blocking.

    Raises:
        Usage: what `bad` makes of a reason; of a line it names the number.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(_bounded(lines, bad), 1):
                yield number, line, _said(number, line, bad) if line.strip() else None
    except OSError as error:
        raise bad(f"{file} cannot be read: {error.strerror}") from None


def bad_cases(why: str, hint: str) -> Usage:
    """The error of a file of labelled cases."""
    return Usage(f"the cases: {why}", code="BAD_CASES", hint=hint)


def _bounded(lines: BinaryIO, bad: Bad) -> Iterator[bytes]:
    for number in range(1, LINES_MAX + 2):
        line = lines.readline(LINE_BYTES_MAX + 1)
        if not line:
            return
        if len(line) > LINE_BYTES_MAX:
            raise bad(f"line {number} has more than {LINE_BYTES_MAX >> 20} MiB")
        yield line
    raise bad(f"it has more than {LINES_MAX} lines")


def _said(number: int, line: bytes, bad: Bad) -> dict[str, Any]:
    try:
        said = read_json(line)
    except Ambiguous as error:
        raise bad(f"line {number}: {error}") from None
    except ValueError:
        raise bad(f"line {number} is not JSON") from None
    if not isinstance(said, dict):
        raise bad(f"line {number} is no object")
    return said
