"""The command's contract: exit codes, JSON, sentences with hints, escaped text."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from tests.system.command import Home, Ran, pictures
from waybill.cli import EXIT_CODES

ESCAPES = "\x1b]0;owned\x07\x1b[31m\r\u202e\u2028"
# What becomes of an item is in its name; a file in the home mends what fails.  Of
# names that attack the documents do as well: their text is as bad.
NOTE = f"""
word = ctx.item.name.partition("-")[0]
said = ctx.item.name + ({ESCAPES!a} if "owned" in ctx.item.name else "")
if word == "fail" and not os.path.exists(os.environ["WAYBILL_HOME"] + "/mended"):
    raise Permanent("the note cannot be copied " + said, code="NOT_COPIED")
if word == "hold":
    why = "somebody must look " + said
    return Hold("LOOK", why, evidence={{"said": said}}, text=said)
if word == "reject":
    return Reject("NO_NOTE", "this is no note " + said)
return Advance(text=said)
"""
HOSTILE = [
    "new\nline.png",
    f"escape{ESCAPES}.png",
    b"bad\xff\xfeutf8.png",
    "=HYPERLINK(1).png",
    "[bold red]markup.png",
    f"hold-{ESCAPES}.png",
    f"fail-{ESCAPES}.png",
]


@pytest.fixture(scope="module")
def notes(shared: Home) -> Home:
    """A home with one batch of every state there is without a worker."""
    shared.pipeline("notes", note=NOTE)
    shared.environment["WAYBILL_PIPELINES"] = str(shared.pipelines)
    shared.environment["WAYBILL_PIPELINE"] = "notes"
    made = shared.folder / "made"
    ended = pictures(made / "a", ["done-1.png", "fail-1.png", "hold-1.png"])
    (made / "a" / "empty.png").write_bytes(b"")
    (made / "a" / "reject-1.png").write_bytes(_other(ended[0]))
    (made / "a" / "copy-of-done-1.png").write_bytes(ended[0].read_bytes())
    ran = shared.run("ingest", made / "a", "--batch", "one", "--wait", "--json")
    # Failed is said before held: it is what somebody must mend.
    assert ran.code == 4, ran
    return shared


@pytest.fixture(scope="module")
def hostile(notes: Home) -> Home:
    """The same with a tenant whose files have names that attack."""
    folder = notes.folder / "made" / "hostile"
    made = pictures(folder, [f"x{n}" for n in range(30, 30 + len(HOSTILE))])
    for path, name in zip(made, HOSTILE, strict=True):
        path.write_bytes(_other(path))
        path.rename(folder / os.fsdecode(name))
    (folder / f"zero{ESCAPES}.png").write_bytes(b"")
    ran = notes.run("ingest", folder, "--tenant", "foe", "--batch", "b", "--wait")
    assert ran.code == 4, ran
    assert_tame(ran)
    return notes


def _other(path: Path) -> bytes:
    """The same picture with other bytes (a PNG may be followed by anything)."""
    return path.read_bytes() + path.name.encode()


def assert_tame(ran: Ran) -> None:
    """Nothing in the output acts on a terminal, and it is UTF-8."""
    for text in (ran.out, ran.err):
        bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl")}
        assert bad <= {"\n", "\t"}, ascii(text)
        assert "Traceback" not in text


# -- what it says of itself ------------------------------------------------------------


def test_help_tells_every_exit_code(shared):
    """`waybill --help` lists commands and exit codes; so scripts need no source."""
    said, version, nothing = shared.together(["--help"], ["--version"], [])

    words = " ".join(said.out.replace("│", " ").split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in words
    for command in ("demo", "up", "worker", "ingest", "status", "review", "doctor"):
        assert f" {command} " in words
    assert (said.code, version.code) == (0, 0)
    assert version.out.startswith("waybill ")
    assert "Usage" in nothing.out + nothing.err


def test_every_read_is_json_on_request(notes):
    """The object itself and nothing else on stdout, for each command that reads."""
    item = str(notes.one("select min(id) from items"))
    hold = notes.ok("review", "ls")[0]["hold"]
    reads = [
        ["status"],
        ["status", "--batch", "one"],
        ["items", "ls"],
        ["items", "ls", "--state", "done", "--batch", "default/one"],
        ["items", "show", item],
        ["items", "show", item, "--at", "note"],
        ["items", "why", item],
        ["batches", "ls"],
        ["batches", "show", "one"],
        ["batches", "reconcile"],
        ["quarantine", "ls"],
        ["review", "ls"],
        ["review", "ls", "--decided"],
        ["review", "show", hold],
        ["db", "status"],
        ["db", "migrate"],
    ]

    said = notes.together(*([*read, "--json"] for read in reads))

    for read, ran in zip(reads, said, strict=True):
        assert ran.code == 0, (read, ran)
        assert ran.json() is not None
        assert ran.err == "", (read, ran)


def test_tables_are_tab_separated_in_a_pipe(notes):
    """Without a terminal: no header, no colour, one line an item, for `cut`."""
    ran = notes.run("items", "ls", "--batch", "one")

    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert {len(row) for row in rows} == {9}
    assert sorted(row[1] for row in rows) == ["done", "failed", "held", "rejected"]
    assert_tame(ran)


def test_a_finished_batch_obeys_the_law(notes):
    """received = the eight terms, in `batches show`, `ls`, `status`, `reconcile`."""
    law = {
        "received": 6,
        "live": 0,
        "held": 1,
        "done": 1,
        "rejected": 1,
        "failed": 1,
        "cancelled": 0,
        "duplicates": 1,
        "quarantined": 1,
        "conserved": True,
    }

    shown = notes.ok("batches", "show", "one")
    checked = notes.ok("batches", "reconcile", "default/one")
    [listed] = [b for b in notes.ok("batches", "ls") if b["name"] == "one"]

    for said in (shown, checked, listed):
        assert {name: said[name] for name in law} == law
    assert checked["astray"] == []


def test_a_batch_is_exported_at_any_time(notes, tmp_path):
    """A row for each file that came, while one is held; nothing is written over."""
    to = tmp_path / "one.jsonl"

    made = notes.ok("export", "default/one", "--to", to)
    again = notes.run("export", "one", "--to", to, "--json")

    rows = [json.loads(line) for line in to.read_text("ascii").splitlines()]
    codes = {row["state"]: (row["name"], row["code"]) for row in rows}
    assert made["states"] == dict.fromkeys(codes, 1)
    assert codes == {
        "failed": ("fail-1.png", "NOT_COPIED"),
        "held": ("hold-1.png", "LOOK"),
        "rejected": ("reject-1.png", "NO_NOTE"),
        "quarantined": ("empty.png", "EMPTY_FILE"),
        "done": codes["done"],  # of two with the same bytes, whichever came first
        "duplicate": codes["duplicate"],
    }
    assert again.error() == (7, "EXPORT_EXISTS")


def test_why_says_what_to_do_in_every_state(notes):
    """One paragraph for each item, with the next command where there is one."""
    rows = notes.ok("items", "ls", "--batch", "one")
    calls = [["items", "why", str(row["id"]), "--json"] for row in rows]

    said = {r.json()["state"]: r.json()["why"] for r in notes.together(*calls)}

    assert "waybill items retry" in said["failed"]
    assert "NOT_COPIED" in said["failed"]
    assert "waybill review show h" in said["held"]
    assert "NO_NOTE" in said["rejected"]
    assert set(said) == {"failed", "held", "rejected", "done"}


def test_doctor_finds_everything_there(notes):
    """Tesseract, pipelines, folders, database, durability and role, each a line."""
    said = notes.ok("doctor")

    names = {check["name"] for check in said["checks"]}
    assert said["ok"]
    assert {"tesseract", "pipeline notes", "database", "durability", "role"} <= names
    assert notes.run("doctor").code == 0


# -- mistakes --------------------------------------------------------------------------


def test_a_mistake_is_a_sentence_a_hint_and_a_code(notes):
    """Each wrong call: its exit code, a code word, no traceback, nothing written."""
    broken = notes.pipelines.parent / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "pipeline.toml").write_text('name = "broken"\nstages = [')
    file = str(notes.folder / "made" / "a" / "done-1.png")
    wrong = {
        ("ingest", file, "--deadline", "soon"): (2, "USAGE"),
        ("ingest", file, "--deadline", "2001-01-01T00:00"): (2, "USAGE"),
        ("ingest", file, "--tenant", "../x"): (2, "BAD_NAME"),
        ("ingest", file, "--batch", "../../x"): (2, "BAD_NAME"),
        ("ingest", file, "--tenant", "\udcff"): (2, "BAD_NAME"),
        ("ingest", file, "--pipeline", "nosuch"): (2, "NO_SUCH_PIPELINE"),
        ("ingest", file, "--pipeline", str(broken)): (2, "USAGE"),
        ("ingest", "/nowhere/at-all.pdf"): (9, "NO_SUCH_FILE"),
        ("ingest",): (2, "USAGE"),
        ("items", "ls", "--nosuch"): (2, "USAGE"),
        ("items", "ls", "--state", "lost"): (2, "USAGE"),
        ("items", "show", "nosuch"): (9, "NOT_FOUND"),
        ("items", "show", "9" * 20): (9, "NOT_FOUND"),
        ("items", "show", "-1.png"): (2, "USAGE"),
        ("items", "show", "1.png"): (9, "AMBIGUOUS"),
        ("items", "ls", "--since", "soon"): (2, "USAGE"),
        ("items", "ls", "--code", "\udcff"): (2, "BAD_NAME"),
        ("items", "retry"): (2, "USAGE"),
        ("items", "cancel", "999"): (9, "NOT_FOUND"),
        ("items", "show", "999"): (9, "NOT_FOUND"),
        ("items", "why", "999"): (9, "NOT_FOUND"),
        ("batches", "show", "nosuch"): (9, "NOT_FOUND"),
        ("status", "--batch", "nosuch"): (9, "NOT_FOUND"),
        ("review", "show", "h999"): (9, "NOT_FOUND"),
    }
    before = notes.one("select count(*) from receipts")

    said = notes.together(*([*call, "--json"] for call in wrong))

    assert {c: r.error() for c, r in zip(wrong, said, strict=True)} == wrong
    assert not any("Traceback" in ran.err for ran in said)
    assert notes.one("select count(*) from receipts") == before


def test_a_mistake_is_told_to_a_person_on_stderr(notes):
    """Without --json stdout stays empty, so that a pipe carries data alone."""
    ran = notes.run("items", "show", "999")

    assert (ran.code, ran.out) == (9, "")
    assert "no item 999" in ran.err
    assert "waybill items ls" in ran.err


def test_wrong_settings_name_their_variable(notes):
    """A bad value of the environment is exit 2, and no database is touched."""
    ran = notes.run("status", "--json", CORES="none")

    assert ran.error() == (2, "USAGE")
    assert "WAYBILL_CORES" in ran.json()["error"]["message"]


def test_a_database_that_is_away_is_exit_3_without_its_password(notes):
    """The sentence names the variable, never the secret in it."""
    url = "postgresql://someone:hunter2@127.0.0.1:1/x"

    ran = notes.run("status", "--json", DATABASE_URL=url)
    doctor = notes.run("doctor", "--json", DATABASE_URL=url)

    assert ran.error() == (3, "DATABASE_UNAVAILABLE")
    assert doctor.code == 3
    assert not doctor.json()["ok"]
    assert "hunter2" not in ran.out + ran.err + doctor.out + doctor.err


# -- ingest ----------------------------------------------------------------------------


def test_the_same_file_twice_is_one_item(home):
    """Again by path: the first receipt.  Its bytes elsewhere: a duplicate of it."""
    home.pipeline("notes", note=NOTE)
    [file] = pictures(home.folder / "made" / "one", ["done-1.png"])
    other = file.with_name("other.png")
    other.write_bytes(file.read_bytes())
    call = ("ingest", "--pipeline", str(home.pipelines / "notes"), "--batch", "b")

    [first] = home.ok(*call, file)["files"]
    [again] = home.ok(*call, file)["files"]
    copied = home.ok(*call, other)

    assert again == {**first, "known": True, "state": "ready", "batch": "default/b"}
    assert copied["files"][0]["disposal"] == "duplicate"
    assert copied["files"][0]["item"] == first["item"]
    law = ("received", "duplicates", "conserved")
    assert [copied[word] for word in law] == [1, 1, True]
    assert [copied["whole_batch"][word] for word in law] == [2, 1, True]
    assert file.exists()
    assert other.exists()  # files that a person named stay where they are


def test_a_refused_file_is_kept_with_its_reason(notes):
    """0 bytes: quarantined, listed with a code, and its copy lies there."""
    [refused] = notes.ok("quarantine", "ls", "--batch", "one")

    assert (refused["name"], refused["code"]) == ("empty.png", "EMPTY_FILE")
    assert Path(refused["kept_at"]).read_bytes() == b""


def test_a_failed_item_goes_on_when_it_is_mended(notes):
    """`items retry` puts it back where it ended; done items stay done."""
    failed = notes.one("select item_id from outcomes where state = 'failed' limit 1")
    done = notes.one("select item_id from outcomes where state = 'done' limit 1")

    retried = notes.run("items", "retry", str(failed), str(done), "--yes", "--json")
    said = retried.json()
    asked = notes.run(
        "items", "retry", "--state", "rejected", "--batch", "one", "--json"
    )
    (notes.folder / "mended").touch()
    rejected = asked.json()
    nothing = notes.run("items", "retry", "--state", "cancelled", "--batch", "one")
    waited = notes.run(
        "ingest", notes.folder / "made" / "a", "--batch", "one", "--wait"
    )
    (notes.folder / "mended").unlink()

    assert said == {str(failed): "ready", str(done): "done items are not retried"}
    assert "no worker is up: start `waybill up`" in retried.err
    assert "no worker" not in nothing.err + waited.err
    assert asked.code == 0  # one item: nothing to ask
    assert set(rejected.values()) == {"ready"}
    assert nothing.code == 0
    assert "no item of batch one is cancelled" in " ".join(nothing.err.split())
    assert waited.code == 5, waited
    assert notes.ok("items", "show", str(failed))["item"]["state"] == "done"


@pytest.mark.parametrize(
    "call", [("items", "ls"), ("items", "ls", "--json"), ("--help",)], ids=str
)
def test_what_cannot_be_written_is_said(notes, call):
    """To a full disk: one sentence on stderr, and no exit code of success."""
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "waybill", *call],
            env=notes._environment({}),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert ran.returncode == 3
    assert "cannot be written: No space left on device" in " ".join(ran.stderr.split())
    assert "Traceback" not in ran.stderr


def test_bulk_writes_ask_first(home):
    """Several items without --yes and without a terminal: nothing happens."""
    home.pipeline("notes", note=NOTE)
    pictures(home.folder / "made" / "many", [f"done-{n}.png" for n in range(3)])
    folder = str(home.pipelines / "notes")
    came = home.run("ingest", home.folder / "made" / "many", "--pipeline", folder)

    asked = home.run("items", "cancel", "--state", "ready")
    as_json = home.run("items", "cancel", "--state", "ready", "--json")
    stands = home.one("select count(*) from ready")
    home.ok("items", "cancel", "--state", "ready", "--yes")

    assert (came.code, asked.code) == (0, 2)
    assert "no worker is up: start `waybill up`" in came.err
    assert as_json.error() == (2, "USAGE")
    assert "cancel 3 items?" in asked.err
    assert "say --yes" in asked.err
    assert stands == 3
    assert home.ends() == {"cancelled": 3}
    assert home.ok("batches", "reconcile")["conserved"]


def test_reconcile_finds_a_row_that_was_deleted(home):
    """Exit 8 and the item's number, whoever took the row away and however."""
    home.pipeline("notes", note=NOTE)
    pictures(home.folder / "made" / "two", ["done-1.png", "done-2.png"])
    folder = str(home.pipelines / "notes")
    home.ok("ingest", home.folder / "made" / "two", "--pipeline", folder)
    [gone] = home.sql("delete from ready where item_id = 1 returning item_id")

    as_json, as_text = home.together(
        ["batches", "reconcile", "--json"], ["batches", "reconcile"]
    )

    assert as_json.code == as_text.code == 8
    assert as_json.json()["astray"] == [gone["item_id"]]
    assert not as_json.json()["conserved"]
    assert "2 received ≠ 1 live" in as_text.out


