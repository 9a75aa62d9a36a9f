"""The way in tells everything it left: in a folder, in the inbox, in a batch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.system.command import Home, pictures

ROOT = Path(__file__).parents[3]
NOTE = 'return Hold("LOOK", "x") if "hold" in ctx.item.name else Advance(text="read")'


@pytest.fixture(scope="module")
def notes(shared: Home) -> Home:
    """A home with a pipeline of one stage, which is the default."""
    shared.pipeline("notes", note=NOTE)
    shared.environment["WAYBILL_PIPELINES"] = str(shared.pipelines)
    shared.environment["WAYBILL_PIPELINE"] = "notes"
    shared.inbox.mkdir()
    return shared


def made(home: Home, folder: str, *names: str | bytes) -> list[Path]:
    """Pictures, each with bytes of its own."""
    paths = pictures(home.folder / "made" / folder, names)
    for path in paths:
        path.write_bytes(path.read_bytes() + f"{folder}/{path.name!r}".encode())
    return paths


def left_in(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["name"]: row["code"] for row in rows}


# -- a folder --------------------------------------------------------------------------


def test_what_a_folder_holds_beside_is_told(notes: Home):
    """`ingest FOLDER` names each with its reason, in text and in JSON."""
    [good] = made(notes, "mixed", "a.png")
    folder = good.parent
    (folder / "link.png").symlink_to(good)
    os.mkfifo(folder / "pipe.png")
    (folder / "half.png.part").write_bytes(b"x")
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "b.png.done").write_bytes(b"")
    (folder / "inner.png").mkdir()
    deep = folder.joinpath(*"abcdefghijklmnopqr")
    deep.mkdir(parents=True)

    said = notes.ok("ingest", folder)
    text = notes.run("ingest", folder)

    codes = {Path(n).name: c for n, c in left_in(said["passed_over"]).items()}
    assert codes == {
        "link.png": "NOT_A_FILE",
        "pipe.png": "NOT_A_FILE",
        "inner.png": "NOT_A_FILE",
        "half.png.part": "PARTIAL",
        ".hidden.png": "HIDDEN",
        "b.png.done": "MARKER_ALONE",
        "q": "TOO_DEEP",
    }
    assert text.code == 0
    assert text.err.count("passed over: ") == len(codes)
    assert "it is a named pipe" in text.err


def test_a_folder_without_a_file_says_what_it_holds(notes: Home):
    folder = notes.folder / "made" / "none"
    folder.mkdir(parents=True)
    (folder / "half.png.part").write_bytes(b"x")

    ran = notes.run("ingest", folder)

    assert ran.code == 2
    assert "half.png.part PARTIAL" in ran.err


def test_refused_files_alone_are_no_success(notes: Home):
    """All quarantined is exit 4, with and without waiting; with a good one it is 0."""
    [good] = made(notes, "refused", "good.png")
    empty = good.with_name("empty.png")
    empty.write_bytes(b"")

    alone = notes.run("ingest", empty, "--json")
    waited = notes.run("ingest", empty, "--wait", "--json")
    text = notes.run("ingest", empty, "--batch", "told")
    both = notes.run("ingest", good, empty, "--json")

    assert (alone.code, waited.code, both.code) == (4, 4, 0)
    assert alone.json()["quarantined"] == 1
    assert "quarantined: empty.png EMPTY_FILE" in text.err
    assert "`waybill quarantine ls --batch default/told`" in text.err


def test_a_file_that_is_written_to_is_left(notes: Home):
    """Exit 3 and its reason; it is taken when its writer has closed it."""
    [path] = made(notes, "written", "a.png")
    with path.open("ab"):
        left = notes.run("ingest", path, "--json")
    then = notes.ok("ingest", path)

    assert left.code == 3
    assert left.json()["files"][0]["code"] == "BEING_WRITTEN"
    assert then["files"][0]["disposal"] == "item"


def test_waiting_counts_what_this_call_brought_in(notes: Home):
    """The day's batch has a held item of an earlier call: that is told apart."""
    held = notes.run("ingest", *made(notes, "x", "hold.png"), "--batch", "d", "--wait")
    ran = notes.run(
        "ingest", *made(notes, "y", "a.png"), "--batch", "d", "--wait", "--json"
    )
    text = notes.run("ingest", *made(notes, "z", "b.png"), "--batch", "d", "--wait")

    assert (held.code, ran.code, text.code) == (5, 0, 0)
    said = ran.json()
    assert (said["received"], said["done"], said["held"]) == (1, 1, 0)
    assert (said["whole_batch"]["received"], said["whole_batch"]["held"]) == (2, 1)
    rows = [line.split("\t")[:2] for line in text.out.splitlines()]
    assert rows == [["this call", "1"], ["default/d", "3"]]


