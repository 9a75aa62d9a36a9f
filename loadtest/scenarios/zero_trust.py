"""
Agents whose model misbehaves, and agents whose model never stops.

A simulated model reads documents, some of which give orders of their own.  A third of
its answers are wrong in every way that is known: tools that do not exist or were not
given, ids of others, arguments off the schema, invented quotes, orders obeyed,
refusals, answers that are none.  What tools really did they wrote down themselves, what
was sent the vendors' book knows, and what was passed on is compared with the documents.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio

from loadtest.scenarios.chaos import Scene, finished, played, stop
from loadtest.scenarios.contracts_given import (
    ORDER,
    Deal,
    contracts_of,
    made_up,
    orders,
    write_labels,
)
from loadtest.trial import SAMPLES, Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.artifacts.files import FileArtifacts
from pipeline.model import Submission
from pipeline.purse import Amounts

PIPELINE = Path(__file__).parent / "zero_pipeline"
ENDS_S = 900.0
ASKS = 4.3  # an item, about
# A third of all answers.
WRONG = {
    "invented_tool": 0.05,
    "forbidden_tool": 0.05,
    "foreign_id": 0.05,
    "off_schema": 0.04,
    "invented_quote": 0.05,
    "obeys": 0.04,
    "same_ids": 0.02,
    "two_outputs": 0.01,
    "empty_text": 0.01,
    "refusal": 0.01,
    "length": 0.01,
    "not_even_json": 0.01,
    "wrong_schema": 0.01,
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
max_tokens = 300

[vendor.books]
url = "{books}"
inside = true
idempotency_header = "idempotency-key"

[sink.ledger]
kind = "http"
vendor = "books"
path = "/ledger"
dedupes = true

[sink.bank]
kind = "http"
vendor = "books"
path = "/bank"
dedupes = true
"""
# A conversation's own record: which calls were refused, by name.
REFUSED = """
select one ->> 2 as code, count(*) as n
  from waybill.checkpoints c, jsonb_array_elements(c.update) one
 where c.step like '%/refused-%' group by 1
"""
ENDED = """
select i.name, o.state, o.code, o.why,
       (select c.update from waybill.checkpoints c
         where c.item_id = i.id and c.step is null and c.update is not null
         order by c.seq desc limit 1) as update
  from waybill.items i left join waybill.outcomes o on o.item_id = i.id
"""
HELD = "select code, count(*) as n from waybill.holds where open group by 1"
ASKED = "select count(*) from waybill.checkpoints where step like 'term%/ask-%'"
PURSES = "select * from waybill.purses"
# Of documents whose model never stops: several readers each, and one purse.
SEVERAL = """
[stage.read]
readers = 4

[budget]
item_asks = 11
item_tokens = 40_000
item_calls = 16
item_faults = 4
"""

Documents = Mapping[str, Deal]


async def zero_trust(
    it: Scene, world: Steered, say: Progress, *, documents: Documents
) -> dict[str, Any]:
    """Everybody reads; what was forbidden and done, invented and passed on?"""
    await _read_all(it, say, documents)
    rows = await it.con.fetch(ENDED)
    done = {r["name"]: json.loads(r["update"]) for r in rows if r["state"] == "done"}
    failed = Counter(f"{r['code']}: {r['why']}" for r in rows if r["state"] == "failed")
    lost = [r["name"] for r in rows if r["state"] is None]
    held = {r["code"]: r["n"] for r in await it.con.fetch(HELD)}
    invented = [
        name
        for name, update in done.items()
        if (found := update["finding"])["verdict"] == "present"
        and not any(found["quote"] in t for t in documents[name].sections.values())
    ]
    did = _did(it)
    sent = Counter(what for (what,) in world.rows(SENT))
    counts = world.counts("llm")
    return {
        "forbidden_calls_run": did["pay"] + sent["/bank"],
        "invented_quotes_passed": len(invented),
        "injected_orders_obeyed": did[ORDER] + max(0, sent["/ledger"] - did["record"]),
        "bricked": sum(failed.values()) + len(lost) - sum(held.values()),
        "answers": counts["calls"],
        "misbehaved": dict(world.rows(FAULTS)),
        "said": dict(world.rows(SAID)),
        "paid_twice": world.rows(PAID_TWICE)[0][0],
        "paid_and_spoilt": world.rows(SPOILT)[0][0],
        "refused": {r["code"]: r["n"] for r in await it.con.fetch(REFUSED)},
        "items": len(documents),
        "contracts": len({d.source for d in documents.values() if d.source}),
        "with_orders": sum(d.ordered for d in documents.values()),
        "done": len(done),
        "present": sum(u["finding"]["verdict"] == "present" for u in done.values()),
        "held": held,
        "failed": dict(failed),
        "conserved": (await it.store.counts()).conserved
        and not await it.store.astray(),
    }


SENT = "select path from calls where vendor = 'books' and outcome = 'accepted'"
FAULTS = """
select fault, count(*) from calls where vendor = 'llm' and fault <> '' group by 1
"""
SAID = "select what, count(*) from taken where vendor = 'llm' group by 1"
# A question is the same to its last byte where an item, a conversation and a place in
# it are.  One whose answer was none, or never came, is rightly asked again.
PAID_TWICE = """
select count(*) from (
  select 1 from calls where vendor = 'llm' and billed and status = 200
     and fault not in ('no_choices', 'no_content')
   group by body_sha having count(*) > 1)
"""
SPOILT = """
select count(*) from calls where vendor = 'llm' and billed
   and (status <> 200 or fault in ('no_choices', 'no_content'))
"""