# -- hostile names ---------------------------------------------------------------------


def test_hostile_names_never_reach_a_pipe_raw(hostile):
    """Newlines, escapes, turned text, bad bytes: of names, texts and people, tamed."""
    rows = hostile.sql("select id, name from items where name ~ 'owned' order by id")
    ids = [str(row["id"]) for row in rows]
    [hold, *_] = hostile.ok("review", "ls", "--tenant", "foe")
    hostile.ok("review", "claim", hold["hold"], REVIEWER=f"foe{ESCAPES}foe")
    calls: list[list[str]] = [
        ["items", "ls"],
        *(["items", "show", number] for number in ids),
        *(["items", "why", number] for number in ids),
        ["review", "ls"],
        ["review", "show", hold["hold"]],
        ["batches", "show", "foe/b"],
        ["quarantine", "ls"],
    ]

    said = hostile.together(*calls, *([*call, "--json"] for call in calls))

    assert len(ids) == 3  # one done, one held, one failed
    for ran in said:
        assert ran.code == 0, ran
        assert_tame(ran)
    listed = [line for line in said[0].out.splitlines() if "\tfoe/b\t" in line]
    assert len(listed) == len(HOSTILE)
    assert all(ran.json() is not None for ran in said[len(calls) :])
    assert any("\\u202e" in line for line in listed)


