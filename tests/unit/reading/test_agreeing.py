"""Two readings of a page: whose words they are, and what is in doubt."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from PIL import Image

from stages.layout import Box, Layout, ReadBlock, ReadLine, ReadWord
from stages.reading import engines, rapid, second
from stages.reading.agreeing import Checked, checked, is_number
from stages.reading.placing import Weighed
from stages.reading.words import Word

PICTURE = Image.new("L", (1000, 400), 255)


def line(text: str, y: int = 100, score: float = 99.9, x: int = 0) -> list[Word]:
    """Words of a line, ten pixels a character."""
    found = []
    for word in text.split():
        box = (x, y, x + 10 * len(word), y + 20)
        found.append(Word(word, box, score, y, y))
        x = box[2] + 10
    return found


def compared(ours: str, theirs: str, sure: float = 96.0) -> list[Checked]:
    """A line of the second reader's, beside the first one's."""
    return checked(line(ours), line(theirs, score=sure))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16.90", True),
        ("24/01/18", True),
        ("KX-48213", True),
        ("1,204", True),
        ("9.", True),
        ("7", False),
        ("No.", False),
        ("B4", False),
    ],
)
def test_what_looks_like_a_number(text: str, number: bool) -> None:
    """Amounts, dates, codes; a child's age is none."""
    assert is_number(text) is number


@pytest.mark.parametrize(
    ("ours", "theirs", "contradicted"),
    [
        ("16.90", "15.90", True),
        ("16.90", "16,90", False),
        ("16.90", "16.90", False),
        ("16.90", "", False),  # missed
        ("16.90", "ib~0Q", False),  # nothing that is a number
        ("RM16.90", "16.90", False),
        ("15%", "-15%", True),
        ("16.90", "\u221216.90", True),
        ("-16.90", "\u201316.90", False),
        ("16.90", "(16.90)", True),
        ("05-07", "05/07", False),
    ],
)
def test_a_number_is_contradicted_by_another_one_only(
    ours: str, theirs: str, contradicted: bool
) -> None:
    """What the first reader misses, or cannot make out, contradicts nobody."""
    [_, number] = compared(f"Total {ours}", f"Total {theirs}")

    assert number.contradicted is contradicted


def test_a_number_that_nobody_is_sure_of_contradicts_nobody() -> None:
    """tesseract makes figures of smudges, and says so."""
    [number] = compared("16.90", "15.90", sure=40.0)

    assert not number.contradicted


def test_words_that_differ_are_told_with_what_the_other_read() -> None:
    """By place, so that a word too many moves nothing."""
    found = compared("Dear Doctor Jordan", "x~ Dear Doator qqqqqq")

    assert [one.same for one in found] == [True, True, False]
    assert [one.other for one in found] == ["", "Doator", "qqqqqq"]


def test_spaces_that_the_second_reader_lost_are_found_again() -> None:
    """Where the first reads the same letters in several words."""
    lost = Word("ofthegoods,", (0, 100, 130, 120), 99.9, 0, 0)

    found = checked([lost], line("of the goods"))

    assert [one.word.text for one in found] == ["of", "the", "goods,"]
    assert all(one.same for one in found)


@pytest.mark.parametrize(
    ("ours", "theirs", "read"),
    [
        ("0kafor", "Okafor", "Okafor"),
        ("Wi1liam", "William", "William"),
        ("A1", "Al", "A1"),
        ("c10se", "c10se", "c10se"),
        ("Okafor", "0kafor", "Okafor"),
        ("0ka", "Oka", "0ka"),
    ],
)
def test_a_figure_in_a_word_of_letters_is_the_letter(
    ours: str, theirs: str, read: str
) -> None:
    """The second reader takes O for 0 where it has no word around it."""
    [one] = compared(ours, theirs)

    assert one.word.text == read


def test_a_number_is_not_taken_apart() -> None:
    """tesseract sees spaces in columns of figures."""
    whole = Word("1204.50", (0, 100, 70, 120), 99.9, 0, 0)

    assert [one.word.text for one in checked([whole], line("12 04.50"))] == ["1204.50"]


# -- both of them ---------------------------------------------------------------------


class Reads:
    """A second reader that finds these words."""

    def __init__(self, *words: Word) -> None:
        self.words = list(words)

    def read(self, *_: object, **__: object) -> list[Word]:
        return self.words


def both(
    monkeypatch: pytest.MonkeyPatch,
    ours: list[Word],
    theirs: list[Word],
    *,
    strict: bool = False,
) -> second.Both:
    monkeypatch.setattr(engines, "engine", lambda _: Reads(*ours))
    return second.both(PICTURE, theirs, strict=strict, agree_above=0.5)


def doubted(found: second.Both) -> list[str]:
    return [one.word.text for one in found.words if one.doubtful]


def test_the_text_is_the_second_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number too, marked where the first reads another one there."""
    found = both(
        monkeypatch,
        line("Paper towels 16.90") + line("Total 40.10", 140),
        line("Paper tovels 15.90", score=96.0) + line("Total 40.10", 140, 96.0),
    )

    assert [one.word.text for one in found.words][2:] == ["16.90", "Total", "40.10"]
    assert doubted(found) == ["16.90"]
    assert found.words[2].other == "15.90"
    assert not found.written


def test_of_careful_reading_every_difference_is_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the second reader is sure."""
    ours, theirs = line("see the harbour"), line("see qqq harbour", score=96.0)

    assert doubted(both(monkeypatch, ours, theirs)) == []
    assert doubted(both(monkeypatch, ours, theirs, strict=True)) == ["the"]


