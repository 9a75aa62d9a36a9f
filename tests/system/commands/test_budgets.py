"""What calls did cost, and what may be spent, as people read and set it."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from pipeline.calls import Budget, CallOpening, Money, Settled, Usage
from pipeline.model import Entry, ItemId, ToWaiting
from pipeline.store.postgres import PostgresStore
from pipeline.store.rows import Origin
from tests.system.command import Home, pictures

USED = Usage(
    input_tokens=90, cached_input_tokens=10, output_tokens=30, reasoning_tokens=20
)
STAGE = "note"


@pytest.fixture(scope="module")
def spent(shared: Home) -> tuple[Home, list[ItemId]]:
    """A batch of two: one has called twice for 0.25 USD, one rests for money."""
    shared.pipeline("notes", note="return Advance()")
    shared.environment["WAYBILL_PIPELINES"] = str(shared.pipelines)
    shared.environment["WAYBILL_PIPELINE"] = "notes"
    pictures(shared.folder / "sent", ["a.png", "b.png"])
    shared.ok("ingest", shared.folder / "sent", "--batch", "one")
    return shared, asyncio.run(_call(shared.environment["WAYBILL_DATABASE_URL"]))


async def _call(url: str) -> list[ItemId]:
    async with PostgresStore(url) as store:
        me = await store.join(Origin("elsewhere", 1, "1"), lease_s=3600)
        items = sorted(c.item.id for c in await store.claim(me, STAGE, 9, {}))
        asked = [
            CallOpening(items[0], STAGE, f"ask-{n}", "llm", Decimal("0.5"))
            for n in range(2)
        ]
        answered, failed = await store.open_calls(me, asked)
        ends = [
            Settled(answered, Decimal("0.25"), USED, "small-2", "stop", "", 1.5),
            Settled(failed, Decimal(0), code="VENDOR_TIMEOUT"),
        ]
        await store.settle_calls(me, ends)
        poor = Budget(batch=Money(Decimal("0.30"), "USD"))
        more = CallOpening(items[1], STAGE, "ask", "llm", Decimal("0.5"), budget=poor)
        [short] = await store.open_calls(me, [more])
        rest = ToWaiting(STAGE, 0, 0, 6 * 3600, short[0])
        await store.commit(me, [Entry(items[1], None, rest)])
        await store.leave(me)
    return items


SUM = {
    "currency": "USD",
    "calls": 2,
    "failed": 1,
    "cost": "0.25",
    "reserved": "0.00",
    "usage": {**USED.model_dump(), "total_tokens": 150},
}
LINE = "0.25 USD for 2 calls, 1 of them failed, 150 tokens"


def test_what_was_spent_is_shown(spent: tuple[Home, list[ItemId]]) -> None:
    """By the whole service, a batch, an item; for people and in JSON."""
    home, [item, other] = spent
    assert home.ok("status")["spent"] == [SUM]
    assert home.ok("batches", "show", "one")["spent"] == [SUM]
    shown = home.ok("items", "show", str(item))
    assert shown["spent"] == [SUM]
    assert home.ok("items", "show", str(other))["spent"] == []

    assert f"spent: {LINE}" in home.run("status").err
    assert LINE in home.run("batches", "show", "one").out
    text = home.run("items", "show", str(item)).out
    assert f"spent {LINE}" in text
    assert "VENDOR_TIMEOUT" in text


def test_each_call_is_shown_under_the_names_of_opentelemetry(
    spent: tuple[Home, list[ItemId]],
) -> None:
    """Its own usage in disjoint parts; their input and output hold the others."""
    home, [item, _] = spent
    failed, answered = home.ok("items", "show", str(item))["calls"]

    assert (failed["code"], failed["cost"]) == ("VENDOR_TIMEOUT", "0.00")
    assert (answered["vendor"], answered["step"], answered["try"]) == (
        "llm",
        "ask-0",
        1,
    )
    assert answered["usage"] == SUM["usage"]
    assert {k: v for k, v in answered.items() if k.startswith("gen_ai.")} == {
        "gen_ai.response.model": "small-2",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.reasoning.output_tokens": 20,
    }


def test_who_waits_for_money_is_told_so(spent: tuple[Home, list[ItemId]]) -> None:
    home, [_, other] = spent
    [limit] = [x for x in home.ok("status")["limited_by"] if x["by"] == "money"]
    assert (limit["name"], limit["items"]) == ("BUDGET_USED_UP", 1)
    assert "money: 1 item waits before note" in home.run("status").err
    listed = home.run("budgets", "ls")
    assert "batch/default/one\t0.30" in listed.out
    assert "`waybill budgets set batch/default/one --limit …`" in listed.err
    why = home.ok("items", "why", str(other))["why"]
    assert "it goes on by itself when its budget has room" in why


def test_a_budget_is_set_and_who_waits_goes_on(
    spent: tuple[Home, list[ItemId]],
) -> None:
    """No one approves each; what is no amount or names nothing is refused."""
    home, [_, other] = spent
    [batch] = [b for b in home.ok("budgets", "ls") if b["budget"].startswith("batch/")]
    assert (batch["limit"], batch["left"], batch["by"], batch["waiting"]) == (
        "0.30",
        "0.05",
        "file",
        1,
    )

    ran = home.run("budgets", "set", "batch/one", "--limit", "1.00")

    assert (ran.code, "1 item goes on" in ran.err) == (0, True)
    assert home.ok("items", "show", str(other))["item"]["state"] == "ready"
    [shown] = home.ok("budgets", "show", "batch/one")
    assert (shown["limit"], shown["by"], shown["waiting"]) == ("1.00", "person", 0)
    for name, limit, error in (
        ("tenant/nobody", "1", (9, "NOT_FOUND")),
        ("month", "1", (9, "NOT_FOUND")),
        ("day/2026-01-01", "1", (9, "NOT_FOUND")),
        ("day", "much", (2, "USAGE")),
        ("day", "-1", (2, "USAGE")),
        ("batch/one", "1.00 EUR", (2, "BUDGET_CURRENCY")),
        ("batch/one", "1e30", (2, "USAGE")),
        ("day", "NaN", (2, "USAGE")),
        ("day", "1 euro", (2, "USAGE")),
    ):
        ran = home.run("budgets", "set", name, "--json", f"--limit={limit}")
        assert ran.error() == error, (name, limit)


def test_every_day_may_be_bounded(spent: tuple[Home, list[ItemId]]) -> None:
    home, _ = spent
    home.ok("budgets", "set", "day", "--limit", "9 USD")
    days = [b for b in home.ok("budgets", "ls") if b["budget"].startswith("day")]
    assert [d["limit"] for d in days] == ["9.00", "9.00"]
    home.ok("budgets", "set", "day", "--limit", "none")
    days = [b for b in home.ok("budgets", "ls") if b["budget"].startswith("day")]
    assert [(d["budget"][:4], d["limit"]) for d in days] == [("day/", None)]


def test_what_was_said_of_a_day_binds_nobody_to_its_currency(home: Home) -> None:
    """Taken back it leaves nothing; where calls were counted, theirs is the one."""
    for limit in ("1.00 EUR", "none", "0.20", "2.00 EUR", "3.00"):
        [*_, day] = home.ok("budgets", "set", "day", "--limit", limit) or [None]
        if limit == "none":
            assert day is None
            continue
        amount, _, currency = limit.partition(" ")
        said = currency or ("USD" if amount == "0.20" else "EUR")
        assert (day["limit"], day["currency"]) == (amount, said)


def test_a_day_is_shown_with_what_was_spent_today(
    spent: tuple[Home, list[ItemId]],
) -> None:
    """And bounded in the currency in which that is counted."""
    home, _ = spent
    [today] = home.ok("budgets", "show", "day")
    refused = home.run("budgets", "set", "day", "--json", "--limit", "1.00 EUR")
    one = home.run("budgets", "set", today["budget"], "--limit", "1.00")

    assert today["budget"].startswith("day/20")
    assert today["cost"] != "0.00"
    assert refused.error() == (2, "BUDGET_CURRENCY")
    assert "name each day by `day`" in one.err
