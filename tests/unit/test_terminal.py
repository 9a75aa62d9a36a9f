"""Text from documents never acts on a terminal."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from pipeline.errors import Usage
from pipeline.store.rows import Decision
from waybill import terminal
from waybill.terminal import (
    compact,
    plain,
    print_error,
    print_json,
    print_table,
    safe,
    visible,
)

HOSTILE = [
    "\x1b[2J\x1b[H",  # clear the screen
    "\x1b]52;c;cm0gLXJm\x07",  # OSC 52: write the clipboard
    "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",  # OSC 8: a link
    "\x9b31m",  # the one-byte CSI
    "good\rbad",  # overwrite the line
    "abc\x08\x08\x08xyz",  # backspace over it
    "\x07",  # ring
    "invoice\u202efdp.exe",  # turned around
    "a\u2066b\u2069\u200bc\ufeff",  # isolates, zero width
    "\U000e0041",  # tag characters
    "line\u2028line\u2029",
    "\ud800",
    "\x00",
]


def acts(text: str, allowed: str = "") -> list[str]:
    """The characters that could do something."""
    kinds = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    return [c for c in text if c not in allowed and unicodedata.category(c) in kinds]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_does_nothing(text: str) -> None:
    """Every byte of an attack is visible, none of it acts."""
    shown = visible(text)

    assert acts(shown) == []
    assert shown != text
    assert "\\" in shown


@given(st.text(st.characters()))
def test_no_text_at_all_acts(text: str) -> None:
    """Whatever Unicode holds."""
    assert acts(visible(text)) == []
    assert acts(visible(text, lines=True), allowed="\n\t") == []


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs", "M"])))
def test_harmless_text_is_shown_as_it_is(text: str) -> None:
    """Accents, emoji and other scripts are not mangled."""
    assert visible(text) == text


def test_lines_stay_lines_and_pages_are_marked() -> None:
    """A letter's layout survives where lines are wanted, and only there."""
    assert visible("a\n\tb\fc", lines=True) == "a\n\tb\n— next page —\nc"
    assert visible("a\nb") == "a\\x0ab"


@given(st.text(st.characters()))
def test_markup_in_a_document_is_text(text: str) -> None:
    """`[red]` or `[link=…]` in a letter colours and links nothing."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=10_000, highlight=False)

    console.print(safe(f"[red]{text}[/red][link=http://evil]x[/link]"), soft_wrap=True)

    shown = out.getvalue()
    assert "\x1b" not in shown
    assert "[red]" in shown
    assert "[link=http://evil]" in shown


def test_a_table_in_a_pipe_is_one_line_a_row(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither tabs, newlines nor escapes of a file name forge a cell or a row."""
    print_table(["name", "state"], [("a\tb\nc\x1b[2J", "done"), ("d", "held")])

    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t") for line in lines] == [
        ["a\\x09b\\x0ac\\x1b[2J", "done"],
        ["d", "held"],
    ]


def test_a_pipe_is_told_the_columns_when_it_asks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first line names them; without it `cut` needs no other command."""
    print_table(["name", "state"], [("a", "done")], header=True)

    assert capsys.readouterr().out == "name\tstate\na\tdone\n"


PATH = "/srv/waybill/objects/" + "ab" * 24
ROWS = [
    ("12", "failed", "the page could not be read in the time it has", "a b c.pdf"),
    ("1234567890", "quarantined", "no", "Brief an die Oma, 漢字漢字.pdf"),
]


def drawn(
    monkeypatch: pytest.MonkeyPatch, width: int, columns: list[str], rows: object
) -> list[str]:
    """The lines of a table on a terminal of so many columns."""
    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, soft_wrap=True
    )
    monkeypatch.setattr(terminal, "out", console)
    print_table(columns, rows)  # type: ignore[arg-type]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())  # type: ignore[attr-defined]
    return [line.rstrip() for line in shown.splitlines()]


@pytest.mark.parametrize("width", [200, 80, 60, 20])
def test_a_table_breaks_no_word(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Headings, numbers and paths are whole at any width; long texts wrap."""
    columns = ["item", "state", "why it is there", "kept at"]
    paths = [(*row[:3], PATH) for row in ROWS]

    for rows in (ROWS, paths):
        lines = drawn(monkeypatch, width, columns, rows)
        words = {word for row in (columns, *rows) for c in row for word in c.split()}

        assert words <= {word for line in lines for word in line.split()}
        assert all(cell_len(x) <= max(width, 40) or PATH in x for x in lines), lines


def test_a_row_that_does_not_fit_is_told_in_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One value a line beside its column's name; what is empty is left out."""
    lines = drawn(monkeypatch, 60, ["item", "", "kept at"], [("7", "", PATH)])

    assert lines == ["item     7", f"kept at  {PATH}", ""]


