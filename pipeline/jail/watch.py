"""
Watching a call from outside: what it and all that it started take together.

The kernel limits each process by itself.  Together they could still take a limit each,
and where a scratch folder lies on disk nothing bounds it: so the template looks, ten
times a second, and ends a call that has taken too much.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from itertools import chain

BLOCK_BYTES = 512  # unit of `st_blocks`
OURS = ("RssAnon:", "RssShmem:", "VmSwap:")  # in /proc/PID/status
EXACT = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")  # in /proc/PID/smaps_rollup


def descendants(pid: int) -> Iterator[int]:
    """Every process that `pid` started, and theirs; none where /proc does not tell."""
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for task in listed(f"/proc/{parent}/task"):
            for child in text(f"/proc/{parent}/task/{task}/children").split():
                # Of the dead, who wait to be counted, nothing is left to end.
                if text(f"/proc/{child}/stat").rpartition(") ")[2][:1] not in "ZX":
                    waiting.append(int(child))
                    yield int(child)


def memory_bytes(pids: Iterable[int], enough: int) -> int:
    """
    Memory of these processes together, files that others have too not counted.

    What they share with their template or each other counts once; that is costly to
    find, so it is looked for only when a rough sum is over `enough`.
    """
    pids = list(pids)
    rough = sum(counted(f"/proc/{pid}/status", OURS) for pid in pids)
    if rough <= enough:
        return rough
    return sum(counted(f"/proc/{pid}/smaps_rollup", EXACT) for pid in pids)


def counted(path: str, words: tuple[str, ...]) -> int:
    """The sum of these lines of a file in /proc, which count in KiB."""
    return sum(
        int(line.split()[1]) << 10
        for line in text(path).splitlines()
        if line.startswith(words)
    )


def bounded(pid: int, folder: str) -> bool:
    """Whether the kernel bounds `folder`: a process sees a file system of its own."""
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/root{folder}").st_dev != os.stat(folder).st_dev
    return False


def overfull(folder: str, pids: Iterable[int], bytes_max: int, files_max: int) -> bool:
    """Whether a scratch folder, and what was deleted and lives on, is too much."""
    size = 0
    for files, taken in enumerate(chain(within(folder), unlinked(pids)), 1):
        size += taken
        if files > files_max or size > bytes_max:
            return True
    return False


def within(folder: str) -> Iterator[int]:
    """Bytes of each thing beneath a folder; of what vanishes meanwhile nothing."""
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(found.st_mode):
                        waiting.append(entry.path)
                    yield found.st_blocks * BLOCK_BYTES


def unlinked(pids: Iterable[int]) -> Iterator[int]:
    """Bytes of each file without a name that is held open, or mapped."""
    seen: set[tuple[int, int]] = set()
    for pid in pids:
        for line in text(f"/proc/{pid}/maps").splitlines():
            # Memory that processes share looks like a deleted file, too.
            if line.endswith(" (deleted)") and "/dev/zero" not in line:
                first, _, last = line.split()[0].partition("-")
                yield int(last, 16) - int(first, 16)
        for number in listed(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found = os.stat(f"/proc/{pid}/fd/{number}")
                known = (found.st_dev, found.st_ino)
                if found.st_nlink == 0 and known not in seen:
                    seen.add(known)
                    yield found.st_blocks * BLOCK_BYTES


def listed(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
        return file.read()
    return ""
