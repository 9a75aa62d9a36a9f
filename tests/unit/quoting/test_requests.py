"""What is read of a request, what is asked, and what an answer changes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from stages.fitting.parts import End, Part
from stages.quoting.forms import Enquiry
from stages.quoting.matching import settled
from stages.quoting.reading import enquiry_of
from tests.unit.quoting.made import BOOK, HOSE, TODAY, WHOLE, read

OPEN = WHOLE.replace("NPT male", "NPT").replace(", 200 bar", "")


def keys(enquiry) -> list[str]:
    return [one.key for one in enquiry.open]


def test_a_whole_request_leaves_nothing_open():
    enquiry = read(WHOLE)

    [line] = enquiry.lines
    assert (enquiry.open, enquiry.customer, enquiry.place) == (
        (),
        "K-1001",
        "Rotterdam",
    )
    assert (line.count, line.size, line.bar) == (12, 12, Decimal(200))
    spot = line.spots["bar"]
    assert (spot.text, spot.line, WHOLE[spot.start : spot.end]) == (
        "200 bar",
        2,
        "200 bar",
    )


def test_a_line_that_is_wrapped_is_read_as_one_and_places_stay():
    text = WHOLE.replace("JIC swivel", "JIC\nswivel").replace("200 bar", "200\nbar")

    enquiry = read(text)

    assert (enquiry.open, enquiry.lines[0].spots["bar"].line) == ((), 3)
    assert enquiry.lines[0].ends == read(WHOLE).lines[0].ends


def test_what_is_missing_or_means_two_things_is_asked_and_answers_fill_it():
    assert keys(read(OPEN)) == ["1.ends", "1.bar"]

    half = read(OPEN, l1_bar="200 bar")
    whole = read(OPEN, l1_bar="200 bar", l1_ends="male")

    assert keys(half) == ["1.ends"]
    assert whole.open == ()
    assert whole.lines[0].ends == read(WHOLE).lines[0].ends


def test_a_bore_that_is_answered_gives_the_ends_their_size():
    enquiry = read(WHOLE.replace(" of 3/4 inch", ""), l1_size="3/4 inch")

    assert enquiry.open == ()
    assert [end.size for end in enquiry.lines[0].ends] == [12, 12]


def test_an_answer_that_says_nothing_leaves_the_question_open():
    enquiry = read(OPEN, l1_bar="as usual", l1_ends="male")

    [question] = enquiry.open
    assert (question.key, "not understood" in question.why) == ("1.bar", True)


def test_an_answer_makes_no_line_of_its_own():
    """Whoever answers a question has not ordered anything."""
    enquiry = read(OPEN, l1_bar="200 bar, and 50 hoses of 1 inch")

    assert len(enquiry.lines) == 1
    assert "1.bar" in keys(enquiry)


def test_parts_that_are_named_say_bore_and_ends():
    """One fitting is both ends where both are spoken of, and else one is missing."""
    fitting = Part(
        number="FIT-100001",
        kind="fitting",
        size=12,
        ends=(End(thread="jic", size=12, gender="female"),),
    )
    said = "HOS-100001 with FIT-100001"
    text = WHOLE.replace("3/4 inch, 6 m, JIC swivel one end, NPT male the other", "{}")
    one, both = (
        read(text.format(f"{said}, 6 m")),
        read(text.format(f"{said} both ends, 6 m")),
    )

    _, _, asks = settled(one.lines[0], [HOSE, fitting])
    line, places, none = settled(both.lines[0], [HOSE, fitting])

    assert (one.open, one.lines[0].named) == ((), ("HOS-100001", "FIT-100001"))
    assert [ask.key for ask in asks] == ["1.parts"]
    assert (line.size, len(line.ends), none) == (12, 2, [])
    assert places == {
        "hose": "HOS-100001",
        "one end": "FIT-100001",
        "other end": "FIT-100001",
    }


def test_parts_that_are_not_what_is_asked_for_are_asked_about():
    """1 inch is written, and a hose of 3/4: one of the two is a mistake."""
    [line] = read(WHOLE.replace("3/4 inch", "1 inch HOS-100001")).lines

    _, _, [ask] = settled(line, [HOSE])

    assert (ask.key, ask.why) == ("1.parts", "1 in is asked for, the hose is 3/4 in")


def test_a_day_that_is_over_and_what_is_too_long_are_asked_about():
    past = read(WHOLE.replace("2026", "2019"))
    long = read(WHOLE + "\n" + "x " * 11_000)

    assert [one.key for one in past.open] == ["by"]
    assert [one.key for one in long.open] == ["lines"]
    assert read(WHOLE.replace("2026", "2019"), by="3 January 2027").open == ()


def test_a_discount_is_read_with_its_words():
    enquiry = read(f"{WHOLE}\nWe expect 12,5 % discount.")

    assert enquiry.discount == Decimal("12.5")
    assert enquiry.spots["discount"].text.startswith("12,5 %")
    assert read(WHOLE).discount == 0


def test_a_figure_that_a_scan_leaves_doubtful_is_asked_about():
    """Also where it reads well by itself; a word that is no value disturbs nobody."""

    def scanned(**answers: str) -> Enquiry:
        doubtful = {"200": "260", "Customer": "", "12": "72"}
        return enquiry_of(WHOLE, BOOK, TODAY, answers, doubtful)

    first = scanned()
    mended = scanned(**{"1.bar": "260 bar", "1.count": "12 assemblies"})

    assert keys(first) == ["1.count", "1.bar"]
    assert "another reader has “260”" in first.open[1].why
    assert (mended.open, mended.lines[0].bar, mended.lines[0].count) == ((), 260, 12)


@pytest.mark.parametrize(
    ("was", "says", "key", "answer"),
    [
        (" of 3/4 inch", "", "1.size", "3/4 inch"),
        (" of 3/4 inch", " of 3/4 inch or 1 inch", "1.size", "3/4 inch"),
        (", 6 m", "", "1.length_mm", "6 m"),
        ("NPT male", "NPT", "1.ends", "male"),
        (", NPT male the other", "", "1.ends", "NPT male"),
        ("NPT male the other", "", "1.ends", "JIC swivel one end, NPT male other"),
        ("hot oil at ", "", "1.medium", "oil"),
        ("120 °C", "120 degrees", "1.celsius", "120 °C"),
        (", 200 bar", "", "1.bar", "200 bar"),
        (" to Rotterdam", "", "place", "Rotterdam"),
        ("by 14.12.2026", "by 04/05/2027", "by", "14 December 2026"),
    ],
)
def test_each_thing_that_is_left_open_is_asked_alone_and_answered(
    was: str, says: str, key: str, answer: str
):
    """Nothing is assumed meanwhile, and the answer makes the whole request."""
    text = WHOLE.replace(was, says)

    asked, answered = keys(read(text)), enquiry_of(text, BOOK, TODAY, {key: answer})

    assert asked == [key]
    whole = read(WHOLE)
    line, right = answered.lines[0], whole.lines[0]
    assert answered.open == ()
    assert line.model_copy(update={"spots": right.spots}) == right
    assert (answered.place, answered.by) == (whole.place, whole.by)
