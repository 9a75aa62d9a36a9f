"""Requests for quotes read by rules: values with their words, and questions."""

from __future__ import annotations

import string
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.enquiries.forms import WANTED, Asked, Read, Request
from stages.enquiries.reading import read_request
from stages.fitting.parts import End
from stages.fitting.rulebook import load

RULES = Path(__file__).parents[3] / "examples" / "quotes" / "rules"
BOOK = load({p.name: p.read_text(encoding="utf-8") for p in RULES.glob("*.toml")})
TODAY = date(2026, 11, 27)
WHOLE = (
    "12 assemblies of 3/4 inch, 6 m, JIC swivel one end, NPT male the other, "
    "hot oil at 120 °C, 210 bar, to Rotterdam by the 14th"
)


def read(text: str, received: date = TODAY) -> Request:
    return read_request(text, BOOK, received)


def said(text: str, about: str) -> object:
    """The value of one field of `WHOLE` in which another text stands."""
    [line] = read(text).lines
    value = getattr(line, about)
    return value.value if isinstance(value, Read) else value


def values(line: Asked) -> list[Read]:
    found = [getattr(line, about) for about in WANTED if about != "ends"]
    return [one for one in (*found, *line.ends) if one is not None]


# -- what is said ---------------------------------------------------------------------


def test_a_whole_request_is_read_and_nothing_is_asked():
    request = read(WHOLE)

    assert request.questions == ()
    [line] = request.lines
    assert [one.value for one in values(line)] == [
        *(12, 12, 6000, "mineral oil", 120, 210),
        End(thread="jic", size=12, gender="female", swivel=True),
        End(thread="npt", size=12, gender="male"),
    ]
    assert (request.place.value, request.by.value) == ("Rotterdam", date(2026, 12, 14))
    assert [one.words.text for one in values(line)] == [
        *("12 assemblies", "3/4 inch", "6 m", "oil", "120 °C", "210 bar"),
        *("JIC swivel", "NPT male"),
    ]


@pytest.mark.parametrize(
    ("about", "old", "new", "value"),
    [
        *(("count", "12 assemblies", one, 7) for one in ("7 x", "qty 7, ", "7 off")),
        ("count", "12 assemblies", "twelve hoses", 12),
        *(
            ("size", "3/4 inch", one, 12)
            for one in ("-12", "dash 12", '3/4"', "¾″", '0.75"', "DN19", "19 mm")
        ),
        *(("size", "3/4 inch", one, 20) for one in ('1 1/4"', "1-1/4 in", "1¼ inch")),
        ("size", "3/4 inch", "2 inches", 32),
        *(
            ("length_mm", "6 m", one, 1200)
            for one in ("1,200 mm", "1.2 m", "1,2 m", "120 cm", "1,200 m")
        ),
        ("length_mm", "6 m", "20 ft", 6096),
        *(("celsius", "120 °C", one, 100) for one in ("100 C", "212 °F", "212F")),
        ("celsius", "120 °C", "-40 °C", -40),
        *(("bar", "210 bar", one, 210) for one in ("21 MPa", "21,000 kPa", "210 bars")),
        ("medium", "hot oil", "phosphate ester", "phosphate ester"),
        ("medium", "hot oil", "water glycol", "water glycol"),
    ],
)
def test_values_are_read_as_buyers_write_them(about, old, new, value):
    assert old in WHOLE

    assert said(WHOLE.replace(old, new), about) == value
    assert read(WHOLE.replace(old, new)).questions == ()


def test_psi_are_converted_and_not_rounded():
    assert said(WHOLE.replace("210 bar", "3,000 PSI"), "bar") == pytest.approx(
        Decimal("206.842719"), abs=Decimal("1e-6")
    )


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("bspp female both ends", [("bspp", 12, "female")] * 2),
        ("female ORFS each end", [("orfs", 12, "female")] * 2),
        ("1/2 NPT male and -8 JIC female", [("npt", 8, "male"), ("jic", 8, "female")]),
        (
            "JIC 37° male, BSP swivel",
            [("jic", 12, "male"), ("bspp", 12, "female")],
        ),
    ],
)
def test_ends_have_thread_size_and_gender(text, ends):
    old = "JIC swivel one end, NPT male the other"

    request = read(WHOLE.replace(old, text))

    assert request.questions == ()
    found = [one.value for one in request.lines[0].ends]
    assert [(end.thread, end.size, end.gender) for end in found] == ends


def test_lines_have_each_their_own():
    """What is said of the last line is not taken for the first."""
    first = "1) 5 x 1/2 inch, 2 m, BSPP female both ends, 80 °C, 100 bar\n"

    request = read(first + "2) " + WHOLE)

    assert [line.count.value for line in request.lines] == [5, 12]
    assert request.lines[1].size.words.line == 2
    assert [(one.about, one.line) for one in request.questions] == [("medium", 1)]


