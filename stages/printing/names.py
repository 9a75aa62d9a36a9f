"""
File names of what is printed, made of whatever a document was called.
"""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath

SLUG_BYTES_MAX = 80  # file names end at 255 bytes; print software gives up earlier


def slug(name: str) -> str:
    """
    A file-name part made of any name: letters and digits, at most 80 bytes.

    Letters of every script stay, in composed form.  Separators, controls,
    direction marks, dots and the rest become single hyphens.
    """
    stem = PurePosixPath(name.replace("\\", "/").replace("\0", "")).stem
    words: list[str] = [""]
    for char in unicodedata.normalize("NFKC", stem[:400]).lower():
        kind = unicodedata.category(char)[0]
        if kind in "LN" or (kind == "M" and words[-1]):
            words[-1] += char
        elif words[-1]:
            words.append("")
    joined = "-".join(word for word in words if word)
    cut = joined.encode("utf-8", "ignore")[:SLUG_BYTES_MAX].decode("utf-8", "ignore")
    return cut.strip("-") or "letter"
