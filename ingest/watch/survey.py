"""
What lies in an inbox and why, for whoever is not its watcher.

The same walk and the same rules as the watcher's, at one moment and without taking
anything: what needs time (rest, a minute since it came) is judged by the files' own
times.  What only the watcher knows stands in its log.  Blocking: call it in a thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ingest.candidates import Candidate, Look, Waiting, Walk, passed_over
from ingest.copying import folder_of, linked, require_rest, unreadable
from ingest.watch.folders import MARKER, Place, display_name, partial, place_of, today
from pipeline.errors import Transient, WaybillError
from pipeline.store.refusals import check_names

MAX_ENTRIES = 20_000  # looked at; arbitrary, some hundred milliseconds
MAX_OPENED = 1_000  # asked whether somebody writes to them
MAX_LEFT = 100  # named one by one
TAKEN_S = 60.0  # a complete file that is older should have been taken
NOT_TAKEN_WHY = (
    "it is complete and nobody took it: `waybill pipelines check` says whether its"
    " pipeline is in order, `waybill up` why, if it runs"
)

# What asks for somebody comes first, what ends by itself later.
LATER = ("BEING_WRITTEN", "PARTIAL", "HIDDEN")


class Left(NamedTuple):
    """A file that lies in the inbox; every text is fit to be shown."""

    name: str  # its path below the inbox
    tenant: str
    batch: str
    code: str
    why: str
    for_s: float


class Survey(NamedTuple):
    """
    What lies in an inbox.

    Attributes:
        waiting: Files that are on their way: they rest, or their turn will come.
        left: What is not taken, at most `MAX_LEFT`.
        more: How many more are left; of a huge inbox only what was looked at.
    """

    waiting: int
    left: list[Left]
    more: int


def survey(inbox: Path, route: Callable[[Place], None], *, settle_s: float) -> Survey:
    """
    Look at an inbox once.

    Args:
        route: Raises a WaybillError when a place leads to no pipeline.
    """
    walk = Walk(inbox)
    try:
        looks = walk.slice(MAX_ENTRIES)
    except FileNotFoundError:
        return Survey(0, [], 0)  # nobody has watched it yet
    except OSError as error:
        why = f"the inbox cannot be listed: {os.strerror(error.errno or 0)}"
        return Survey(0, [Left(".", "", "", "INBOX_MISSING", why, 0.0)], 0)
    found = list(passed_over(walk, looks))
    apart = {waiting.relative for waiting in found}
    files = [
        look
        for look in looks
        if look.relative not in apart
        and not partial(look.relative)
        and not look.relative.endswith(MARKER)
    ]
    left = [w for w in _not_taken(inbox, files, route, settle_s) if w is not None]
    waiting = len(files) - len(left)
    found = sorted([*left, *found], key=lambda w: (w.code in LATER, w.code == "HIDDEN"))
    born = {look.relative: look.ctime_ns / 1e9 for look in looks}
    now = time.time()
    shown = [_left(w, now - _born(inbox, w, born)) for w in found[:MAX_LEFT]]
    return Survey(waiting, shown, len(found) - len(shown))


def _not_taken(
    inbox: Path, files: list[Look], route: Callable[[Place], None], settle_s: float
) -> Iterator[Waiting | None]:
    """Of each file why it is not taken; None when it is on its way."""
    answers: dict[str, WaybillError | None] = {}
    now = time.time()
    for number, look in enumerate(files):
        folder = look.relative.rpartition("/")[0]
        if folder not in answers:
            answers[folder] = _answer(place_of(look.relative), route)
        error = answers[folder]
        if error is None and number < MAX_OPENED:
            error = _trouble(inbox, look)
        age_s = now - max(look.ctime_ns, look.seen.mtime_ns) / 1e9
        if error is None and age_s > max(TAKEN_S, 10 * settle_s):
            yield Waiting(look.relative, "NOT_TAKEN", NOT_TAKEN_WHY, 0.0)
        elif error is None or error.code in ("FILE_GONE", "FILE_CHANGED", "FILE_GREW"):
            yield None
        else:
            yield Waiting(look.relative, error.code, error.message, 0.0)


def _answer(place: Place, route: Callable[[Place], None]) -> WaybillError | None:
    try:
        check_names(place.tenant, place.batch or today())
        route(place)
    except WaybillError as error:
        return error
    return None


def _trouble(inbox: Path, look: Look) -> WaybillError | None:
    """Why a file cannot be taken whose place is good."""
    try:
        with folder_of(Candidate(inbox, look.relative, "")) as (folder, name):
            if os.stat(name, dir_fd=folder, follow_symlinks=False).st_nlink > 1:
                return linked()
            require_rest(Path(name), look.seen, folder)
    except OSError as error:
        return unreadable(error)
    except Transient as error:
        return error
    return None


def _born(inbox: Path, waiting: Waiting, born: Mapping[str, float]) -> float:
    """When it was put there; of what was never looked at, it is asked now."""
    known = born.get(waiting.relative)
    if known is not None:
        return known
    try:
        return (inbox / waiting.relative).lstat().st_ctime
    except OSError:
        return time.time()  # it has gone


def _left(waiting: Waiting, for_s: float) -> Left:
    place = place_of(waiting.relative)
    return Left(
        "/".join(display_name(part) for part in waiting.relative.split("/")),
        place.tenant,
        place.batch or today(),
        waiting.code,
        waiting.why,
        round(max(0.0, for_s), 1),
    )
