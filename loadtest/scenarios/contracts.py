"""
Contracts end to end: a hundred and two agents each under one supervisor, workers killed
at a contract and at a page, a lawyer on working hours, a CRM that limits.

A simulated model reads from labels and is wrong now and then.  What was asked and paid
the vendors' book knows, what stands in the CRM is asked of the CRM, and every field of
every record is followed back: to two readers' answers or a lawyer's word, and to the
page that has it word for word.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from loadtest.scenarios.chaos import Scene, played, stop
from loadtest.scenarios.contracts_account import account_of, rerun
from loadtest.scenarios.contracts_given import (
    AGENTS,
    LONG,
    PAGES,
    Given,
    given_contracts,
    labelled,
)
from loadtest.scenarios.contracts_lawyer import Lawyer
from loadtest.trial import SAMPLES, Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Usage
from pipeline.model import Submission

PIPELINE = Path(__file__).parent / "contracts_pipeline"
LONG_KILL = 61  # the page of the first contract at which a worker is killed
KILL_SHARE = 0.437  # of the contracts: at 437 of a thousand
ENDS_S = 3000.0
WRONG = {
    "wrong_value": 0.002,
    "invented_quote": 0.002,
    "not_even_json": 0.001,
    "refusal": 0.0002,
    "lost": 0.001,
    "error_503": 0.001,
}
CRM = [{"requests": "1/s"}]
VENDORS = """
[vendor.llm]
kind = "openai"
url = "{llm}/v1"
inside = true
model = "large"
timeout_s = 20
idempotency_header = "idempotency-key"

[model.reader]
vendor = "llm"
max_tokens = 300

[vendor.crm]
url = "{crm}"
inside = true
timeout_s = 5

[sink.crm]
kind = "crm"
vendor = "crm"
object = "Contract__c"
external_id = "Waybill_Key__c"
together = 5
"""
# What a contract came to instead, and what says why.
OTHERWISE = """
select state || ' ' || code as code, count(*) as n from waybill.outcomes
 where item_id = any($1) and state <> 'done' group by 1
"""
DONE = """
select count(*) from waybill.outcomes where item_id = any($1) and state = 'done'
"""
ROOTS = "select id from waybill.items where parent_id is null"
# A contract is final when all its agents are: it joins them.
OWED = """
select (select count(*) from unnest($1::bigint[]) id where not exists
         (select from waybill.outcomes o where o.item_id = id))
     + (select count(*) from waybill.effects where state in ('planned', 'sending'))
"""
# A question is the same to its last byte where an item, a conversation and a place in
# it are.  One that was lost is asked again under its key, and billed once.
PAID = """
select count(*), sum(n > 1) from (
  select sum(billed) n from calls where vendor = 'llm' group by body_sha) where n > 0
"""
OUTCOMES = "select outcome, count(*) from calls where vendor = ? group by 1"
CREATED = """
select key, sum(what like '% created'), count(*) from taken
 where vendor = 'crm' group by key
"""
TWICE_KEPT = """
select count(*) from (select 1 from waybill.checkpoints where step is not null
 group by item_id, stage, step having count(*) > 1) twice