def _did(it: Scene) -> Counter[str]:
    """What tools wrote down of themselves; those that did as they were told by word."""
    lines = (it.folder / "begins.log").read_text().splitlines()
    return Counter(word for line in lines for word in line.split()[1:])


async def runaway(
    it: Scene, world: Steered, say: Progress, *, documents: Documents
) -> dict[str, Any]:
    """Models that never stop: does every item end inside its budget, with a hold?"""
    await _read_all(it, say, documents)
    holds = await it.con.fetch(
        "select code, shown, shown_ref from waybill.holds where open order by item_id"
    )
    evidence = [await _evidence(it, hold) for hold in holds]
    spent = [one["spent"] for one in evidence]
    purses = await it.con.fetch(PURSES)
    counted = Amounts._fields
    return {
        "items": len(documents),
        "held": dict(Counter(h["code"] for h in holds)),
        "ended": len(holds),
        "over_budget": sum(
            s["asks"] > ASKS_MAX or s["tokens"] > TOKENS_MAX or s["calls"] > CALLS_MAX
            for s in spent
        ),
        "asks_max": max((s["asks"] for s in spent), default=0),
        "tokens_max": max((s["tokens"] for s in spent), default=0),
        "without_work": sum(not one["talk"] for one in evidence),
        "item_budget": {c: max(p[f"most_{c}"] for p in purses) for c in counted},
        "item_spent_max": {c: max(p[c] for p in purses) for c in counted},
        "items_over_budget": sum(
            any(p[c] + p[f"{c}_held"] > p[f"most_{c}"] for c in counted) for p in purses
        ),
        "items_that_hold_on": sum(any(p[f"{c}_held"] for c in counted) for p in purses),
        "asks": await it.con.fetchval(ASKED),
        "answers": world.counts("llm")["calls"],
        "conserved": (await it.store.counts()).conserved,
    }


async def _evidence(it: Scene, hold: Any) -> dict[str, Any]:
    """What a hold shows; where it is much, its row names an artifact."""
    text = hold["shown"]
    if text is None:
        kept = FileArtifacts(it.folder / "home" / "objects")
        text = (await kept.get(hold["shown_ref"])).decode()
    found: dict[str, Any] = json.loads(text)["evidence"]
    return found


# The budget of the agent in `zero_pipeline`; the last answer of all may call once more.
ASKS_MAX, CALLS_MAX, TOKENS_MAX = 8, 14, 20_000


async def _read_all(it: Scene, say: Progress, documents: Documents) -> None:
    batch = await it.store.open_batch("acme", "zero", deadline_s=86_400)
    rows = [
        Submission(name, name, name, 1, deal.given())
        for name, deal in documents.items()
    ]
    for at in range(0, len(rows), 500):
        await it.store.admit(batch, it.pipeline_id, rows[at : at + 500])
    fleet = it.start("worker", "--processes", "2", WAYBILL_CORES="1")
    try:
        with anyio.move_on_after(ENDS_S) as over:
            while not await finished(it):
                counts = await it.store.counts()
                say(f"{counts.live} of {len(rows)} are being read")
                await anyio.sleep(0.5)
        if over.cancelled_caught:
            say(f"after {ENDS_S:.0f} s some are still being read")
    finally:
        stop(fleet)


def run(
    say: Progress,
    *,
    items: int,
    seed: int,
    faults: Mapping[str, float],
    loops: bool = False,
    samples: Path = SAMPLES,
) -> dict[str, Any]:
    """On a server, with vendors and in a folder of its own."""
    given = orders(samples)
    documents = contracts_of(samples, items, seed, given)
    if not documents:
        say("there are no samples of contracts: made-up ones are read")
        documents = made_up(items, seed, given)
    plays: dict[str, dict[str, Any]] = {
        "llm": {"kind": "reader", "faults": dict(faults), "order": ORDER},
        "books": {"kind": "echo", "key_header": "idempotency-key"},
    }
    what: Callable[..., Any] = runaway if loops else zero_trust
    with (
        tempfile.TemporaryDirectory(prefix="waybill-zero-") as place,
        playing(plays, seed=seed, for_s=ENDS_S + 120) as world,
    ):
        folder = Path(place)
        shutil.copytree(PIPELINE, folder / "zero")
        if loops:
            manifest = folder / "zero" / "pipeline.toml"
            text = manifest.read_text().replace("[budget]", SEVERAL.strip())
            manifest.write_text(text)
        (folder / "home").mkdir()
        if all(deal.source for deal in documents.values()):
            world.set("llm", labels=write_labels(folder / "labels.jsonl", documents))
        urls = {"llm": world.url("llm"), "books": world.url("books")}
        (folder / "home" / "vendors.toml").write_text(VENDORS.format(**urls))
        return played(
            folder,
            folder / "zero",
            lambda it: what(it, world, say, documents=documents),
        )
