"""
What the kernel says of a process: its memory, and how long it had no core.

Of a main thread it counts the time in which it was ready to run and did not.  Whoever
sleeps, or waits in a call, stands in no such line; whoever computes on a busy machine
may for most of the time, and it is not their doing.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path
from time import monotonic

NS = 1e-9
# Times one's patience that somebody may stand in line: of a machine that is busy with
# others for longer nobody can tell that from one that hangs.
EXCUSED = 5.0


def queued_s(pid: int | str = "self") -> float | None:
    """
    Seconds that the main thread of a process has stood in line since it began.

    None where nobody counts it (another system than Linux), and of a process that has
    ended.
    """
    with suppress(OSError, ValueError, IndexError):
        text = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii")
        return int(text.split()[1]) * NS
    return None


def thread_queued_s(native_id: int) -> float:
    """The same of one thread of this process; 0.0 where nobody counts it."""
    return queued_s(f"self/task/{native_id}") or 0.0


class OwnTime:
    """
    A clock of the time that this process had: it stands still while it is in line.

    Where nothing is counted it is the wall's.  `queued_s` is what it left out so far.
    """

    def __init__(self) -> None:
        self.queued_s = 0.0

    def __call__(self) -> float:
        """Seconds since some moment."""
        # With no descriptor left nothing is read: what was is still true.
        self.queued_s = max(self.queued_s, queued_s() or 0.0)
        return monotonic() - self.queued_s


class Lines:
    """How much of each moment another process stood in line, look by look."""

    def __init__(self) -> None:
        self._before: tuple[int, float] | None = None

    def since(self, pid: int) -> float:
        """Seconds since the last call; 0.0 at the first of a process (0: of none)."""
        now = queued_s(pid) if pid else None
        before, self._before = self._before, None if now is None else (pid, now)
        if now is None or before is None or before[0] != pid:
            return 0.0
        return max(0.0, now - before[1])


def resident_bytes() -> int:
    """Memory of this process that is resident; where only its peak is known, 0."""
    try:
        text = Path("/proc/self/statm").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text.split()[1]) * resource.getpagesize()
