"""
Pictures that lie, bomb, loop or end too soon, made from a few struct calls.

Nothing here is copied from anywhere, and most is put together by hand, because no
library would write it.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from loadtest.corpora.slips import WISHES, WORDS, letter, saved, written
from loadtest.hostile.entry import Named


def pictures(rng: random.Random) -> Iterator[Named]:
    """All of this module."""
    yield from sizes()
    yield from resolutions()
    yield from png_lies()
    yield from tiff_lies()
    yield from other_bombs(rng)
    yield from colours(rng)
    yield from orientations()


def sizes() -> Iterator[Named]:
    """Nothing, next to nothing, and one pixel wide."""
    for kind in ("png", "jpg", "pdf", "txt"):
        yield f"size-0-bytes.{kind}", b""
    for number, kind in enumerate(("png", "jpg", "tif", "gif", "bmp", "webp")):
        yield f"size-1x1.{kind}", saved(Image.new("L", (1, 1), number), kind)
        yield f"size-1-byte.{kind}", bytes([65 + number])
    for kind in ("png", "jpg", "tif"):
        tall = Image.new("L", (1, 30_000), 0)
        yield f"size-1x30000.{kind}", saved(tall, kind)
        yield f"size-30000x1.{kind}", saved(tall.rotate(90, expand=True), kind)
    yield "size-40000x2.png", saved(Image.new("1", (40_000, 2), 0), "png")
    # 196 million pixels are under the limit: it must be read, within its memory.
    yield "size-14000x14000.png", saved(Image.new("1", (14_000, 14_000), 1), "png")


def resolutions() -> Iterator[Named]:
    """Dots per inch that cannot be."""
    whole = letter("png", 1)
    for name, dots in (("0", 0), ("1", 1), ("huge", 2**31 - 1)):
        yield (
            f"dpi-{name}.png",
            _with_chunk(whole, b"pHYs", struct.pack(">IIB", *[dots] * 2, 1)),
        )
    jpeg = bytearray(letter("jpg", 2))
    at = jpeg.index(b"JFIF\0") + 7
    for name, dots in (("0", 0), ("65535", 65_535)):
        jpeg[at : at + 5] = struct.pack(">BHH", 1, dots, dots)
        yield f"dpi-{name}.jpg", bytes(jpeg)
    for name, ratio in (("nan", (0, 0)), ("infinite", (1, 0)), ("tiny", (1, 2**31))):
        entry = (282, 5, 1, struct.pack("<II", *ratio))
        yield (
            f"dpi-{name}.tif",
            tiff([{**_tags(60, 40), 282: entry[1:], 283: entry[1:]}]),
        )
    nan = (11, 1, struct.pack("<f", float("nan")))
    yield "dpi-nan-float.tif", tiff([{**_tags(61, 40), 282: nan, 283: nan}])


# -- PNG ------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + _crc(kind + data)


def png(
    width: int, height: int, rows: bytes, *, depth: int = 1, colour: int = 0
) -> bytes:
    """A PNG of what it is told, however wrong."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


VAST = 13_000  # pixels a side: under the limit of pixels, and 680 MB in each copy


def vast() -> bytes:
    """A PNG of nothing that is told the truth about: its reader needs its memory."""
    packer = zlib.compressobj(1)
    row = bytes(1 + 4 * VAST)
    rows = b"".join(packer.compress(row) for _ in range(VAST)) + packer.flush()
    return png(VAST, VAST, rows, depth=8, colour=6)


