"""Slips of paper: small honest pictures of a line in large type, cheap to read."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw, ImageFont

WORDS = "PLEASE MAY I HAVE"
WISHES = ("A RED KITE", "A DRUM", "WARM SOCKS", "TWO HENS", "A BLUE BELL", "CHALK")
FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "webp": "WEBP", "bmp": "BMP"}


def written(text: str, mode: str = "L") -> Image.Image:
    """A slip of paper with a line of large type; cheap to read."""
    slip = Image.new("L", (620, 160), 255)
    font = ImageFont.load_default(40)
    ImageDraw.Draw(slip).text((24, 50), text, fill=0, font=font)
    return slip.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """`image` as the bytes of a file of `kind`."""
    out = BytesIO()
    if kind == "heic":
        import pillow_heif

        pillow_heif.from_pillow(image.convert("RGB")).save(out, quality=60)
    else:
        image.save(out, FORMATS.get(kind, kind.upper()), **options)
    return out.getvalue()


@cache
def letter(kind: str, number: int = 0) -> bytes:
    """An honest picture of `kind`; another number is another wish."""
    wish = WISHES[number % len(WISHES)]
    image = written(f"{WORDS} {wish}", "RGB" if kind == "heic" else "L")
    # Number in a corner pixel, so that no two are the same bytes.
    image.putpixel((0, 0), 255 - number % 40 if image.mode == "L" else (255, 254, 250))
    options = {"dpi": (150, 150)} if kind in ("png", "jpg", "tif", "bmp") else {}
    return saved(image, kind, **options)


@cache
def blank(kind: str, number: int) -> bytes:
    """An empty sheet of `kind`, no two alike: known by its ink, never read."""
    shade = (255 - number % 12, 255, 255)
    mode = "RGB" if kind == "heic" else "L"
    size = (200 + number % 7, 100 + number // 7)
    return saved(Image.new("RGB", size, shade).convert(mode), kind)
