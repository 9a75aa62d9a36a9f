"""What a scan saw, made up."""

from __future__ import annotations

from ingest.candidates import Look, Seen


def look(
    path: str, size: int = 10, mtime_ns: int = 100, inode: int = 1, ctime_ns: int = 100
) -> Look:
    return Look(path, Seen(size, mtime_ns, inode), ctime_ns)


def paths(looks: list[Look]) -> list[str]:
    return [one.relative for one in looks]
