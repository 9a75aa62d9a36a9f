"""
What reaches a terminal: escaped text, tables, JSON, errors.

Data goes to stdout, progress and errors to stderr.  Text that came from a document
or a file name never reaches a terminal as it is: control and bidirectional
characters could rewrite the screen, so they are shown as visible marks.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import Progress
from rich.table import Table

from pipeline.errors import Usage, WaybillError
from pipeline.names import STEERING

# A name that says `:smile:` is no picture.
out = Console(highlight=False, soft_wrap=True, emoji=False)
# A path that is printed stays whole, to be copied.
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
GAP = 2  # between the columns of a table


ESCAPES = "waybill.escapes"  # the name of `_escaped` among the codecs' error handlers
# What we say ourselves is read more easily without escapes.
PLAIN = {
    "·": "-",
    "→": "->",
    "…": "...",
    "—": "-",
    "≠": "!=",
    "▸": ">",
    "◂": "<",
    "›": ">",
}


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    chars = error.object[error.start : error.end]
    plain = (
        PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in chars
    )
    return "".join(plain), error.end


codecs.register_error(ESCAPES, _escaped)


def escape_streams() -> None:
    """From here on a character that stdout or stderr does not know is an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPES)


def open_streams() -> None:
    """
    Stdin, stdout and stderr are open, if only to nowhere.

    Were one closed (`>&-`), the next file or socket would have its number.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def draws(text: str) -> bool:
    """Whether the terminal of stderr has these characters."""
    try:
        text.encode(err.encoding)
    except UnicodeEncodeError:
        return False
    return True


def keep_stdout() -> None:
    """
    From here on stdout is what a command prints, and nothing else.

    A stage's `print`, in any thread, and what a program that it starts writes, goes
    to stderr: it would stand in the middle of a command's JSON.
    """
    if not isinstance(sys.stdout, io.TextIOWrapper) or out.file is not sys.stdout:
        return  # there is none, or it is kept already
    sys.stdout.flush()
    kept = os.fdopen(
        os.dup(sys.stdout.fileno()),
        "w",
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
    )
    os.dup2(2, sys.stdout.fileno())
    out.file = kept
    for name in ("stdout", "stderr"):
        setattr(sys, name, _unheard(getattr(sys, name)))


def unwritten() -> OSError | None:
    """
    Why stdout does not take what was printed; None when it does.

    What it did not take is dropped: it cannot be written when the process ends either.
    """
    try:
        out.file.flush()
        os.write(out.file.fileno(), b"\n")  # it may have dropped what failed
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.file.fileno())
        return error
    return None


def _unheard(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Its descriptor, written to line by line, in order with what is logged."""
    raw = _Unheard(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )


class _Unheard(io.FileIO):
    """What nobody reads any more is lost: no stage answers for that."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or len(data)
        except OSError:
            return len(data)


def visible(text: str, *, lines: bool = False) -> str:
    """
    `text` with everything that could act on a terminal made visible.

    With `lines`, line breaks and tabs stay (a form feed becomes a line).
    """
    shown = []
    for char in text:
        if lines and char in "\n\t":
            shown.append(char)
        elif lines and char == "\f":
            shown.append("\n— next page —\n")
        elif unicodedata.category(char) in STEERING:
            code = ord(char)
            shown.append(f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
        else:
            shown.append(char)
    return "".join(shown)


def safe(value: Any, *, lines: bool = False) -> str:
    """A value for rich: visible, and without meaning as markup."""
    return escape_markup(visible(str(value), lines=lines))


def plain(value: Any) -> Any:
    """`value` as JSON data: tuples with names become objects."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {k: plain(v) for k, v in value._asdict().items()}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)


def compact(value: Any) -> str:
    """A value on one line, as a person reads it: letters as letters."""
    return json.dumps(plain(value), ensure_ascii=False)


def print_json(value: Any) -> None:
    """The object itself, on stdout, in ASCII: safe on every terminal."""
    out.file.write(json.dumps(plain(value)) + "\n")
    out.file.flush()


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, header: bool = False
) -> None:
    """A table on a terminal; tab-separated lines in a pipe, the `header` when asked."""
    if not out.is_terminal:
        for row in chain([columns] if header else [], rows):
            flat = (visible(str(c)).replace("\t", " ") for c in row)
            out.file.write("\t".join(flat) + "\n")
        out.file.flush()
        return
    shown = [[visible(str(cell)) for cell in row] for row in rows]
    widths = _widths([columns, *shown], out.width)
    if widths is None:
        _print_stacked(columns, shown)
        return
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, width=width, header_style="bold underline")
    for cells in shown:
        table.add_row(*map(escape_markup, cells))
    out.print(table)


