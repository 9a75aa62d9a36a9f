"""`examples/contracts`: two contracts, a lawyer's word, a CRM, and what comes out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pypdfium2
import pytest

from loadtest.corpora.contracts import NO_LAW, as_docx, as_pdf, contract
from loadtest.vendors.playing import playing
from tests.system.command import ROOT, Home

VENDORS = """
[vendor.crm]
url = "{url}"
inside = true

[sink.crm]
kind = "crm"
vendor = "crm"
object = "Contract"
external_id = "Waybill_Key__c"
"""
SOUND, LAWLESS = "sound.pdf", "lawless.docx"


def test_two_contracts_from_the_file_to_the_record(home: Home) -> None:
    """
    One is sound; of the other no governing law was found, and a lawyer adds it.

    A quote that stands nowhere is refused.  Each is one record in the CRM, a JSON whose
    quotes are the document's words, and an abstract.
    """
    home.environment["WAYBILL_PIPELINES"] = str(ROOT / "examples")
    sent = home.folder / "sent"
    sent.mkdir()
    (sent / SOUND).write_bytes(as_pdf(contract(0)))
    (sent / LAWLESS).write_bytes(as_docx(contract(NO_LAW)))
    with playing({"crm": {}}, for_s=120) as world:
        declared = home.folder / "vendors.toml"
        declared.write_text(VENDORS.format(url=world.url("crm")))

        came = home.run("ingest", sent, "--pipeline", "contracts", "--wait")
        [hold] = home.ok("review", "ls")
        shown = home.run("review", "show", hold["hold"]).out
        bad = 'governing_law="the laws of Spain"'
        refused = home.run("review", "clause", hold["hold"], "--missed", bad)
        good = "governing_law=executed by their duly authorized representatives"
        ruled = home.ok("review", "clause", hold["hold"], "--missed", good, "--yes")

    assert came.code == 5, came.err
    assert (hold["code"], hold["item_name"]) == ("CLAUSES_DOUBTFUL", LAWLESS)
    assert f"review clause {hold['hold']} --accept all" in shown
    assert (refused.code, "QUOTE_NOWHERE" in refused.err) == (2, True)
    assert ruled["state"] == "done"

    out = next((home.folder / "out" / "default").iterdir())
    with (out / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {name: row["state"] for name, row in rows.items()} == {
        SOUND: "done",
        LAWLESS: "done",
    }
    records = {name: record_of(out, row["files"]) for name, row in rows.items()}
    for record in records.values():
        assert (record["model"], record["readers"]) == ("none", ["heading", "words"])
        assert record["counts"]["types"] > 100
        assert record["checks"][0]["ok"] is True  # every quote is the text
    law = records[SOUND]["clauses"]["governing_law"]
    [spot] = law["quotes"][0]["spots"]
    assert (law["verdict"], spot["page"]) == ("present", law["quotes"][0]["page"])
    assert 0 < spot["box"][0] < spot["box"][2] < spot["size"][0]
    [decision] = records[LAWLESS]["decisions"]
    assert (decision["action"], decision["was"]) == ("missed", "absent")
    assert decision["by"]
    for row in rows.values():
        text = abstract_of(out, row["files"])
        assert "Read by rules alone" in text
    effects = home.ok("effects", "ls")
    assert [(e["sink"], e["state"]) for e in effects] == [("crm", "confirmed")] * 2


@pytest.mark.proof
def test_the_demo_holds_two_and_its_printed_commands_work(embedded_home: Home) -> None:
    """Eight contracts; the commands that it prints are run as they stand."""
    home = embedded_home

    shown = home.run("demo", "--pipeline", "contracts")
    lines = [line.split() for line in shown.out.splitlines()]
    said = [line[1:] for line in lines if line[1:3] == ["review", "clause"]]
    ruled = [home.ok(*call, "--yes") for call in said]

    assert shown.code == 5, shown.err
    assert len(ruled) == 2
    assert {one["state"] for one in ruled} == {"done"}
    out = home.folder / "out" / "demo-1" / "contracts"
    assert len(list(out.glob("*/CONTRACT.json"))) == 8
    assert len(list(out.glob("*/abstract.pdf"))) == 8


def record_of(out: Path, files: str) -> dict[str, Any]:
    [name] = [name for name in files.split("; ") if name.endswith(".json")]
    found: dict[str, Any] = json.loads((out / name).read_text())
    return found


def abstract_of(out: Path, files: str) -> str:
    [name] = [name for name in files.split("; ") if name.endswith(".pdf")]
    with pypdfium2.PdfDocument(out / name) as document:
        return "".join(p.get_textpage().get_text_range() for p in document)
