"""Labelled texts: both forms, what is refused, and how what was held is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Usage
from waybill.evals.holding import Weighed, scored
from waybill.evals.texts import Label, LabelledText, Texts, read_texts

CARE = {"text": "one", "label": "care", "kind": "self-harm"}


def read(folder: Path, *lines: Any) -> Texts:
    file = folder / "texts.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return read_texts(file)


def test_both_forms_are_read(tmp_path: Path) -> None:
    """Kinds have one spelling; identical texts count once, as the first."""
    found = read(
        tmp_path,
        CARE,
        {"text": "two", "label": "innocent"},
        {"text": "three", "flagged": True, "categories": ["H", "V"], "source": "x"},
        {"text": "four", "flagged": False, "categories": [], "source": "XSTest"},
        {**CARE, "kind": "hunger"},
    )

    assert [(one.line, one.text, one.label) for one in found.texts] == [
        (1, "one", Label(True, ("self_harm",))),
        (2, "two", Label(False, ())),
        (3, "three", Label(True, ("h", "v"))),
        (4, "four", Label(False, ("xstest",))),
    ]
    assert found.repeated == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({**CARE, "label": "maybe"}, "'maybe' is neither care nor innocent"),
        ({**CARE, "label": ["care"]}, "neither"),
        ({**CARE, "label": "innocent"}, "of the text of line 1, which says care"),
        ({**CARE, "kind": "!"}, "no letter"),
        ({**CARE, "kind": 7}, "no letter"),
        ({"label": "care"}, "no text"),
        ({"text": "secret words"}, "no label"),
        ({"text": "secret words", "flagged": "yes"}, "no label"),
        ({"text": "secret words", "flagged": True, "categories": "H"}, "no list"),
        ("secret words", "no object"),
    ],
)
def test_what_is_not_known_is_refused_by_its_line(
    tmp_path: Path, line: Any, why: str
) -> None:
    """The message names the line and never says the text."""
    with pytest.raises(Usage, match=why) as caught:
        read(tmp_path, CARE, line)

    assert caught.value.code == "BAD_CASES"
    assert "line 2" in caught.value.message
    assert "secret" not in caught.value.message


def test_a_file_without_a_text_is_refused(tmp_path: Path) -> None:
    """It would have no rate."""
    with pytest.raises(Usage, match="has no text"):
        read(tmp_path)


def weighed(line: int, care: bool, held: bool, *kinds: str) -> Weighed:
    known = LabelledText(line, Label(care, kinds), f"text {line}")
    return Weighed(known, "THREAT" if held else "", ("threat/t",) if held else ())


FOUND = [
    weighed(1, True, True, "hate"),
    weighed(2, True, True, "hate", "threat"),
    weighed(3, True, False, "hate", "game"),
    weighed(4, False, True, "game"),
    weighed(5, False, False, "game"),
    weighed(6, False, False),
]


def test_rates_are_of_texts_with_their_intervals() -> None:
    """Recall of those that must be seen, precision of those held, and both by kind."""
    report = scored(FOUND)

    whole = report["all"]
    assert (whole["care"], whole["innocent"]) == (3, 3)
    assert whole["recall"] == whole["precision"] == whole["f1"] == 0.6667
    assert whole["innocent_held"] == 0.3333
    assert whole["intervals"]["recall"] == [0.2077, 0.9385]
    assert list(report["kinds"]) == ["game", "hate", "threat"]
    game, hate, threat = report["kinds"].values()
    assert (game["recall"], game["precision"], game["innocent_held"]) == (0, 0, 0.5)
    assert (hate["recall"], threat["recall"]) == (0.6667, 1)
    # Of one label only, whatever is held is right.
    assert hate["precision"] is hate["f1"] is hate["innocent_held"] is None
    assert list(hate["intervals"]) == ["recall"]


def test_what_went_wrong_is_named_by_its_line() -> None:
    """Texts are in the report only where they are asked for."""
    report = scored(FOUND)

    [missed], [held] = report["missed"], report["held_by_mistake"]
    assert (missed["line"], missed["kinds"]) == (3, ("hate", "game"))
    assert (held["line"], held["code"], held["rules"]) == (4, "THREAT", ("threat/t",))
    assert "text 3" not in json.dumps(report)
    assert scored(FOUND, show=True)["missed"][0]["text"] == "text 3"