def _widths(rows: Sequence[Sequence[str]], most: int) -> list[int] | None:
    """
    The columns' widths, together `most` at most and no word of any cell broken.

    None: that cannot be.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least = [
        max((cell_len(word) for cell in column for word in cell.split()), default=0)
        for column in columns
    ]
    room = most - GAP * (len(columns) - 1)
    if sum(least) > room:
        return None
    while (over := sum(widths) - room) > 0:
        spare = [width - need for width, need in zip(widths, least, strict=True)]
        widest = max(range(len(widths)), key=spare.__getitem__)
        widths[widest] -= min(over, max(1, spare[widest] // 2))
    return widths


def _print_stacked(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A row as lines, for a terminal that is too narrow for them side by side."""
    margin = max(map(cell_len, columns)) + GAP
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            if not cell:
                continue
            lines = in_words(cell, out.width - margin)
            head = f"[bold]{escape_markup(column.ljust(margin))}[/bold]"
            for line in lines:
                out.print(head + escape_markup(line))
                head = " " * margin
        out.print()


def say(text: str, *, to: Console | None = None, indent: str = "") -> None:
    """Print sentences, lines as they are; a terminal's edge breaks no word."""
    to = to or out
    for line in visible(text, lines=True).splitlines():
        room = to.width - len(indent)
        for part in in_words(line, room) if to.is_terminal else [line]:
            to.print(indent + escape_markup(part))


def in_words(text: str, width: int) -> list[str]:
    """Lines of `width` at most; a longer word, such as a path, stays whole."""
    return textwrap.wrap(
        text, max(width, 20), break_long_words=False, break_on_hyphens=False
    )


def print_error(error: WaybillError, *, as_json: bool) -> None:
    """One sentence and what to do next, on stderr; JSON on stdout when asked."""
    if as_json:
        print_json(error_body(error))
        return
    err.print(f"[red]error[/red] {safe(error.message)} [dim]({safe(error.code)})[/dim]")
    if error.hint:
        say(error.hint, to=err, indent="  ")


def error_body(error: WaybillError) -> dict[str, Any]:
    """An error as `--json` prints it."""
    body = {"code": error.code, "message": error.message, "hint": error.hint}
    return {"error": body}


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """What is told how many of `total` are done; drawn on stderr's terminal alone."""
    if not err.is_terminal:
        yield lambda done: None
        return
    with Progress(console=err, transient=True) as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


def confirm(what: str) -> None:
    """
    Ask on stderr whether to do `what`; returns for a yes alone.

    Raises:
        Usage: nobody is there to answer.
        typer.Exit: the answer is no.
    """
    err.print(safe(f"{what} [y/N]: "), end="", soft_wrap=True)
    answer = sys.stdin.buffer.readline() if sys.stdin else b""
    if answer.strip().lower() in (b"y", b"yes"):
        return
    if not answer:
        err.print()  # the question has no end of its line
        raise Usage("nobody is there to answer", hint="say --yes")
    err.print("nothing was done")
    raise typer.Exit(Usage.exit_code)


def command() -> str:
    """How this command was called, so that a printed line can be copied."""
    called = Path(sys.argv[0])
    if shutil.which("waybill") or called.name != "waybill":
        return "waybill"
    try:
        return str(called.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(called)


def ago(then: datetime) -> str:
    """How long ago, in one unit: `3 min`."""
    return span((datetime.now(UTC) - then).total_seconds())


def due(then: datetime) -> str:
    """How long until, with `late` when it is over."""
    left = (then - datetime.now(UTC)).total_seconds()
    return span(left) if left >= 0 else f"{span(-left)} late"


def goes_on(then: datetime) -> str:
    """The same of what is put off, as the end of a sentence."""
    left = (then - datetime.now(UTC)).total_seconds()
    return f"goes on in {span(left)}" if left >= 0 else f"was due {span(-left)} ago"


def rate(of: float | None, ends: Sequence[float] | None) -> str:
    """A share with its interval: `0.83 (0.71-0.91)`; of nothing nothing."""
    if of is None or ends is None:
        return ""
    return f"{of:.2f} ({ends[0]:.2f}-{ends[1]:.2f})"


def span(seconds: float) -> str:
    """A duration: `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} d"


def clock(then: datetime) -> str:
    """A local time for people, with its day where that is not this one's."""
    shown = then.astimezone()
    if abs(datetime.now(UTC) - then) < timedelta(hours=20):
        return shown.strftime("%H:%M:%S")
    return shown.strftime("%Y-%m-%d %H:%M")
