"""What load tests of quotes count by: it is right, and it sees what is not."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date

import pytest

from loadtest.bench import quotes
from loadtest.corpora.gaps import gapped
from loadtest.scenarios.ask_back_account import (
    Asked,
    Case,
    Step,
    asking_of,
    calls_of,
    needed,
    of_customer,
    values_assumed,
)
from loadtest.scenarios.fitting import rule_files
from stages.quoting.reading import enquiry_of
from tests.unit.quoting.made import BOOK

REQUESTS = [gapped(random.Random(seed)) for seed in range(40)]


def nobody(line: str) -> None:
    """Hears what a run says."""


def test_each_gap_is_asked_about_and_its_answer_makes_the_request_whole():
    """Else a run would count questions that nobody had to ask."""
    today = date.today()
    for request in REQUESTS:
        first = enquiry_of(request.text, BOOK, today, {})
        whole = enquiry_of(request.text, BOOK, today, request.answers)

        assert {one.key for one in first.open} == set(request.answers)
        assert not whole.open
        assert [line.length_mm for line in whole.lines] == [
            truth.length_mm for truth in request.truths
        ]


def test_what_is_asked_ahead_and_what_is_asked_again_is_seen():
    request = next(one for one in REQUESTS if len(one.truths) == 3)
    cases = {7: Case(request, answered_at=100.0)}
    lines = set(range(1, 4))
    before = needed(request, lines - request.open_lines) + of_customer(request)
    after = needed(request, request.open_lines)
    steps: list[Step] = []
    book: list[Asked] = []

    def ask(questions: Counter, at: float, stage: str = "lookup", void: int = 0):
        for path, query in questions.elements():
            step = Step(7, stage, f"{len(steps)}", void)
            said = "&".join(f"{key}={value}" for key, value in query)
            steps.append(step)
            book.append(Asked(at, step.key, path, said, True))

    ask(before, 50.0)
    ask(after, 150.0)
    good = calls_of(book, steps, cases)
    again = calls_of([*book, book[0]._replace(at=160.0)], steps, cases)
    killed = [steps[0]._replace(void=1), *steps[1:]]
    excused = calls_of([*book, book[0]._replace(at=51.0)], killed, cases)
    ahead = calls_of([*book[:-1], book[-1]._replace(at=60.0)], steps, cases)
    strange = calls_of([*book, Asked(1.0, "none", "parts", "", True)], steps, cases)

    assert (good["assumed"], good["redone_needlessly"]) == (0, 0)
    assert (again["assumed"], again["redone_needlessly"]) == (0, 1)
    assert (excused["assumed"], excused["redone_needlessly"]) == (0, 0)
    assert (ahead["assumed"], ahead["redone_needlessly"]) == (1, 0)
    assert strange["unattributed"] == 1


def test_who_is_asked_twice_is_seen():
    request = next(one for one in REQUESTS if one.manner == "answers")
    keys = set(request.answers)

    found = asking_of(
        [
            Case(request, mails=[keys]),
            Case(request, mails=[keys, keys]),
            Case(request, mails=[keys], holds=[keys]),
            Case(request, holds=[keys]),
            Case(request, mails=[keys | {"by"}]),
            Case(request),
        ]
    )

    assert (found["asked_twice"], found["asked_wrong"]) == (2, 1)
    assert found["never_asked"] == 1


def test_a_value_that_nobody_said_is_seen():
    request = next(one for one in REQUESTS if one.shapes == (1,))
    [truth] = request.truths
    line = {"count": truth.count}
    said = f"hose 1/2 in, {truth.length_mm / 1000:g} m, BSPP female swivel 1/2 in × "
    said += "BSPP female swivel 1/2 in; mineral oil at up to 80 °C, 220 bar"
    cases = Case(request, said=dict(request.answers))

    def wrong(asked: str, answers: dict[str, str]) -> int:
        record = {"answers": answers, "lines": [line | {"asked": asked}]}
        return values_assumed(record, cases)

    assert wrong(said, dict(request.answers)) == 0
    assert wrong(said.replace("80 °C", "70 °C"), dict(request.answers)) == 1
    assert wrong(said.replace("female", "male", 1), dict(request.answers)) == 1
    assert wrong(said, {}) == 1


def test_every_verdict_and_sum_of_the_bench_is_computed_twice():
    found = quotes.measure(nobody, quotes=3, seed=2)

    assert [found[name] for name in quotes.BROKEN] == [0] * len(quotes.BROKEN)
    assert found["verdicts"] > 100
    assert found["ratio"] > 0


@pytest.mark.parametrize(("old", "new"), [('never = ["EPDM"]', 'unknown = ["EPDM"]')])
def test_the_bench_sees_a_rule_that_is_wrong(old, new):
    files = rule_files()
    files["media.toml"] = files["media.toml"].replace(old, new, 1)

    found = quotes.measure(nobody, quotes=4, seed=2, files=files)

    assert found["verdicts_wrong"] > 0
    assert found["examples"]
