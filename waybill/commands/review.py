"""Review: people rule on what the machine was not sure of."""

from __future__ import annotations

import json as jsonlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.text import Text

from pipeline.errors import NotFound, Usage
from pipeline.holds.parking import ruling
from pipeline.state import clean_text
from pipeline.store.port import HoldRow
from waybill import terminal
from waybill.commands.items import finish_here
from waybill.commands.run import Json, app, run_app
from waybill.compose import App
from waybill.desk.people import whoami
from waybill.manifest import out_folder, write_manifest

review = typer.Typer(help="Held items and decisions.", no_args_is_help=True)

PAGES_MAX = 12  # pictures named on a screen
EVIDENCE_CHARS_MAX = 6000  # on a screen; --json has it all
LEASE_S = 900.0  # long enough for a careful read; taken over afterwards

HoldArg = Annotated[
    str, typer.Argument(metavar="ID", help="Hold (h7) or item number (12).")
]
Digest = Annotated[
    str, typer.Option(help="Of what you were shown; refused when it changed.")
]
NoRun = Annotated[
    bool, typer.Option("--no-run", help="Do not finish it here when no worker is up.")
]


async def find(opened: App, text: str) -> HoldRow:
    """`h7` is a hold, `12` the newest hold of item 12."""
    number = text.removeprefix("h")
    if not number.isdigit() or len(number) > 18:
        raise Usage(f"{text!r} is neither a hold (h7) nor an item number (12)")
    if text.startswith("h"):
        return await opened.store.hold(int(number))
    return await opened.store.hold_of(int(number))


def told(hold: HoldRow) -> dict[str, Any]:
    """A hold as JSON shows it."""
    shown: dict[str, Any] = terminal.plain(hold)
    shown["hold"] = f"h{shown.pop('id')}"
    return shown


@review.command("ls")
def review_ls(
    decided: Annotated[bool, typer.Option("--decided", help="Those ruled on.")] = False,
    tenant: Annotated[str, typer.Option()] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: Json = False,
) -> None:
    """Open holds, most urgent first."""

    async def main(opened: App) -> list[HoldRow]:
        return await opened.store.holds(
            decided=decided, tenant=tenant or None, limit=limit
        )

    rows = run_app(main)
    if json:
        terminal.print_json([told(h) for h in rows])
        return
    if not rows:
        terminal.err.print("nothing is held" if not decided else "nothing was decided")
    terminal.print_table(
        ["hold", "item", "age", "due", "stage", "reason", "name", "claimed by"],
        (
            [
                f"h{h.id}",
                h.item_id,
                terminal.ago(h.held_at),
                terminal.due(h.deadline_at),
                h.stage,
                h.code if h.decision is None else f"{h.decision.verb} {h.code}",
                h.item_name,
                h.claimed_by or (h.decision.author if h.decision else ""),
            ]
            for h in rows
        ),
    )


@review.command("next")
def review_next(json: Json = False) -> None:
    """Claim the most urgent open hold and show it."""

    async def main(opened: App) -> tuple[HoldRow, list[str]]:
        me = whoami()
        for hold in await opened.store.holds(limit=1000):
            if hold.claimed_by in (None, me):
                mine = await opened.store.claim_hold(hold.id, me, lease_s=LEASE_S)
                return mine, _pictures(opened, mine)
        raise NotFound("nothing is held, or others are at it", code="NOTHING_HELD")

    _show(*run_app(main), json)


@review.command("show")
def review_show(hold: HoldArg, json: Json = False) -> None:
    """What the machine saw, why it stopped, and what approval would do."""

    async def main(opened: App) -> tuple[HoldRow, list[str]]:
        found = await find(opened, hold)
        return found, _pictures(opened, found)

    _show(*run_app(main), json)


def _pictures(opened: App, hold: HoldRow) -> list[str]:
    """
    Where the pictures lie, for a viewer: of the pages a person must look at,
    then what was cut out of them, then the document as it came.
    """
    state = hold.shown.get("state") or {}
    evidence = hold.shown.get("evidence") or {}
    pages = _rows(evidence.get("pages") if isinstance(evidence, dict) else None)
    names = [page.get("picture") for page in pages]
    names += [
        crop.get("artifact") for page in pages for crop in _rows(page.get("crops"))
    ]
    names.append(state.get("source"))
    return [str(opened.artifacts.path(name)) for name in names if name]


