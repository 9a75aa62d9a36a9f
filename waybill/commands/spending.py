"""What calls did cost, as commands print it and give it in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from pipeline.calls import Usage
from pipeline.purse import Amounts
from pipeline.store.outside import BudgetRow, CallRow, PurseRow, Spent
from waybill import terminal


def cost_line(spent: Sequence[Spent]) -> str:
    """`1.25 USD for 34 calls, 2 of them failed; 12000 tokens`, of each currency."""
    return "; ".join(map(_cost_of, spent))


def _cost_of(one: Spent) -> str:
    calls = "1 call" if one.calls == 1 else f"{one.calls} calls"
    failed = f", {one.failed} of them failed" if one.failed else ""
    open_ = f", up to {amount(one.reserved)} more under way" if one.reserved else ""
    tokens = f", {one.usage.total} tokens" if one.usage.total else ""
    return f"{amount(one.cost)} {one.currency} for {calls}{failed}{open_}{tokens}"


def amount(money: Decimal) -> str:
    """As people write it: cents at least, and no more places than it has."""
    whole, _, places = f"{money.normalize():f}".partition(".")
    return f"{whole}.{places.ljust(2, '0')}"


def spent_json(spent: Sequence[Spent]) -> list[dict[str, Any]]:
    """Sums as objects; money is text, for no float holds it."""
    return [_spent(one) for one in spent]


def budget_json(row: BudgetRow) -> dict[str, Any]:
    """A budget, its sums beside it."""
    left = row.bound - row.spent.cost if row.bound is not None else None
    return {
        "budget": row.name,
        "limit": None if row.bound is None else amount(row.bound),
        "left": None if left is None else amount(left),
        "by": "file" if row.declared else "person" if row.bound is not None else None,
        "waiting": row.waiting,
        **_spent(row.spent),
    }


def call_json(call: CallRow) -> dict[str, Any]:
    """
    A call, with its usage in disjoint parts; and under the names of OpenTelemetry,
    whose sums of input and output hold the cached and the reasoning ones.
    """
    usage = call.usage
    return {
        "number": call.number,
        "stage": call.stage,
        "step": call.step,
        "try": call.tries,
        "vendor": call.vendor,
        "opened_at": call.opened_at,
        "settled_at": call.settled_at,
        "code": call.code,
        "cost": amount(call.cost),
        "reserved": amount(call.reserved),
        "currency": call.currency,
        "took_s": round(call.took_s, 3),
        "usage": _usage(usage),
        "gen_ai.response.model": call.model,
        "gen_ai.response.finish_reasons": [call.finish] if call.finish else [],
        "gen_ai.usage.input_tokens": usage.input_tokens + usage.cached_input_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens + usage.reasoning_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }


def purse_json(row: PurseRow) -> list[dict[str, Any]]:
    """What a family's agents may take, an object for each thing that is counted."""
    return [
        {
            "budget": f"item/{row.item}",
            "of": name,
            "limit": most,
            "taken": taken,
            "held": held,
            "left": None if most is None else max(0, most - taken - held),
            "lacked": row.lacked == f"item_{name}",
        }
        for name, most, taken, held in zip(
            Amounts._fields, row.most, row.taken, row.held, strict=True
        )
    ]


def purse_line(row: PurseRow) -> str:
    """`37 of 100 asks, 2 more held; 12000 tokens`."""
    return "; ".join(
        f"{one['taken']}"
        + (f" of {one['limit']}" if one["limit"] is not None else "")
        + f" {one['of']}"
        + (f", {one['held']} more held" if one["held"] else "")
        for one in purse_json(row)
    )


CALL_COLUMNS = [
    "call",
    "at",
    "vendor",
    "step",
    "model",
    "tokens",
    "cost",
    "end",
    "took",
]


def call_row(call: CallRow) -> list[Any]:
    """A call as a row of `CALL_COLUMNS`."""
    is_open = call.settled_at is None
    cost = f"up to {amount(call.reserved)}" if is_open else amount(call.cost)
    return [
        call.number,
        terminal.clock(call.opened_at),
        call.vendor,
        call.step,
        call.model,
        call.usage.total or "",
        f"{cost} {call.currency}",
        "under way" if is_open else call.code or call.finish or "answered",
        "" if is_open else f"{call.took_s:.2f} s",
    ]


def _spent(one: Spent) -> dict[str, Any]:
    return {
        "currency": one.currency,
        "calls": one.calls,
        "failed": one.failed,
        "cost": amount(one.cost),
        "reserved": amount(one.reserved),
        "usage": _usage(one.usage),
    }


def _usage(usage: Usage) -> dict[str, int]:
    return {**usage.model_dump(), "total_tokens": usage.total}
