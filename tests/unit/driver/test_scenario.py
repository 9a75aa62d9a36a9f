"""Scenario files: what is wrong with one is said in words, key by key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest

from loadtest.driver import scenario
from loadtest.driver.declare import plays, vendors_toml
from loadtest.driver.kinds import Lasting, Phase
from loadtest.driver.phases import shares
from pipeline.errors import Usage

GOOD = """
pipeline = "letters"
items = 10
[vendor.llm]
kind = "chat"
latency = {median_s = 4, max_s = 20}
limits = [{requests = "40/s"}]
declare = {timeout_s = 9, limits = {requests = "30/s"}}
[sink.shop]
kind = "http"
vendor = "llm"
[[phase]]
kind = "steady"
share = 0.75
[[phase]]
kind = "kill"
times = 2
share = 0.25
"""


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_a_scenario_is_read_and_what_is_said_goes_before_it(tmp_path: Path) -> None:
    it, beside = scenario.read(written(tmp_path, GOOD), items=20, speed=2.0, seed=None)

    assert (it.name, it.items, it.speed, it.seed) == ("mine", 20, 2.0, 1)
    assert beside == tmp_path
    assert [phase.kind for phase in it.phase] == ["steady", "kill"]
    assert shares(it) == [15, 5]


def test_a_folder_of_documents_is_the_corpus(tmp_path: Path) -> None:
    it, _ = scenario.read(written(tmp_path, GOOD), folder=tmp_path)

    assert (it.corpus.kind, it.corpus.folder) == ("files", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("share = 0.25", "share = 0.2", "the phases drop 0.95 of the items"),
        ("times = 2", "times = 0", "phase 2 (kill).times: Input should be greater"),
        ("times = 2", "timse = 2", "phase 2 (kill).timse: there is no such key"),
        ('kind = "kill"', 'kind = "kil"', "phase 2 (kil): kind is none of warm-up"),
        ('kind = "kill"', "", "phase 2: has no kind"),
        ('kind = "kill"\ntimes = 2', 'kind = "outage"\nvendor = "x"', "no [vendor.x]"),
        ("items = 10", "", "items: is missing"),
        ("items = 10", "items = ", "mine.toml cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(Usage) as caught:
        scenario.read(written(tmp_path, GOOD.replace(old, new)))

    assert said in caught.value.message


def test_a_name_that_is_none_lists_those_that_are() -> None:
    with pytest.raises(Usage) as caught:
        scenario.read("nothing-of-the-kind")

    assert "letters" in str(caught.value.hint)


@pytest.mark.parametrize("name", scenario.known())
def test_those_of_the_house_are_in_order(name: str) -> None:
    it, _ = scenario.read(name)

    assert it.name == name
    assert sum(shares(it)) == it.total


def test_minutes_are_those_of_all_phases(tmp_path: Path) -> None:
    it, _ = scenario.read(written(tmp_path, GOOD), minutes=2)

    assert sum(phase.for_s for phase in it.phase) == 120
    assert it.items == 60


def test_every_key_stands_in_the_manual() -> None:
    page = (Path(__file__).parents[3] / "docs" / "loadtest.md").read_text()
    kinds = [
        kind
        for phase in get_args(get_args(Phase)[0])
        for kind in get_args(phase.model_fields["kind"].annotation)
    ]
    own = {"name", "vendor", "sink", "stage", "tenant", "phase", "corpus", "workers"}
    own |= {"reviewers"}

    assert len(kinds) == 19
    assert [
        kind for kind in kinds if f"| `{kind}`" not in page.replace(", `", "| `")
    ] == []
    assert [
        k for k in set(scenario.Scenario.model_fields) - own if f"`{k}`" not in page
    ] == []
    assert [k for k in Lasting.model_fields if f"`{k}" not in page] == []


def test_a_quicker_run_has_quicker_vendors(tmp_path: Path) -> None:
    it, _ = scenario.read(written(tmp_path, GOOD), speed=2.0)

    play = plays(it)["llm"]
    assert play["latency"] == {"median_s": 2.0, "max_s": 10.0}
    assert play["limits"] == [{"requests": "80/s"}]
    told = tomllib.loads(vendors_toml(it, lambda name: f"http://here/{name}"))
    assert told["vendor"]["llm"] == {
        "url": "http://here/llm/v1",
        "inside": True,
        "kind": "openai",
        "model": "simulated",
        "timeout_s": 4.5,
        "limits": {"requests": "60/s"},
    }
    assert told["sink"]["shop"] == {"kind": "http", "vendor": "llm"}
