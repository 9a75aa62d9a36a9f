"""
Windows: how many items are in each stage of this worker, and how many may be; and
how much of their states it has in memory.

An item that moves on to its next stage enters that window before it leaves its own;
when the window is full it goes back in line, so nobody hoards what cannot run soon.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

BYTES_MAX = 128 << 20  # of states as text; as objects they take some times that


class Windows:
    """How many items are in each stage of this worker, and how many may be."""

    def __init__(self, items_max: int, bytes_max: int = BYTES_MAX) -> None:
        self.items_max = items_max
        self.bytes_max = bytes_max
        self.loaded = 0  # bytes
        self._size: dict[str, int] = {}
        self._depth: dict[str, int] = {}
        self._busy: dict[str, int] = {}
        self.total = 0
        self.total_max = 0
        self._freed = anyio.Event()

    def __repr__(self) -> str:
        return f"<Windows {self.total}/{self.items_max} {self._busy}>"

    def shape(self, stage: str, size: int, depth: int) -> None:
        """A pipeline's stage: its window, and its place in the pipeline."""
        if stage not in self._size:
            self._freed.set()  # there is room for more than the first
        self._size[stage] = size
        self._depth[stage] = max(depth, self._depth.get(stage, 0))

    def size(self, stage: str) -> int:
        """The window; of a stage not met yet one item shows how large it is."""
        return self._size.get(stage, 1)

    def by_depth(self, stages: Sequence[str]) -> list[str]:
        """Latest stage first: finish what is begun."""
        return sorted(stages, key=lambda s: -self._depth.get(s, 0))

    def room(self, stage: str) -> int:
        """How many more may enter; nobody while the memory is full."""
        if not self.light:
            return 0
        free = self.size(stage) - self._busy.get(stage, 0)
        return min(free, self.items_max - self.total)

    def take(self, stage: str, count: int) -> None:
        """`count` claimed items enter."""
        self._busy[stage] = self._busy.get(stage, 0) + count
        self.total += count
        self.total_max = max(self.total_max, self.total)

    def move(self, stage: str, after: str) -> bool:
        """One item goes on to `after`, when that has room."""
        busy = self._busy.get(after, 0)
        if busy >= self.size(after):
            return False
        self._busy[after] = busy + 1
        self._busy[stage] -= 1
        self._freed.set()
        return True

    def leave(self, stage: str) -> None:
        """One item is gone from this worker."""
        self._busy[stage] -= 1
        self.total -= 1
        self._freed.set()

    @property
    def light(self) -> bool:
        """There is room in memory for another state, of whatever size."""
        return self.loaded < self.bytes_max

    def load(self, size: int) -> None:
        """So many bytes more are in memory; fewer, when it is negative."""
        self.loaded += size
        if size < 0:
            self._freed.set()

    async def until_light(self) -> None:
        """Until there is room in memory for another state."""
        while not self.light:
            await self.wait_freed()

    async def wait_freed(self) -> None:
        """Until something moves or leaves; several may wait."""
        if self._freed.is_set():
            self._freed = anyio.Event()
        await self._freed.wait()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._freed.set()
