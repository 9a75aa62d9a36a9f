"""
What a Word document shows and does not write: the numbers of its lists, symbols, and
ticks in boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
VAL = W + "val"
LEVELS = 9
STYLES_DEEP = 12  # styles that are based on each other; a ring is cut there
BULLET, TICKED, EMPTY = "•", "☑", "☐"
ALPHABET = "abcdefghijklmnopqrstuvwxyz"

# Fonts whose letters are signs; of each the signs that say something.
GREEK = "αβχδεφγηιϕκλμνοπθρστυϖωξψζ"


def coded(codes: str, signs: str) -> dict[int, str]:
    """Codes, in hexadecimal, and the sign of each."""
    pairs = zip(codes.split(), signs, strict=True)
    return {int(code, 16): sign for code, sign in pairs}


SYMBOL = dict(
    zip([*range(0x61, 0x7B), *range(0x41, 0x5B)], GREEK + GREEK.upper(), strict=True)
)
SYMBOL |= coded("A3 A5 AC AE B0 B1 B3 B4 B6 B7 B8 B9 BB", "≤∞←→°±≥×∂•÷≠≈")
SYMBOL |= coded("CE D6 DB DE E5 F2", "∈√⇔⇒∑∫")
WINGDINGS = coded("6C 6E 6F 71 78 A7 A8 D8 E0 FB FC FD FE", "●■☐☐☒•☐➢→✗✓☒☑")
WINGDINGS_2 = coded("50 51 52 53 54 A3", "✓☒☑☒☒☐")
FONTS: dict[str, dict[int, str]] = {
    "symbol": SYMBOL,
    "wingdings": WINGDINGS,
    "wingdings 2": WINGDINGS_2,
}


def sign(code: int, font: str) -> str:
    """The character that a symbol font shows for a code; "" where we know none."""
    if not (0xF000 <= code <= 0xF0FF or code <= 0xFF):
        return chr(code) if code <= 0x10FFFF else ""
    return FONTS.get(font.lower(), {}).get(code & 0xFF, "")


def box(node: Any) -> str:
    """A check box of an old form, ticked or not."""
    for name in ("checked", "default"):
        found = node.find(W + name)
        if found is not None:
            return TICKED if found.get(VAL, "1") in ("1", "true", "on") else EMPTY
    return EMPTY


def chosen(node: Any) -> str:
    """The entry that is chosen in a list of an old form."""
    entries = [entry.get(VAL, "") for entry in node.findall(W + "listEntry")]
    found = node.find(W + "result")
    place = number(found.get(VAL) if found is not None else None, 0)
    return str(entries[place]) if place < len(entries) else ""


def number(text: str | None, otherwise: int) -> int:
    """A number of the file, which may be anything."""
    return int(text) if text and text.isdecimal() and len(text) < 6 else otherwise


# -- numbers of lists -----------------------------------------------------------------


class Lists:
    """The numbers before the paragraphs of a document, counted as they are read."""

    def __init__(self, numbering: Any, styles: dict[str, Any]) -> None:
        self._styles = styles
        self._abstract: dict[str, Any] = {}
        self._lists: dict[str, Any] = {}
        self._counts: dict[str, list[int]] = {}
        if numbering is not None:
            for node in numbering.findall(W + "abstractNum"):
                self._abstract[node.get(W + "abstractNumId")] = node
            for node in numbering.findall(W + "num"):
                self._lists[node.get(W + "numId")] = node

    def label(self, paragraph: Any) -> str:
        """What stands before a paragraph, with a blank behind it; mostly ""."""
        of, level = self._place(paragraph)
        levels = self._levels(of)
        if level not in levels or not any(t.text for t in paragraph.iter(W + "t")):
            return ""
        counts = self._counted(of, level, levels)
        kind = setting(levels[level], "numFmt", "decimal")
        shown = setting(levels[level], "lvlText", "")
        if kind == "bullet":
            return f"{BULLET} "
        for place in range(LEVELS):
            kind = setting(levels.get(place), "numFmt", "decimal")
            shown = shown.replace(f"%{place + 1}", written(counts[place], kind))
        return f"{shown} " if shown.strip() else ""

    def _place(self, paragraph: Any) -> tuple[str, int]:
        """The list that a paragraph is in, by itself or its style, and how deep."""
        own = paragraph.find(W + "pPr")
        style = setting(own, "pStyle", "")
        of, level = "", None
        for properties in (own, *self._inherited(style)):
            numbers = None if properties is None else properties.find(W + "numPr")
            if numbers is not None:
                of = of or setting(numbers, "numId", "")
                if level is None and numbers.find(W + "ilvl") is not None:
                    level = number(setting(numbers, "ilvl", "0"), 0)
        if level is None:
            # A heading's style is tied to its level by the list.
            tied = (at for at, node in self._levels(of).items() if tied_to(node, style))
            level = next(tied, 0)
        return of, level

    def _inherited(self, style: str) -> Iterator[Any]:
        for _ in range(STYLES_DEEP):
            node = self._styles.get(style)
            if node is None:
                return
            yield node.find(W + "pPr")
            style = setting(node, "basedOn", "")

    def _levels(self, of: str) -> dict[int, Any]:
        """The levels of a list, by depth; its own before those it shares."""
        node = self._lists.get(of)
        abstract = self._abstract.get(setting(node, "abstractNumId", ""))
        if node is None or abstract is None:
            return {}
        found = {at(level): level for level in abstract.findall(W + "lvl")}
        for override in node.findall(W + "lvlOverride"):
            own = override.find(W + "lvl")
            if own is not None:
                found[at(override)] = own
        return found

    def _counted(self, of: str, level: int, levels: dict[int, Any]) -> list[int]:
        """The counts of all levels once this paragraph is counted."""
        node = self._lists[of]
        starts = {
            at(override): number(setting(override, "startOverride", ""), 0)
            for override in node.findall(W + "lvlOverride")
            if override.find(W + "startOverride") is not None
        }
        key = of if starts else "shared " + setting(node, "abstractNumId", "")
        first = [
            starts.get(place, number(setting(levels.get(place), "start", "1"), 1))
            for place in range(LEVELS)
        ]
        before = self._counts.get(key, [start - 1 for start in first])
        now = [
            max(count, first[place]) if place < level else first[place] - 1
            for place, count in enumerate(before)
        ]
        now[level] = before[level] + 1
        self._counts[key] = now
        return now


def setting(node: Any, name: str, otherwise: str) -> str:
    """The value of a property; `otherwise` where it is not set."""
    found = None if node is None else node.find(W + name)
    return otherwise if found is None else str(found.get(VAL, otherwise))


def at(node: Any) -> int:
    """The depth of a level."""
    return min(number(node.get(W + "ilvl"), 0), LEVELS - 1)


def tied_to(level: Any, style: str) -> bool:
    """Whether paragraphs of a style are of this level."""
    return bool(style) and setting(level, "pStyle", "") == style


def written(count: int, kind: str) -> str:
    """A count as a list shows it."""
    letter = ALPHABET[(count - 1) % 26] * ((count - 1) // 26 + 1) if count > 0 else ""
    match kind:
        case "lowerLetter":
            return letter
        case "upperLetter":
            return letter.upper()
        case "lowerRoman":
            return roman(count).lower()
        case "upperRoman":
            return roman(count)
        case "decimalZero":
            return f"{count:02}"
        case "none":
            return ""
        case _:
            return str(count)


def roman(count: int) -> str:
    """A Roman number, up to 3999; larger ones in digits."""
    if not 0 < count < 4000:
        return str(count)
    digits = ("", "a", "aa", "aaa", "ab", "b", "ba", "baa", "baaa", "ac")
    signs = ("IVX", "XLC", "CDM", "M__")
    return "".join(
        digits[int(digit)].translate(str.maketrans("abc", signs[place]))
        for place, digit in zip(range(3, -1, -1), f"{count:04}", strict=True)
    )