def _rows(value: Any) -> list[dict[str, Any]]:
    """The mappings of a list; evidence is data, and may be of any shape."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _first_need(hold: HoldRow) -> str:
    """What `--set` is to name: of a channel by page, its first page."""
    evidence = hold.shown.get("evidence") or {}
    pages = _rows(evidence.get("pages") if isinstance(evidence, dict) else None)
    if hold.needs[0] == "typed" and pages:
        return f"typed.{pages[0].get('number', 1)}"
    return hold.needs[0]


def _show(hold: HoldRow, pages: list[str], json: bool) -> None:
    if json:
        terminal.print_json({**told(hold), "pictures": pages})
        return
    out = terminal.out
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
    evidence = hold.shown.get("evidence")
    if isinstance(evidence, dict):
        # The verdict's places are marked in the text below.
        evidence = {k: v for k, v in evidence.items() if k != "verdict"}
    if evidence:
        lines = "\n".join(_lines(evidence))[:EVIDENCE_CHARS_MAX]
        shown = Text(terminal.visible(lines, lines=True))
        panel = Panel(shown, title="evidence", title_align="left")
        out.print(panel, soft_wrap=False)
    state = hold.shown.get("state") or {}
    text = str(hold.proposal.get("text") or state.get("text") or "")
    if text:
        spans = ((hold.proposal.get("verdict") or {}).get("spans")) or []
        panel = Panel(_marked(text, spans), title="text", title_align="left")
        out.print(panel, soft_wrap=False)
    for number, page in enumerate(pages[:PAGES_MAX], start=1):
        out.print(terminal.safe(f"picture {number}: {page}"))
    if hold.needs:
        out.print(terminal.safe(f"needs from you: {', '.join(hold.needs)}"))
    if hold.claimed_by:
        until = f"{hold.claimed_until:%H:%M:%S %Z}"
        out.print(terminal.safe(f"claimed by {hold.claimed_by} until {until}"))
    if hold.decision is not None:
        d = hold.decision
        line = f"decided: {d.verb} by {d.author} at {terminal.clock(d.decided_at)}"
        out.print(terminal.safe(f"{line} {d.reason}".rstrip()), style="green")
        return
    verb = f"edit h{hold.id} --set {_first_need(hold)}=…" if hold.needs else ""
    approve = verb or f"approve h{hold.id}"
    out.print(
        terminal.safe(
            f"{terminal.command()} review {approve}   |   "
            f"{terminal.command()} review reject h{hold.id} --reason …"
        ),
        style="dim",
    )


def _lines(value: Any, name: str = "") -> list[str]:
    """JSON data as short lines a person can read."""
    head = f"{name}: " if name else ""
    if isinstance(value, dict):
        flat = [f"{k}: {_one(v)}" for k, v in value.items() if not _deep(v)]
        lines = [head + "  ".join(flat)] if flat or head else []
        for key, inner in value.items():
            if _deep(inner):
                lines += _lines(inner, str(key))
        return lines
    if isinstance(value, list):
        rows = [line for row in value for line in _lines(row)]
        return [*([head.rstrip()] if head else []), *(f"  {row}" for row in rows)]
    return [head + _one(value)]


def _deep(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(v, (dict, list)) for v in value)
    return isinstance(value, dict)


def _one(value: Any) -> str:
    text = value if isinstance(value, str) else jsonlib.dumps(value)
    return " ".join(text.split())


def _marked(text: str, spans: list[dict[str, Any]]) -> Text:
    """The text with the spans that caused the hold in reverse."""
    shown = Text()
    at = 0
    ordered = sorted(spans, key=lambda s: (s.get("start", 0), s.get("end", 0)))
    for span in ordered:
        start, end = max(at, int(span["start"])), int(span["end"])
        if end <= at:
            continue
        shown.append(terminal.visible(text[at:start], lines=True))
        shown.append(terminal.visible(text[start:end], lines=True), style="reverse")
        at = end
    shown.append(terminal.visible(text[at:], lines=True))
    return shown


@review.command("claim")
def review_claim(hold: HoldArg, json: Json = False) -> None:
    """Take a hold for 15 minutes, so that nobody reads it beside you."""

    async def main(opened: App) -> HoldRow:
        found = await find(opened, hold)
        return await opened.store.claim_hold(found.id, whoami(), lease_s=LEASE_S)

    claimed = run_app(main)
    if json:
        terminal.print_json(told(claimed))
    else:
        until = f"{claimed.claimed_until:%H:%M:%S %Z}"
        terminal.err.print(f"h{claimed.id} is yours until {until}")


@review.command("release")
def review_release(hold: HoldArg, json: Json = False) -> None:
    """Give a claimed hold back."""

    async def main(opened: App) -> HoldRow:
        found = await find(opened, hold)
        await opened.store.release_hold(found.id, whoami())
        return await opened.store.hold(found.id)

    released = run_app(main)
    if json:
        terminal.print_json(told(released))
    else:
        terminal.err.print(f"h{released.id} is free")


@review.command("approve")
def review_approve(
    hold: HoldArg,
    reason: Annotated[str, typer.Option(help="Kept with the decision.")] = "",
    digest: Digest = "",
    no_run: NoRun = False,
    json: Json = False,
) -> None:
    """The machine's result stands; the item goes on."""
    _decide(hold, "approve", reason, {}, digest, no_run, json)


