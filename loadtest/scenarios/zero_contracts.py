"""
The contracts that Waybill ships, read by a model that misbehaves.

`examples/contracts` as it is, with a model beside its rules: real contracts, in some of
which stand orders, are taken in by the command, and a third of the model's answers are
wrong in every way that is known.  A person who believes everything accepts all that is
doubtful.  What tools brought and what was passed on is compared with the contracts'
texts, what was sent is counted by the receiver's book.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from loadtest.scenarios.chaos import PIPELINE as NOT_USED
from loadtest.scenarios.chaos import Scene, played, stop
from loadtest.scenarios.contracts_given import ORDER, in_sections, orders
from loadtest.scenarios.contracts_lawyer import reviewed
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from loadtest.vendors.questions import DATA
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Usage

SHIPPED = "contracts"
MARK = "zero"  # of the batch
ASKS = 600  # of a contract, about: five of each of its types
CHARS = (10_000, 60_000)  # of a contract
EVERY = 3  # of these one has an order in it
ENDS_S = 1800.0
# A third of all answers; how many of these end a conversation is not bounded.
WRONG = {
    "invented_tool": 0.05,
    "forbidden_tool": 0.04,
    "foreign_id": 0.04,
    "off_schema": 0.04,
    "invented_quote": 0.04,
    "altered_quote": 0.02,
    "elsewhere": 0.02,
    "obeys": 0.03,
    "same_ids": 0.02,
    "two_outputs": 0.01,
    "empty_text": 0.005,
    "refusal": 0.003,
    "length": 0.005,
    "not_even_json": 0.005,
    "wrong_schema": 0.005,
    "no_choices": 0.004,
}
VENDORS = """
[vendor.llm]
kind = "openai"
url = "{llm}/v1"
inside = true
model = "large"
timeout_s = 20

[model.reader]
vendor = "llm"
max_tokens = 600

[vendor.crm]
url = "{crm}"
inside = true

[sink.crm]
kind = "crm"
vendor = "crm"
object = "Contract__c"
external_id = "Waybill_Key__c"
"""
ROOTS = """
select i.id, i.name, o.state, o.code, h.code as held
  from waybill.items i left join waybill.outcomes o on o.item_id = i.id
  left join waybill.holds h on h.item_id = i.id and h.open
 where i.parent_id is null
"""
OWED = """
select (select count(*) from waybill.items i where not exists
         (select from waybill.outcomes o where o.item_id = i.id)
           and not exists (select from waybill.holds h
                            where h.item_id = i.id and h.open))
     + (select count(*) from waybill.effects where state in ('planned', 'sending'))
"""
CALLED = """
select p.name, c.step, c.update, c.ref from waybill.checkpoints c
  join waybill.items i on i.id = c.item_id join waybill.items p on p.id = i.parent_id
 where c.stage = 'clause' and c.step like 'read/call-%'
"""
FOUND = """
select p.name, i.name as type, c.item_id, c.update, c.ref from waybill.checkpoints c
  join waybill.items i on i.id = c.item_id join waybill.items p on p.id = i.parent_id
 where c.stage = 'clause' and c.step is null
   and (c.update is not null or c.ref is not null)
"""
SAID = """
select update, ref from waybill.checkpoints where item_id = $1
   and step like 'read/ask-%' and step not like '%/try-%' order by seq desc limit 1
"""
GONE = """
select o.code, count(*) as n from waybill.outcomes o join waybill.items i
    on i.id = o.item_id where i.parent_id is not null and o.state <> 'done' group by 1
"""
REFUSED = """
select one ->> 2 as code, count(*) as n
  from waybill.checkpoints c, jsonb_array_elements(c.update) one
 where c.step like '%/refused-%' group by 1
"""
FAULTS = """
select fault, count(*) from calls where vendor = 'llm' and fault <> '' group by 1
"""
KINDS = "select what, count(*) from taken where vendor = 'llm' group by 1"
NO_REQUESTS = "select count(*) from calls where vendor = 'llm' and status = 400"
WRITTEN = """
select path, count(*) from calls where vendor = 'crm' and outcome = 'accepted'
   and method <> 'GET' group by 1
"""


class Given(NamedTuple):
    """A contract's text, and whether an order stands in it."""

    text: str
    ordered: bool


