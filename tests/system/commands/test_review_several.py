"""Several holds by one command: shown, asked, each decided, each told."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.command import Home, pictures

NOTE = """
needs = ("text",) if ctx.item.name.startswith("ask") else ()
evidence = {"zebra": 1, "ant": 2}
return Hold("LOOK", "look", evidence=evidence, needs=needs, text=ctx.item.name)
"""


@pytest.fixture(scope="module")
def held(shared: Home) -> dict[str, str]:
    """Name -> hold, most urgent first; `ask` needs an answer."""
    folder = shared.pipeline("notes", note=NOTE)
    names = ["ask.png", *(f"{letter}.png" for letter in "abcdef")]
    files = pictures(shared.folder / "made" / "a", names)
    shared.run("ingest", *files, "--pipeline", folder, "--tenant", "ours", "--wait")
    rows = shared.ok("review", "ls", "--tenant", "ours")
    assert len(rows) == 7
    return {row["item_name"].partition(".")[0]: row["hold"] for row in rows}


def decided(home: Home) -> int:
    count: int = home.one("select count(*) from decisions")
    return count


def words(said: dict[str, Any]) -> list[tuple[str, str]]:
    """Of each: its hold, and its state or the code of its refusal."""
    return [
        (one["hold"], one["error"]["code"] if "error" in one else one["state"])
        for one in said["decisions"]
    ]


def test_several_are_shown_asked_and_decided_each_by_itself(
    shared: Home, held: dict[str, str]
) -> None:
    """A hold that somebody decided, or reads, is refused; the others go on."""
    a, b, c = held["a"], held["b"], held["c"]
    review = ("review", "approve")

    dry = shared.run(*review, a, b, held["ask"], "--dry-run")
    unasked = shared.run(*review, a, b, "--json")
    unknown = shared.run(*review, a, "h999", "--yes", "--json")
    digest = shared.run(*review, a, b, "--digest", "0" * 64, "--yes", "--json")
    nothing = shared.run(*review, "--json")
    assert decided(shared) == 0

    shared.ok("review", "reject", b, "--reason", "no", REVIEWER="bert")
    shared.ok("review", "claim", c, REVIEWER="bert")
    some = (a, b, c, held["ask"], a)
    said = shared.run(*review, *some, "--yes", "--json", REVIEWER="alma")

    assert 'text: nothing → "a.png"' in dry.out
    assert f"hold {held['ask']} (LOOK) needs text" in dry.out
    assert dry.code == 2
    assert unasked.error() == (2, "USAGE")
    assert unknown.error() == (9, "NOT_FOUND")
    assert digest.error() == nothing.error() == (2, "USAGE")
    assert said.code == 7
    assert (said.json()["approved"], said.json()["refused"]) == (1, 3)
    assert words(said.json()) == [
        (a, "done"),
        (b, "DECIDED"),
        (c, "CLAIMED"),
        (held["ask"], "ANSWER_NEEDED"),
    ]
    assert decided(shared) == 2


def test_a_filter_leaves_what_cannot_be_approved(
    shared: Home, held: dict[str, str]
) -> None:
    """It is named and left; the next hold is shown in the same breath."""
    of_tenant = ("review", "approve", "--tenant", "ours", "--yes")

    named = ("review", "approve", "--name", "d.p", "--code", "LOOK", "--yes")
    one = shared.ok(*named, "--stage", "note", "--since", "1h", REVIEWER="alma")
    ran = shared.run(*of_tenant, "--next", REVIEWER="alma")
    none = shared.run(*of_tenant, "--json", REVIEWER="alma")
    nobody = shared.run("review", "approve", "--tenant", "nobody", "--json")

    assert [said["hold"] for said in one["decisions"]] == [held["d"]]
    assert ran.code == 0
    assert f"left out: {held['ask']} needs text" in ran.err
    assert f"left out: {held['c']} is claimed by bert" in ran.err
    assert "2 of 2 holds approved" in ran.err
    assert ran.out.count("approved\titem") == 2
    assert f"{held['ask']}  LOOK  at note" in ran.out
    assert none.error() == nobody.error() == (9, "NOTHING_HELD")


def test_evidence_is_shown_in_the_order_it_was_given(
    shared: Home, held: dict[str, str]
) -> None:
    """By the one who wrote the stage; and what a decision would make is data, too."""
    shown = shared.run("review", "show", held["c"])
    data = shared.ok("review", "show", held["c"])

    assert "zebra: 1  ant: 2" in shown.out
    assert f"review approve {held['c']}" in shown.out
    assert "the item is done" in shown.out
    assert data["outlook"]["approve"]["changes"][0]["new"] == "c.png"
    assert data["outlook"]["reject"]["then"] == "ends, rejected"
    assert [file["name"] for file in data["files"]] == ["original.png"]


def test_after_a_decision_the_next_is_shown(shared: Home, held: dict[str, str]) -> None:
    """By one command; and when nothing is left, that is said."""
    answer = ("review", "edit", held["ask"], "--set", "text=x", "--no-run", "--next")
    said = shared.ok(*answer, REVIEWER="alma")
    last = ("review", "reject", held["c"], "--reason", "no", "--next")
    over = shared.run(*last, REVIEWER="bert")

    assert (said["verb"], said["next"]) == ("edit", None)  # bert reads the last one
    assert "nothing else is held" in over.err
    assert shared.ok("batches", "reconcile", "ours/" + batch(shared))["conserved"]


def batch(home: Home) -> str:
    name: str = home.one("select name from batches")
    return name
