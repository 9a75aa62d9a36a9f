"""What is read of a request, what is asked, and what an answer changes."""

from __future__ import annotations

from decimal import Decimal

from stages.fitting.parts import End, Part
from stages.quoting.matching import settled
from tests.unit.quoting.made import HOSE, WHOLE, read

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
