"""
The first reader: tesseract, and what is tried where it makes no sense of a page.

A page is softened and read; as one block where it was left out in parts; another way
up, and with every language, where it made no sense.

Runs jailed.  Libraries of pictures are imported inside functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import WaybillError
from stages.layout import Turn
from stages.reading import engines, tesseract
from stages.reading.agreeing import is_number
from stages.reading.judging import (
    DOUBTED,
    INK_MIN,
    MISSED_ENOUGH,
    NO_INK,
    SURE,
    TESSERACT,
    Ink,
    believed,
    judge,
    missed_of,
    on_scale,
    weight,
)
from stages.reading.languages import READ_BY, data_for, noticed, script_of
from stages.reading.placing import Weighed
from stages.reading.protocol import ReaderSettings
from stages.reading.soft import Softened, soften
from stages.reading.structure import in_order
from stages.reading.words import Word, text_of

if TYPE_CHECKING:
    from PIL.Image import Image

COLUMNS, ONE_BLOCK = 3, 6  # tesseract's page segmentation modes
JUMBLED = 90.0  # confidence, at most, of a page whose order is in doubt
NUMBER_SURE = 90.0  # one of six numbers below was wrong, and nothing else tells
LATIN = 80.0  # of words of which it is certain that they are Latin
IN_ITS_OWN = 3.0  # points that a page may lose by being read in its own language
SENSELESS = 40.0  # confidence of a page on which one more reading is wasted

# A page less sure than this may lie on its side, or on its head.
TURN_BELOW = 65.0
# Pillow's numbers for turning a picture so many degrees clockwise.
WAYS: dict[Turn, Any] = {180: 3, 270: 2, 90: 4}
ASIDE: tuple[Turn, Turn] = (90, 270)
ASIDE_MIN = 3  # words that stand on end, and most that are long do
TURN_SIDE = 1300  # pixels of the copy on which other ways up are tried
TURN_SENSE_MIN = 60.0  # characters in sound words: a few lines


@dataclass(frozen=True, slots=True)
class Read:
    """
    A picture and the words that were found on it, in its own pixels.

    Attributes:
        missed: Share of glyphs, 0-1, that are in no word.
        marked: There is a stroke: see `Ink`.
        turned: Degrees clockwise by which the page was turned to make the picture.
        jumbled: Nobody can be sure of the order of the words.
        noticed: The language it seems to be in, where that is another.
    """

    picture: Image
    words: list[Word]
    engine: str
    ink: float
    covered: float
    dpi: int
    language: str
    missed: float = 0.0
    marked: bool = True
    turned: Turn = 0
    jumbled: bool = False
    noticed: str = ""

    @property
    def confidence(self) -> float:
        """See `judge`."""
        sure = judge(self.words, self.covered, self.missed)
        return min(sure, JUMBLED) if self.jumbled else sure

    def weighed(self) -> list[Weighed]:
        """The words, each on the scale of what was measured."""
        return [
            Weighed(
                word,
                on_scale(TESSERACT, word.confidence),
                word.confidence < (NUMBER_SURE if is_number(word.text) else DOUBTED),
            )
            for word in self.words
        ]


class Reader:
    """
    tesseract, and how it is used here.

    Args:
        once: Another reader looks at what this one makes too little of: a page is not
            read as one block as well.
    """

    def __init__(self, settings: ReaderSettings, *, once: bool = False) -> None:
        self._once = once
        self._engine = engines.first(settings.engine)
        self._lang, self._others = settings.lang, ""
        self._auto = settings.lang == "auto"
        if self._auto:
            self._lang, self._others = tesseract.languages()
        self._psm = settings.psm or COLUMNS
        # A person who names a mode knows how the page is to be read.
        self._ordered = settings.psm is None
        self._soft = settings.preprocess == "soft"

    def page(self, picture: Image, dpi: int) -> Read:
        """Read a page, in the language it is in, where that may be chosen."""
        read = self._any_way_up(picture, dpi)
        seen = noticed(text_of(read.words), self._lang)
        if seen and self._auto and seen in tesseract.installed_languages():
            self._lang = seen
            again = self._read(read.picture, dpi, read.turned)
            if again.confidence > read.confidence - IN_ITS_OWN:
                read, seen = again, noticed(text_of(again.words), seen)
        return replace(read, noticed=seen)

    def _any_way_up(self, picture: Image, dpi: int) -> Read:
        """Read a page; one that makes no sense also another way up, then otherwise."""
        read = self._read(picture, dpi)
        if aside(read.words):
            # tesseract reads lines that run up or down, and their order is lost.
            found = [self._read(picture.transpose(WAYS[t]), dpi, t) for t in ASIDE]
            best = max(found, key=lambda one: weight(undoubted(one)))
            return read if aside(best.words) else best
        if read.ink < INK_MIN or read.confidence >= TURN_BELOW:
            return read
        turn = self._other_way_up(read)
        if turn is not None:
            again = self._read(picture.transpose(WAYS[turn]), dpi, turn)
            read = again if again.confidence > read.confidence else read
        if not self._others or read.confidence >= TURN_BELOW:
            return read
        # Every language at once is slower and slips more: only where one failed.
        self._lang, self._others = self._others, ""
        again = self._read(read.picture, dpi, read.turned)
        return again if again.confidence > read.confidence else read

    def line(self, picture: Image, said: str) -> str | None:
        """
        The text of a picture of one line; "" where it cannot be read.

        Of a script that no data here read, only that it is no Latin can be told: None.
        """
        script = script_of(said)
        known = script not in READ_BY
        lang = self._lang if known else data_for(script)
        try:
            words = self._engine.read(picture, dpi=0, lang=lang or self._lang, psm=7)
        except WaybillError:
            return ""
        if lang:
            return text_of(words)
        latin = sum(
            len(word.text)
            for word in words
            if word.confidence >= LATIN and re.fullmatch("[A-Za-z]{3,}", word.text)
        )
        return text_of(words) if latin > len(said) / 3 else None

    def _read(self, picture: Image, dpi: int, turned: Turn = 0) -> Read:
        ink = Ink(picture)
        if ink.share < NO_INK:
            return self._as_read(picture, [], ink, dpi, turned)
        if ink.share < INK_MIN:
            # Almost nothing is there.  Evening the light would make glyphs of
            # the paper's grain; only a word that is sure counts, a page number.
            words = [w for w in self._words(picture, dpi) if w.confidence >= SURE]
        elif self._soft:
            return self._softened(picture, dpi, ink, turned)
        else:
            words = self._words(picture, dpi)
        return self._as_read(picture, words, ink, dpi, turned)

    def _softened(self, picture: Image, dpi: int, ink: Ink, turned: Turn) -> Read:
        """Read the page's soft copy; as one block too, where parts were left out."""
        soft = soften(picture, dpi)

        def found(psm: int) -> Read:
            words = [
                word._replace(box=soft.back(word.box))
                for word in self._words(soft.image, soft.dpi, psm)
            ]
            return self._as_read(picture, words, ink, dpi, turned, soft)

        read = found(self._psm)
        if (
            self._once
            or self._psm == ONE_BLOCK
            or read.missed <= MISSED_ENOUGH
            or read.confidence < SENSELESS
        ):
            return read
        whole = found(ONE_BLOCK)
        return whole if weight(undoubted(whole)) >= weight(undoubted(read)) else read

    def _as_read(
        self,
        picture: Image,
        words: list[Word],
        ink: Ink,
        dpi: int,
        turned: Turn,
        soft: Softened | None = None,
    ) -> Read:
        boxes = [word.box for word in words if believed(word, picture)]
        ordered, jumbled = in_order(words) if self._ordered else (words, False)
        return Read(
            picture=picture,
            words=ordered,
            engine=self._engine.name,
            ink=ink.share,
            covered=ink.covered(boxes),
            dpi=dpi,
            language=self._lang,
            missed=missed_of(soft, boxes) if soft else 0.0,
            marked=ink.marked,
            turned=turned,
            jumbled=jumbled,
        )

    def _words(self, picture: Image, dpi: int, psm: int = 0) -> list[Word]:
        return self._engine.read(
            picture,
            dpi=dpi,
            lang=self._lang,
            psm=psm or self._psm,
        )

    def _other_way_up(self, read: Read) -> Turn | None:
        """By which turn the page makes far more sense; None: by none."""
        small = read.picture.copy()
        small.thumbnail((TURN_SIDE, TURN_SIDE))
        best, turn = max(sense(self._words(small, 0)) * 2, TURN_SENSE_MIN), None
        for degrees, way in WAYS.items():
            found = sense(self._words(small.transpose(way), 0))
            if found > best:
                best, turn = found, degrees
        return turn


def aside(words: Sequence[Word]) -> bool:
    """Whether a page lies on its side: most of its words stand on end."""
    sizes = [
        (word.box[2] - word.box[0], word.box[3] - word.box[1])
        for word in words
        if len(word.text) >= 4 and word.confidence >= DOUBTED
    ]
    upended = sum(tall > wide for wide, tall in sizes)
    return upended >= ASIDE_MIN and 2 * upended > len(sizes)


def undoubted(read: Read) -> list[Word]:
    """The words that are no scratches read as words."""
    return [word for word in read.words if word.confidence >= DOUBTED]


def sense(words: Sequence[Word]) -> float:
    """
    How much sense a reading makes: characters of confident words that are words.

    None where they stand on end: they are read, and their order is lost.
    """
    if aside(words):
        return 0.0
    return sum(
        len(word.text)
        for word in words
        if word.confidence >= 75 and re.fullmatch(r"[^\W\d_]{3,}[.,;:!?]?", word.text)
    )
