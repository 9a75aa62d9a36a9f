"""
The slate: what a worker process tells its supervisor without having to speak.

A few hundred bytes that both have mapped.  The worker writes that its loop turns,
which session it has, and which item's stage is on the loop right now; the supervisor
reads it when the process is dead or hangs, when nobody else could say.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import re
import signal
import struct
import sys
from collections.abc import Sequence
from tempfile import TemporaryFile
from traceback import walk_stack
from types import FrameType
from typing import NamedTuple
from uuid import UUID

from pipeline.model import ItemId, WorkerId
from pipeline.run.frames import ENGINE, LIBRARIES

SIZE_BYTES = 4096  # behind it: frames, as faulthandler writes them
FRAMES_BYTES_MAX = 8192
FRAMES_SHOWN = 3
_BEATS = struct.Struct("=Q")
_FLAGS_AT = 8  # one byte each: alone, suspects, leaving, impatient, short, joined
_SESSION_AT = 16
_PID = struct.Struct("=I")
_PID_AT = 32
_LABEL_AT = 64  # two bytes of length, then text
_LABEL_BYTES_MAX = 1024
_NOBODY = b"\0\0"
_FRAME = re.compile(r'File "([^"]*)", line (\d+) in (\S+)')


class Holder(NamedTuple):
    """
    Whose stage is on the loop.

    Attributes:
        attempt: The try it is in, from 0; `last`: no other comes after it.
        alone: Nothing else is in this worker.
    """

    item: ItemId
    stage: str
    attempt: int
    last: bool
    alone: bool

    def label(self) -> bytes:
        """As `Slate.mark` takes it."""
        # By hand: it is made for every try of every stage.
        flags = f"{self.item} {self.attempt} {self.last:d} {self.alone:d}"
        text = f"{flags} {self.stage}".encode()
        if len(text) > _LABEL_BYTES_MAX:
            return _NOBODY
        return len(text).to_bytes(2, "little") + text


class Slate:
    """
    Memory of one worker process, and of its supervisor.

    Args:
        file: Descriptor of a file of `SIZE_BYTES`, as `shared` makes it; without
            one nobody reads along.
    """

    def __init__(self, file: int = -1) -> None:
        self.file = file
        self._memory = mmap.mmap(file, SIZE_BYTES)
        self._beats = 0

    def __repr__(self) -> str:
        return f"<Slate beats={self.beats} session={self.session} on={self.holder()}>"

    @classmethod
    def shared(cls) -> Slate:
        """A new one, to be handed to a process by its descriptor."""
        if sys.platform == "linux":
            file = os.memfd_create("waybill-slate")
        else:
            with TemporaryFile() as unnamed:
                file = os.dup(unnamed.fileno())
        os.ftruncate(file, SIZE_BYTES)
        os.lseek(file, SIZE_BYTES, os.SEEK_SET)  # where frames will be written
        return cls(file)

    def close(self) -> None:
        """Let go of the memory and its file."""
        self._memory.close()
        if self.file >= 0:
            os.close(self.file)

    # -- what the worker writes ------------------------------------------------------

    def beat(self) -> None:
        """The loop turns."""
        self._beats += 1
        _BEATS.pack_into(self._memory, 0, self._beats)

    def mark(self, label: bytes) -> None:
        """Whose stage is on the loop from now on: a `Holder.label`."""
        self._memory[_LABEL_AT : _LABEL_AT + len(label)] = label

    def clear(self) -> None:
        """Nobody's stage is on the loop."""
        self._memory[_LABEL_AT : _LABEL_AT + 2] = _NOBODY

    def show_frames(self) -> None:
        """From now on `SIGUSR1` writes down where this process is, also in C."""
        if self.file >= 0:
            faulthandler.register(signal.SIGUSR1, self.file, all_threads=False)

    # -- what the supervisor reads ---------------------------------------------------

    @property
    def beats(self) -> int:
        """How often the loop has told that it turns; 0: not yet."""
        return int(_BEATS.unpack_from(self._memory, 0)[0])

    def holder(self) -> Holder | None:
        """Whose stage is, or was at the end, on the loop."""
        size = int.from_bytes(self._memory[_LABEL_AT : _LABEL_AT + 2], "little")
        if not 0 < size <= _LABEL_BYTES_MAX:
            return None
        try:
            text = self._memory[_LABEL_AT + 2 : _LABEL_AT + 2 + size].decode()
            item, attempt, last, alone, stage = text.split(" ", 4)
            return Holder(int(item), stage, int(attempt), last == "1", alone == "1")
        except ValueError:  # it died while it wrote
            return None

    def frames(self) -> str:
        """Where the process was, the pipeline's own frame first; "" if unknown."""
        text = os.pread(self.file, FRAMES_BYTES_MAX, SIZE_BYTES).decode(
            errors="replace"
        )
        return _placed(_FRAME.findall(text))

    # -- what both do ----------------------------------------------------------------

    @property
    def session(self) -> WorkerId | None:
        """The session that this process has."""
        data = self._memory[_SESSION_AT : _SESSION_AT + 16]
        return UUID(bytes=data) if any(data) else None

    @session.setter
    def session(self, worker: WorkerId | None) -> None:
        data = bytes(16) if worker is None else worker.bytes
        self._memory[_SESSION_AT : _SESSION_AT + 16] = data
        self._memory[_FLAGS_AT + 5] |= worker is not None

    @property
    def pid(self) -> int:
        """Of the process that is watched; 0: it has not said."""
        return int(_PID.unpack_from(self._memory, _PID_AT)[0])

    @pid.setter
    def pid(self, pid: int) -> None:
        _PID.pack_into(self._memory, _PID_AT, pid)

    @property
    def joined(self) -> bool:
        """Whether this process ever had a session."""
        return bool(self._memory[_FLAGS_AT + 5])

    @property
    def alone(self) -> bool:
        """Whether this process is for suspects, and nothing beside them."""
        return bool(self._memory[_FLAGS_AT])

    @alone.setter
    def alone(self, so: bool) -> None:
        self._memory[_FLAGS_AT] = so

    @property
    def suspects(self) -> bool:
        """Whether items wait that run beside no others."""
        return bool(self._memory[_FLAGS_AT + 1])

    @suspects.setter
    def suspects(self, there: bool) -> None:
        self._memory[_FLAGS_AT + 1] = there

    @property
    def impatient(self) -> bool:
        """Whether a stage has held up the loop for too long, here or shortly before."""
        return bool(self._memory[_FLAGS_AT + 3])

    @impatient.setter
    def impatient(self, so: bool) -> None:
        self._memory[_FLAGS_AT + 3] = so

    @property
    def short(self) -> bool:
        """Whether descriptors have run short, here or shortly before."""
        return bool(self._memory[_FLAGS_AT + 4])

    @short.setter
    def short(self, so: bool) -> None:
        self._memory[_FLAGS_AT + 4] = so

    @property
    def leaving(self) -> bool:
        """Whether this process ends as soon as it can, and wants a successor now."""
        return bool(self._memory[_FLAGS_AT + 2])

    @leaving.setter
    def leaving(self, so: bool) -> None:
        self._memory[_FLAGS_AT + 2] = so


def place_of(frame: FrameType | None) -> str:
    """Where a frame is, as `Slate.frames` says it."""
    found = [] if frame is None else walk_stack(frame)
    at = [(f.f_code.co_filename, line, f.f_code.co_name) for f, line in found]
    return _placed(at)


def _placed(frames: Sequence[tuple[str, object, str]]) -> str:
    """
    Of frames, innermost first: the pipeline's own that is nearest, and what it is in.

    A library's frame alone says nothing to whoever wrote the stage.
    """
    own = next((n for n, at in enumerate(frames) if not _is_foreign(at[0])), 0)
    inner = [_place(*at) for at in frames[:FRAMES_SHOWN]]
    if not own:
        return " < ".join(inner)
    within = inner[: min(own, FRAMES_SHOWN - 1)]
    return f"{_place(*frames[own])}, in {' < '.join(within)}"


def _is_foreign(file: str) -> bool:
    """A library's file, or the engine's, or none at all."""
    return file.startswith((ENGINE, "<", *LIBRARIES))


def _place(path: str, line: object, function: str) -> str:
    return f"{os.sep.join(path.split(os.sep)[-2:])}:{line} {function}"
