"""What is wrong with rule files of clauses: every file, all of it, and no contract."""

from __future__ import annotations

from pathlib import Path

from stages.clauses.proving import faults_in

RULES = Path(__file__).parents[3] / "examples" / "contracts" / "rules"
SOUND = (RULES / "insurance.toml").read_text(encoding="utf-8")


def said(**files: str) -> list[str]:
    return [f.message for f in faults_in({f"{n}.toml": t for n, t in files.items()})]


def test_a_sound_file_has_no_fault() -> None:
    assert said(insurance=SOUND) == []


def test_every_file_is_named_and_every_key_of_it() -> None:
    """A broken one does not hide the next; two keys of one file are two faults."""
    keys = SOUND.replace('title = "', 'tile = "', 1).replace(
        "quotes = 4", "quotes = 99"
    )

    found = said(a_toml="name = ]", b_keys=keys, c=SOUND, d=SOUND)

    assert found[0].startswith("a_toml.toml: ")
    assert "line 1" in found[0]
    assert {m.split(": ")[1] for m in found if m.startswith("b_keys")} == {
        *("title", "tile", "quotes"),
    }
    assert found[-1].startswith("d.toml: name: 'insurance' has a file already, c.toml")


def test_a_phrase_that_does_not_compile_has_its_key() -> None:
    broken = SOUND.replace("says = [", 'says = [["insured ("],', 1)

    [found] = said(insurance=broken)

    assert found.startswith("insurance.toml: says.0: ")


def test_an_example_that_the_rules_miss_is_named() -> None:
    more = SOUND.replace("yes = [", 'yes = ["The sky is blue.",', 1)
    more = more.replace("no = [", 'no = ["Seller shall maintain insurance.",', 1)

    found = said(insurance=more)

    assert [m.split(": ")[1] for m in found] == ["examples.yes.0", "examples.no.0"]
    assert "The sky is blue." in found[0]
