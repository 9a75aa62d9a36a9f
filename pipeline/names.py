"""
Names that come from outside, and what they may become.

People and documents name files, tenants and batches, and the names become folders,
files and lines on a terminal.  The rules are here; what a name that breaks one
means, a refusal or another name, is said where it is used.
"""

from __future__ import annotations

import os
import unicodedata

# Controls, direction marks and the like, surrogates, private characters, and the
# two separators that end a line.
STEERING = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


NUMBER_DIGITS = 18  # fewer than a bigint has: nothing that we number is longer


def number_in(text: str) -> int | None:
    """The number that `text` is, as we print numbers (`12`, no sign, no other digits
    than these); None where it is none, or longer than any of ours."""
    if text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS:
        return int(text)
    return None


def is_component(name: str) -> bool:
    """Whether `name` names one thing in a folder and leads nowhere else."""
    return name not in ("", ".", "..") and "/" not in name


def is_tenant(name: str) -> bool:
    """Whether a folder of secrets can have this name as well."""
    return is_component(name) and not name.startswith(".") and "\\" not in name


def is_text(name: str) -> bool:
    """Whether `name` has no C0 controls and no bytes that were no text."""
    return not any(ord(c) < 32 or "\ud800" <= c <= "\udfff" for c in name)


def visible(name: str) -> str:
    """
    `name` with what steers a terminal or the direction of text as escapes.

    Bytes that are not UTF-8 (surrogates, as Python decodes them) become escapes as
    well: `\\xff`, `\\x1b`, `\\u202e`.
    """
    return "".join(_visible(char) for char in name)


def _visible(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that Python could not decode
        return f"\\x{ord(char) - 0xDC00:02x}"
    if unicodedata.category(char) in STEERING:
        return char.encode("unicode_escape").decode("ascii")
    return char


def cut(name: str, max_bytes: int) -> str:
    """The beginning of `name` that takes at most `max_bytes` on disk."""
    # By characters: half a character is no name.
    while name and len(os.fsencode(name)) > max_bytes:
        name = name[:-1]
    return name


def part_pattern(part: str) -> str:
    """
    A regular expression of names that `part` is a part of, in upper or lower case,
    composed or not; for Python and for PostgreSQL alike, in whatever locale.
    """
    return "".join(map(_cases, unicodedata.normalize("NFC", part)))


def _cases(char: str) -> str:
    cases = {char, char.lower(), char.upper()}
    forms = {unicodedata.normalize(f, c) for c in cases for f in ("NFC", "NFD")}
    written = sorted(map(_literal, forms))
    return written[0] if len(written) == 1 else f"(?:{'|'.join(written)})"


def _literal(text: str) -> str:
    # A backslash before an ASCII letter or digit would mean something else.
    return "".join(c if c.isalnum() or ord(c) > 127 else f"\\{c}" for c in text)
