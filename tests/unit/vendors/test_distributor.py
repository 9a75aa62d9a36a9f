"""The simulated ERP of a distributor: its catalogue, and what it says of a part."""

from __future__ import annotations

import hashlib
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from loadtest.vendors.catalogue import BREAKS, REGIONS, TIERS, catalogue
from loadtest.vendors.kinds import Call, Reply
from loadtest.vendors.settings import Play
from loadtest.vendors.shops import Erp
from stages.fitting.checker import Fits, check, part_rating
from stages.fitting.parts import Assembly, Duty, Part, assembled
from stages.fitting.rulebook import load

RULES = Path(__file__).parents[3] / "examples" / "quotes" / "rules"
BOOK = load({p.name: p.read_text(encoding="utf-8") for p in RULES.glob("*.toml")})
WARES = catalogue()
NUMBER = next(iter(WARES))
PRICE = "?region=EU&tier=trade&count=12"


def ask(path: str, fault: str = "") -> Reply:
    call = Call("GET", path, {}, b"", "http://vendor.test/erp")
    return Erp().answer(call, Play(kind="erp"), fault, random.Random(1))


def data(path: str, fault: str = "") -> Any:
    reply = ask(path, fault)
    assert reply.accepted
    return reply.data


# -- the catalogue --------------------------------------------------------------------


def test_the_catalogue_is_600_parts_and_always_the_same():
    """Whatever is recomputed from it holds on every machine."""
    listed = json.dumps([[w.part, str(w.euros), w.stock] for w in WARES.values()])

    assert len(WARES) == len({w.part["title"] for w in WARES.values()}) == 600
    assert hashlib.sha256(listed.encode()).hexdigest()[:12] == "9c690b37b52e"
    assert catalogue(15).keys() != WARES.keys()


def test_every_part_is_one_that_the_rules_know():
    """Cold, each has a rating and no reason against it."""
    cold = Decimal(20)
    for ware in WARES.values():
        part = Part.model_validate(ware.part)
        assert part_rating(part, cold, BOOK) > 0
        finding = check(Assembly({"it": part}), Duty(None, cold, Decimal(1)), BOOK)
        # Of what flows nobody spoke; all else is known.
        assert {one.why for one in finding.against()} == {"nobody said of what"}


def test_of_all_pairs_of_hose_and_fitting_some_pass_and_some_are_refused():
    """A catalogue in which everything fits would prove nothing."""
    parts = [Part.model_validate(ware.part) for ware in WARES.values()]
    hoses = [part for part in parts if part.kind == "hose" and part.size == 12]
    ends = [part for part in parts if part.kind == "fitting" and part.size == 12]
    duty = Duty("mineral oil", Decimal(120), Decimal(150))

    found = [check(assembled(h, e, e), duty, BOOK).fits for h in hoses for e in ends]

    assert found.count(Fits.YES) > 10
    assert found.count(Fits.NO) > 10
    assert found.count(Fits.UNKNOWN) > 0


def test_more_is_never_dearer_by_the_piece_nor_a_better_tier():
    for ware in WARES.values():
        for region in REGIONS:
            for tier in TIERS:
                each = [ware.price(region, tier, count) for count, _ in BREAKS]
                assert each == sorted(each, reverse=True)
                assert each[-1] > 0
            key, trade, listed = (
                ware.price(region, tier, 1) for tier in ("key", "trade", "list")
            )
            assert key <= trade <= listed


# -- what it says ---------------------------------------------------------------------


def test_parts_are_found_by_what_they_are():
    found = data("/parts?kind=fitting&thread=jic&gender=female&size=12&end_size=12")

    assert found["total"] == len(found["parts"]) > 1
    assert all(part["ends"][0]["thread"] == "jic" for part in found["parts"])
    assert data("/parts?kind=fitting")["total"] > len(
        data("/parts?kind=fitting")["parts"]
    )
    assert data("/parts?standard=R15") == {"total": 0, "parts": []}


def test_a_part_its_stock_and_its_price():
    part = data(f"/parts/{NUMBER}")
    stock = data(f"/parts/{NUMBER}/stock?region=UK")
    price = data(f"/parts/{NUMBER}/price{PRICE}")

    assert part["part"] == WARES[NUMBER].part
    assert stock["free"] == WARES[NUMBER].stock["UK"]
    assert Decimal(price["price"]) == WARES[NUMBER].price("EU", "trade", 12)
    assert (price["currency"], price["count"]) == ("EUR", 12)
    assert price["as_of"] < price["valid_until"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *(("/parts/HOS-1", 404), ("/parts", 400), ("/parts?colour=red", 400)),
        *((f"/parts/{NUMBER}/{what}", 404) for what in ("colour", "stock/now")),
        *((f"/parts/{NUMBER}/stock{q}", 400) for q in ("", "?region=MOON")),
        *(
            (f"/parts/{NUMBER}/price?region=EU&tier={rest}", 400)
            for rest in ("trade", "trade&count=0", "vip&count=1", "trade&count=²")
        ),
    ],
)
def test_what_is_not_there_is_refused(path, status):
    assert ask(path).status == status


def test_an_answer_for_another_part_says_which():
    """It is the reader who must look."""
    answers = [
        data(f"/parts/{NUMBER}/{what}", "other_part") for what in (f"price{PRICE}",)
    ]
    answers.append(data(f"/parts/{NUMBER}/stock?region=EU", "other_part"))

    assert all(answer["number"] != NUMBER for answer in answers)
    assert all(answer["number"] in WARES for answer in answers)
    assert data(f"/parts/{NUMBER}", "other_part")["part"]["number"] != NUMBER


def test_a_stale_answer_has_its_time_and_another_price():
    now, then = (data(f"/parts/{NUMBER}/price{PRICE}", f) for f in ("", "stale"))

    assert then["as_of"][:10] < now["as_of"][:10]
    assert Decimal(then["price"]) < Decimal(now["price"])
    jumped = data(f"/parts/{NUMBER}/price{PRICE}", "price_changed")
    assert Decimal(jumped["price"]) > Decimal(now["price"])
