"""The desk on a terminal: a hold as text, panels and marked places."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.panel import Panel
from rich.text import Text

from pipeline.store.rows import HoldRow
from waybill import terminal
from waybill.desk.model import Span, View
from waybill.desk.state import Change

PICTURES_MAX = 12  # named on a screen
CHANGE_CHARS_MAX = 200  # of a value that changes; --json has it all
EVIDENCE_CHARS_MAX = 6000  # on a screen; --json has it all


def print_view(view: View) -> None:
    """What the machine saw, why it stopped, and what can be decided."""
    out, hold = terminal.out, view.hold
    title = f"h{hold.id}  {hold.code}  at {hold.stage}"
    out.print(terminal.safe(title), style="bold yellow")
    out.print(
        terminal.safe(
            f"item {hold.item_id}  {hold.item_name}  ·  {hold.tenant}/{hold.batch}  ·  "
            f"held {terminal.ago(hold.held_at)} ago  ·  due in "
            f"{terminal.due(hold.deadline_at)}"
        )
    )
    if hold.why:
        out.print(terminal.safe(hold.why))
    if view.evidence:
        shown = "\n".join(view.evidence)[:EVIDENCE_CHARS_MAX]
        _print_panel("evidence", Text(terminal.visible(shown, lines=True)))
    if view.text:
        _print_panel("text", marked(view.text, view.marked))
    for number, picture in enumerate(view.pictures[:PICTURES_MAX], start=1):
        out.print(terminal.safe(f"picture {number}: {picture}"))
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
    me = f"{terminal.command()} review"
    go_on = (
        f"edit h{hold.id} --set {view.asks}=…" if view.asks else f"approve h{hold.id}"
    )
    out.print(
        terminal.safe(f"{me} {go_on}   |   {me} reject h{hold.id} --reason …"),
        style="dim",
    )


def _print_panel(title: str, text: Text) -> None:
    panel = Panel(text, title=title, title_align="left")
    terminal.out.print(panel, soft_wrap=False)


def marked(text: str, spans: Sequence[Span]) -> Text:
    """The text with these places, in order and apart, in reverse."""
    shown = Text()
    at = 0
    for start, end in spans:
        shown.append(terminal.visible(text[at:start], lines=True))
        shown.append(terminal.visible(text[start:end], lines=True), style="reverse")
        at = end
    shown.append(terminal.visible(text[at:], lines=True))
    return shown


def change_lines(found: Sequence[Change]) -> list[str]:
    """A line a channel: what it is, and what the decision makes of it; raw text."""
    if not found:
        return ["it changes nothing"]
    return [f"{c.channel}: {_short(c.old)} → {_short(c.new)}" for c in found]


def _short(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    # The end is kept: what is appended stands there.
    return text if len(text) <= CHANGE_CHARS_MAX else f"{text[:60]} … {text[-120:]}"


def claimed_until(hold: HoldRow) -> str:
    """When the reviewer's lease ends."""
    return f"{hold.claimed_until:%H:%M:%S %Z}"
