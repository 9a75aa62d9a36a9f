"""What fits together, judged by two implementations that share nothing."""

from __future__ import annotations

import pytest

from loadtest.scenarios.fitting import CONDITIONS, rule_files, run


def nobody(line: str) -> None:
    """Hears what a run says."""


def test_two_implementations_agree():
    """Of some pairings, drawn; `loadtest run fitting` looks at all of them."""
    found = run(nobody, pairs=300, seed=3)

    assert found["unsafe_passed"] == found["safe_refused"] == found["told_apart"] == 0
    assert found["passed"] + found["unknown"] + found["refused"] == 300 * 10
    assert found["passed"] > 0
    assert len(CONDITIONS) == found["conditions"] == 10


@pytest.mark.parametrize(
    ("file", "old", "new", "wrong"),
    [
        ("materials.toml", '"120 °C", share = "1"', '"200 °C", share = "1"', "unsafe"),
        ("media.toml", 'never = ["EPDM"]', 'unknown = ["EPDM"]', "told_apart"),
        ("materials.toml", '"100 °C", share = "1"', '"20 °C", share = "1"', "safe"),
    ],
)
def test_a_rule_that_is_wrong_is_found(file, old, new, wrong):
    """Else two that agree would prove nothing."""
    files = rule_files()
    assert old in files[file]
    files[file] = files[file].replace(old, new, 1)

    found = run(nobody, pairs=600, seed=4, files=files)

    kinds = ("unsafe_passed", "safe_refused", "told_apart")
    assert any(found[kind] for kind in kinds if kind.startswith(wrong))
    assert found["examples"]
