"""Which parts are chosen: the least that bears it, and none that no rule passes."""

from __future__ import annotations

from stages.fitting.parts import End, Part
from stages.quoting.choosing import chosen_of
from stages.quoting.forms import Found
from tests.unit.quoting.made import BOOK, HOSE, WHOLE, read

PREFER = ("S", "B", "steel", "NBR", "HNBR")


def hose(number: str, standard: str, material: str) -> Part:
    more = {"number": number, "standard": standard, "materials": (material,)}
    return HOSE.model_copy(update=more)


def fitting(number: str, thread: str, gender: str, *materials: str, series: str = "S"):
    end = End(thread=thread, size=12, gender=gender)
    return Part(
        number=number,
        kind="fitting",
        size=12,
        series=series,
        materials=materials or ("steel",),
        ends=(end,),
    )


JIC = fitting("FIT-000001", "jic", "female")
NPT = fitting("FIT-000002", "npt", "male")


def choose(
    *hoses: Part, text: str = WHOLE, ends=((JIC,), (NPT,)), named=None, **answers
):
    parts = {"hose": hoses, "one end": ends[0], "other end": ends[1]}
    found = Found(line=1, parts=parts, named=named or {})
    keys = {key.replace("l1_", "1.").replace("_", " "): v for key, v in answers.items()}
    return chosen_of(read(text).lines[0], found, BOOK, PREFER, keys)


def test_the_least_that_bears_it_is_taken_and_the_others_are_shown():
    """2SN bears too little, 4SH more than is needed."""
    choice = choose(
        hose("HOS-000001", "4SH", "HNBR"),
        hose("HOS-000002", "4SP", "HNBR"),
        hose("HOS-000003", "2SN", "HNBR"),
        hose("HOS-000004", "4SP", "NBR"),
    )

    chosen = choice.chosen
    assert chosen is not None
    assert chosen.parts["hose"].number == "HOS-000002"
    assert chosen.bar == 210
    assert all(one.fits == "yes" for one in chosen.reasons)


def test_what_nothing_tells_apart_is_asked_with_what_does():
    """Two seals that both bear it, and the house prefers neither."""
    one = fitting("FIT-000003", "jic", "female", "steel", "FKM")
    ends = ((one, one.model_copy(update={"number": "FIT-000009"})), (NPT,))

    choice = choose(hose("HOS-000002", "4SP", "HNBR"), ends=ends)
    answered = choose(
        hose("HOS-000002", "4SP", "HNBR"), ends=ends, l1_one_end="FIT-000009"
    )

    [question] = choice.open
    assert (question.key, len(question.choices)) == ("1.one end", 2)
    assert "FIT-000003: series S, steel, FKM" in question.choices[0]
    assert answered.chosen is not None
    assert answered.chosen.parts["one end"].number == "FIT-000009"


def test_parts_that_were_named_and_do_not_bear_it_are_refused_with_the_rule():
    """And what would do instead; it is not taken by itself."""
    named = {"hose": "HOS-000005", "one end": JIC.number, "other end": NPT.number}
    good, bad = hose("HOS-000006", "4SP", "HNBR"), hose("HOS-000005", "4SP", "NBR")

    choice = choose(bad, good, named=named)

    assert (choice.chosen, choice.open) == (None, ())
    assert choice.against[0].rule == "heat of NBR"
    assert choice.against[0].at.startswith("rules/materials.toml:")
    assert choice.instead == ("HOS-000006: 4SP, HNBR, 3/4 in",)


def test_what_no_rule_speaks_of_is_shown_to_a_person_and_not_passed():
    choice = choose(hose("HOS-000007", "X9", "HNBR"))

    assert choice.chosen is None
    assert choice.unsure is not None
    assert choice.unsure.reasons[0].fits == "unknown"


def test_a_line_for_which_the_erp_has_nothing_is_refused():
    choice = choose()

    assert (choice.chosen, choice.against[0].rule) == (None, "the ERP")