# -- batches ---------------------------------------------------------------------------


def test_every_batch_that_is_listed_is_found(notes: Home):
    """Names with slashes too, by each command that takes a batch."""
    notes.ok("ingest", *made(notes, "w", "a.png"), "--tenant", "acme", "--batch", "2/w")
    notes.ok("ingest", *made(notes, "v", "a.png"), "--batch", "für")

    names = [line.split("\t")[0] for line in notes.run("batches", "ls").out.split("\n")]
    shown = notes.together(*(["batches", "show", name] for name in names if name))
    others = notes.together(
        ["status", "--batch", "acme/2/w"],
        ["items", "ls", "--batch", "acme/2/w"],
        ["quarantine", "ls", "--batch", "2/w"],
        ["batches", "reconcile", "acme/2/w"],
        ["items", "retry", "--batch", "acme/2/w", "--yes"],
        ["batches", "show", r"default/f\xfcr"],
    )
    no_text = notes.run("batches", "show", "\udcff", "--json")

    assert {"acme/2/w", "default/für"} <= set(names)
    assert [ran.code for ran in (*shown, *others)] == [0] * len([*shown, *others])
    assert no_text.error() == (2, "BAD_NAME")


def test_a_batch_keeps_its_deadline_until_it_is_moved(notes: Home):
    """Another `--deadline` is refused, no file taken; `batches set` moves it."""
    first, second = made(notes, "due", "a.png", "b.png")
    call = ("--batch", "due", "--deadline")
    [item] = [f["item"] for f in notes.ok("ingest", first, *call, "2d")["files"]]
    before = notes.one("select count(*) from receipts")

    other = notes.run("ingest", second, *call, "5d", "--json")
    untaken = notes.one("select count(*) from receipts")
    notes.ok("ingest", second, *call, "2d")  # the same one, a moment later
    said = notes.ok("batches", "set", "due", "--deadline", "5d")
    wrong = notes.run("batches", "set", "due", "--deadline", "0001-01-01", "--json")

    assert other.error() == (7, "DEADLINE_DIFFERS")
    assert "batches set default/due" in other.json()["error"]["hint"]
    assert untaken == before
    assert said["items"] == 2
    shown = notes.ok("items", "show", str(item))
    assert shown["item"]["deadline_at"] == said["deadline_at"]
    assert "deadline" in [event["event"] for event in shown["timeline"]]
    assert wrong.error() == (2, "USAGE")


# -- the inbox -------------------------------------------------------------------------


def test_what_lies_in_the_inbox_is_told_by_whoever_is_asked(notes: Home):
    """No watcher runs: `status`, `doctor` and `quarantine ls` say what is left, why."""
    inbox = notes.inbox
    wrong = inbox / "acme" / "nowhere" / "a.pdf"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"%PDF")
    (inbox / "link.pdf").symlink_to("/etc/passwd")
    os.mkfifo(inbox / "pipe.pdf")
    (inbox / "on-its-way.pdf").write_bytes(b"%PDF")
    (inbox / os.fsdecode(b"bad\xff.pdf.part")).write_bytes(b"%PDF")
    old = inbox / "old.pdf"
    old.write_bytes(b"%PDF")
    with (inbox / "open.pdf").open("wb"):
        status = notes.ok("status")["inbox"]
        listed = notes.ok("quarantine", "ls")
        doctor = notes.ok("doctor")
    text = notes.run("status")

    codes = {
        "acme/nowhere/a.pdf": "NO_SUCH_PIPELINE",
        "link.pdf": "NOT_A_FILE",
        "pipe.pdf": "NOT_A_FILE",
        "open.pdf": "BEING_WRITTEN",
        r"bad\xff.pdf.part": "PARTIAL",
    }
    assert left_in(status["left"]) == codes
    assert (status["waiting"], status["more"]) == (2, 0)
    assert left_in([r for r in listed if r["in"] == "inbox"]) == codes
    [check] = [c for c in doctor["checks"] if c["name"] == "left in the inbox"]
    assert check["ok"]
    assert "there is no pipeline 'nowhere'" in check["found"]
    assert "acme/nowhere/a.pdf\tNO_SUCH_PIPELINE\t" in text.out


# -- a terminal without UTF-8 ----------------------------------------------------------