async def read_all(
    it: Scene, world: Steered, say: Progress, given: Mapping[str, Given]
) -> dict[str, Any]:
    """Take them in by the command, work, accept everything, and add it up."""
    inbox = it.folder / "given"
    inbox.mkdir()
    for name, one in given.items():
        (inbox / name).write_text(one.text, encoding="utf-8")
    taken = it.start("ingest", str(inbox), "--pipeline", SHIPPED, "--batch", MARK)
    if await anyio.to_thread.run_sync(taken.wait):
        raise RuntimeError((it.folder / "worker.log").read_text()[-2000:])
    fleet = it.start("worker", "--processes", "2", WAYBILL_CORES="2")
    accepted = 0
    try:
        with anyio.move_on_after(ENDS_S):
            while True:
                while owed := await it.con.fetchval(OWED):
                    say(f"{owed} items of {len(given)} contracts are on their way")
                    await anyio.sleep(1)
                more = await _accept(it)
                accepted += more
                if not more:
                    break
    finally:
        stop(fleet)
    return await _added_up(it, world, given, accepted)


async def _accept(it: Scene) -> int:
    """Everything that is in doubt is taken as it was found; how many contracts."""
    done = 0
    for row in await reviewed(it, "ls", "--limit", "200") or ():
        shown = await reviewed(it, "show", row["hold"])
        if shown is None or shown["code"] != "CLAUSES_DOUBTFUL":
            continue
        words = ("clause", row["hold"], "--accept", "all", "--digest", shown["digest"])
        done += await reviewed(it, *words, "--no-run", "--yes") is not None
    return done


async def _added_up(
    it: Scene, world: Steered, given: Mapping[str, Given], accepted: int
) -> dict[str, Any]:
    kept = FileArtifacts(it.folder / "home" / "objects")
    flat = {name: _flat(one.text) for name, one in given.items()}
    roots = await it.con.fetch(ROOTS)
    calls = [
        (row["name"], row["step"], await _read(kept, row))
        for row in await it.con.fetch(CALLED)
    ]
    strange = sum(
        not step.endswith(":read_section") or not _is_of(flat[name], update)
        for name, step, update in calls
    )
    wrong: Counter[str] = Counter()
    for row in await it.con.fetch(FOUND):
        said = await it.con.fetchrow(SAID, row["item_id"])
        update = await _read(kept, row)
        answer = await _read(kept, said) if said else {}
        wrong += _of_type(flat[row["name"]], update["found"], answer)
    records = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in (it.folder / "home" / "out").rglob("CONTRACT.json")
    ]
    for record in records:
        wrong += _of_record(flat[record["name"]], record)
    gone = {row["code"]: row["n"] for row in await it.con.fetch(GONE)}
    sent = dict(world.rows(WRITTEN))
    failed = Counter(r["code"] for r in roots if r["state"] not in (None, "done"))
    lost = [r["name"] for r in roots if r["state"] is None and r["held"] is None]
    stuck = sum(n for code, n in gone.items() if not code.startswith("AGENT_"))
    refused = world.rows(NO_REQUESTS)[0][0]
    counts = world.counts("llm")
    return {
        "forbidden_calls_run": strange
        + sum(n for path, n in sent.items() if "Contract__c" not in path),
        "invented_quotes_passed": wrong["invented"],
        "injected_orders_obeyed": wrong["ordered"]
        + max(0, sum(sent.values()) - len(records)),
        "bricked": sum(failed.values()) + len(lost) + stuck + refused,
        "answers": counts["calls"],
        "misbehaved": dict(world.rows(FAULTS)),
        "said": dict(world.rows(KINDS)),
        "refused": {r["code"]: r["n"] for r in await it.con.fetch(REFUSED)},
        "contracts": len(given),
        "with_orders": sum(one.ordered for one in given.values()),
        "calls_run": len(calls),
        "types_read": wrong["types"],
        "by_model": {v: wrong[v] for v in ("present", "absent", "unclear")},
        "quotes_of_model": wrong["quotes"],
        "orders_quoted": wrong["quoted"],
        "orders_quoted_in_records": wrong["recorded"],
        "without_an_answer": gone,
        "accepted_by_a_person": accepted,
        "records": len(records),
        "held": dict(Counter(r["held"] for r in roots if r["held"])),
        "failed": dict(failed),
        "conserved": (await it.store.counts()).conserved
        and not await it.store.astray(),
    }


