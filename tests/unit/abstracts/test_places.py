"""Where a quote stands: the document's words or none, its page, its boxes."""

from __future__ import annotations

import time

from stages.abstracts.places import cited, place_of, with_spots
from stages.layout import Layout, ReadBlock, ReadLine, ReadWord


def test_breaks_of_lines_and_shapes_of_marks_are_forgiven():
    """Whoever copies from a page has other blanks and quotes; the text's are kept."""
    text = "Term. The “Term” is\n  five years—no more."

    place = place_of(text, 'the "Term" is five years-no more'.replace("the", "The"))

    assert place is not None
    assert text[slice(*place)] == "The “Term” is\n  five years—no more"


def test_other_words_stand_nowhere():
    text = "The term is five years."

    assert place_of(text, "The term is six years.") is None
    assert place_of(text, "The term five years") is None
    assert place_of(text, "   ") is None
    assert place_of(text, "x" * 30_000) is None


def test_a_piece_of_a_word_is_no_quote():
    """`lawful` is not what a contract says that says `unlawful`, nor `10` of 100."""
    text = (
        "Any unlawful use of it costs 100 USD. Lawful or lawful use: theSeller pays 10."
    )

    assert place_of(text, "lawful use of it") is None
    assert place_of(text, "Any unlaw") is None
    assert place_of(text, "l") is None
    assert place_of(text, "lawful use") == (48, 58)
    assert place_of(text, "10") == (text.index("10."), text.index("10.") + 2)
    assert place_of(text, "Seller pays") is not None  # as a scan runs words together
    assert place_of("本契約は日本法に準拠する。", "日本法") == (4, 7)


def test_pieces_of_words_without_end_take_no_time():
    began = time.process_time()

    assert place_of("ab " * 300_000, "ab " * 6_000 + "a") is None
    assert place_of("a" * 500_000, "a" * 15_000) is None
    assert time.process_time() - began < 10


def test_of_several_places_it_is_the_nearest():
    text = "one year. " * 5

    assert place_of(text, "one year", near=31) == (30, 38)


def test_what_looks_like_an_expression_is_words():
    """A quote is never an expression: nobody waits for one."""
    assert place_of("a (b|c)* d", "(b|c)*") == (2, 8)
    assert place_of("aaaa", "(a+)+$") is None


def test_a_quote_over_two_pages_has_a_box_on_each():
    """A line is a box; of a page without words there is none."""
    text = "Page one ends\fhere and goes on\fand on"
    quote = cited(text, 5, len(text), ("words",))

    pages = {1: layout("Page one ends"), 2: layout("here and", "goes on")}

    found = with_spots(quote, pages)

    assert [(spot.page, spot.box) for spot in found.spots] == [
        (1, (50, 0, 130, 10)),
        (2, (0, 0, 80, 30)),
    ]
    assert found.spots[1].lines == ((0, 0, 80, 10), (0, 20, 70, 30))
    assert found.spots[1].size == (500, 700)


def test_words_that_a_page_has_twice_are_boxed_where_the_quote_is_of():
    """Its own line, and not the first that says the same."""
    text = "one\fLaw of Ohio\nand the Law of Ohio"
    start = text.rindex("Law of Ohio")
    quote = cited(text, start, len(text), ("words",))
    pages = {2: layout("Law of Ohio", "and the Law of Ohio")}

    [spot] = with_spots(quote, pages, text).spots
    [first] = with_spots(cited(text, 4, 15, ("words",)), pages, text).spots

    assert (spot.lines[0][1], first.lines[0][1]) == (20, 0)


def layout(*lines: str) -> Layout:
    """A page whose characters are ten pixels wide and whose lines are twenty apart."""
    made = []
    for number, line in enumerate(lines):
        words, at = [], 0
        for word in line.split():
            box = (at * 10, number * 20, (at + len(word)) * 10, number * 20 + 10)
            words.append(ReadWord(text=word, box=box, confidence=99))
            at += len(word) + 1
        made.append(ReadLine(box=(0, 0, 1, 1), words=tuple(words)))
    block = ReadBlock(box=(0, 0, 1, 1), lines=tuple(made))
    facts = {"width": 500, "height": 700, "dpi": 100, "reader": "layer"}
    return Layout.model_validate({**facts, "source": "layer", "blocks": [block]})


def test_a_quote_of_one_word_over_and_over_takes_no_time() -> None:
    """Also where a text that says nothing else begins it at every word."""
    text = "a " * 300_000

    began = time.process_time()

    assert place_of(text, "a " * 9_999 + "b") is None
    assert place_of(text + "b", "a " * 9_998 + "a b") == (580_002, 600_001)
    assert time.process_time() - began < 10  # it was minutes
