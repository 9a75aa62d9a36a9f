"""What is grave and what is drawn by lot, by the real command, and the figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.system.command import Home
from waybill.settings import EXAMPLES

FINE = "Dear Santa,\nmy name is {} and I am eight. Please may I have a red kite?"
GRAVE = "Dear Santa,\nmy dad always hits me with a belt and I am scared. {}"
SEE = {"ROLES": "safeguarding,quality"}
REPLY = {"greeting": "Dear Ida,", "paragraphs": ["We read it."], "closing": "S"}


@pytest.fixture(scope="module")
def held(shared: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name -> hold: two letters that passed and were drawn, two that are grave."""
    made = tmp_path_factory.mktemp("grave")
    folder = made / "pipelines" / "letters"
    shutil.copytree(EXAMPLES / "letters", folder)
    with (folder / "pipeline.toml").open("a", encoding="utf-8") as file:
        file.write('\n[stage.moderation]\nsample = "100%"\n')
    letters = []
    for name in ("ann", "ben", "ida", "joe"):
        text = FINE if name in ("ann", "ben") else GRAVE
        letters.append(made / f"{name}.txt")
        letters[-1].write_text(text.format(name.capitalize()), encoding="utf-8")
    into = ("--tenant", "grave", "--batch", "g", "--pipeline", "letters", "--wait")
    shared.run("ingest", *letters, *into, PIPELINES=str(folder.parent))
    rows = shared.ok("review", "ls", "--batch", "grave/g")
    return {Path(row["item_name"]).stem: row["hold"] for row in rows}


def test_what_is_grave_has_its_own_way(shared: Home, held: dict[str, str]):
    """
    In no common line, told of beside it, refused to others and in a bulk; a person
    writes its answer; and the sample's rulings become the figures of `stats`.
    """
    common = shared.run("review", "ls", "--tenant", "grave", "--json")
    told = shared.run("review", "ls", "--tenant", "grave")
    line = ("--role", "safeguarding", "--tenant", "grave")
    theirs = shared.ok("review", "ls", *line)
    stranger = shared.run("review", "reject", held["ida"], "--reason", "x", "--json")
    bulk = ("review", "approve", *held.values(), "--yes", "--json")
    together = shared.run(*bulk, **SEE)
    simply = shared.run("review", "approve", held["ida"], "--yes", "--json", **SEE)
    assert common.json() == []
    assert "2 holds for the role safeguarding" in told.err
    assert "review ls --role quality" in told.err
    assert {row["hold"] for row in theirs} == {held["ida"], held["joe"]}
    assert stranger.error() == (7, "ROLE_NEEDED")
    codes = [one["error"]["code"] for one in together.json()["decisions"]]
    assert codes == ["ONE_BY_ONE"] * 4
    assert simply.error() == (2, "ANSWER_NEEDED")

    before = shared.ok("moderation", "stats", "--batch", "grave/g")
    person = ("--set", "answer_by=person")
    again = shared.ok("review", "edit", held["ida"], *person, **SEE)
    reply = ("--set", f"reply={json.dumps({**REPLY, 'writer': 'a person'})}")
    sent = shared.ok("review", "edit", again["next_hold"], *reply, **SEE)
    machine = ("--set", "answer_by=machine")
    alarm = shared.ok("review", "edit", held["joe"], *machine, **SEE)
    right = shared.ok("review", "approve", held["ann"], **SEE)
    missed = ("--set", "missed=disclosure")
    found = shared.ok("review", "edit", held["ben"], *missed, **SEE)
    after = shared.ok("moderation", "stats", "--batch", "grave/g")["all"]
    drawn = shared.run("moderation", "stats", "--batch", "grave/g")

    assert again["next_code"] == found["next_code"] == "REPLY_BY_PERSON"
    assert [done["state"] for done in (sent, alarm, right)] == ["done"] * 3
    assert (before["all"]["sampled"], before["all"]["read"]) == (2, 0)
    assert before["all"]["recall"] is None
    names = ("passed", "held", "right", "undecided", "sampled", "read", "found")
    assert [after[name] for name in names] == [2, 2, 1, 0, 2, 2, 1]
    assert (after["missed"], after["recall"]) == (1.0, 0.5)
    assert after["missed_interval"] == [1, 2]
    assert "1 of them should have been held" in drawn.err
