"""
Fonts: the file of a family's face, the characters it can draw, and typst's view of
just the faces that are configured.

Runs jailed.  What is found is cached for the life of the process: fonts are not
installed under a run.
"""

from __future__ import annotations

import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import Permanent

FONT_DIRS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "~/Library/Fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "/opt/homebrew/share/fonts",
)
FONT_SUFFIXES = frozenset({".ttf", ".otf", ".ttc", ".otc"})
FONT_FILES_MAX = 20_000  # a bound, far above what a desktop has
FACES_IN_COLLECTION_MAX = 64
PACKAGES = {  # Debian and Ubuntu; named in the hint when a face is missing
    "Klee One": "fonts-klee",
    "Comic Neue": "fonts-comic-neue",
    "Dancing Script": "fonts-dancingscript",
    "DejaVu Sans": "fonts-dejavu-core",
    "DejaVu Serif": "fonts-dejavu-core",
    "Noto Sans": "fonts-noto-core",
}


@lru_cache(maxsize=64)
def face_of(family: str) -> tuple[str, int]:
    """
    The file of a family's regular face, and its place in it (collections).

    Raises:
        Permanent: FONT_MISSING; the hint names the package where we know it.
    """
    best: tuple[int, str, int] | None = None
    for path in _nearest_first(family):
        for index, weight in _matching(path, family):
            # Regular is 400; a bold file of the same family must not win just
            # because it was found first.
            if best is None or abs(weight - 400) < best[0]:
                best = (abs(weight - 400), path, index)
        if best is not None and best[0] == 0:
            break
    if best is not None:
        return best[1], best[2]
    package = PACKAGES.get(family)
    raise Permanent(
        f"the font {family!r} is not installed on this machine",
        code="FONT_MISSING",
        hint=(
            f"install it (Debian, Ubuntu: apt-get install {package})"
            if package
            else "install it, or name another face in [stage.output]"
        ),
    )


def faces_of(family: str) -> list[str]:
    """A family's regular face, and those that lie beside it: bold and italic."""
    path = Path(face_of(family)[0])
    stem = path.stem.split("-")[0]
    beside = sorted(path.parent.glob(f"{stem}-*"))
    return [str(path), *(str(p) for p in beside if p.suffix in FONT_SUFFIXES)]


@lru_cache(maxsize=64)
def characters(path: str, index: int) -> frozenset[int]:
    """Every code point a face has a glyph for."""
    from fontTools.ttLib import TTFont

    with TTFont(path, fontNumber=index, lazy=True) as face:
        return frozenset(face.getBestCmap() or ())


@lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    # The user's own fonts count, but in the jail HOME is a scratch folder.
    home = os.environ.get("FONTS_HOME") or os.path.expanduser("~")
    found: list[str] = []
    for place in FONT_DIRS:
        for folder, _, names in os.walk(place.replace("~", home, 1)):
            found += [
                os.path.join(folder, name)
                for name in names
                if os.path.splitext(name)[1].lower() in FONT_SUFFIXES
            ]
            if len(found) >= FONT_FILES_MAX:
                return tuple(sorted(found[:FONT_FILES_MAX]))
    return tuple(sorted(found))


def _nearest_first(family: str) -> list[str]:
    # Opening every font of a desktop takes seconds; the file is nearly always
    # named like the family, and its regular face like `-Regular`.
    squeezed = re.sub(r"[^a-z0-9]", "", family.lower())

    def distance(path: str) -> tuple[bool, bool, int, str]:
        stem = re.sub(r"[^a-z0-9]", "", Path(path).stem.lower())
        plain = stem in (squeezed, squeezed + "regular")
        return (not plain, squeezed not in stem, len(stem), path)

    return sorted(_font_files(), key=distance)


@lru_cache(maxsize=4096)
def _names(path: str) -> tuple[tuple[frozenset[str], int], ...]:
    """Per face of a file: its family names and weight; upright faces only."""
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    rows: list[tuple[frozenset[str], int]] = []
    try:
        if path.lower().endswith((".ttc", ".otc")):
            with TTCollection(path, lazy=True) as collection:
                count = min(len(collection.fonts), FACES_IN_COLLECTION_MAX)
        else:
            count = 1
        for index in range(count):
            with TTFont(path, fontNumber=index, lazy=True) as face:
                families = frozenset(
                    str(record)
                    for record in face["name"].names
                    if record.nameID in (1, 16)
                )
                slanted = bool(face["OS/2"].fsSelection & 1)
                weight = int(face["OS/2"].usWeightClass)
                rows.append((frozenset() if slanted else families, weight))
    except (TTLibError, OSError, KeyError, ValueError, AssertionError, AttributeError):
        return ()  # a broken font file on the machine is not the document's fault
    return tuple(rows)


def _matching(path: str, family: str) -> list[tuple[int, int]]:
    wanted = family.casefold()
    return [
        (index, weight)
        for index, (families, weight) in enumerate(_names(path))
        if wanted in {name.casefold() for name in families}
    ]


@lru_cache(maxsize=8)
def loaded(paths: tuple[str, ...]) -> Any:
    # typst takes folders, and a folder of fonts may hold a thousand: a folder of
    # links holds just ours; typst resolves the links as it scans.  Its own fonts
    # stay out, so that nothing but the configured faces can ever be on a page.
    import typst

    with tempfile.TemporaryDirectory(prefix="waybill-fonts-") as folder:
        for number, path in enumerate(paths):
            os.symlink(path, os.path.join(folder, f"{number}-{Path(path).name}"))
        return typst.Fonts(
            include_system_fonts=False,
            include_embedded_fonts=False,
            font_paths=[folder],
        )
