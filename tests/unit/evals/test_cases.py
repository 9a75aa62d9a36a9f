"""Files of cases: CUAD's form and ours, and what is said of one that is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Usage
from waybill.evals.cases import Cases, read_cases
from waybill.evals.labels import Label

GOLD = Path(__file__).parents[4] / "shared/samples/contracts_cuad/gold.jsonl"
ABSENT = {"verdict": "absent"}
NONE: dict[str, Any] = {"spans": []}
CUAD = {
    "id": "ONE",
    "clauses": {
        "Governing Law": {"spans": ["first <omitted> second"], "answer": "Ohio"},
        "No-Solicit Of Customers": {"spans": [], "answer": "No"},
    },
}
OURS = {
    "document": "two.txt",
    "expect": {
        "parties": {
            "verdict": "present",
            "quotes": ["Ann", ["a", "b"], {"text": "Bob", "page": 3}],
            "value": ["Ann", "Bob"],
        },
        "notice": {"verdict": "absent"},
        "term": {"verdict": "unclear"},
    },
}


def present(quotes: Any) -> dict[str, Any]:
    expect = {"a": {"verdict": "present", "quotes": quotes}}
    return {"document": {"text": ""}, "expect": expect}


def read(folder: Path, *lines: Any) -> Cases:
    file = folder / "cases.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return read_cases(file)


def test_both_forms_are_read(tmp_path: Path) -> None:
    """Each line by its own form; documents beside the file, in it, or in the store."""
    (tmp_path / "txt").mkdir()
    (tmp_path / "txt" / "ONE.txt").write_text("one")
    (tmp_path / "two.txt").write_text("two")
    text = {"document": {"text": "three"}, "expect": {}}
    kept = {"document": {"artifact": "ab" * 32}, "name": "four.pdf", "expect": {}}

    cases = read(tmp_path, CUAD, OURS, text, kept)

    one, two, three, four = cases.cases
    assert one.path == tmp_path / "txt" / "ONE.txt"
    assert one.labels == {
        "governing_law": Label(True, (("first ", " second"),)),
        "no_solicit_of_customers": Label(False),
    }
    assert two.labels == {
        "parties": Label(True, (("Ann",), ("a", "b"), ("Bob",)), ["Ann", "Bob"]),
        "notice": Label(False),
    }
    assert (two.name, three.name, three.text) == ("two.txt", "case-3.txt", "three")
    assert (four.name, four.artifact) == ("four.pdf", "ab" * 32)
    assert cases.types == [
        *("governing_law", "no_solicit_of_customers", "notice", "parties"),
    ]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"what": 1}, "no form"),
        ([1], "no object"),
        ({"document": "nowhere.txt", "expect": {}}, "nowhere.txt"),
        ({**CUAD, "id": "../up"}, "names no file"),
        ({"document": {"artifact": "../up"}, "expect": {}}, "no sha256"),
        ({"document": {"text": ""}, "expect": {"a": {"verdict": "x"}}}, "neither"),
        (
            {"document": {"text": ""}, "expect": {"a": {"verdict": "present"}}},
            "no quote",
        ),
        ({"document": {"text": ""}, "expect": {"a": 3}}, "line 1: a is no object"),
        ({"document": {"text": ""}, "expect": []}, "its expect is no object"),
        ({"document": {"text": ""}, "expect": {"a": {}}}, "neither"),
        ({"document": 5, "expect": {}}, "its document is no object"),
        ({"document": {}, "expect": {}}, "neither a text nor an artifact"),
        (present("a b"), "quotes are no list"),
        (present([5]), "a quote is no text"),
        (present([[5]]), "a quote is no text"),
        (present(["...", [], " "]), "no quote has a word"),
        ({"id": None, "clauses": {}}, "names no file"),
        ({"id": "ONE", "clauses": {"A": {"spans": "a b"}}}, "spans are no list"),
        ({"id": "ONE", "clauses": {"A": {"spans": [5]}}}, "a span is no text"),
        ({"id": "ONE", "clauses": {"A": {"spans": ["…"]}}}, "no quote has a word"),
        ({"document": {"text": ""}, "expect": {"A b": ABSENT, "a_b": ABSENT}}, "twice"),
        ({"document": {"text": ""}, "expect": {"!": ABSENT}}, "names no type"),
        ({"id": "ONE", "clauses": {"A": NONE, "a.": NONE}}, "twice"),
    ],
)
def test_a_line_that_is_no_case_is_named(tmp_path: Path, line: Any, why: str) -> None:
    """With what is wrong with it."""
    with pytest.raises(Usage, match=why) as caught:
        read(tmp_path, line)

    assert caught.value.code == "BAD_CASES"


@pytest.mark.parametrize("named", ["/etc/passwd", "../up.txt", "a/../../up.txt", "l"])
def test_a_case_names_no_file_outside_of_its_folder(tmp_path: Path, named: str) -> None:
    """Whoever sends labelled cases does not choose what of this machine is read."""
    (tmp_path / "up.txt").write_text("another's")
    (tmp_path / "cases" / "a").mkdir(parents=True)
    (tmp_path / "cases" / "l").symlink_to(tmp_path / "up.txt")

    with pytest.raises(Usage, match="is not below the folder of the cases"):
        read(tmp_path / "cases", {"document": named, "expect": {}})


def test_a_case_may_name_a_file_by_its_whole_path(tmp_path: Path) -> None:
    """When it lies below the folder."""
    (tmp_path / "one.txt").write_text("one")

    cases = read(tmp_path, {"document": str(tmp_path / "one.txt"), "expect": {}})

    assert cases.cases[0].path == tmp_path / "one.txt"


def test_a_name_is_one_that_a_database_keeps(tmp_path: Path) -> None:
    lines = [
        {"document": {"text": ""}, "name": name, "expect": {}}
        for name in ("a\0b\ud800.txt", "x" * 5_000)
    ]

    odd, long = read(tmp_path, *lines).cases

    assert (odd.name, len(long.name)) == ("ab.txt", 255)


def test_no_file_and_no_case_are_said(tmp_path: Path) -> None:
    """And a line that is no JSON."""
    (tmp_path / "bad.jsonl").write_text("{\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    for name in ("none", "bad", "empty"):
        with pytest.raises(Usage, match="the cases"):
            read_cases(tmp_path / f"{name}.jsonl")


@pytest.mark.skipif(not GOLD.exists(), reason="the samples are not here")
def test_the_labelled_contracts_are_read_as_they_are() -> None:
    """Sixty, of 41 types, each with its text."""
    cases = read_cases(GOLD)

    assert len(cases.cases) == 60
    assert len(cases.types) == 41
    assert all(case.path and case.path.suffix == ".txt" for case in cases.cases)
    spans = [s for c in cases.cases for label in c.labels.values() for s in label.spans]
    assert sum(len(span) > 1 for span in spans) > 40