def test_a_sentence_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal; a path stays whole, lines stay lines, and nothing acts."""
    said = f"first line\nit is kept at {PATH} and not \x1b[2J anywhere else"
    file = io.StringIO()
    look = {"highlight": False, "force_terminal": True, "soft_wrap": True}
    console = Console(file=file, width=40, **look)  # type: ignore[arg-type]
    monkeypatch.setattr(terminal, "out", console)

    terminal.say(said)

    lines = file.getvalue().splitlines()
    assert lines[0] == "first line"
    assert " ".join(lines).split() == visible(said, lines=True).split()
    assert all(len(line) <= 40 or line == PATH for line in lines)


def test_json_is_the_object_itself_in_ascii(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Read back it is what it was; on a terminal it is harmless."""
    at = datetime(2026, 12, 1, 8, 30, tzinfo=UTC)
    ruling = Decision("approve", "ann \x1b[2J \u202e ü", "", at)

    print_json({"decision": ruling, "n": (1, 2)})

    said = capsys.readouterr().out
    assert said.isascii()
    assert "\x1b" not in said
    assert json.loads(said) == {
        "decision": {
            "verb": "approve",
            "author": "ann \x1b[2J \u202e ü",
            "reason": "",
            "decided_at": "2026-12-01T08:30:00.000+00:00",
        },
        "n": [1, 2],
    }


def test_an_error_is_escaped_and_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file name in a message cannot act; stdout stays clean for data."""
    error = Usage("no file \x1b[2J[red]x", hint="look \u202e here")

    print_error(error, as_json=False)

    said = capsys.readouterr()
    assert said.out == ""
    assert acts(said.err, allowed="\n") == []
    assert "[red]x" in said.err
    assert "(USAGE)" in said.err


def test_an_error_as_json_has_one_shape(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts read `error.code`."""
    print_error(Usage("wrong", hint="mend it"), as_json=True)

    assert json.loads(capsys.readouterr().out) == {
        "error": {"code": "USAGE", "message": "wrong", "hint": "mend it"}
    }


def test_plain_data_has_no_surprises() -> None:
    """Anything else is its text, never a crash."""
    assert plain({1: {2}, "x": b"\x00"}) == {"1": "{2}", "x": "b'\\x00'"}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (89, "89 s"),
        (180, "3 min"),
        (18_000, "5 h"),
        (200_000, "2 d"),
    ],
)
def test_a_span_is_said_in_one_unit(seconds: float, said: str) -> None:
    """Short enough for a table's column."""
    assert terminal.span(seconds) == said


def run(code: str, shell: str) -> subprocess.CompletedProcess[str]:
    """Python in a shell's surroundings; $RUN is its command line."""
    line = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
    return subprocess.run(
        ["/bin/sh", "-c", shell.replace("$RUN", line)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_streams_that_are_closed_are_opened_to_nowhere() -> None:
    """Else the first socket is stdout, and a library that closes that aborts."""
    code = """
import os, sys
from waybill import terminal
terminal.open_streams()
print("lost", flush=True)
print("lost", file=sys.stderr, flush=True)
terminal.out.print("lost")
sys.exit(os.dup(2))
"""
    ran = run(code, "$RUN <&- >&- 2>&-")

    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "", "")


def test_a_print_that_nobody_reads_is_lost_and_no_more() -> None:
    """Whoever read stderr has gone: that is no fault of a stage that prints."""
    code = """
import os, sys
from waybill import terminal
terminal.keep_stdout()
reader, writer = os.pipe()
os.dup2(writer, 1)
os.dup2(writer, 2)
os.close(reader)
for _ in range(3):
    print("lost" * 10_000, flush=True)
    print("lost", file=sys.stderr, flush=True)
terminal.out.print("kept")
terminal.out.file.flush()
"""
    ran = run(code, "$RUN")

    assert (ran.returncode, ran.stdout) == (0, "kept\n"), ran.stderr


def asked(monkeypatch: pytest.MonkeyPatch, answer: bytes | None) -> None:
    """Somebody says this at the terminal; None: there is no stdin at all."""
    said = None if answer is None else io.TextIOWrapper(io.BytesIO(answer))
    monkeypatch.setattr(sys, "stdin", said)
    terminal.confirm("cancel 3 items?")


@pytest.mark.parametrize("answer", [b"y\n", b"Yes\n", b"y"])
def test_a_yes_is_a_yes(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """At a terminal, or through a pipe."""
    asked(monkeypatch, answer)


@pytest.mark.parametrize("answer", [b"\n", b"n\n", b"what?\n", b"\xff\n"])
def test_all_else_is_a_no(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """Exit 2, nothing done."""
    with pytest.raises(typer.Exit) as ended:
        asked(monkeypatch, answer)

    assert ended.value.exit_code == Usage.exit_code


@pytest.mark.parametrize("answer", [b"", None])
def test_nobody_to_answer_is_told_what_to_say(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    """A job without a terminal, with /dev/null or a closed stdin."""
    with pytest.raises(Usage) as ended:
        asked(monkeypatch, answer)

    assert ended.value.hint == "say --yes"


def test_a_value_is_shown_to_a_person_with_its_letters() -> None:
    """A file called `Büro.pdf` is not `B\\u00fcro.pdf` to whoever looks for it."""
    assert compact({"file": "Büro/Verträge.pdf"}) == '{"file": "Büro/Verträge.pdf"}'


def test_a_time_of_another_day_has_its_day() -> None:
    """Behind us and before us: an hour alone is one of these hours."""
    now = datetime.now(UTC)
    for days in (-2, 2):
        then = now + timedelta(days=days)
        assert terminal.clock(then).startswith(f"{then.astimezone():%Y-%m-%d} ")
    assert len(terminal.clock(now + timedelta(minutes=5))) == len("12:34:56")