@pytest.mark.proof
def test_hostile_names_do_not_act_on_a_terminal(hostile):
    """On a terminal as well: no title, no turned text, no markup of theirs."""
    number = hostile.one("select min(item_id) from holds where open and why ~ 'owned'")
    calls = (
        ["items", "ls"],
        ["review", "ls"],
        ["items", "show", str(number)],
        ["review", "show", str(number)],
    )

    shown = [on_terminal(hostile, *call) for call in calls]

    for text in shown:
        assert "owned" in text
        assert "\x1b]0" not in text
        assert "\u202e" not in text
        assert "\x07" not in text
    assert "[bold red]markup" in shown[0]


def test_hostile_names_stay_on_their_line_in_the_log(hostile):
    """One event, one line: nobody forges a log entry with a file name."""
    log = (hostile.folder / "logs" / "waybill.log").read_text(encoding="utf-8")

    assert all(line.startswith("{") for line in log.splitlines())
    assert "\u202e" not in log
    assert "\x1b" not in log


def test_no_cell_of_the_manifest_is_a_formula(hostile):
    """A spreadsheet opens the manifest without running anything of theirs."""
    text = (hostile.folder / "out" / "foe" / "b" / "manifest.csv").read_text("utf-8")

    assert ",'=HYPERLINK(1).png," in text
    assert "\u202e" not in text


def on_terminal(home: Home, *args: str) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "waybill", *args],
        env=home.environment | {"TERM": "xterm", "COLUMNS": "400"},
        cwd=home.folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    data = b""
    try:
        while part := os.read(ours, 65536):
            data += part
    except OSError:  # EIO: the other end is closed, that is how a pty ends
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    return data.decode("utf-8")


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:S3cret@[::1/x", "postgresql://u:p@127.0.0.1:S3cret/x"],
)
def test_a_url_that_is_none_is_told_without_a_piece_of_it(home: Home, url: str):
    """A password with a character that a URL takes for its own: exit 2, a sentence."""
    ran = home.run("status", DATABASE_URL=url)

    assert ran.code == 2
    assert "WAYBILL_DATABASE_URL" in ran.err
    assert "S3cret" not in ran.err + ran.out
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("place", ["/dev/null", "/proc/nowhere"])
def test_a_home_that_cannot_be_is_a_sentence(home: Home, place: str):
    """No traceback: which folder, why, and what to set."""
    ran = home.run("status", HOME=place)

    assert ran.code == 2
    assert place in ran.err
    assert "WAYBILL_HOME" in ran.err
    assert "Traceback" not in ran.err
