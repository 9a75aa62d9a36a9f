"""One entry of the hostile corpus, and how it is put into an inbox."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

Named = tuple[str, bytes]  # a file's name and content
Entry = Literal["file", "symlink", "fifo", "hardlink", "folder", "sparse", "socket"]

# Stands wherever a person who looks at the page would not see it: it must never
# become part of a document's text.
CANARY = "ZYXQUILL"
SPARSE_BYTES = 1 << 38  # takes no room on disk


@dataclass(frozen=True, slots=True)
class Hostile:
    """
    One entry to put into an inbox.

    Attributes:
        name: Bytes that are no UTF-8 as surrogates.
        data: The content; of a link, what it points to.
    """

    name: str
    data: bytes
    entry: Entry = "file"


def plant(folder: Path, file: Hostile) -> None:
    """
    Make one entry in `folder`; a file appears there whole.

    Raises:
        OSError: the file system has no such thing; tests and runs want one that has.
    """
    path = folder / file.name
    match file.entry:
        case "file":
            path.write_bytes(file.data)
            if not file.data:
                # Empty files rest long before they are taken; this says it is all.
                path.with_name(path.name + ".done").touch()
        case "symlink":
            path.symlink_to(os.fsdecode(file.data))
        case "hardlink":
            first = folder / f"linked-{os.fsdecode(file.data)}"
            first.write_bytes(b"\x89PNG\r\n\x1a\n, twice")
            path.hardlink_to(first)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "sparse":
            path.write_bytes(file.data)
            os.truncate(path, SPARSE_BYTES)
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(path))
        case _:
            assert_never(file.entry)