def test_a_lone_figure_that_was_overlooked_is_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In its row, in doubt; scratches are not, nor what stands where words are."""
    ours = line("Brown bread", x=100)
    theirs = [
        *line("3", score=90.0),
        *line("~~", 300, 96.5),
        *line("qx", 200, 60.0),
        *line("9", score=90.0, x=120),
    ]

    found = both(monkeypatch, ours, theirs)

    assert [one.word.text for one in found.words] == ["3", "Brown", "bread"]
    assert doubted(found) == ["3"]


@pytest.mark.parametrize(
    ("score", "theirs", "written"),
    [
        (92.0, "qx ~~ brwnl", True),
        (92.0, "Dear Doctor Jordan", False),
        (98.0, "qx ~~ brwnl", False),
    ],
)
def test_handwriting_is_known_by_both(
    monkeypatch: pytest.MonkeyPatch, score: float, theirs: str, written: bool
) -> None:
    """The second reader is not sure, and the first reads something else."""
    found = both(
        monkeypatch, line("Dear Doctor Jordan", score=score), line(theirs, score=96.0)
    )

    assert found.written is written


# -- numbers alone --------------------------------------------------------------------


def numbers(
    monkeypatch: pytest.MonkeyPatch, first: list[Word], *said: str
) -> list[Weighed]:
    """The first reader's words, where the second finds this in each place asked for."""

    def pieces_at(_: object, boxes: Sequence[Box]) -> list[rapid.Piece]:
        return [
            rapid.Piece(box, tuple(line(text, box[1], x=box[0])))
            for box, text in zip(boxes, said, strict=True)
        ]

    monkeypatch.setattr(engines, "engine", lambda _: None)
    monkeypatch.setattr(rapid, "pieces_at", pieces_at)
    return second.numbers(PICTURE, first)


def test_of_a_certain_page_the_numbers_alone_are_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each in its place; the second reader's counts, in doubt where they differ."""
    first = line("Total due 16.90 by 24/01/18", score=98.0) + line(
        "of 1,204", 140, 98.0
    )

    found = numbers(monkeypatch, first, "16.90", "24/07/18", "1,204")

    said = [(one.word.text, one.doubtful, one.other) for one in found]
    assert said == [
        ("Total", False, ""),
        ("due", False, ""),
        ("16.90", False, ""),
        ("by", False, ""),
        ("24/07/18", True, "24/01/18"),
        ("of", False, ""),
        ("1,204", False, ""),
    ]
    assert [one.word.line for one in found] == [100] * 5 + [140] * 2


@pytest.mark.parametrize(
    ("first", "second", "text", "doubtful"),
    [
        ("16.90", "16 .90", "16.90", False),  # spaces that are none
        ("16.90", "$16.90", "16.90", False),  # seen by one alone
        ("16.90", "RM16.90", "16.90", False),
        ("16.90", "16,90", "16.90", True),
        ("16.90", "1690", "16.90", True),
        ("16.90", "-16.90", "16.90", True),
        ("KX-48213", "KK-48213", "KX-48213", True),
        ("KX-48213", "KX-46213", "KX-46213", True),
        ("16.90", "", "16.90", True),
        ("16.90", "~~", "16.90", True),
        ("16.90", "Total", "16.90", True),
    ],
)
def test_a_number_is_one_word_whatever_is_read_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    second: str,
    text: str,
    doubtful: bool,
) -> None:
    """None is lost, taken apart or said without doubt where the readers differ."""
    found = numbers(monkeypatch, line(f"of {first} each", score=98.0), second)

    assert [one.word.text for one in found] == ["of", text, "each"]
    assert [one.doubtful for one in found] == [False, doubtful, False]


def test_what_is_cut_out_around_a_number_leaves_its_neighbours() -> None:
    """Half of the way to them, at most, and nothing off the page."""
    words = line("No. 16.90 EUR", y=2)

    assert second.with_margin(words[1], words, PICTURE.size) == (35, 0, 95, 27)


# -- a text layer ---------------------------------------------------------------------


def layer(*lines: str) -> Layout:
    """A layer at half the size of the picture."""
    read = tuple(
        ReadLine(
            box=(0, 50 + 20 * n, 5 * len(text), 60 + 20 * n),
            words=tuple(
                ReadWord(text=word, box=(0, 0, 1, 1), confidence=100.0)
                for word in text.split()
            ),
        )
        for n, text in enumerate(lines)
    )
    return Layout(
        width=500,
        height=200,
        dpi=100,
        source="layer",
        reader="layer",
        blocks=(ReadBlock(box=(0, 0, 1, 1), lines=read),),
    )


@pytest.mark.parametrize(
    ("read", "confirmed"),
    [
        (["Invoice of the harbour office"], True),
        (["Invoice of the harbour office", "ab"], True),
        (["Invoice of the harbour office", "paid by hand on Monday"], False),
        (["Something else entirely stands here"], False),
        ([], False),
    ],
)
def test_a_layer_is_confirmed_by_what_is_read(read: list[str], confirmed: bool) -> None:
    """The same words, and next to nothing beside them: the rest is a picture."""
    words = [
        Weighed(word, 99.0, False)
        for n, text in enumerate(read)
        for word in line(text, 100 + 80 * n)
    ]
    whole = layer("Invoice of the harbour office")

    assert second.confirm(words, whole, PICTURE.size) is confirmed
