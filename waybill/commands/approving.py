"""
`review approve` of several: shown first, then each a decision of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import typer

from pipeline.errors import NotFound, Usage
from pipeline.store.rows import HoldRow
from waybill import terminal
from waybill.commands.deciding import (
    How,
    next_one,
    settle,
    show_next,
    view_data,
    would_data,
)
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.desk import model, several
from waybill.desk.several import Ruled
from waybill.desk.terminal import change_lines

# A filter: the open holds that it meets.
Met = Callable[[App], Awaitable[list[HoldRow]]]
SHOWN_MAX = 20  # whose changes are shown before somebody says yes


class Chosen(NamedTuple):
    """
    Holds to approve.

    Attributes:
        left: Those a filter met and that cannot be approved as they are.
        more: The filter may meet more than were looked at.
    """

    holds: list[HoldRow]
    left: list[HoldRow]
    more: bool


def approve_several(
    names: Sequence[str], how: How, met: Met | None, *, tenant: str, limit: int
) -> None:
    """
    Approve the holds that are named, and those that a filter meets.

    Args:
        tenant: Whose hold is shown next; "" of any.
        limit: Of the filter.
    """
    if how.digest:
        raise Usage(
            "--digest is of one hold",
            hint="of several, each is bound to what this command shows of it",
        )

    async def main(opened: App) -> tuple[list[dict[str, Any]], list[Ruled], Any]:
        chosen = await _chosen(opened, names, met, limit)
        would = await _preview(opened, chosen, how)
        if how.dry_run:
            return [_would(one) for one in would], would, None
        if not chosen.holds:
            raise NotFound(
                "none of these can be approved as it is", code="NOTHING_HELD"
            )
        if not how.yes:
            terminal.confirm(f"approve {_holds(len(chosen.holds))}")
        ruled = await several.approve_all(opened, chosen.holds, reason=how.reason)
        decided = [one.decided for one in ruled if one.decided is not None]
        await settle(opened, decided, run=not how.no_run)
        became = [await _became(opened, one) for one in ruled]
        return became, ruled, await next_one(opened, how, tenant)

    became, ruled, following = run_app(main)
    refused = sum(one.error is not None for one in ruled)
    if how.json and how.dry_run:
        terminal.print_json({"would": became})
    elif how.json:
        approved = len(became) - refused
        said = {"decisions": became, "approved": approved, "refused": refused}
        if how.next:
            said["next"] = following and view_data(following)
        terminal.print_json(said)
    elif not how.dry_run:
        _print(became, refused)
        show_next(following, how)
    if code := several.exit_code(ruled):
        raise typer.Exit(code)


async def _chosen(
    app: App, names: Sequence[str], met: Met | None, limit: int
) -> Chosen:
    """
    The holds that are named, each once, and those that the filter meets.

    Raises:
        NotFound: one that is named is not there, or the filter meets none.
    """
    found = [await model.row_of(app, name) for name in names]
    others = await met(app) if met else []
    can, left = several.apart(app, others)
    if not found and not others:
        raise NotFound("no hold matches", code="NOTHING_HELD")
    holds = {hold.id: hold for hold in [*found, *can]}
    return Chosen(list(holds.values()), left, len(others) == limit)


async def _preview(app: App, chosen: Chosen, how: How) -> list[Ruled]:
    """What would become of the first of them, and how many there are."""
    screen = terminal.out if how.dry_run else terminal.err
    shown = chosen.holds if how.dry_run else chosen.holds[:SHOWN_MAX]
    would = [await several.would(app, hold) for hold in shown]
    if how.json:
        return would
    for one in would:
        hold = one.hold
        screen.print(
            terminal.safe(
                f"h{hold.id}  {hold.code}  item {hold.item_id}  {hold.item_name}"
            ),
            style="bold",
        )
        lines = [one.error.message] if one.error else change_lines(one.changes)
        for line in lines:
            screen.print(terminal.safe(f"    {line}"), soft_wrap=True)
    if len(chosen.holds) > len(would):
        screen.print(f"… and {len(chosen.holds) - len(would)} more")
    for hold in chosen.left:
        why = (
            f"needs {', '.join(hold.needs)}"
            if hold.needs
            else f"is for the role {hold.role}, one by one"
            if hold.role
            else f"is claimed by {hold.claimed_by}"
        )
        terminal.err.print(terminal.safe(f"left out: h{hold.id} {why}"))
    if chosen.more:
        terminal.err.print("there may be more: --limit")
    return would


def _would(one: Ruled) -> dict[str, Any]:
    if one.error is not None:
        return {"hold": f"h{one.hold.id}", **terminal.error_body(one.error)}
    return would_data(one.hold, "approve", one.changes)


async def _became(app: App, one: Ruled) -> dict[str, Any]:
    """What became of one, as JSON."""
    if one.decided is None:
        assert one.error is not None
        return {"hold": f"h{one.hold.id}", **terminal.error_body(one.error)}
    result = await model.consequence(app, one.decided)
    return {**result._asdict(), "changes": one.changes}


def _print(became: Sequence[dict[str, Any]], refused: int) -> None:
    """A line each, and a summary."""
    rows = [
        [one["hold"], "refused", one["error"]["message"]]
        if "error" in one
        else [one["hold"], "approved", _where(one)]
        for one in became
    ]
    terminal.print_table(["hold", "", "what became of it"], rows)
    summary = f"{len(became) - refused} of {_holds(len(became))} approved"
    terminal.err.print(summary + f", {refused} refused" * bool(refused))


def _where(one: dict[str, Any]) -> str:
    again = f" again: {one['next_hold']} {one['next_code']}" * bool(one["next_hold"])
    return f"item {one['item']} is {one['state']}{again}"


def _holds(number: int) -> str:
    return f"{number} hold{'s' * (number != 1)}"
