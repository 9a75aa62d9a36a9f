"""Scoring of findings: what counts as right, and how sure a rate is."""

from __future__ import annotations

import pytest

from waybill.evals.findings import Found, findings_of
from waybill.evals.labels import Label, touches, type_name
from waybill.evals.scoring import (
    Share,
    Tally,
    agreement,
    as_data,
    graded,
    shares,
    spread,
    wilson,
)

TEXT = "This Agreement shall be governed by the laws of Ohio.\nIt ends in May."
LAW = Label(True, (("This Agreement shall be governed by the laws of Ohio.",),))
ABSENT = Label(False)


def found(*quotes: str, verdict: str = "present", value: object = None) -> Found:
    return Found(verdict, quotes, () if value is None else (value,))


@pytest.mark.parametrize(
    ("label", "what", "counted"),
    [
        (LAW, found("governed by the laws of Ohio"), {"right": 1}),
        (LAW, found("It ends in May.", "laws of OHIO shall be governed"), {"right": 1}),
        (LAW, found("the laws of Ohio"), {"wrong": 1}),
        (LAW, found(), {"wrong": 1}),
        (LAW, found(verdict="absent"), {"wrongly_absent": 1}),
        (LAW, None, {"wrongly_absent": 1}),
        (LAW, found("governed", verdict="unclear"), {"unclear": 1}),
        (ABSENT, found("It ends in May."), {"fabricated": 1}),
        (ABSENT, found(verdict="absent"), {}),
        (ABSENT, None, {}),
    ],
)
def test_each_finding_counts_as_one_thing(
    label: Label, what: Found | None, counted: dict[str, int]
) -> None:
    """Half the words of a labelled span make it right, in whatever order."""
    kinds = ("right", "wrong", "fabricated", "wrongly_absent", "unclear", "unanswered")
    tally = graded(label, what, TEXT)

    assert {k: n for k in kinds if (n := getattr(tally, k))} == counted
    assert tally.labelled == label.present
    assert tally.labelled + tally.unlabelled == 1


def test_an_item_that_failed_found_nothing() -> None:
    """What is in its document was missed, and not said to be absent."""
    lost, nothing = graded(LAW, None, None), graded(ABSENT, None, None)

    assert (lost.unanswered, lost.wrongly_absent, nothing.unanswered) == (1, 0, 0)
    assert shares(lost)["recall"] == Share(0, 1)


def test_a_quote_is_exact_to_the_letter() -> None:
    """But for how lines end, also where a page does."""
    same = ("laws of Ohio.\r\nIt ends", "laws of Ohio.\fIt ends")
    tally = graded(LAW, found(*same, "laws of ohio", "laws  of Ohio"), TEXT)

    assert (tally.quotes, tally.exact) == (4, 2)


def test_a_value_is_compared_where_one_is_labelled() -> None:
    """Of right ones alone; text but for case and spaces."""
    label = LAW._replace(value="State of  Ohio")
    quote = "governed by the laws of Ohio"

    right = graded(label, found(quote, value="state of ohio"), TEXT)
    wrong = graded(label, found(quote, value={"text": "Iowa"}), TEXT)
    assert graded(label, found(quote, value={"text": "state of Ohio"}), TEXT) == right
    none = graded(LAW, found(quote, value="Iowa"), TEXT)

    assert [(t.valued, t.values_right) for t in (right, wrong, none)] == [
        (1, 1),
        (1, 0),
        (0, 0),
    ]


def test_half_the_words_of_a_piece_are_enough() -> None:
    """Of a span in pieces; a piece of a word or two says too little."""
    span = (("Customer", "shall not sell the goods of any other maker"),)

    assert touches("not sell the goods of any", span)
    assert not touches("Customer", span)
    assert touches("Acme", (("Acme",),))
    assert not touches("", span)


def test_titles_and_slugs_meet() -> None:
    """By lower case and underscore."""
    assert type_name("Governing Law") == "governing_law"
    assert type_name("Rofr/Rofo/Rofn") == "rofr_rofo_rofn"
    assert type_name("Unlimited/All-You-Can-Eat-License") == (
        "unlimited_all_you_can_eat_license"
    )
    assert type_name("governing_law") == "governing_law"


def test_rates_are_shares_of_what_they_are_about() -> None:
    """And of nothing there is none."""
    tally = Tally(labelled=10, unlabelled=40, right=6, wrong=1, fabricated=1)
    tally.add(Tally(quotes=9, exact=9, wrongly_absent=2, unclear=1))

    rates = as_data(shares(tally))

    assert rates["precision"] == 0.75
    assert rates["recall"] == 0.6
    assert rates["f1"] == round(2 * 0.75 * 0.6 / 1.35, 4)
    assert rates["exact_quote"] == 1.0
    assert rates["fabricated"] == 0.025
    assert rates["wrongly_absent"] == 0.2
    assert rates["values_right"] is None
    assert "values_right" not in rates["intervals"]
    low, high = rates["intervals"]["precision"]
    assert low < 0.75 < high


def test_wilson_is_as_published() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for hits, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert [round(end, 4) for end in wilson(hits, of)] == [low, high]
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(5, 5)[1] == 1.0


def test_repeats_agree_by_pairs() -> None:
    """Three that say the same are three pairs; two of three are one."""
    assert agreement([["a", "a", "a"], ["a", "a", "b"]]) == Share(4, 6)
    assert agreement([["a"]]).rate is None
    assert spread([0.5, 1.0, None]) == [0.5, 1.0, 0.25]
    assert spread([None]) is None


def test_findings_are_found_in_either_channel() -> None:
    """Of several of one type the boldest verdict and every quote count."""
    one = {"type": "Governing Law", "verdict": "absent", "quotes": []}
    two = {
        "type": "governing_law",
        "verdict": "present",
        "quotes": [{"text": "laws of Ohio", "page": 1}, {"start": 3}],
        "value": "Ohio",
    }
    odd = [7, {"type": "parties", "verdict": "perhaps"}]

    there = findings_of({"facts": {"findings": [one, two, *odd]}})

    assert there == {"governing_law": Found("present", ("laws of Ohio",), ("Ohio",))}
    assert findings_of({"clauses": {"x": two}, "facts": {}}) == {
        "governing_law": Found("present", ("laws of Ohio",), ("Ohio",))
    }
    bare = {**two, "quotes": "laws of Ohio"}  # one quote, and not twelve letters
    assert findings_of({"findings": [bare, {**two, "quotes": 5}]}) == {
        "governing_law": Found("present", ("laws of Ohio",), ("Ohio", "Ohio"))
    }
    assert findings_of({"findings": []}) == {}
    assert findings_of({"facts": {"pages": 1}}) is None