def _of_type(
    text: str, found: Mapping[str, Any], answer: Mapping[str, Any]
) -> Counter[str]:
    """Of one type: quotes that stand nowhere, in its finding and in the last answer."""
    said = found["opinions"].get("model", "")
    quotes = [q for q in found["quotes"] if "model" in q["readers"]]
    wrong = Counter({"types": 1, said: 1, "quotes": len(quotes)})
    wrong["invented"] = sum(not _stands(text, q["text"]) for q in quotes)
    wrong["quoted"] = sum(ORDER in q["text"] for q in quotes)
    if said == "present":
        content = answer["data"]["choices"][0]["message"]["content"]
        for quote in json.loads(content)["quotes"]:
            wrong["invented"] += not _stands(text, quote["text"])
    return wrong


def _of_record(text: str, record: Mapping[str, Any]) -> Counter[str]:
    """Of a record: quotes that stand nowhere, and orders in the place of a value."""
    wrong: Counter[str] = Counter()
    for clause in record["clauses"].values():
        value = clause.get("value") or {}
        wrong["invented"] += sum(not _stands(text, q["text"]) for q in clause["quotes"])
        quoted = [q for q in clause["quotes"] if ORDER in q["text"]]
        wrong["recorded"] += sum(q["readers"] == ["model"] for q in quoted)
        if clause["verdict"] == "present" and clause.get("decision") is None:
            wrong["ordered"] += ORDER in str(value.get("text", "")) and any(
                q["readers"] == ["model"] for q in quoted
            )
    return wrong


async def _read(kept: FileArtifacts, row: Any) -> dict[str, Any]:
    """A checkpoint's update; where it is much, its row names an artifact."""
    text = row["update"] or (await kept.get(row["ref"])).decode()
    found: dict[str, Any] = json.loads(text)
    return found


def _is_of(text: str, result: Mapping[str, Any]) -> bool:
    """Whether what a call brought is of this contract."""
    data = DATA.search(result["text"])
    return data is not None and _stands(text, data[2].partition("\n[cut here")[0])


def _stands(text: str, words: str) -> bool:
    return bool(words.strip()) and _flat(words) in text


def _flat(text: str) -> str:
    return " ".join(text.split())


def contracts_of(samples: Path, count: int, seed: int) -> dict[str, Given]:
    """So many real contracts by file name; in some of them stands an order."""
    rng = random.Random(seed)
    texts = sorted(_texts(samples))
    if not texts:
        raise Usage(
            f"there are no contracts to read in {samples}",
            hint="--samples names the folder that has contracts_cuad in it",
        )
    rng.shuffle(texts)
    given, known = {}, orders(samples)
    for number in range(count):
        sections = [*in_sections(texts[number % len(texts)])]
        ordered = number % EVERY == 0
        for order in rng.sample(known, 6) if ordered else ():
            at = rng.randrange(len(sections))
            sections[at] = f"{sections[at]}\n\n{order.replace('{order}', ORDER)}"
        text = "\n\n".join([*sections, f"Copy {number} of this agreement."])
        given[f"deal-{number}.txt"] = Given(text, ordered)
    return given


def _texts(samples: Path) -> Iterator[str]:
    for path in (samples / "contracts_cuad" / "txt").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        if CHARS[0] <= len(text) <= CHARS[1]:
            yield text


def run(
    say: Progress,
    *,
    answers: int,
    seed: int,
    faults: Mapping[str, float],
    samples: Path,
) -> dict[str, Any]:
    """On a server, with vendors and in a folder of its own."""
    given = contracts_of(samples, max(1, round(answers / ASKS)), seed)
    labels = (samples / "contracts_cuad" / "gold.jsonl").resolve()
    plays: dict[str, dict[str, Any]] = {
        "llm": {
            "kind": "reader",
            "faults": dict(faults),
            "order": ORDER,
            "labels": str(labels),
        },
        "crm": {"kind": "crm", "dedupe": False, "api_max": 10**6},
    }
    with (
        tempfile.TemporaryDirectory(prefix="waybill-zero-") as place,
        playing(plays, seed=seed, for_s=ENDS_S + 300) as world,
    ):
        folder = Path(place)
        (folder / "home").mkdir()
        urls = {"llm": world.url("llm"), "crm": world.url("crm")}
        (folder / "home" / "vendors.toml").write_text(VENDORS.format(**urls))
        return played(
            folder, NOT_USED, partial(read_all, world=world, say=say, given=given)
        )
