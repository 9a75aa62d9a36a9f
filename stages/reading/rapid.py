"""
rapidocr: PP-OCR's nets find lines, and read each; the models are in its wheel.

OpenVINO runs them where it is installed, in seven tenths of the time, and starts no
thread, so a process that has them ready can be forked; onnxruntime elsewhere.
The page is read as it is: light and size matter little to it.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.layout import Box
from stages.reading.words import Word

if TYPE_CHECKING:
    from PIL.Image import Image

NAME = "rapidocr"
# Long side, in pixels, of the copy on which lines are looked for: on a smaller one
# more is found, and quicker.  Larger paper has smaller print on that copy.
SIDE, SIDE_LARGE = 1280, 1600
STRIP = 4.0  # times as long as it is wide, a page is a strip
A4_LONG = 3600  # pixels at 300 dpi, and a little

# Pixels that the net makes a line high.  Lines are filled up to a multiple of it, for
# each length that it has not met costs as much as a short line: on receipts an eighth.
HIGH = 48
USUAL = 10  # lengths, of receipts' and forms' lines, that it meets beforehand
FILL = 127  # of 255: nothing, to the net

# Without a score every line counts: what cannot be read is to be seen as well.
PARAMETERS = {
    "Global.text_score": 0.0,
    "Global.use_cls": False,  # it turns good lines upside down
    "Global.log_level": "critical",
    "Det.limit_type": "max",
    "Rec.rec_batch_num": 1,  # in larger ones short lines are filled up
    "Rec.rec_img_shape": [3, HIGH, HIGH],  # by default the net sees 320 at least
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    "EngineConfig.openvino.inference_num_threads": 1,
    "EngineConfig.openvino.num_streams": 0,  # whoever asks runs it, and no thread
}


class Piece(NamedTuple):
    """A run of text as it was found; `words` have boxes and scores of their own."""

    box: Box
    words: tuple[Word, ...]


def runtime() -> str:
    """What runs the nets here; `openvino` has no wheel for every machine."""
    return "openvino" if importlib.util.find_spec("openvino") else "onnxruntime"


def threaded() -> bool:
    """Whether its nets start a thread where they may: of onnxruntime they do."""
    return runtime() == "onnxruntime"


@cache
def loaded() -> Any:
    """The library and its nets, once."""
    # OpenVINO tells its makers of every start, from a thread of its own, if it can.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    from rapidocr import EngineType, RapidOCR

    logging.getLogger("RapidOCR").disabled = True
    kind = EngineType(runtime())
    nets = {"Det.engine_type": kind, "Rec.engine_type": kind}
    reader: Any = RapidOCR(params={**PARAMETERS, **nets})
    reader._load_det_model()
    reader._load_rec_model()
    return reader


def warm() -> None:
    """The library and its nets, which have met the usual lengths of lines."""
    import numpy

    lines = [numpy.full((HIGH, HIGH * n, 3), FILL, "uint8") for n in range(1, USUAL)]
    loaded().recognize_txt(lines)


class RapidOcr:
    """See `stages.reading.engines.Engine`; `lang` and `psm` mean nothing to it."""

    name = NAME

    def read(self, image: Image, *, dpi: int, lang: str, psm: int) -> list[Word]:
        """Every word, line by line from the top, each line a block of its own."""
        return [
            word._replace(block=number, line=number)
            for number, piece in enumerate(pieces_of(image))
            for word in piece.words
        ]


def pieces_of(image: Image) -> list[Piece]:
    """Every run of text on a gray picture, from the top; in parts, of a long strip."""
    short, long = sorted(image.size)
    if long <= STRIP * short:
        return pieces_in(image)
    found: list[Piece] = []
    for part in parts(*image.size):
        for piece in pieces_in(image.crop(part)):
            moved = shifted(piece, *part[:2])
            if not any(covers(known.box, moved.box) for known in found):
                found = [one for one in found if not covers(moved.box, one.box)]
                found.append(moved)
    return found


def parts(wide: int, high: int) -> Iterator[Box]:
    """Parts of a strip that overlap: on one small copy of it lines would vanish."""
    short, long = sorted((wide, high))
    step = round((STRIP - 1) * short)
    for start in range(0, long - short, step):
        end = min(long, start + round(STRIP * short))
        yield (start, 0, end, high) if wide > high else (0, start, wide, end)


def shifted(piece: Piece, left: int, top: int) -> Piece:
    """A piece of a part, on the page."""

    def moved(box: Box) -> Box:
        return (box[0] + left, box[1] + top, box[2] + left, box[3] + top)

    words = tuple(word._replace(box=moved(word.box)) for word in piece.words)
    return Piece(moved(piece.box), words)


def covers(one: Box, other: Box) -> bool:
    """Whether the middle of `other` lies in `one`, which is as wide."""
    x, y = (other[0] + other[2]) / 2, (other[1] + other[3]) / 2
    return (
        one[2] - one[0] >= other[2] - other[0]
        and one[0] <= x <= one[2]
        and one[1] <= y <= one[3]
    )


def pieces_in(image: Image) -> list[Piece]:
    """Every run of text on a picture that is no long strip."""
    import numpy
    from rapidocr.main import RapidOCRError

    reader, page = loaded(), numpy.asarray(image.convert("RGB"))
    large = max(image.size) > A4_LONG
    reader.text_det.limit_side_len = SIDE_LARGE if large else SIDE
    padding: dict[str, Any] = {}
    try:
        cut, found = reader.detect_and_crop(page, padding)
    except RapidOCRError:
        return []  # there is no text
    down = padding["padding_1"]["top"]
    boxes = [corners - (0, down) for corners in found.boxes]
    return [piece for piece in recognised(cut, boxes, image.size) if piece.words]


def pieces_at(image: Image, boxes: Sequence[Box]) -> list[Piece]:
    """What stands in each of these boxes of a gray picture; words it may have none."""
    import numpy

    page = numpy.asarray(image.convert("RGB"))
    cut = [page[top:bottom, left:right] for left, top, right, bottom in boxes]
    corners = [
        numpy.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        for left, top, right, bottom in boxes
    ]
    return recognised(cut, corners, image.size)


def recognised(
    cut: Sequence[Any], boxes: Sequence[Any], size: tuple[int, int]
) -> list[Piece]:
    """
    The text of pictures of lines, each with the corners that it was cut out by.

    Args:
        size: Of the page, in pixels.
    """
    if not cut:
        return []
    reader = loaded()
    reader.return_word_box = True
    lines = [filled(line) for line in cut]
    read = reader.recognize_txt(lines)
    return [
        Piece(
            around_of(corners, size),
            tuple(words_in(corners, size, text, where, line.shape[1] / given.shape[1])),
        )
        for corners, text, where, line, given in zip(
            boxes, read.txts, read.word_results, lines, cut, strict=True
        )
    ]


def filled(line: Any) -> Any:
    """A picture of a line, so long that the net has met its like."""
    import numpy

    high, wide, _ = line.shape
    long = math.ceil(wide / high) * high
    more = ((0, 0), (0, long - wide), (0, 0))
    return numpy.pad(line, more, constant_values=FILL)


def words_in(
    corners: Any,
    size: tuple[int, int],
    text: str,
    where: Any,
    longer: float,
) -> Iterator[Word]:
    """
    The words of a piece, each where its characters were seen.

    Args:
        corners: Of the piece: top left, top right, bottom right, bottom left.
        where: The library's columns of characters, and how sure it is of each.
        longer: What the net saw, as a share of the piece: 1 and more.
    """
    columns = [column for word in where.word_cols for column in word]
    sure, count = list(where.confs), max(1.0, float(where.line_txt_len))
    upright = long_side(corners[0], corners[3]) >= 1.5 * long_side(
        corners[0], corners[1]
    )
    seen = 0
    for match in re.finditer(r"\S+", text):
        length = len(match.group())
        mine = columns[seen : seen + length] or [0]
        seen += length
        scores = sure[match.start() : match.end()] or [0.0]
        half = (mine[-1] - mine[0]) / max(1, length - 1) / 2 or 1.0
        first = (mine[0] + 0.5 - half) / count * longer
        last = (mine[-1] + 0.5 + half) / count * longer
        if upright:
            box = around_of(corners, size)
        else:
            box = around_of(share(corners, first, last), size)
        yield Word(match.group(), box, 100 * sum(scores) / len(scores), 0, 0)


def share(corners: Any, first: float, last: float) -> list[Any]:
    """A part of a piece, from one share of its length to another."""
    left, right, right_low, left_low = corners
    first, last = max(0.0, min(1.0, first)), max(0.0, min(1.0, last))
    along, along_low = right - left, right_low - left_low
    return [
        left + first * along,
        left + last * along,
        left_low + last * along_low,
        left_low + first * along_low,
    ]


def around_of(corners: Sequence[Any], size: tuple[int, int]) -> Box:
    """The box around these corners, on the page."""
    xs = [float(x) for x, _ in corners]
    ys = [float(y) for _, y in corners]
    return (
        max(0, int(min(xs))),
        max(0, int(min(ys))),
        min(size[0], round(max(xs))),
        min(size[1], round(max(ys))),
    )


def long_side(one: Any, other: Any) -> float:
    """The distance of two corners, in pixels."""
    return float(((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) ** 0.5)
