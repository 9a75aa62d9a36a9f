"""What stages made of an item, asked, and planned to have done, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pipeline.store.signals import SignalRow
from waybill import terminal
from waybill.commands.spending import amount
from waybill.desk.conversations import Conversation


def print_made(found: dict[str, Any]) -> None:
    """Its products and its effects; nothing where there are none."""
    if found["products"]:
        terminal.out.rule("products", align="left")
        terminal.print_table(
            ["name", "stage", "kept at", "facts"],
            [
                [p["name"], p["stage"], p["path"], terminal.compact(p["facts"])]
                for p in found["products"]
            ],
        )
    if found["effects"]:
        terminal.out.rule("effects", align="left")
        terminal.print_table(
            ["effect", "state", "sink", "name", "why"],
            [[e.id, e.state.value, e.sink, e.name, e.why] for e in found["effects"]],
        )


def print_signals(signals: Sequence[SignalRow]) -> None:
    """What the item has asked the world outside for; nothing where that is nothing."""
    if not signals:
        return
    terminal.out.rule("signals", align="left")
    terminal.print_table(
        ["name", "asked by", "since", "until", "answered", "by"],
        [
            [
                s.name,
                s.stage,
                *map(_instant, (s.asked_at, s.until, s.answered_at)),
                s.author,
            ]
            for s in signals
        ],
    )


def print_conversations(conversations: Sequence[Conversation]) -> None:
    """Those of its agents; nothing where it has none."""
    if not conversations:
        return
    terminal.out.rule("conversations", align="left")
    terminal.print_table(
        ["agent", "name", "stage", "asks", "calls", "refused", "tokens", "cost", "end"],
        [
            [
                one.agent,
                one.name,
                one.stage,
                one.spent.asks,
                one.spent.calls,
                ", ".join(f"{n} {code}" for code, n in one.spent.refused.items()),
                one.spent.tokens or "",
                amount(one.spent.cost) if one.spent.cost else "",
                one.ended,
            ]
            for one in conversations
        ],
    )


def _instant(at: datetime | None) -> str:
    return terminal.clock(at) if at else ""
