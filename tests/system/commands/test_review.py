"""Review by the real command: two people, one decision, and the item goes on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pypdfium2
import pytest
from PIL import Image

from loadtest.corpora.letters import demo_files
from tests.system.command import Home
from waybill.settings import EXAMPLES

DISCLOSED, UNREADABLE = "disclosure-jpg", "smudged-jpg"
TEXT = "Dear Santa,\nmy name is Paul and I am eight. Please may I have a red kite?"


@pytest.fixture(scope="module")
def held(
    shared: Home, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Iterator[str]]]:
    """Code -> holds of it that nobody has touched: four letters of each kind."""
    made = tmp_path_factory.mktemp("letters")
    odd = []
    for drawn in demo_files(made / "demo", count=12):
        if drawn.kind in (DISCLOSED, UNREADABLE):
            odd += [_saved_anew(drawn.path, made, quality) for quality in range(86, 90)]
    # Nothing is grave here: one line, and what can simply be approved.
    folder = made / "pipelines" / "letters"
    shutil.copytree(EXAMPLES / "letters", folder)
    with (folder / "pipeline.toml").open("a", encoding="utf-8") as file:
        file.write("\n[stage.moderation]\ngrave_from = 6\n")
    into = ("--tenant", "ours", "--batch", "one", "--pipeline", "letters")
    taken = shared.run("ingest", *odd, *into, "--wait", PIPELINES=str(folder.parent))
    assert taken.code == 5, taken
    rows = shared.ok("review", "ls")
    assert len(rows) == len(odd) == 8
    return {
        code: iter([row["hold"] for row in rows if row["code"] == code])
        for code in ("DISCLOSURE", "OCR_UNREADABLE")
    }


def _saved_anew(picture: Path, folder: Path, quality: int) -> Path:
    """The same letter in other bytes: no duplicate, and drawn once."""
    path = folder / f"{quality}-{picture.name}"
    with Image.open(picture) as opened:
        opened.save(path, quality=quality, dpi=opened.info["dpi"])
    return path


def errors(home: Home, *calls: str, **who: str) -> list[tuple[int, str]]:
    """Exit codes and code words of `review` calls that must fail, made at once."""
    split = [["review", *call.split(), "--json"] for call in calls]
    return [ran.error() for ran in home.together(*split, **who)]


def text_of(path: str) -> str:
    with pypdfium2.PdfDocument(path) as document:
        return "\n".join(page.get_textpage().get_text_range() for page in document)


def test_an_approval_finishes_the_item_though_no_worker_is_up(shared, held):
    """The reviewer waits some seconds and sees the printed reply."""
    hold = next(held["DISCLOSURE"])

    said = shared.ok("review", "approve", hold, "--reason", "seen", REVIEWER="alma")

    assert (said["hold"], said["verb"], said["author"]) == (hold, "approve", "alma")
    assert said["state"] == "done"
    assert text_of(said["file"])
    assert Path(said["file"]).name in manifest(shared)


def test_a_second_decision_is_refused_and_names_the_first(shared, held):
    """Two reviewers, one decision: exit 7, who decided, and nothing changed."""
    hold = next(held["DISCLOSURE"])
    shared.ok("review", "reject", hold, "--reason", "no", REVIEWER="alma")

    again = shared.run("review", "approve", hold, "--json", REVIEWER="bert")
    more = errors(shared, f"reject {hold} --reason x", f"edit {hold} --set text=x")

    assert again.error() == (7, "DECIDED")
    assert "reject by alma" in again.json()["error"]["message"]
    assert more == [(7, "DECIDED")] * 2
    [decision] = decisions(shared, hold)
    assert (decision["verb"], decision["author"], decision["reason"]) == (
        "reject",
        "alma",
        "no",
    )


def test_a_rejection_needs_a_reason_and_ends_the_item(shared, held):
    """Without one exit 2 and nothing happened; with one the item is rejected."""
    hold = next(held["OCR_UNREADABLE"])

    bare = errors(shared, f"reject {hold}", f"reject {hold} --reason=")
    before = decisions(shared, hold)
    # Bytes that are no text, as some keyboards and scripts send them, are dropped.
    said = shared.ok(
        "review", "reject", hold, "--reason", "wet\udcff", REVIEWER="a\udcff"
    )

    assert bare == [(2, "REASON_NEEDED")] * 2
    assert before == []
    assert (said["state"], said["file"]) == ("rejected", None)
    item = shared.ok("items", "show", str(said["item"]))["item"]
    assert (item["code"], item["why"]) == ("REVIEW_REJECTED", "wet")
    assert decisions(shared, hold)[0]["author"] == "a"


def test_what_nobody_could_read_cannot_be_approved_but_typed(shared, held):
    """Approval asks for the text (exit 2); the typed text becomes the reply."""
    hold = next(held["OCR_UNREADABLE"])

    blind = errors(
        shared,
        f"approve {hold}",
        f"edit {hold} --set text=",
        f"edit {hold} --set text=a --set zz=1",
        f"edit {hold} --set text",
        f"edit {hold}",
    )
    said = shared.ok("review", "edit", hold, "--set", f"text={TEXT}", REVIEWER="alma")

    assert blind == [
        (2, "ANSWER_NEEDED"),
        (2, "ANSWER_NEEDED"),
        (2, "BAD_UPDATE"),
        (2, "USAGE"),
        (2, "USAGE"),
    ]
    assert (said["verb"], said["state"]) == ("edit", "done")
    assert "Paul" in text_of(said["file"])
    assert "Paul" in shared.ok("items", "show", str(said["item"]))["state"]["text"]


def test_a_text_may_come_from_a_file(shared, held, tmp_path):
    """`--set text=@file` reads it; a missing file is a sentence, not a crash."""
    hold = next(held["OCR_UNREADABLE"])
    (tmp_path / "typed.txt").write_text(TEXT.replace("Paul", "Pia"), encoding="utf-8")

    missing = errors(shared, f"edit {hold} --set text=@/nowhere/x")
    said = shared.ok("review", "edit", hold, "--set", f"text=@{tmp_path}/typed.txt")

    assert missing == [(2, "USAGE")]
    assert "Pia" in text_of(said["file"])


def test_a_decision_is_bound_to_what_was_shown(shared, held):
    """With the digest of something else: exit 7, and the hold stays open."""
    hold = next(held["DISCLOSURE"])
    digest = shared.ok("review", "show", hold)["digest"]

    stale = errors(shared, f"approve {hold} --digest {'0' * 64}")
    before = decisions(shared, hold)
    said = shared.ok("review", "approve", hold, "--digest", digest, "--no-run")

    assert stale == [(7, "STALE")]
    assert before == []
    assert said["state"] == "ready"  # `--no-run`: a worker will finish it


def test_of_two_approvals_at_the_same_time_one_stands(shared, held):
    """Two processes at once: exactly one exit 0 and one exit 7, one decision row."""
    hold = next(held["DISCLOSURE"])
    call = ["review", "approve", hold, "--no-run", "--json"]

    both = shared.together(call, call, call, call)

    assert sorted(ran.code for ran in both) == [0, 7, 7, 7]
    assert {ran.error() for ran in both if ran.code == 7} == {(7, "DECIDED")}
    assert len(decisions(shared, hold)) == 1


def test_a_claimed_hold_is_its_reviewers_until_released(shared, held):
    """Claims keep others out of claim, release and decision; `next` passes by."""
    hold = next(held["OCR_UNREADABLE"])
    mine = shared.ok("review", "claim", hold, REVIEWER="alma")

    calls = (f"claim {hold}", f"release {hold}", f"reject {hold} --reason x")
    refused = errors(shared, *calls, REVIEWER="bert")
    following = shared.run("review", "next", "--json", REVIEWER="bert").json()
    shared.ok("review", "release", hold, REVIEWER="alma")
    theirs = shared.ok("review", "claim", hold, REVIEWER="bert")

    assert mine["claimed_by"] == "alma"
    assert refused == [(7, "CLAIMED")] * 3
    assert following.get("hold") != hold
    assert theirs["claimed_by"] == "bert"


def test_what_does_not_exist_is_not_found(shared, held):
    """Unknown holds and items exit 9, words that are no number exit 2."""
    words = ("h999", "999", "h-1", "hx", "h" + "9" * 30)

    said = errors(shared, *(f"show {word}" for word in words))

    assert said == [(9, "NOT_FOUND")] * 2 + [(2, "USAGE")] * 3


def test_what_a_person_reads_holds_evidence_and_the_next_command(shared, held):
    """`show` says why it is held; after the ruling it says who ruled."""
    hold = next(held["DISCLOSURE"], None) or shared.ok("review", "ls")[0]["hold"]
    decided = shared.ok("review", "ls", "--decided")[0]

    shown = shared.run("review", "show", hold)
    drawn = shared.ok("review", "open", hold, "--picture", "page.png")
    files = shared.ok("review", "open", hold)
    after = shared.run("review", "show", decided["hold"])

    assert shown.code == after.code == 0
    assert f"reject {hold} --reason" in shown.out
    assert re.search(r"[0-9a-f]{64}", shown.out) is None
    [page] = drawn
    with Image.open(page["path"]) as picture:
        assert (picture.format, min(picture.size) > 500) == ("PNG", True)
    assert files[0]["name"].startswith("page-1.")
    assert all(Path(file["path"]).stat().st_size for file in files)
    assert f"by {decided['decision']['author']}" in after.out


def test_nothing_was_lost_by_all_that(shared, held):
    """The law holds, every decision is audited once, no hold has two states."""
    said = shared.ok("batches", "reconcile", "ours/one")

    assert said["conserved"]
    assert said["astray"] == []
    audited = "select count(*) from audit where event like 'decided_%'"
    assert shared.one(audited) == shared.one("select count(*) from decisions") > 0
    # A held item costs nothing: nobody owns it, and no worker is registered.
    assert shared.one("select count(*) from running") == 0
    assert shared.one("select count(*) from workers") == 0


def decisions(home: Home, hold: str) -> list[Any]:
    number = int(hold.removeprefix("h"))
    return home.sql("select * from decisions where hold_id = $1", number)


def manifest(home: Home) -> str:
    path = home.folder / "out" / "ours" / "one" / "manifest.csv"
    return path.read_text(encoding="utf-8")
