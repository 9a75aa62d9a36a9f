"""
Where the files of a document lie: named as what was dropped, in a tree like it.

`bills/March.pdf` becomes `bills/March.pdf`, `.txt` and `.json`; a part of a bundle lies
in a folder that is called as its bundle.  A name is one document's: of two that
differ in their ending alone, the second keeps it (`March.jpg.pdf`).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.artifacts.durable import new_part, publish, sweep
from pipeline.names import cut, visible
from pipeline.trouble import ours

WITHIN = " › "  # between the name of a bundle and of its part
FORBIDDEN = re.compile(r'[\\:*?"<>|]')  # in the name of a file, on some system
ENDING = re.compile(r"\.[A-Za-z]\w{0,4}$")
NAME_BYTES_MAX = 180  # file names end at 255 bytes; endings and parts take some
DEPTH_MAX = 16
RECORD = "json"  # the file that says whose the name is; it comes last
FILE_MODE = 0o640


def file_names(name: str, folder: str, item: int) -> Iterator[str]:
    """
    Names without an ending for a document's files, the best first; the last is free.

    A file may be in the way of a folder, for of `bill.png` the PDF is called as a
    bundle beside it: then what it holds lies beside it too.

    Args:
        name: As it is shown, of a part with its bundle's before it.
        folder: Where it lay below what was dropped; "" for nowhere.
    """
    whole = f"{folder}/{name}".replace(WITHIN, "/")
    *above, own = [_component(part) for part in whole.split("/") if part.strip(". ")]
    tree = "/".join([*above[-DEPTH_MAX:], ""]) if above else ""
    plain = ENDING.sub("", own)
    yield from dict.fromkeys((f"{tree}{plain}", f"{tree}{own}"))
    yield f"{tree}{own}-{item}"
    flat = cut(f"{tree}{own}".replace("/", WITHIN), NAME_BYTES_MAX)
    yield f"{flat}-{item}"


def _component(part: str) -> str:
    plain = FORBIDDEN.sub("_", visible(part)).strip()
    stem, suffix = os.path.splitext(plain)
    if len(os.fsencode(plain)) > NAME_BYTES_MAX:
        plain = cut(stem, NAME_BYTES_MAX - len(os.fsencode(suffix[:16]))) + suffix[:16]
    # A name that begins with a dot is hidden; one that ends so is no name elsewhere.
    return re.sub(r"^\.", "_", plain).rstrip(". ") or "_"


class Shelf:
    """
    The output folder of a batch, which all of its items share.

    Args:
        owner: Whose the files are: how their record begins.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._owner = owner.encode()

    def put(self, names: Iterator[str], files: Mapping[str, Path]) -> str:
        """
        Copy files to the first of `names` that is nobody else's; return it.

        Each file appears whole, the record last; the same document's are replaced.
        Blocking.

        Args:
            files: By ending; `RECORD` among them.

        Raises:
            Trouble: a full disk, a folder that cannot be written to.
        """
        with ours(f"the folder {self._folder.name}", self._folder):
            for name in names:
                # A file where a folder should be, or a folder in a file's place.
                with suppress(IsADirectoryError, NotADirectoryError, FileExistsError):
                    if self._claimed(name, files):
                        for suffix in sorted(files, key=lambda each: each == RECORD):
                            self.copy(files[suffix], f"{name}.{suffix}")
                        self._claim(name).unlink(missing_ok=True)
                        return name
        raise FileExistsError(f"no name is free for {self._folder.name}'s files")

    def copy(self, source: Path, file: str) -> None:
        """A copy of `source`, whole or not at all, at `file` beneath the folder."""
        target = self._folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as data, new_part(target.parent) as part:
            shutil.copyfileobj(data, part, 1 << 20)
            publish(part, target, mode=FILE_MODE)

    def _claimed(self, name: str, suffixes: Iterable[str]) -> bool:
        """
        Whether `name` is this document's, from now on.

        Two workers may ask at once: one makes the claim.  What a crash leaves of it is
        found by the same document's next try, and keeps others away.
        """
        claim, record = self._claim(name), self._folder / f"{name}.{RECORD}"
        if any((self._folder / f"{name}.{each}").is_dir() for each in suffixes):
            return False
        claim.parent.mkdir(parents=True, exist_ok=True)
        sweep(claim.parent)
        try:
            with claim.open("xb") as made:
                made.write(self._owner)
        except FileExistsError:
            if not self._owns(claim):
                return False
        if record.exists() and not self._owns(record):
            claim.unlink(missing_ok=True)
            return False
        return True

    def _claim(self, name: str) -> Path:
        path = self._folder / name
        return path.with_name(f".{path.name}.claim")

    def _owns(self, file: Path) -> bool:
        with suppress(FileNotFoundError), file.open("rb") as data:
            return data.read(len(self._owner)) == self._owner
        return False
