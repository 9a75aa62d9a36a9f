"""
Fonts of a PDF: does a line written in one show the characters that its text claims?

A font may show any glyph for a character, by mistake or to deceive; only reading the
picture tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.reading.layer.glyphs import Glyphs

if TYPE_CHECKING:
    from PIL.Image import Image

# What a reader makes of a picture of one line that is said to show these letters; None
# where nobody here reads their script, and they are not of another.
Verify = Callable[["Image", str], str | None]

# Characters of a font; fewer are a heading or a bullet, not worth a look.
VERIFY_MIN = 8
VERIFY_CHARS = 50  # of the line that is looked at
VERIFY_DPI = 300
SIMILAR_MIN = 0.5
UNVERIFIED_MAX = 0.2  # share of glyphs in fonts that were not looked at

# Of a document, by a digest of each font's name and bytes: whether a line written in
# it showed what the layer said.
Known = dict[str, bool]
KNOWN_MAX = 1_000


@dataclass(slots=True)
class Fonts:
    """
    The fonts of a page, each to be compared with a line written in it.

    Attributes:
        known: Of other pages of its document; what is found here is added.
    """

    known: Known
    page: Any
    glyphs: Glyphs
    seen: Any
    boxes: Any
    scale: float
    unit: float

    def say_what_they_show(self, verify: Verify) -> bool:
        """Whether no font shows other characters than the layer says."""
        counts: dict[int, int] = {}
        lines = self._lines()
        for font, places in lines:
            counts[font] = counts.get(font, 0) + len(places)
        unverified, allowed = 0, UNVERIFIED_MAX * sum(counts.values())
        for font, count in sorted(counts.items(), key=lambda pair: pair[1]):
            key = digest(self.glyphs.fonts[font])
            if key not in self.known:
                mine = [places for of, places in lines if of == font]
                best = max(mine, key=len)
                unverified += count if len(best) < VERIFY_MIN else 0
                if len(best) < VERIFY_MIN and unverified <= allowed:
                    continue
                if len(self.known) >= KNOWN_MAX:
                    self.known.clear()
                self.known[key] = self._shows(best, verify)
            if not self.known[key]:
                return False
        return True

    def _lines(self) -> list[tuple[int, list[int]]]:
        """Runs of letters and digits in one font on one line, with their places."""
        found: list[tuple[int, list[int]]] = []
        last: tuple[int, float] | None = None
        for place in range(len(self.glyphs.codes)):
            ink, code = self.glyphs.inks[place], self.glyphs.codes[place]
            if code in (10, 13):
                last = None
            if ink is None or not self.seen[place]:
                continue
            if code > 0x10FFFF or not chr(code).isalnum():
                continue
            middle = float(self.boxes[place, 1] + self.boxes[place, 3]) / 2
            near = last is not None and abs(last[1] - middle) < ink.points
            if last is None or last[0] != ink.font or not near:
                found.append((ink.font, []))
            if len(found[-1][1]) < VERIFY_CHARS:
                found[-1][1].append(place)
            last = (ink.font, middle)
        return found

    def _shows(self, places: list[int], verify: Verify) -> bool:
        """Whether a reader of the picture finds these characters there."""
        from rapidfuzz import fuzz

        said = "".join(chr(self.glyphs.codes[place]) for place in places)
        read = verify(self._line(places), said)
        if read is None:
            return True
        plain = "".join(c for c in read.casefold() if c.isalnum())
        said = said.casefold()
        # Right-to-left text may come in either order.
        best = max(fuzz.ratio(said, plain), fuzz.ratio(said, plain[::-1]))
        return best >= 100 * SIMILAR_MIN

    def _line(self, places: list[int]) -> Image:
        """A picture of these characters, in gray with a margin."""
        from PIL import ImageOps

        width, height = self.page.get_size()
        left, top = self.boxes[places, :2].min(axis=0) / self.scale
        right, bottom = self.boxes[places, 2:].max(axis=0) / self.scale
        margin = max(1.0 / self.unit, 0.2 * float(bottom - top))
        sides = (
            left - margin,
            height - bottom - margin,
            width - right - margin,
            top - margin,
        )
        crop = tuple(max(0.0, float(side)) for side in sides)
        bitmap = self.page.render(scale=VERIFY_DPI / 72 * self.unit, crop=crop)
        try:
            line: Image = bitmap.to_pil().convert("L")
        finally:
            bitmap.close()
        paper = max(range(256), key=line.histogram().__getitem__)
        return ImageOps.expand(line, border=24, fill=paper)


def digest(font: tuple[str, int]) -> str:
    """A word for a font, of a length that its document does not choose."""
    return hashlib.sha256(repr(font).encode()).hexdigest()[:16]