@review.command("reject")
def review_reject(
    hold: HoldArg,
    reason: Annotated[str, typer.Option(help="Required; kept with the decision.")] = "",
    digest: Digest = "",
    json: Json = False,
) -> None:
    """The item ends here."""
    if not clean_text(reason).strip():
        raise Usage(
            "a rejection needs a reason",
            code="REASON_NEEDED",
            hint=f'waybill review reject {hold} --reason "…"',
        )
    _decide(hold, "reject", reason, {}, digest, True, json)


@review.command("edit")
def review_edit(
    hold: HoldArg,
    assign: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="channel=value; @file reads a file, JSON is read; "
            "typed.7=… is the text of page 7.",
        ),
    ] = [],  # noqa: B006
    reason: Annotated[str, typer.Option(help="Kept with the decision.")] = "",
    digest: Digest = "",
    no_run: NoRun = False,
    json: Json = False,
) -> None:
    """Put your own values in, such as the text nobody could read; it goes on."""
    if not assign:
        raise Usage("nothing to set", hint=f'waybill review edit {hold} --set text="…"')
    _decide(hold, "edit", reason, _assignments(assign), digest, no_run, json)


def _assignments(given: list[str]) -> dict[str, Any]:
    """All of them; `channel.key` goes into that channel's mapping."""
    edits: dict[str, Any] = {}
    for text in given:
        name, value = _assignment(text)
        channel, dot, key = name.partition(".")
        if not dot:
            edits[name] = value
        elif isinstance(inner := edits.setdefault(channel, {}), dict):
            inner[key] = value
        else:
            raise Usage(f"{channel} and {name} cannot both be set")
    return edits


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise Usage(f"{text[:40]!r} is not channel=value")
    if value.startswith("@"):
        path = Path(value[1:])
        try:
            value = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"{path} cannot be read: {type(error).__name__}") from None
        return name.strip(), value
    if value[:1] in ("{", "["):
        try:
            return name.strip(), jsonlib.loads(value)
        except ValueError as error:
            raise Usage(f"the value of {name} is not JSON: {error}") from None
    return name.strip(), value


def _decide(
    hold: str,
    verb: str,
    reason: str,
    edits: dict[str, Any],
    digest: str,
    no_run: bool,
    json: bool,
) -> None:
    async def main(opened: App) -> dict[str, Any]:
        found = await find(opened, hold)
        update = None
        if verb != "reject" and found.decision is None:
            pipeline = await opened.catalogue.get(found.pipeline_id, opened.store)
            update = ruling(found, pipeline, edits)
        decided = await opened.store.decide(
            found.id,
            verb=verb,
            author=whoami(),
            reason=clean_text(reason).strip()[:2000],
            digest=digest or found.digest,
            update=update,
        )
        await _go_on(opened, decided, no_run)
        return await _after(opened, decided)

    result = run_app(main)
    if json:
        terminal.print_json(result)
        return
    terminal.err.print(
        terminal.safe(
            f"{result['hold']}: {result['verb']} by {result['author']}; "
            f"item {result['item']} is {result['state']}"
        )
    )
    if result["file"]:
        terminal.out.print(terminal.safe(result["file"]))


async def _go_on(opened: App, hold: HoldRow, no_run: bool) -> None:
    """With no worker up, nobody would finish the item: do it here."""
    alive = [s for s in await opened.store.sessions() if s.left_s > 0]
    if no_run or alive or (hold.decision and hold.decision.verb == "reject"):
        return
    terminal.err.print("no worker is up: finishing it here")
    await finish_here(opened, hold.item_id)
    batch = await opened.store.find_batch(f"{hold.tenant}/{hold.batch}")
    await write_manifest(opened, batch.id)


async def _after(opened: App, hold: HoldRow) -> dict[str, Any]:
    row = await opened.store.item(hold.item_id)
    out = out_folder(opened, hold.tenant, hold.batch)
    printed = sorted(out.glob(f"{row.id:08d}-*.pdf")) if out.exists() else []
    assert hold.decision is not None
    return {
        "hold": f"h{hold.id}",
        "item": row.id,
        "verb": hold.decision.verb,
        "author": hold.decision.author,
        "decided_at": hold.decision.decided_at.astimezone(UTC),
        "state": row.state.value,
        "stage": row.stage,
        "file": str(printed[0]) if printed else None,
        "at": datetime.now(UTC),
    }


app.add_typer(review, name="review")
