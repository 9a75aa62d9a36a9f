"""`examples/quotes`: a request from the file to the quote, a clerk, an ERP, a mail."""

from __future__ import annotations

import json
import shlex
import subprocess
from decimal import Decimal
from pathlib import Path

import pypdfium2
import pytest

from loadtest.vendors.playing import playing
from tests.system.command import ROOT, Home
from waybill.commands.shows import VENDORS

REQUEST = """\
Please quote 4 assemblies of 3/4 inch, 6 m, JIC swivel one end, NPT the other,
hot oil at 120 °C, 200 bar, with 12 % discount. Deliver to Rotterdam by 14.12.2031.

Customer K-1001
"""


def test_a_request_from_the_file_to_the_quote(home: Home) -> None:
    """
    A clerk answers what was left open, a person grants the discount, and it goes out.

    The ERP's first price is of two days ago and one of its answers is lost: both are
    asked for again, and no other call is made twice.
    """
    home.environment["WAYBILL_PIPELINES"] = str(ROOT / "examples")
    request = home.folder / "request.txt"
    request.write_text(REQUEST)
    script = ["ok", "ok", "lost", "ok", "ok", "stale"]
    with playing({"erp": {"script": script}, "mail": {}}, for_s=240) as world:
        declared = home.folder / "vendors.toml"
        said = VENDORS.format(erp=world.url("erp"), smtp=world.smtp("mail"))
        declared.write_text(said)

        came = home.run("ingest", request, "--pipeline", "quotes", "--wait")
        [hold] = home.ok("review", "ls")
        male = ("--set", "answers.1.ends=male", "--yes")
        home.run("review", "edit", hold["hold"], *male)
        [asked] = home.ok("review", "ls")
        shown = home.ok("review", "show", asked["hold"])
        digest = shown["shown"]["evidence"]["answer"]["granted"]
        grant = ("--set", f"granted={digest}", "--yes")
        ruled = home.ok("review", "edit", asked["hold"], *grant)
        effects = home.ok("effects", "ls")
        calls = world.rows(
            "select path, count(*) from calls where vendor = 'erp' and method = 'GET' "
            "group by path order by 2, 1"
        )
        taken = world.rows("select vendor, what, count(*) from taken group by 1, 2")

    assert came.code == 5, came.err
    assert (hold["code"], asked["code"]) == ("QUESTIONS_OPEN", "DISCOUNT_OVER_LIMIT")
    assert ruled["state"] == "done"
    assert sorted((e["sink"], e["state"]) for e in effects) == [
        ("erp", "confirmed"),
        ("mail", "confirmed"),
    ]
    assert sorted(taken) == [("erp", "quote", 1), ("mail", "mail", 1)]
    # A search was lost, a price was old: each once more than there were questions.
    times = [(path.rpartition("/")[2], n) for path, n in calls]
    assert sorted(times) == [
        *[("customers", 1), ("parts", 3 + 1), ("price", 1), ("price", 1)],
        *[("price", 1 + 1), ("quotes", 3)],
        *[("stock", 1)] * 3,
    ]

    [written] = (home.folder / "out" / "default").glob("*/Q-*/QUOTE.json")
    record = json.loads(written.read_text())
    total = sum(Decimal(p["total"]) for line in record["lines"] for p in line["parts"])
    assert Decimal(record["subtotal"]) == total
    assert record["digest"] == digest
    text = text_of(written.with_name(f"{record['number']}.pdf"))
    for said in ("Aldermoor Cranes", "Rated 210 bar", "Discount 12 %", "“male”"):
        assert said in text
    assert f"{Decimal(record['total']):,} EUR" in text


@pytest.mark.proof
def test_the_demo_asks_one_back_holds_one_and_refuses_one(embedded_home: Home) -> None:
    """And the commands that it prints are run as they stand, with its world again."""
    home = embedded_home

    shown = home.run("demo", "--pipeline", "quotes")
    lines = [line.strip() for line in shown.out.splitlines()]
    [again] = [line for line in lines if " -m loadtest vendors " in line]
    said = [line for line in lines if " review edit " in line]
    with subprocess.Popen(shlex.split(again), cwd=ROOT) as world:
        try:
            home.environment["WAYBILL_VENDORS"] = said[0].split()[0].partition("=")[2]
            calls = [shlex.split(line.partition(" review ")[2]) for line in said]
            words = {"answers.1.ends=…": "answers.1.ends=male"}
            words["answers.1.bar=…"] = "answers.1.bar=150 bar"
            ruled = [
                home.ok("review", *(words.get(word, word) for word in call), "--yes")
                for call in calls
            ]
        finally:
            world.kill()

    assert shown.code == 5, shown.err
    assert "10 received = 2 held + 7 done + 1 rejected" in shown.out
    assert "phosphate ester attacks NBR" in shown.out
    assert {one["state"] for one in ruled} == {"done"}
    out = home.folder / "out" / "demo-1" / "quotes"
    assert len(list(out.glob("*/*.pdf"))) == 9


def text_of(pdf: Path) -> str:
    with pypdfium2.PdfDocument(pdf) as document:
        return "".join(p.get_textpage().get_text_range() for p in document)