"""


@dataclass
class Kills:
    """Workers that were killed, and when."""

    at_contract: int
    every: int  # contracts, and then any worker
    left: int
    seen: list[str] = field(default_factory=list)

    async def round(self, it: Scene, done: int, rng: random.Random) -> None:
        """Kill a worker where one is due."""
        if "page" not in self.seen and await _reads_page(it):
            await self._kill(it, "page", await _who_has(it, LONG))
        elif "contract" not in self.seen and done >= self.at_contract:
            with anyio.move_on_after(1):
                await self._kill(it, "contract", rng.choice(await it.in_company()))
        elif self.left and done >= self.seen.count("any") * self.every:
            with anyio.move_on_after(1):
                await self._kill(it, "any", rng.choice(await it.in_company()))

    async def _kill(self, it: Scene, what: str, pid: int) -> None:
        if not pid:
            return  # nobody has it at this moment
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.seen.append(what)
            self.left -= what == "any"


async def _reads_page(it: Scene) -> bool:
    log = (it.folder / "begins.log").read_text()
    return f" pages page-{LONG_KILL}\n" in log


async def _who_has(it: Scene, name: str) -> int:
    sql = """
    select r.worker_id from waybill.running r join waybill.items i on i.id = r.item_id
     where i.name = $1
    """
    worker = await it.con.fetchval(sql, name)
    found = [pid for pid, one in (await it.workers()).items() if one == worker]
    return found[0] if found else 0


async def read_all(
    it: Scene,
    world: Steered,
    say: Progress,
    *,
    given: Mapping[str, Given],
    kills: int,
    seed: int,
) -> dict[str, Any]:
    """Everybody reads; what is lost, paid, written or run twice?"""
    rng = random.Random(seed)
    began = time.monotonic()
    roots = await _submit(it, given)
    lawyer = Lawyer(it, {name: one.words for name, one in given.items()})
    at = max(1, round(KILL_SHARE * len(given)))
    strikes = Kills(at, len(given) // (kills + 1), kills)
    fleet = it.start("worker", "--processes", "2", WAYBILL_CORES="1")
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lawyer.works)
            with anyio.move_on_after(ENDS_S):
                while await it.con.fetchval(OWED, roots):
                    done = await it.con.fetchval(DONE, roots)
                    await strikes.round(it, done, rng)
                    say(
                        f"{done} of {len(given)} contracts, {len(strikes.seen)} kills,"
                        f" {lawyer.ruled} rulings"
                    )
                    await anyio.sleep(0.25)
            tasks.cancel_scope.cancel()
    finally:
        stop(fleet)
    took_s = time.monotonic() - began
    world.set("crm", limits=[])
    account = await account_of(it, world, given, lawyer)
    asked = dict(world.rows(OUTCOMES, "llm"))
    crm = dict(world.rows(OUTCOMES, "crm"))
    asks, twice = world.rows(PAID)[0]
    created = {key: (made, n) for key, made, n in world.rows(CREATED)}
    done = await it.con.fetchval(DONE, roots)
    return {
        "lost": len(given) - done,
        "asks_paid_twice": twice or 0,
        "records_twice": sum(made > 1 for made, _ in created.values())
        + len(created.keys() - given.keys()),
        "finished_steps_rerun": await rerun(it) + await it.con.fetchval(TWICE_KEPT),
        "conserved": (await it.store.counts()).conserved
        and not await it.store.astray(),
        "contracts": len(given),
        "otherwise": {r["code"]: r["n"] for r in await it.con.fetch(OTHERWISE, roots)},
        "agents": AGENTS * len(given),
        "kills": dict(Counter(strikes.seen)),
        "asks": asks,
        "asked_again": asked.get("repeated", 0),
        "asks_failed": asked.get("failed", 0),
        "crm_throttled": crm.get("throttled", 0),
        "records": len(created),
        "lawyer": {"rulings": lawyer.ruled, "holds": lawyer.holds},
        "holds_unruled": dict(lawyer.others),
        "account": account,
        "seconds": round(took_s, 1),
        "asks_a_second": round(asks / took_s),
    }


async def _submit(it: Scene, given: Mapping[str, Given]) -> list[int]:
    """Admit them all; their items."""
    artifacts = FileArtifacts(it.folder / "home" / "objects")
    batch = await it.store.open_batch("acme", "contracts", deadline_s=86_400)
    rows = []
    for name, one in given.items():
        text = await artifacts.put("\f".join(one.pages).encode())
        places, single = dict(one.places), sorted(one.single)
        update = {"text": text, "places": places, "single": single}
        rows.append(Submission(name, name, name, 1, update))
    for at in range(0, len(rows), 500):
        await it.store.admit(batch, it.pipeline_id, rows[at : at + 500])
    return [row["id"] for row in await it.con.fetch(ROOTS)]


def run(
    say: Progress, *, contracts: int, kills: int, seed: int, samples: Path = SAMPLES
) -> dict[str, Any]:
    """On a server, with vendors and in a folder of its own."""
    sources = labelled(samples)
    if not sources:
        raise Usage(
            f"there are no contracts to read in {samples}",
            hint="--samples names the folder that has contracts_cuad in it",
        )
    given = given_contracts(
        [one for one in sources if len(one.sections) >= PAGES[0]], contracts, seed
    )
    latency = {"low_s": 0.05, "high_s": 0.3}
    with tempfile.TemporaryDirectory(prefix="waybill-contracts-") as place:
        folder = Path(place)
        labels = folder / "labels.jsonl"
        _write_labels(labels, given)
        plays: dict[str, dict[str, Any]] = {
            "llm": {
                "kind": "reader",
                "faults": WRONG,
                "latency": latency,
                "labels": str(labels),
            },
            "crm": {"kind": "crm", "dedupe": False, "limits": CRM, "api_max": 10**6},
        }
        with playing(plays, seed=seed, for_s=ENDS_S + 300) as world:
            shutil.copytree(PIPELINE, folder / "contracts")
            (folder / "home").mkdir()
            urls = {"llm": world.url("llm"), "crm": world.url("crm")}
            (folder / "home" / "vendors.toml").write_text(VENDORS.format(**urls))
            return played(
                folder,
                folder / "contracts",
                lambda it: read_all(
                    it, world, say, given=given, kills=kills, seed=seed
                ),
            )


def _write_labels(path: Path, given: Mapping[str, Given]) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for name, one in given.items():
            clauses = {
                clause: {"spans": [word.quote], "answer": clause}
                for clause, word in one.words.items()
            }
            lines.write(json.dumps({"id": name, "clauses": clauses}) + "\n")
