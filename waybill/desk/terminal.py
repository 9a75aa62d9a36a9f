"""The desk on a terminal: a hold as text, panels and marked places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from pipeline.holds.ruling import ANSWERED_BY
from pipeline.store.moderated import RoleLine
from pipeline.store.rows import HoldRow
from waybill import terminal
from waybill.desk.evidence import Line, Span, brief
from waybill.desk.model import View
from waybill.desk.state import Change

PIECES_MAX = 12  # named on a screen
EVIDENCE_LINES_MAX = 60  # on a screen; --json has it all
EVIDENCE_CHARS_MAX = 6000  # likewise
TEXT_CHARS_MAX = 6000  # likewise, where nothing in it is marked
MARKS = "▸", "◂"


def print_view(view: View) -> None:
    """What the machine saw, why it stopped, and what can be decided."""
    out, hold = terminal.out, view.hold
    title = f"h{hold.id}  {hold.code}  at {hold.stage}"
    out.print(terminal.safe(title), style="bold yellow")
    _print_whole(
        f"item {hold.item_id}  {hold.item_name}  ·  {hold.tenant}/{hold.batch}  ·  "
        f"held {terminal.ago(hold.held_at)} ago  ·  due in "
        f"{terminal.due(hold.due_at or hold.deadline_at)}"
        + f"  ·  for the role {hold.role}"
        * bool(hold.role)
    )
    if hold.why:
        _print_whole(hold.why)
    if hold.lapses_at is not None and hold.lapse is not None:
        then = "ends, rejected" if hold.lapse["ends"] else "goes on without you"
        left = terminal.due(hold.lapses_at)
        _print_whole(f"lapses in {left}: expired, and the item {then}")
    if view.evidence:
        found = evidence_texts(view.evidence)
        shown = (Padding(text, (0, 0, 0, 2 * depth)) for depth, text in found)
        _print_panel("evidence", Group(*shown))
    if view.text:
        _print_panel("text", _excerpt(view))
    if hold.needs:
        out.print(terminal.safe(f"needs from you: {', '.join(hold.needs)}"))
    if hold.claimed_by:
        out.print(
            terminal.safe(f"claimed by {hold.claimed_by} until {claimed_until(hold)}")
        )
    if hold.decision is not None:
        d = hold.decision
        line = f"decided: {d.verb} by {d.author} at {terminal.clock(d.decided_at)}"
        out.print(terminal.safe(f"{line} {d.reason}".rstrip()), style="green")
        return
    _print_ways(view)


def print_line(line: RoleLine) -> None:
    """On stderr, that holds stand in another line, and by when one should be read."""
    many = f"{line.holds} hold{'s' * (line.holds != 1)}"
    late = line.due_at <= datetime.now(UTC)
    when = "overdue" if late else f"the first is due in {terminal.due(line.due_at)}"
    terminal.err.print(
        terminal.safe(
            f"{many} for the role {line.role}, {when}: "
            f"{terminal.command()} review ls --role {line.role}"
        ),
        style="bold red" if late else "",
    )


def _print_ways(view: View) -> None:
    """What one can do, as commands, and what each would make of the item."""
    me, name = f"{terminal.command()} review", f"h{view.hold.id}"
    called = {piece.artifact: piece.name for piece in view.pieces}
    if view.pieces:
        names = [piece.name for piece in view.pieces]
        more = f" and {len(names) - PIECES_MAX} more" * (len(names) > PIECES_MAX)
        _print_way(f"{me} open {name}", [", ".join(names[:PIECES_MAX]) + more])
    given = {"edit": f" --set {view.asks}=…", "reject": " --reason …"}
    for verb, after in view.outlook.items():
        about = []
        if after.unknown:
            about.append(f"what changes cannot be said: {after.unknown}")
        if after.changes:
            about += change_lines(after.changes, called)
        about.append(f"the item {after.then}")
        way = f"{verb} {name}{given.get(verb, '')}"
        if verb == "edit" and view.hold.code in ANSWERED_BY:
            way = ANSWERED_BY[view.hold.code].format(view.hold.id)
        _print_way(f"{me} {way}", about)


def _print_way(call: str, about: Sequence[str]) -> None:
    terminal.out.print(terminal.safe(call), style="bold")
    for line in about:
        _print_whole(line, inset=4, style="dim")


def _print_whole(line: str, *, inset: int = 0, style: str = "") -> None:
    """A line that no screen cuts within a word; in a pipe it stays one line."""
    shown = Text(terminal.visible(line), style=style)
    if terminal.out.is_terminal:
        terminal.out.print(Padding(shown, (0, 0, 0, inset)), soft_wrap=False)
    else:
        terminal.out.print(Text(" " * inset).append_text(shown))


def _print_panel(title: str, inside: RenderableType) -> None:
    panel = Panel(inside, title=title, title_align="left")
    terminal.out.print(panel, soft_wrap=False)


def _excerpt(view: View) -> Text:
    """The text in question with its marks; of a long one without any the beginning."""
    if view.marked or len(view.text) <= TEXT_CHARS_MAX:
        return marked(view.text, view.marked)
    shown = marked(view.text[:TEXT_CHARS_MAX], [])
    left = len(view.text) - TEXT_CHARS_MAX
    return shown.append(f"\n… {left} characters more: `review open` writes all of it")


def evidence_texts(found: Sequence[Line]) -> Iterator[tuple[int, Text]]:
    """Lines of evidence with their depths; the marked places stand out."""
    room = EVIDENCE_CHARS_MAX
    for number, line in enumerate(found):
        if number == EVIDENCE_LINES_MAX or len(line.text) > room:
            yield 0, Text("… more: --json")
            return
        room -= len(line.text)
        yield line.depth, marked(line.text, line.marked)


def marked(text: str, spans: Sequence[Span]) -> Text:
    """
    The text with these places, in order and apart, in reverse.

    Where nothing can be drawn in reverse, as in a pipe, they stand between signs.
    """
    before, after = ("", "") if terminal.out.color_system else MARKS
    shown = Text()
    at = 0
    for start, end in spans:
        shown.append(terminal.visible(text[at:start], lines=True))
        place = terminal.visible(text[start:end], lines=True)
        shown.append(f"{before}{place}{after}", style="reverse")
        at = end
    shown.append(terminal.visible(text[at:], lines=True))
    return shown


def change_lines(
    found: Sequence[Change], called: Mapping[str, str] | None = None
) -> list[str]:
    """
    A line a channel: what it is, and what the decision makes of it; raw text.

    Args:
        called: Artifact -> the name of its file on the desk.
    """
    if not found:
        return ["it changes nothing"]
    return [
        f"{c.channel}: {brief(c.old, called)} → {brief(c.new, called)}" for c in found
    ]


def claimed_until(hold: HoldRow) -> str:
    """When the reviewer's lease ends."""
    return f"{hold.claimed_until:%H:%M:%S %Z}"