def png_lies() -> Iterator[Named]:
    """PNG files whose chunks say what is not so."""
    few = zlib.compress(bytes(1000))
    yield "bomb-65500x65500.png", png(65_500, 65_500, few)
    yield "bomb-2147483647.png", png(2**31 - 1, 2**31 - 1, few)
    honest = zlib.compress(bytes(20_000 * 2501), 9)
    yield "bomb-20000x20000-honest.png", png(20_000, 20_000, honest)
    yield "png-zero-width.png", png(0, 10, few)
    yield "png-depth-3.png", png(20, 20, few, depth=3)
    yield "png-rows-missing.png", png(3000, 3000, few)
    yield "png-rows-too-many.png", png(8, 8, zlib.compress(bytes(5_000_000), 9))
    yield "png-no-zlib.png", png(80, 80, b"this is no zlib stream")
    whole = letter("png", 3)
    big = zlib.compress(b"A" * 60_000_000, 9)
    for kind, name in ((b"zTXt", "ztxt"), (b"iCCP", "iccp")):
        yield f"bomb-{name}.png", _with_chunk(whole, kind, b"Comment\0\0" + big)
    script = b"Comment\0<?php system($_GET['c']); ?><script>alert(1)</script>"
    yield "png-script-in-text.png", _with_chunk(whole, b"tEXt", script)
    many = b"".join(chunk(b"tEXt", b"k%d\0v" % n) for n in range(20_000))
    yield "png-20000-chunks.png", whole[:33] + many + whole[33:]
    yield "png-chunk-length-lies.png", whole[:33] + b"\xff\xff\xff\xf0tEXt" + whole[33:]
    yield "png-no-end.png", whole[:-12]
    yield "png-bad-crc.png", whole[:29] + b"\0\0\0\0" + whole[33:]
    yield "png-palette-empty.png", png(20, 20, few, depth=8, colour=3)
    frames = [Image.new("L", (30, 30), n) for n in range(0, 200, 2)]
    animated = saved(frames[0], "png", save_all=True, append_images=frames[1:])
    yield "png-100-frames.png", animated


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


def _with_chunk(whole: bytes, kind: bytes, data: bytes) -> bytes:
    """Put a chunk behind the header of a PNG."""
    return whole[:33] + chunk(kind, data) + whole[33:]


# -- TIFF -----------------------------------------------------------------------------

Tag = tuple[int, int, bytes]  # type, count, value of at most 8 bytes


