"""
Where something was raised: file, line and function, for whoever wrote the stage.

Never a value, and never the message of a foreign exception: both may quote a
document.  Frames of the engine itself are left out; what is left are the stage's own
and those of the libraries that it called.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

from pipeline.errors import WaybillError
from pipeline.state import clean_text

Place = tuple[FrameType, int]  # and the line in it

FRAMES_MAX = 12  # of one exception: the first few say who called, the last say where
FIRST = 4
LINES_MAX = 40  # of all exceptions that hang together; arbitrary
LINE_CHARS_MAX = 200
BESIDE_MAX = 3  # exceptions of one group that are shown with their frames
ENGINE = f"{Path(__file__).resolve().parents[1]}/"
HOUSE = str(Path(ENGINE).parent)
# Longest first: the folder of installed packages lies in that of the standard library.
LIBRARIES = sorted(
    {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")},
    key=len,
    reverse=True,
)


def frames_of(error: BaseException, root: Path) -> str:
    """
    The frames of an exception, and of those it came from, a line each.

    Taken out of the exception, once.  Outermost first: `shout.py:12 in shout`.
    Files of the pipeline folder `root` are named from there, files of libraries from
    where libraries lie.
    """
    lines: list[str] = []
    # What a stage raises may be anything, also to look at: as far as it goes.
    with suppress(BaseException):
        lines += _lines(error, root, set())
    # An exception that is raised again, as one made at the top of a file is, would
    # show every try before this one, and keep all of them in memory.
    BaseException.with_traceback(error, None)
    if len(lines) > LINES_MAX:
        lines[LINES_MAX:] = [f"… {len(lines) - LINES_MAX} more lines"]
    return "\n".join(clean_text(line)[:LINE_CHARS_MAX] for line in lines)


def waits_at(work: Any) -> list[Place]:
    """Where a coroutine waits, outermost first."""
    found = []
    while frame := getattr(work, "cr_frame", None):
        found.append((frame, frame.f_lineno))
        work = work.cr_await
    return found


def frames_at(places: list[Place], root: Path) -> str:
    """These frames, as `frames_of` names them; taken out of the list."""
    lines = _shown(places, root)
    places.clear()  # they hold on to all that the stage had
    return "\n".join(clean_text(line)[:LINE_CHARS_MAX] for line in lines)


def _lines(error: BaseException, root: Path, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    yield from _shown(walk_tb(error.__traceback__), root)
    if isinstance(error, BaseExceptionGroup) and len(seen) < LINES_MAX:
        for one in error.exceptions[:BESIDE_MAX]:
            yield f"in the group: {kind_of(one)}"
            if id(one) not in seen:
                yield from _lines(one, root, seen)
        if (more := len(error.exceptions) - BESIDE_MAX) > 0:
            yield f"in the group: {more} more"
    before = error.__cause__
    if before is None and not error.__suppress_context__:
        before = error.__context__
    if before is not None and id(before) not in seen and len(seen) < LINES_MAX:
        yield f"because of {kind_of(before)}"
        yield from _lines(before, root, seen)


def kind_of(error: BaseException) -> str:
    """The name of an exception's class; with its code, where it is one of ours."""
    name = name_of(error)
    return f"{name} {error.code}" if isinstance(error, WaybillError) else name


def name_of(error: BaseException) -> str:
    """The name of its class, which a metaclass of the stage's cannot change."""
    return str(_NAME_OF(type(error)))[:100]


_NAME_OF = type.__dict__["__name__"].__get__


def _shown(frames: Iterable[Place], root: Path) -> list[str]:
    found = [
        f"{_file(frame.f_code.co_filename, root)}:{line} in {frame.f_code.co_qualname}"
        for frame, line in frames
        if not frame.f_code.co_filename.startswith(ENGINE)
    ]
    if (more := len(found) - FRAMES_MAX) > 0:
        found[FIRST : FIRST + more] = [f"… {more} more frames"]
    return found


@lru_cache(maxsize=4096)  # files; where a link leads costs more than all the rest
def _file(name: str, root: Path) -> str:
    for folder in (str(root), str(root.resolve()), *LIBRARIES, HOUSE):
        if name.startswith(folder + "/"):
            return name[len(folder) + 1 :]
    return Path(name).name
