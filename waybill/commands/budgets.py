"""`waybill budgets`: what may be spent, what was, and who waits for it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from pipeline.calls import Money
from pipeline.errors import Usage
from pipeline.store.outside import BudgetRow, PurseRow, bounded_by
from waybill import terminal
from waybill.commands.options import Header, Json, Limit, find_batch
from waybill.commands.run import run_app
from waybill.commands.spending import amount, budget_json, purse_json, purse_line
from waybill.compose import App

budgets = typer.Typer(help="What vendors may cost.", no_args_is_help=True)

COLUMNS = ["budget", "limit", "spent", "under way", "currency", "calls", "waiting"]
NO_LIMIT = "none"
LIMIT_MAX = 10**12  # of any currency
Found = tuple[list[BudgetRow], list[PurseRow]]
DOLLARS = "USD"
ABudget = Annotated[
    str,
    typer.Argument(help="item/437, batch/NAME, tenant/acme, or day: each day, in UTC."),
]


@budgets.command("ls")
def budgets_ls(limit: Limit = 100, header: Header = False, json: Json = False) -> None:
    """
    Budgets that are bounded or keep items waiting, every tenant, and today.

    And items whose agents came to the end of what they may take.
    """

    async def main(opened: App) -> Found:
        purses = await opened.store.purses(limit=limit)
        rows = await opened.store.budgets(limit=limit)
        return rows if json else [await _called(opened, row) for row in rows], purses

    rows, purses = run_app(main)
    _print(rows, json, purses, header=header)
    if not json and (short := [row.name for row in rows if row.waiting]):
        more = f"waybill budgets set {shlex.quote(bounded_by(short[0]))} --limit …"
        terminal.err.print(terminal.safe(f"to let what waits go on: `{more}`"))


@budgets.command("show")
def budgets_show(budget: ABudget, json: Json = False) -> None:
    """One budget, a line a currency; of an item what its agents may take as well."""

    async def main(opened: App) -> Found:
        rows = await opened.store.budget(await _named(opened, budget))
        if not json:
            rows = [await _called(opened, row) for row in rows]
        scope, _, item = budget.partition("/")
        purse = await opened.store.purse(int(item)) if scope == "item" else None
        return rows, [purse] if purse is not None else []

    rows, purses = run_app(main)
    _print(rows, json, purses)
    if not rows and not purses:
        terminal.err.print(terminal.safe(f"{budget}: no limit, and nothing was called"))


@budgets.command("set")
def budgets_set(
    budget: ABudget,
    limit: Annotated[
        str,
        typer.Option(
            help="10.00, or 10.00 EUR; none: as pipeline.toml and vendors.toml say."
        ),
    ],
    json: Json = False,
) -> None:
    """Say what may be spent; what waits for it and has room now goes on."""

    async def main(opened: App) -> tuple[list[BudgetRow], int]:
        name = await _named(opened, budget)
        before = await opened.store.budget(name)
        waiting = sum(row.waiting for row in before)
        bound = _bound(limit, before)
        rows = await opened.store.set_budget(name, bound)
        moved = waiting - sum(row.waiting for row in rows)
        return rows if json else [await _called(opened, row) for row in rows], moved

    rows, moved = run_app(main)
    _print(rows, json)
    if moved > 0:
        items = "1 item goes on" if moved == 1 else f"{moved} items go on"
        terminal.err.print(items)


def _bound(text: str, before: Sequence[BudgetRow]) -> Money | None:
    """
    `10.00` in the one currency that it is counted in, or `10.00 EUR`.

    What somebody said before binds nobody to its currency.
    """
    if text.strip().lower() == NO_LIMIT:
        return None
    number, _, currency = text.strip().partition(" ")
    counted = {row.spent.currency for row in before if row.spent.calls or row.declared}
    said = {row.spent.currency for row in before if row.bound is not None}
    try:
        wanted = Decimal(number.replace("_", ""))
    except InvalidOperation:
        wanted = Decimal(-1)
    if not wanted.is_finite() or not 0 <= wanted < LIMIT_MAX:
        raise Usage(f"{text!r} is no amount", hint="write 10.00, 10.00 EUR or none")
    if not currency and len(counted) > 1:
        raise Usage(
            f"it is counted in {' and '.join(sorted(counted))}",
            hint=f'name one: --limit "{number} {min(counted)}"',
        )
    found = Money(wanted, currency.strip() or min(counted or said, default=DOLLARS))
    if not (
        len(found.currency) == 3
        and found.currency.isascii()
        and found.currency.isalpha()
        and found.currency.isupper()
    ):
        raise Usage(
            f"{found.currency!r} is no currency", hint="three letters, such as EUR"
        )
    if counted and found.currency not in counted:
        raise Usage(
            f"it is counted in {' and '.join(sorted(counted))}: a limit in "
            f"{found.currency} would bound nothing of that",
            code="BUDGET_CURRENCY",
            hint=f'--limit "{number} {min(counted)}"',
        )
    return found


async def _named(opened: App, budget: str) -> str:
    """The store's name of it: a batch by its number, however it was called."""
    scope, slash, of = budget.partition("/")
    if scope == "batch" and slash:
        return f"batch/{(await find_batch(opened, of)).id}"
    return budget


async def _called(opened: App, row: BudgetRow) -> BudgetRow:
    """A batch's by the name that `batches ls` prints, which people know."""
    scope, _, number = row.name.partition("/")
    if scope != "batch":
        return row
    batch = await find_batch(opened, number)
    return row._replace(name=f"batch/{batch.tenant}/{batch.name}")


def _print(
    rows: Sequence[BudgetRow],
    json: bool,
    purses: Sequence[PurseRow] = (),
    *,
    header: bool = False,
) -> None:
    if json:
        of_agents = [one for purse in purses for one in purse_json(purse)]
        terminal.print_json([*map(budget_json, rows), *of_agents])
        return
    terminal.print_table(COLUMNS, map(_row, rows), header=header)
    for purse in purses:
        terminal.say(f"item/{purse.item}: its agents took {purse_line(purse)}")


def _row(row: BudgetRow) -> list[Any]:
    spent = row.spent
    return [
        row.name,
        "none" if row.bound is None else amount(row.bound),
        amount(spent.cost),
        amount(spent.reserved),
        spent.currency,
        spent.calls,
        row.waiting,
    ]
