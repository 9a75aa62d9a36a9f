"""
The account of the run of contracts: where every field of every record comes from.

It reads the CRM, the steps of the agents and the pages, and shares no code with what
wrote them.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from loadtest.scenarios.chaos import Scene
from loadtest.scenarios.contracts_given import Given
from loadtest.scenarios.contracts_lawyer import Lawyer
from loadtest.vendors.playing import Steered
from pipeline.artifacts.files import FileArtifacts


async def rerun(it: Scene) -> int:
    """Steps and stages that began again after their end was on record."""
    ended = {
        (r["item_id"], r["stage"], r["step"] or "-"): r["at"].timestamp()
        for r in await it.con.fetch(
            "select item_id, stage, step, at from waybill.checkpoints"
            " where stage in ('pages', 'record')"
        )
    }
    lines = (it.folder / "begins.log").read_text().splitlines()
    again = 0
    for line in lines:
        at, item, stage, step = line.split()
        end = ended.get((int(item), stage, step))
        again += end is not None and float(at) > end + 0.001
    return again


# A field of our own account: what its agents answered, by the steps it names.
FIELDS = """
select i.name, i.id, c.update, c.ref from waybill.checkpoints c
  join waybill.items i on i.id = c.item_id
 where c.stage = 'clauses' and c.step is null and c.next_stage = 'record'
"""
ANSWERS = """
select c.item_id, c.step, c.update #>> '{data,choices,0,message,content}' as said
  from waybill.checkpoints c join waybill.items i on i.id = c.item_id
 where i.parent_id = $1 and c.step like 'read/ask-%' and c.step not like '%/try-%'
"""


async def account_of(
    it: Scene, world: Steered, given: Mapping[str, Given], lawyer: Lawyer
) -> dict[str, int]:
    """Where every field of every record in the CRM comes from."""
    kept = FileArtifacts(it.folder / "home" / "objects")
    found: Counter[str] = Counter(fields=0, unexplained=0, wrong=0)
    for row in await it.con.fetch(FIELDS):
        text = row["update"] or (await kept.get(row["ref"])).decode()
        fields = json.loads(text)["fields"]
        one, record = given[row["name"]], _record(world, row["name"])
        answers = {
            (a["item_id"], a["step"]): a["said"]
            for a in await it.con.fetch(ANSWERS, row["id"])
        }
        for number, (clause, said) in enumerate(sorted(fields.items())):
            words = record.get(f"Clause_{number}__c")
            how = _explained(said, words, one, answers, lawyer, row["name"], clause)
            found["fields"] += 1
            found[how] += 1
            truth = one.words.get(clause)
            found["wrong"] += (said["quote"] or "") != (truth.quote if truth else "")
    return dict(found)


def _explained(
    said: Mapping[str, Any],
    words: Any,
    one: Given,
    answers: Mapping[tuple[int, str], str],
    lawyer: Lawyer,
    name: str,
    clause: str,
) -> str:
    """Who said what stands in a field; "unexplained" when nobody did."""
    quote, page = said["quote"], one.pages[said["page"] - 1]
    if words != quote[:255] or quote not in page:
        return "unexplained"
    if said["ruled"]:
        word = lawyer.said.get((name, clause))
        return "by_lawyer" if word and word.quote == quote else "unexplained"
    for _, item, step in said["from"]:
        with suppress(ValueError, TypeError):
            if json.loads(answers.get((item, step), ""))["quote"] == quote:
                continue
        return "unexplained"
    return "by_two_readers" if len(said["from"]) == 2 else "by_one_reader"


def _record(world: Steered, name: str) -> dict[str, Any]:
    """As the CRM has it."""
    path = f"/services/data/v59.0/sobjects/Contract__c/Waybill_Key__c/{name}"
    try:
        with urllib.request.urlopen(f"{world.url('crm')}{path}", timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError:
        return {}
    return found
