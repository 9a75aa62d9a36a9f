"""`examples/quotes`, stage by stage, against the simulated ERP in this process."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from loadtest.corpora.enquiries import Truth
from loadtest.scenarios.quotes_second import faults_of
from loadtest.vendors.sales import customers
from pipeline.folder import Pipeline, load
from pipeline.stage import Advance, Hold, Reject
from pipeline.testing import Context, Try
from stages.quoting import erp
from tests.unit.quoting.made import QUOTES, WHOLE, Door, read
from waybill.compose import BUILTIN

OPEN = WHOLE.replace("NPT male", "NPT")
TWO = (
    f"{WHOLE}\n4 x 1/2 inch, 2 m, JIC swivel both ends, oil at 80 °C, 90 bar, "
    "to Rotterdam by 14.12.2026"
)


@pytest.fixture(scope="module")
def quotes() -> Pipeline:
    return load(QUOTES, BUILTIN)


class Ways:
    """A request on its way through the stages of the example."""

    def __init__(self, quotes: Pipeline, door: Door, text: str, **state: Any) -> None:
        self.quotes, self.door = quotes, door
        model = quotes.channels.model
        self.state: Any = model(source="0" * 64, text=text, enquiry=read(text), **state)
        self.recorded: dict[str, dict[str, Any]] = {}
        self.ctx: Context

    async def run(self, stage: str, **more: Any) -> Try:
        """One try; what it did before is remembered."""
        self.ctx = Context(
            self.quotes.stages[stage],
            pipeline=self.quotes,
            door=self.door,
            recorded=self.recorded.get(stage, {}),
            **more,
        )
        if stage == "document":  # its threads stand still in virtual time
            outcome = await self.quotes.stages[stage].stage(self.state, self.ctx)
            said = dict(outcome.updates)
            tried = Try(outcome, self.state.model_copy(update=said))
        else:
            tried = await self.ctx.run(self.state)
        self.recorded[stage] = self.ctx.recorded
        if isinstance(tried.outcome, Advance):
            self.state = tried.state
        return tried

    async def to(self, stage: str) -> Try:
        """Through all stages up to this one."""
        tried = None
        for name in ("lookup", "fitting", "pricing", "document"):
            tried = await self.run(name)
            if name == stage or not isinstance(tried.outcome, Advance):
                return tried
        raise AssertionError(stage)

    def planned(self, name: str) -> dict[str, Any]:
        """What an effect tells."""
        [found] = [one for key, one in self.ctx.effects.items() if name in key]
        said: dict[str, Any] = json.loads(found.payload)
        return said

    def made(self, name: str) -> str:
        """The artifact of a product."""
        artifact: str = self.ctx.products[name]["artifact"]
        return artifact

    def say(self, **channels: Any) -> None:
        """What a person set."""
        self.state = self.state.model_copy(update=channels)


# -- lines -----------------------------------------------------------------------------


async def test_all_questions_go_out_in_one_mail_to_who_the_erp_knows(quotes: Pipeline):
    """Never to the address that a request says by itself."""
    open_ = OPEN.replace(", 200 bar", "")
    sent = []
    for sender in ("Purchasing@Aldermoor.example", "someone@else.example"):
        way = Ways(quotes, Door(), f"From: Buyer <{sender}>\n{open_}")
        await way.run("lines")
        sent.append((way.state.asked, len(way.ctx.effects)))
        if way.ctx.effects:
            mail = way.planned("ask")

    assert sent == [("mail", 1), ("", 0)]
    assert mail["to"] == "purchasing@aldermoor.example"
    assert "http://waybill.test/signals/" in mail["text"]
    assert all(key in mail["text"] for key in ("1.ends:", "1.bar:"))


# -- lookup ----------------------------------------------------------------------------


async def test_a_call_that_times_out_is_tried_again_and_no_other(quotes: Pipeline):
    """Two searches are there; the third is asked twice, the others once."""
    door = Door(parts=["ok", "ok", "timeout"])
    way = Ways(quotes, door, WHOLE)

    first = await way.run("lookup")
    second = await way.run("lookup")

    assert first.error.code == "VENDOR_TIMEOUT"
    assert isinstance(second.outcome, Advance)
    parts = [asked for asked in door.asked if asked.startswith("/parts?")]
    assert len(parts) == 4
    assert parts[2] == parts[3]
    assert way.state.customer.name == "Aldermoor Cranes"


async def test_only_what_depends_on_an_answer_is_looked_up_anew(quotes: Pipeline):
    """Line 2 is whole: it is looked up before the answer, and never again."""
    door = Door()
    way = Ways(quotes, door, TWO.replace("NPT male", "NPT"))

    held = await way.run("lookup")
    before = list(door.asked)
    way.say(answers={"1.ends": "male"})
    went = await way.run("lookup")

    assert isinstance(held.outcome, Hold)
    assert (held.outcome.code, held.outcome.ask) == ("QUESTIONS_OPEN", ("answers",))
    assert isinstance(went.outcome, Advance)
    new = door.asked[len(before) :]
    assert len(new) == 3
    assert not set(new) & set(before)
    assert {one.line for one in way.state.found} == {1, 2}


async def test_a_buyer_who_was_sent_a_link_is_waited_for(quotes: Pipeline):
    """And when no answer comes in time, a clerk is asked."""
    way = Ways(quotes, Door(), OPEN, asked="mail")

    waits = await way.run("lookup")
    late = await way.run("lookup", signals={"answers": None})
    said = {"answers": {"1.ends": "male"}}
    went = await way.run("lookup", signals={"answers": said})

    assert waits.asks == ("answers",)
    assert late.outcome.code == "QUESTIONS_OPEN"
    assert isinstance(went.outcome, Advance)
    assert way.state.answers == {"1.ends": "male"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (WHOLE.replace("Customer K-1001.", ""), "customer"),
        (WHOLE.replace("K-1001", "K-9999"), "customer"),
        (f"{WHOLE}, as revision of Q-000009", "quote"),
        (WHOLE.replace("of 3/4 inch", "of HOS-000000"), "1.parts"),
    ],
)
async def test_what_the_erp_does_not_have_is_asked(quotes: Pipeline, text, key):
    held = await Ways(quotes, Door(), text).run("lookup")

    assert held.outcome.code == "QUESTIONS_OPEN"
    assert key in [one["key"] for one in held.outcome.evidence["questions"]]


# -- fitting ---------------------------------------------------------------------------


async def test_what_no_rule_passes_is_refused_with_the_rule(quotes: Pipeline):
    refused = await Ways(quotes, Door(), WHOLE.replace("200", "390")).to("fitting")

    assert isinstance(refused.outcome, Reject)
    assert refused.outcome.code == "NOTHING_FITS"
    assert "390 bar are asked" in refused.outcome.why


# -- pricing ---------------------------------------------------------------------------


async def test_an_old_price_is_asked_for_again_and_another_parts_is_none(
    quotes: Pipeline,
):
    door = Door(price=["stale", "ok", "other_part"])
    way = Ways(quotes, door, WHOLE)

    first = await way.to("pricing")
    second = await way.run("pricing")

    assert first.error.code == "VENDOR_GARBAGE"
    assert isinstance(second.outcome, Advance)
    asked = [one for one in door.asked if "/price?" in one]
    assert asked[0] == asked[1]  # the stale one
    assert asked[2] == asked[3]  # the one of another part
    hose = way.state.quote.positions[0]
    assert (hose.asked, hose.total) == (2, Decimal("1398.24"))


async def test_prices_that_stay_old_are_never_used(quotes: Pipeline):
    tried = await Ways(quotes, Door(price=["stale"] * 9), WHOLE).to("pricing")

    assert tried.error.code == "PRICE_STALE"


async def test_a_discount_over_the_limit_is_granted_for_exactly_that_quote(
    quotes: Pipeline,
):
    """What was granted is of no use for another sum."""
    way = Ways(quotes, Door(), f"{WHOLE} with 12 % discount")

    held = await way.to("pricing")
    way.say(granted="0" * 16)
    again = await way.run("pricing")
    way.say(granted=held.outcome.evidence["answer"]["granted"])
    went = await way.run("pricing")

    assert (held.outcome.code, held.outcome.ask) == (
        "DISCOUNT_OVER_LIMIT",
        ("granted",),
    )
    assert "not this quote any more" in again.outcome.why
    assert isinstance(went.outcome, Advance)
    assert way.state.quote.total == Decimal("1436.05")


async def test_a_quote_that_was_held_for_days_is_priced_anew(quotes: Pipeline):
    """Its old answers are on record, and others are asked for."""
    door = Door()
    way = Ways(quotes, door, f"{WHOLE} with 12 % discount")
    await way.to("pricing")
    steps = way.recorded["pricing"]
    for name, answer in steps.items():
        if "/price-" in name:
            answer["data"]["as_of"] = "2026-01-01T00:00:00+00:00"
    before = len(door.asked)

    await way.run("pricing")

    assert [one.split("/")[3][:6] for one in door.asked[before:]] == ["price?"] * 3


async def test_a_price_that_jumped_since_the_last_quote_is_held(quotes: Pipeline):
    """The ERP has the last quote, as the effect wrote it."""
    door = Door()
    first = Ways(quotes, door, WHOLE)
    await first.to("document")
    written = first.planned("erp")
    door.erp._quotes.take(written)
    dearer = Ways(quotes, Door(price=["price_changed"]), WHOLE)
    dearer.door.erp = door.erp

    held = await dearer.to("pricing")

    assert held.outcome.code == "PRICE_JUMPED"
    assert "last quoted 19.42 (+50.0 %)" in held.outcome.why


# -- document --------------------------------------------------------------------------


async def test_a_quote_is_written_sent_once_and_revised_under_its_number(
    quotes: Pipeline,
):
    door = Door()
    first = Ways(quotes, door, WHOLE)
    await first.to("document")
    door.erp._quotes.take(first.planned("erp"))
    again = Ways(quotes, door, WHOLE.replace("12 assem", "10 assem") + ", see Q-000001")

    await again.to("document")

    facts = again.state.facts
    assert (facts["number"], facts["revision"]) == ("Q-000001", 2)
    mail = again.planned("mail")
    assert mail["to"] == "purchasing@aldermoor.example"
    assert "quantity 60 instead of 72" in mail["text"]
    record = json.loads(await again.ctx.artifacts.get(again.made("record")))
    assert record["total"] == again.planned("erp")["total"]
    assert sum(Decimal(line["total"]) for line in record["lines"]) == Decimal(
        record["subtotal"]
    )


async def test_prices_that_became_too_old_before_they_were_written_are_asked_for(
    quotes: Pipeline,
):
    door = Door()
    way = Ways(quotes, door, WHOLE)
    await way.to("pricing")
    old = way.state.quote
    line = old.lines[0]
    aged = [
        one.model_copy(
            update={
                "price": one.price.model_copy(
                    update={"as_of": erp.now_utc() - timedelta(days=3)}
                )
            }
        )
        for one in line.positions
    ]
    kept = line.model_copy(update={"positions": tuple(aged)})
    way.say(quote=old.model_copy(update={"lines": (kept,)}))
    before = len(door.asked)

    went = await way.run("document")

    assert isinstance(went.outcome, Advance), went.error
    assert len(door.asked) > before
    assert way.state.quote.digest == old.digest


async def test_the_second_implementation_agrees_and_sees_each_wrong_figure(
    quotes: Pipeline,
):
    """Of a quote that is right, nothing; of one figure that is changed, that."""
    way = Ways(quotes, Door(), WHOLE)
    await way.to("document")
    text = await way.ctx.artifacts.get(way.made("record"))
    [buyer] = [one for one in customers() if one["number"] == "K-1001"]
    truth = [Truth(12, 6000, "mineral oil", 120, 200)]

    def found(changed: str = "", to: str = "", of: list[Truth] = truth) -> set[str]:
        record = json.loads(text.decode().replace(changed, to, 1) if changed else text)
        return set(+faults_of(record, buyer, of))

    assert found() == set()
    assert found('"19.42"', '"19.41"') == {"prices_guessed"}
    assert found('"72"', '"73"') == {"quantities_wrong"}
    assert found('"total": "1631.88"', '"total": "1631.89"') == {"totals_wrong"}
    assert found('HOS-208261",\n     "price', 'HOS-000000",\n     "price') >= {
        "parts_invented"
    }
    assert found(of=[Truth(12, 6000, "mineral oil", 120, 211)]) == {"unsafe"}