# -- typing mistakes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *(("assemblies", "asemblies"), ("assemblies", "assembleis")),
        *(("swivel", "swivle"), ("swivel", "swivvel"), ("3/4 inch", "3/4 inchs")),
        ("°C", "degres celcius"),
    ],
)
def test_typing_mistakes_are_mended_and_their_words_kept(old, new):
    text = WHOLE.replace(old, new)

    request = read(text)

    assert request.questions == ()
    [mended] = [one for one in values(request.lines[0]) if one.mended]
    assert new in mended.words.text
    assert text[mended.words.start : mended.words.end] == mended.words.text


def test_a_word_that_is_as_near_to_two_is_not_mended():
    """6 metrs are metres or meters, but a program that picks will pick elsewhere."""
    [question] = read(WHOLE.replace("6 m", "6 metrs")).questions

    assert question.about == "length_mm"


def test_a_medium_that_is_written_wrong_is_asked_about():
    """It may harm somebody: `later` is not water."""
    request = read(WHOLE.replace("hot oil", "phosphat ester"))

    [question] = request.questions
    assert (question.about, question.choices) == ("medium", ("phosphate ester",))
    assert question.words.text == "phosphat ester"


# -- questions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "words"),
    [
        *(("size", " of 3/4 inch"), ("length_mm", ", 6 m"), ("medium", "hot oil at ")),
        *(("ends", ", NPT male the other"), ("ends", " male"), ("celsius", "120 °C")),
        *(("bar", ", 210 bar"), ("place", "to Rotterdam "), ("by", "by the 14th")),
    ],
)
def test_what_is_missing_is_asked_and_never_assumed(about, words):
    assert words in WHOLE

    [question] = read(WHOLE.replace(words, "")).questions

    assert question.about == about


@pytest.mark.parametrize(
    ("about", "old", "new", "choices"),
    [
        ("celsius", "120 °C", "60 degrees", ("60 °C", "15.6 °C")),
        ("size", "3/4 inch", "3/4 inch or 1 inch", ("3/4 in", "1 in")),
        ("length_mm", "6 m", "10,000 mm or 9 m", ("10000 mm", "9000 mm")),
        ("bar", "210 bar", "210 bar, 250 bar", ("210 bar", "250 bar")),
        ("medium", "hot oil", "oil or water", ("mineral oil", "water")),
        ("ends", "NPT male", "NPT", ("male", "female")),
        ("by", "the 14th", "04/05/2027", ("2027-04-05", "2027-05-04")),
        ("by", "the 14th", "the 27th", ("2026-11-27", "2026-12-27")),
        ("place", "to Rot", "to Bremen or to Rot", ("Bremen", "Rotterdam")),
        ("size", "3/4 inch", "20 mm", ()),
        ("size", "3/4 inch", "1/3 inch", ()),
        ("bar", "210 bar", "9000 bar", ()),
        ("by", "the 14th", "30 February 2027", ()),
        ("celsius", "120 °C", "80-120 °C", ()),
    ],
)
def test_what_means_two_things_or_none_is_asked(about, old, new, choices):
    [question] = read(WHOLE.replace(old, new)).questions

    assert (question.about, question.choices) == (about, choices)


def test_a_text_without_a_count_asks_for_all_of_it():
    [question] = read("3/4 inch hose please").questions

    assert question.about == "lines"


# -- properties -----------------------------------------------------------------------


def test_no_word_of_a_request_is_read_twice_over_as_other_than_it_is():
    """37° is a seat, 3/4 before a thread is that of the end, 14th is a day."""
    request = read(
        "4 x -8, 3 m, 3/4 JIC 37° male, JIC female, oil, 80 °C, 90 bar "
        "to Hull by 14 May 2027"
    )

    assert request.questions == ()
    [line] = request.lines
    assert [one.value.size for one in line.ends] == [12, 8]


LETTERS = string.printable + "äß°º−×½¾″”İK٣²\x00\u2028"


@given(st.text(LETTERS, max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_text_breaks_the_reading(text):
    """And whatever is read keeps the place where it stands."""
    request = read(f"3 x {text}")

    for line in request.lines:
        for one in values(line):
            written = f"3 x {text}"[one.words.start : one.words.end]
            assert written == one.words.text


TOKENS = [
    *(
        "12 x",
        "3/4",
        "inch",
        "-8",
        "19 mm",
        "6 m",
        "JIC",
        "male",
        "swivle",
        "both ends",
    ),
    *(
        "oil",
        "120",
        "°C",
        "degrees",
        "210 bar",
        "1,200",
        "psi",
        "to Hull",
        "by 1/2/2027",
    ),
]


@given(st.lists(st.sampled_from(TOKENS), max_size=14))
@settings(max_examples=200, deadline=None)
def test_every_value_is_there_or_asked(tokens):
    """A line never lacks a value in silence."""
    request = read(" ".join(["2 hoses", *tokens]))

    for line in request.lines:
        asked = {q.about for q in request.questions if q.line == line.number}
        for about in WANTED:
            there = getattr(line, about) not in (None, ())
            waits = about == "ends" and "size" in asked  # for the hose's size
            assert there != (about in asked) or waits
