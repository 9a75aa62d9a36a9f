"""
When is a file complete?  Pure: no I/O, no clock of its own.

Nobody tells us that a copy has ended, so three signs are accepted:

rest     size, mtime and inode did not change for `settle_s`, measured between
         scans on a monotonic clock.  An empty file must rest longer: many
         programs create the file first and write it later.
rename   `X` has the inode of an `X.part` (or `.tmp`, `.crdownload` …) seen before,
         and is no smaller and no older.  Renaming into place says "complete".
marker   `X.done` exists and is not older than the last write of `X`.  So a marker
         left over from an earlier file cannot vouch for a later one.

There is no giving up: a file that never rests is looked at for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ingest.candidates import ALONE_WHY, PARTIAL_WHY, Look, Seen, Waiting
from ingest.watch.folders import MARKER, partial


@dataclass(slots=True)
class _Track:
    seen: Seen
    since: float  # monotonic seconds: looks like this since
    first: float  # monotonic seconds: first seen
    renamed: bool  # arrived by rename
    marked: bool = False


class Stability:
    """
    Decides from successive listings which files are complete.

    Args:
        settle_s: Rest after which a file is complete.
        settle_empty_s: The same for a file of no bytes.
        max_tracked: Files remembered at once; more are counted in `overflow`
            and get their turn as others leave.
    """

    def __init__(
        self,
        *,
        settle_s: float = 2.0,
        settle_empty_s: float = 30.0,
        max_tracked: int = 200_000,
    ) -> None:
        self.overflow = 0
        self._settle_s = settle_s
        self._settle_empty_s = max(settle_s, settle_empty_s)
        self._max_tracked = max_tracked
        self._tracks: dict[str, _Track] = {}
        self._partials: dict[str, tuple[Seen, float]] = {}
        self._alone: dict[str, float] = {}  # markers without their file
        self._odd: dict[str, tuple[Look, float]] = {}

    def __repr__(self) -> str:
        return f"<Stability {len(self._tracks)} files, {self.overflow} more>"

    def observe(self, now: float, listing: Iterable[Look]) -> list[Look]:
        """
        Take in one complete listing; return the complete files, oldest first.

        A file is returned by every observation until it leaves the listing.
        """
        before, earlier = self._tracks, self._partials
        markers: dict[str, int] = {}
        partials: dict[str, tuple[Seen, float]] = {}
        odd: dict[str, tuple[Look, float]] = {}
        files: list[Look] = []
        for look in listing:
            name = look.relative.rpartition("/")[2]
            if look.odd:
                since = self._odd.get(look.relative, (look, now))[1]
                odd[look.relative] = (look, since)
            elif name.endswith(MARKER):
                markers[look.relative.removesuffix(MARKER)] = look.ctime_ns
            elif partial(name):
                since = earlier.get(look.relative, (look.seen, now))[1]
                partials[look.relative] = (look.seen, since)
            else:
                files.append(look)

        finals = {partial(path): seen for path, (seen, _) in earlier.items()}
        tracks: dict[str, _Track] = {}
        self.overflow = 0
        # Those already tracked keep their place when there are too many.
        files.sort(key=lambda look: look.relative not in before)
        for look in files:
            if len(tracks) >= self._max_tracked:
                self.overflow += 1
                continue
            track = _follow(now, look, before.get(look.relative), finals)
            made_ns = markers.get(look.relative)
            track.marked = made_ns is not None and made_ns >= look.seen.mtime_ns
            tracks[look.relative] = track

        present = {look.relative for look in files}
        self._alone = {
            path + MARKER: self._alone.get(path + MARKER, now)
            for path in markers
            if path not in present
        }
        self._tracks, self._partials, self._odd = tracks, partials, odd
        ready = [look for look in files if self._left_s(now, look.relative) <= 0]
        ready.sort(key=lambda look: tracks[look.relative].first)
        return ready

    def due_s(self, now: float) -> float | None:
        """Seconds until the next resting file may be complete; None: none rests."""
        rest = [self._left_s(now, path) for path in self._tracks]
        return min((left for left in rest if left > 0), default=None)

    def waiting(self, now: float) -> list[Waiting]:
        """Every file that is not complete, or never will be, and why."""
        found = [
            Waiting(path, "SETTLING", "it may still be written to", now - track.first)
            for path, track in self._tracks.items()
            if self._left_s(now, path) > 0
        ]
        found += [
            Waiting(path, "PARTIAL", PARTIAL_WHY, now - since)
            for path, (_, since) in self._partials.items()
        ]
        found += [
            Waiting(path, "MARKER_ALONE", ALONE_WHY, now - since)
            for path, since in self._alone.items()
        ]
        found += [
            Waiting(path, look.code, look.odd, now - since)
            for path, (look, since) in self._odd.items()
        ]
        return found

    def _left_s(self, now: float, path: str) -> float:
        track = self._tracks.get(path)
        if track is None:
            return float("inf")  # over the limit: not even tracked
        if track.marked or track.renamed:
            return 0.0
        settle_s = self._settle_s if track.seen.size else self._settle_empty_s
        return track.since + settle_s - now


def _follow(
    now: float, look: Look, track: _Track | None, finals: dict[str, Seen]
) -> _Track:
    if track is None:
        return _Track(look.seen, now, now, _by_rename(look, finals))
    if track.seen != look.seen:
        # Written to, or replaced: whatever spoke for it before is void.
        return _Track(look.seen, now, track.first, _by_rename(look, finals))
    return track


def _by_rename(look: Look, finals: dict[str, Seen]) -> bool:
    # Inodes are used again at once, so the inode alone proves nothing: a new
    # file that got the number of a deleted `X.part` starts smaller than it was.
    old = finals.get(look.relative)
    return (
        old is not None
        and old.inode == look.seen.inode
        and old.size <= look.seen.size
        and old.mtime_ns <= look.seen.mtime_ns
    )