def _tags(width: int, height: int) -> dict[int, Tag]:
    """The tags of a one-bit strip of zeros behind the header, white."""
    return {
        256: (4, 1, struct.pack("<I", width)),
        257: (4, 1, struct.pack("<I", height)),
        258: (3, 1, struct.pack("<I", 1)),
        259: (3, 1, struct.pack("<I", 1)),
        262: (3, 1, struct.pack("<I", 0)),
        273: (4, 1, struct.pack("<I", 8)),
        277: (3, 1, struct.pack("<I", 1)),
        278: (4, 1, struct.pack("<I", height)),
        279: (4, 1, struct.pack("<I", (width + 7) // 8 * height)),
    }


def tiff(frames: list[dict[int, Tag]], *, end: int = 0, room: int = 4000) -> bytes:
    """Directories one behind the other; `end` is where the last one points."""
    out = bytearray(b"II*\0" + struct.pack("<I", 8 + room) + bytes(room))
    for number, tags in enumerate(frames):
        start = len(out)
        behind = start + 2 + 12 * len(tags) + 4
        values = bytearray()
        out += struct.pack("<H", len(tags))
        for tag, (kind, count, value) in sorted(tags.items()):
            if len(value) > 4:
                place = struct.pack("<I", behind + len(values))
                values += value
            else:
                place = value.ljust(4, b"\0")
            out += struct.pack("<HHI", tag, kind, count) + place
        last = number == len(frames) - 1
        out += struct.pack("<I", end if last else behind + len(values))
        out += values
    return bytes(out)


def tiff_lies() -> Iterator[Named]:
    """TIFF files whose directories loop, lie or never end."""
    small = _tags(8, 8)
    yield "bomb-5000-frames.tif", tiff([small] * 5000)
    yield "bomb-65000x65000.tif", tiff([_tags(65_000, 65_000)])
    yield "tiff-cycle.tif", tiff([_tags(16, 8)], end=8 + 4000)
    yield "tiff-cycle-of-3.tif", tiff([_tags(24, 8)] * 3, end=8 + 4000)
    yield "tiff-next-beyond-end.tif", tiff([_tags(32, 8)], end=2**31)
    inner = {**_tags(40, 8), 330: (4, 1, struct.pack("<I", 8 + 4000))}
    yield "tiff-nested-in-itself.tif", tiff([inner])
    strip = (4, 1, struct.pack("<I", 2**31))
    yield "tiff-strip-beyond-end.tif", tiff([{**_tags(48, 8), 273: strip}])
    yield (
        "tiff-4-billion-strips.tif",
        tiff([{**_tags(56, 8), 273: (4, 2**32 - 1, bytes(8)), 278: (4, 1, b"\1")}]),
    )
    for number, compression in enumerate((0, 3, 4, 5, 7, 50_000, 34_712)):
        code = (3, 1, struct.pack("<I", compression))
        yield (
            f"tiff-compression-{compression}-garbage.tif",
            tiff([{**_tags(64 + number, 8), 259: code}]),
        )
    samples = (3, 1, struct.pack("<I", 65_535))
    yield "tiff-65535-samples.tif", tiff([{**_tags(80, 8), 277: samples}])
    yield "tiff-0-rows-a-strip.tif", tiff([{**_tags(88, 8), 278: (4, 1, bytes(4))}])
    tile = {322: (4, 1, b"\0\0\0\0"), 323: (4, 1, b"\0\0\0\0"), 324: (4, 1, b"\x08")}
    yield "tiff-tiles-of-nothing.tif", tiff([{**_tags(96, 8), **tile}])
    yield "tiff-no-tags.tif", b"II*\0\x08\0\0\0" + bytes(6)
    yield "tiff-65535-tags.tif", b"II*\0\x08\0\0\0\xff\xff" + bytes(4000)
    yield "tiff-big-lies.tif", b"II+\0\x08\0\0\0" + b"\x10" + bytes(7) + b"\xff" * 64
    yield "tiff-motorola-garbage.tif", b"MM\0*\0\0\0\x08" + bytes(range(256))


# -- the others -----------------------------------------------------------------------


def other_bombs(rng: random.Random) -> Iterator[Named]:
    """GIF, BMP, WebP, JPEG and HEIC that are larger than they look, or loop."""
    gif = letter("gif", 4)
    yield "bomb-65535x65535.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:]
    frames = [Image.new("P", (20, 20), n % 250) for n in range(1000)]
    many = saved(frames[0], "gif", save_all=True, append_images=frames[1:])
    yield "bomb-1000-frames.gif", many
    yield "gif-frame-outside.gif", gif.replace(b",\0\0\0\0", b",\xf0\xff\xf0\xff", 1)
    yield (
        "gif-no-colours.gif",
        b"GIF89a\x08\0\x08\0\0\0\0,\0\0\0\0\x08\0\x08\0\0\x02\0;",
    )
    loop = (
        b"GIF89a\x08\0\x08\0\x80\0\0\0\0\0\xff\xff\xff"
        + b"!\xfe"
        + b"\xff"
        + b"x" * 255
    )
    yield "gif-comment-never-ends.gif", loop * 200
    bmp = bytearray(letter("bmp", 5))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    yield "bomb-60000x60000.bmp", bytes(bmp)
    bmp[18:26] = struct.pack("<ii", -600, -2_147_483_648)
    yield "bmp-negative.bmp", bytes(bmp)
    info = struct.pack("<IiiHHIIiiII", 40, 20_000, 20_000, 1, 8, 1, 64, 0, 0, 2, 0)
    head = b"BM" + struct.pack("<IHHI", 200, 0, 0, 62) + info + bytes(8)
    yield "bomb-run-length.bmp", head + b"\xff\x00" * 60 + b"\0\1"
    webp = b"VP8L\x14\0\0\0\x2f" + struct.pack("<I", 16_382 | 16_382 << 14) + bytes(15)
    yield (
        "bomb-16383x16383.webp",
        b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp,
    )
    turns = [Image.new("L", (32, 32), n * 2) for n in range(120)]
    yield (
        "bomb-120-frames.webp",
        saved(turns[0], "webp", save_all=True, append_images=turns[1:], lossless=True),
    )
    yield (
        "webp-size-lies.webp",
        b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\x7f" + bytes(64),
    )
    jpeg = letter("jpg", 6)
    at = jpeg.index(b"\xff\xc0") + 5
    yield "bomb-65500x65500.jpg", jpeg[:at] + b"\xff\xdc\xff\xdc" + jpeg[at + 4 :]
    yield "jpeg-0-height.jpg", jpeg[:at] + b"\0\0" + jpeg[at + 2 :]
    comment = b"\xff\xfe\xff\xff" + b"<?php /* " + b"x" * 65_524
    yield "jpeg-100-comments.jpg", jpeg[:2] + comment * 100 + jpeg[2:]
    yield "jpeg-no-tables.jpg", jpeg[:2] + jpeg[jpeg.index(b"\xff\xda") :]
    yield "jpeg-only-start.jpg", b"\xff\xd8\xff"
    rough = Image.frombytes("L", (500, 500), rng.randbytes(250_000))
    slow = saved(rough, "jpg", progressive=True)
    yield "jpeg-progressive-cut-at-60.jpg", slow[: len(slow) * 6 // 10]
    heic = letter("heic", 7)
    yield "heic-boxes-loop.heic", heic[:40] + b"\0\0\0\0meta" * 400
    yield "heic-size-lies.heic", b"\xff\xff\xff\xff" + heic[4:]
    yield "heic-only-brand.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def colours(rng: random.Random) -> Iterator[Named]:
    """Every mode that a scanner, a printer or a prankster leaves behind."""
    text = f"{WORDS} {WISHES[0]}"
    yield "colour-cmyk.jpg", saved(written(text, "CMYK"), "jpg")
    yield "colour-ycck-garbage.jpg", saved(written(text, "CMYK"), "jpg")[:-400]
    yield "colour-16-bit.png", saved(written(text).convert("I;16"), "png")
    yield "colour-16-bit.tif", saved(written(text).convert("I;16"), "tif")
    yield "colour-32-bit.tif", saved(written(text).convert("I"), "tif")
    yield "colour-float.tif", saved(written(text).convert("F"), "tif")
    nan = Image.frombytes("F", (40, 40), struct.pack("<f", float("nan")) * 1600)
    yield "colour-float-nan.tif", saved(nan, "tif")
    yield "colour-lab.tif", saved(Image.new("LAB", (60, 60), (255, 128, 128)), "tif")
    yield "colour-bilevel.tif", saved(written(text, "1"), "tif", compression="group4")
    yield "colour-palette.png", saved(written(text, "P"), "png")
    yield "colour-palette.gif", saved(written(text, "P"), "gif", transparency=0)
    gray = written(text)
    alpha = Image.merge("LA", (gray, gray.point(lambda v: 255 - v)))
    yield "colour-text-in-alpha.png", saved(alpha, "png")
    clear = gray.convert("RGBA")
    clear.putalpha(0)
    yield "colour-all-transparent.png", saved(clear, "png")
    yield "colour-all-transparent.webp", saved(clear, "webp", lossless=True)
    yield (
        "colour-white-on-white.png",
        saved(gray.point(lambda v: 254 + v // 255), "png"),
    )
    yield "colour-black.png", saved(Image.new("L", (500, 300), 0), "png")
    yield "colour-white-on-black.png", saved(gray.point(lambda v: 255 - v), "png")
    noise = Image.frombytes("L", (500, 300), rng.randbytes(150_000))
    yield "colour-noise.png", saved(noise, "png")
    yield (
        "colour-profile-garbage.jpg",
        saved(gray, "jpg", icc_profile=rng.randbytes(9000)),
    )
    yield "colour-profile-garbage.png", saved(gray, "png", icc_profile=b"\0" * 128)
    yield "colour-rgb-f16.webp", saved(gray.convert("RGB"), "webp", quality=1)


def orientations() -> Iterator[Named]:
    """Every EXIF orientation there is, some that are not, and EXIF that bites."""
    for turn in (1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65_535):
        exif = Image.Exif()
        exif[0x0112] = turn
        image = written(f"{WORDS} {WISHES[turn % len(WISHES)]}", "RGB")
        image.putpixel((0, 0), (turn % 256, 250, 250))
        yield f"exif-turn-{turn}.jpg", saved(image, "jpg", exif=exif)
    place = Image.Exif()
    place[0x8825] = {1: "N", 2: (51.0, 30.0, 0.0)}
    place[0x010E] = "<script>alert(1)</script>"
    yield "exif-place-and-script.jpg", saved(written(WORDS), "jpg", exif=place)
    garbage = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(256)) * 8
    yield "exif-garbage.jpg", saved(written(WORDS, "RGB"), "jpg", exif=garbage)
    loop = b"Exif\0\0II*\0\x08\0\0\0" + b"\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"
    yield "exif-points-to-itself.jpg", saved(written(WORDS, "RGB"), "jpg", exif=loop)
