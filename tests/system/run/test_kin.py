"""Bundles by the real command: spawn, join, kill, cancel; and what people are told."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.model import State
from tests.system.command import Home, children_of, eventually, pictures

UNPACK = """
from pipeline.stage import Done, Part
if letter.facts.get("part"):
    return Advance()
parts = [
    Part(f"part-{{n}}.png", {{"source": letter.source, "facts": {{"part": n}}}})
    for n in range(1, {count} + 1)
]
await ctx.spawn(parts, at="part")
kin = await ctx.join()
ended = sorted(k.state.value for k in kin)
return Done(facts={{"ended": ended, "said": [k.values["text"] for k in kin]}})
"""
READ = """
await anyio.sleep({took_s})
part = letter.facts["part"]
if part == 2:
    return Reject("BLANK", "no ink")
if part == 3:
    return Hold("LOOK", "please look", text="held")
return Advance(text=f"part {{part}}")
"""


def bundles(home: Home, *, count: int, took_s: float = 0.0) -> Path:
    """A pipeline that unpacks; its parts take the branch."""
    folder = home.pipeline(
        "bundles",
        unpack=UNPACK.format(count=count),
        read_part=READ.format(took_s=took_s),
    )
    (folder / "pipeline.toml").write_text(
        'name = "bundles"\ndeadline = "1d"\nstages = ["unpack"]\n'
        '[branch.part]\nstages = ["read_part"]\n',
        encoding="utf-8",
    )
    return folder


def test_a_bundle_waits_for_a_person_and_then_goes_on(home: Home, tmp_path: Path):
    """`--wait` ends when only people can go on; every command says what is missing;
    the decision on the last child lets the bundle end, in the same process."""
    folder = bundles(home, count=5)
    [file] = pictures(tmp_path, ["bundle.png"])

    ran = home.run("ingest", file, "--pipeline", folder, "--wait", "--json")
    shown = home.ok("items", "show", "1")
    why = home.ok("items", "why", "1")["why"]
    listed = home.ok("items", "ls", "--parent", "1")
    [hold] = home.ok("review", "ls")
    home.ok("review", "approve", hold["hold"], REVIEWER="ann")

    told = ran.json()
    assert ran.code == 5
    assert (told["received"], told["live"], told["held"]) == (6, 1, 1)
    assert shown["children"] == {"held": 1, "done": 3, "rejected": 1}
    assert "it waits for 1 of its 5 children" in why
    assert [r["name"] for r in listed] == [f"part-{n}.png" for n in (5, 4, 3, 2, 1)]
    assert {r["parent_id"] for r in listed} == {1}
    state = home.ok("items", "show", "1")["state"]
    assert state["facts"]["ended"] == ["done"] * 4 + ["rejected"]
    assert state["facts"]["said"] == ["part 1", "", "held", "part 4", "part 5"]
    assert home.ok("batches", "reconcile")["conserved"]


@pytest.mark.proof
def test_a_killed_worker_costs_a_bundle_nothing(home: Home, tmp_path: Path):
    """SIGKILL while the children are read: none is born twice, all are joined."""
    folder = bundles(home, count=60, took_s=0.5)
    [file] = pictures(tmp_path, ["bundle.png"])
    home.ok("ingest", file, "--pipeline", folder)

    with home.started("worker") as supervisor:
        born = eventually(
            lambda: home.one("select count(*) from open_children"), within_s=30
        )
        workers = [
            p for p, line in children_of(supervisor.pid).items() if "work" in line
        ]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        settled = eventually(
            lambda: home.one("select count(*) from outcomes") == 59, within_s=60
        )
        home.ok("review", "approve", "h1", REVIEWER="ann")
        over = eventually(
            lambda: home.one("select count(*) from outcomes") == 61, within_s=30
        )

    assert born
    assert workers
    assert settled
    assert over
    assert home.one("select count(*) from items") == 61
    assert home.ends() == {"done": 60, "rejected": 1}
    assert home.one("select count(*) from open_children") == 0
    assert home.ok("batches", "reconcile")["conserved"]


def test_cancelling_a_bundle_cancels_its_children(home: Home, tmp_path: Path):
    """In one command; what was done stays done."""
    folder = bundles(home, count=5)
    [file] = pictures(tmp_path, ["bundle.png"])
    home.run("ingest", file, "--pipeline", folder, "--wait", "--json")

    said = home.ok("items", "cancel", "1")

    assert said == {"1": "cancelled"}
    assert home.ends() == {"cancelled": 2, "done": 3, "rejected": 1}
    assert home.ok("review", "ls") == []


PAGES = """
async def page(number: int) -> dict:
    if number == 4:
        await anyio.sleep(60)
    return {"number": number, "status": "OK" if number < 3 else "UNREADABLE"}
for number in range(1, 5):
    await ctx.step(f"page-{number}", page, number)
    ctx.progress(number, 4)
return Advance()
"""


def test_pages_of_a_document_in_work_are_told(home: Home, tmp_path: Path):
    """Status, and the item itself, say how far it is while it is read."""
    count = "return Advance(page_count=4)"
    folder = home.pipeline("pages", intake=count, ocr=PAGES)
    [file] = pictures(tmp_path, ["contract.png"])
    home.ok("ingest", file, "--pipeline", folder)

    def three() -> Any:
        found = home.ok("status")["documents"]
        return found if found and found[0]["done"] == 3 else None

    with home.started("worker"):
        told = eventually(three, within_s=30)
        shown = home.ok("items", "show", "1")
        text = home.run("items", "show", "1").out

    [document] = told
    assert document == {
        "item": 1,
        "name": "contract.png",
        "stage": "ocr",
        "done": 3,
        "total": 4,
    }
    assert (shown["pages"]["done"], shown["pages"]["total"]) == (3, 4)
    assert "pages 3 of 4" in text
    assert "3\tUNREADABLE" in text  # a page that did not end well is shown unasked


@pytest.mark.parametrize(("args", "table"), [([], False), (["--pages"], True)])
def test_a_table_of_good_pages_is_shown_when_asked(
    shared: Home, tmp_path: Path, args: list[str], table: bool
):
    """Who wants to know what was read how, asks."""
    name = f"good-{len(args)}"
    folder = shared.pipeline(
        name,
        ocr="async def page() -> dict:\n    return {'status': 'OK'}\n"
        "await ctx.step('page-1', page)\nreturn Advance(page_count=1)",
    )
    [file] = pictures(tmp_path, [f"{name}.png"])
    report = shared.ok("ingest", file, "--pipeline", folder, "--wait")
    number = str(report["files"][0]["item"])

    shown = shared.run("items", "show", number, *args).out

    assert shared.ok("items", "show", number)["item"]["state"] == State.DONE
    assert ("1\tOK" in shown) is table
