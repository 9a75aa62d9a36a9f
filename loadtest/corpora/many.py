"""
Letters by the ten thousand: each its own file, and only a few dozen drawn.

A picture is drawn once and goes out under many numbers, each with another remark in its
file, so that no two have the same bytes.  What a simulated OCR vendor reads of each is
written down beforehand (`labels`), and that text is the letter's own.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image

from loadtest.corpora.letters import NAMES, as_png, compose
from loadtest.corpora.noise import A5, HAND, TYPED, page
from loadtest.corpora.troubles import disclosing

HANDS, PRINTS = 3, 4  # drawn pages; arbitrary: some seconds, and not all alike
PHOTO_WIDTH = 520  # pixels: 20 kB a photo, for nobody but a simulated vendor reads it
SURE, UNSURE = 0.96, 0.31  # of the vendor
WORDS = (55, 80)

Kind = Literal["photo", "printed", "disclosing", "unsure"]


@dataclass(frozen=True, slots=True)
class Made:
    """One letter; `text` is what stands on a photo, "" of a printed page."""

    name: str
    data: bytes
    kind: Kind
    text: str

    @property
    def sha256(self) -> str:
        """Of its bytes."""
        return sha256(self.data).hexdigest()


class Letters:
    """
    As many letters as one wants, by number; the same seed makes the same.

    Args:
        machine: The share that is printed, for a machine to read.
        odd: The share that discloses something.
        unsure: The share of which the vendor is not sure.
    """

    def __init__(self, seed: int, machine: float, odd: float, unsure: float) -> None:
        self._seed = seed
        self._shares: tuple[tuple[Kind, float], ...] = (
            ("printed", machine),
            ("disclosing", odd),
            ("unsure", unsure),
        )
        self._photos = [self._photo(n) for n in range(HANDS)]
        self._prints = [self._print(n) for n in range(PRINTS)]

    def letter(self, number: int) -> Made:
        """One of them."""
        rng = random.Random(f"many:{self._seed}:{number}")
        kind = self._kind(rng)
        remark = f"letter {number} of {self._seed}".encode()
        if kind == "printed":
            data = with_text_chunk(self._prints[number % PRINTS], remark)
            return Made(f"letter-{number:06}.png", data, kind, "")
        text = compose(rng, rng.choice(NAMES), words=rng.randint(*WORDS))
        if kind == "disclosing":
            text = disclosing(text, rng)
        data = with_comment(self._photos[number % HANDS], remark)
        return Made(f"letter-{number:06}.jpg", data, kind, text)

    def _kind(self, rng: random.Random) -> Kind:
        drawn = rng.random()
        for kind, share in self._shares:
            drawn -= share
            if drawn < 0:
                return kind
        return "photo"

    def _photo(self, number: int) -> bytes:
        rng = random.Random(f"photo:{self._seed}:{number}")
        text = compose(rng, rng.choice(NAMES), words=70)
        drawn = page(text, HAND[number % len(HAND)], A5, "photo", rng).convert("L")
        height = round(drawn.height * PHOTO_WIDTH / drawn.width)
        out = BytesIO()
        drawn.resize((PHOTO_WIDTH, height), Image.Resampling.BILINEAR).save(
            out, "JPEG", quality=40, dpi=(90, 90)
        )
        return out.getvalue()

    def _print(self, number: int) -> bytes:
        rng = random.Random(f"print:{self._seed}:{number}")
        text = compose(rng, rng.choice(NAMES), words=60)
        face = TYPED[number % len(TYPED)]
        return as_png(page(text, face, A5, "clean", rng), A5.dpi)


def write_labels(path: Path, letters: Iterable[Made]) -> None:
    """What the vendor reads of each photo, a line each."""
    with path.open("w", encoding="utf-8") as lines:
        for one in letters:
            if one.text:
                sure = UNSURE if one.kind == "unsure" else SURE
                label = {"sha256": one.sha256, "text": one.text, "confidence": sure}
                lines.write(json.dumps(label) + "\n")


def with_comment(jpeg: bytes, remark: bytes) -> bytes:
    """The same picture as another file: a comment stands behind its first mark."""
    segment = b"\xff\xfe" + struct.pack(">H", len(remark) + 2) + remark
    return jpeg[:2] + segment + jpeg[2:]


def with_text_chunk(png: bytes, remark: bytes) -> bytes:
    """The same picture as another file: a text stands before its end."""
    body = b"tEXtComment\0" + remark
    chunk = (
        struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    )
    end = png.rindex(b"IEND") - 4
    return png[:end] + chunk + png[end:]