@pytest.fixture(scope="module")
def zoe(notes: Home) -> tuple[str, str]:
    """An item that is held, and its hold; its name is in no ASCII and no latin-1."""
    names = [os.fsdecode("hold-Zoë-€.png".encode()), os.fsdecode(b"hold-\xff.png")]
    paths = made(notes, "odd", *names)
    notes.run("ingest", *paths, "--tenant", "zoë", "--batch", "für", "--wait")
    [row] = [h for h in notes.ok("review", "ls") if "Zo" in h["item_name"]]
    return str(row["item_id"]), row["hold"]


def spoken(home: Home, *args: str, **terminal: str) -> tuple[int, bytes]:
    """Exit code, and what a command writes to a terminal of this kind."""
    ran = subprocess.run(
        [sys.executable, "-m", "waybill", *args],
        env=home.environment | terminal,
        cwd=home.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return ran.returncode, ran.stdout


@pytest.mark.proof
def test_a_terminal_without_utf8_gets_escapes(notes: Home, zoe: tuple[str, str]):
    """Every command says what it says; what cannot be shown is an escape."""
    item, hold = zoe
    folder = str(notes.folder / "made" / "odd")
    calls = [
        ["--help"],
        ["ingest", folder, "--tenant", "zoe", "--batch", "x"],
        ["status"],
        ["items", "ls"],
        ["items", "show", item],
        ["batches", "ls"],
        ["batches", "reconcile"],
        ["review", "show", hold],
        ["review", "approve", hold, "--dry-run"],
    ]

    with ThreadPoolExecutor(4) as pool:
        said = list(
            pool.map(
                lambda call: spoken(notes, *call, PYTHONIOENCODING="ascii:strict"),
                calls,
            )
        )

    for call, (code, text) in zip(calls, said, strict=True):
        assert (code, b"Traceback" in text) == (0, False), (call, text)
        assert text.isascii(), (call, text)
    assert b"hold-Zo\\xeb-\\u20ac.png" in said[3][1]
    assert b"hold-\\xff.png" in said[3][1]


@pytest.mark.parametrize(
    ("terminal", "name"),
    [
        ({"PYTHONIOENCODING": "latin-1:strict"}, b"hold-Zo\xeb-\\u20ac.png"),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            b"hold-Zo\\xeb-\\u20ac.png",
        ),
        ({"LC_ALL": "C"}, "hold-Zoë-€.png".encode()),
    ],
)
def test_a_terminal_shows_what_it_can(
    notes: Home, zoe: tuple[str, str], terminal: dict[str, str], name: bytes
):
    """Of another character set, or of none: no more is escaped than must be."""
    code, text = spoken(notes, "items", "show", zoe[0], **terminal)

    assert code == 0, text
    assert name in text


# -- what comes out --------------------------------------------------------------------


def test_a_folder_comes_out_as_it_went_in(notes: Home):
    """Named as it was, in folders like its own; what was not read is said by name."""
    folder = notes.folder / "made" / "tree"
    (folder / "bills" / "March").mkdir(parents=True)
    (folder / "bills" / "March" / "tea.txt").write_text("Tea 3.00\n")
    (folder / "bills" / "March" / "tea.eml").write_text("From: a\n\nTea, please\n")
    (folder / "empty.txt").write_text(" \n")
    (folder / "odd.bin").write_bytes(bytes(range(256)))
    with zipfile.ZipFile(folder / "bills" / "post.zip", "w") as post:
        post.writestr("in/one.txt", "One letter.")
        post.writestr("in/two.bin", bytes(range(256)))

    ran = notes.run(
        *("ingest", folder, "--wait", "--batch", "tree"),
        *("--pipeline", ROOT / "examples" / "documents"),
    )

    out = notes.folder / "out" / "default" / "tree"
    assert ran.code == 0, ran.err
    assert f"out      {out}" in ran.err
    assert "rejected: empty.txt BLANK" in ran.err
    look = "items ls --batch default/tree --state rejected"
    assert re.search(f"rejected 1 found in other files: \\S+ {look}", ran.err)
    assert "quarantined: odd.bin UNSUPPORTED_TYPE" in ran.err
    lie = {str(p.relative_to(out)) for p in out.rglob("*.*") if p.is_file()}
    lie -= {"manifest.csv", ".manifest"}
    assert len(lie) == 9
    for stem in ("bills/March/tea", "bills/post.zip/in/one"):
        assert {f"{stem}.{suffix}" for suffix in ("pdf", "txt", "json")} < lie
    assert (out / "bills/post.zip/in/one.txt").read_text() == "One letter."
