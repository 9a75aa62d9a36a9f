"""
The lies run: every kind of bad answer, to items in the hands of a real worker.

A vendor for each kind, simulated (`loadtest/vendors`) or lying on the wire
(`liars.py`), is asked twice by each of a few items.  Every question bears a mark that
a true answer brings back, so what was passed on that is not the answer to its
question is counted here; what became of each call is read from the database.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from loadtest.scenarios.chaos import Scene, scene, stop
from loadtest.scenarios.liars import LIARS, lying
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.model import Submission
from pipeline.store import embedded

PIPELINE = Path(__file__).parent / "lies_pipeline"
TIMEOUT_S = 5.0  # of a call
ANSWER_BYTES_MAX = 1 << 20
# A busy machine must not pass for an answer that a worker dies of.
LEASE_S, BLOCKED_S = "60", "10"
END_S = 120.0
FLOOD_BYTES = 4 << 20
DEATHS = ("worker_died", "workers_killed", "lease_lost")

DOWN, LATE, GARBAGE = "VENDOR_DOWN", "VENDOR_TIMEOUT", "VENDOR_GARBAGE"
# By which name a call must end that meets it: of any vendor, and of a model.
FAULTS = {
    "error_400": "VENDOR_REFUSED",
    "error_401": "VENDOR_AUTH",
    "error_403": "VENDOR_AUTH",
    "error_404": "VENDOR_REFUSED",
    "error_409": "VENDOR_REFUSED",
    "error_429": "THROTTLED",
    "error_500": DOWN,
    "error_502": DOWN,
    "error_503": DOWN,
    "error_504": LATE,
    "error_529": DOWN,
    "hang": LATE,
    "reset": DOWN,
    "redirect": "VENDOR_REFUSED",
    "lost": DOWN,
    "silent": LATE,
    "cut": DOWN,
    "hangup": "done",
    "drip": LATE,
    "two_answers": "done",
    "flood": GARBAGE,
    "bomb": GARBAGE,
    "gzipped": "done",
    "cut_gzip": GARBAGE,
    "bad_gzip": GARBAGE,
    "bad_json": GARBAGE,
    "bad_utf8": GARBAGE,
    "html": GARBAGE,
    "empty": GARBAGE,
    "deep": GARBAGE,
    "nan": GARBAGE,
    "wrong_envelope": GARBAGE,
}
MODEL_FAULTS = {
    "refusal": "MODEL_ENDED",
    "wrong_schema": "LLM_SCHEMA",
    "not_even_json": "LLM_SCHEMA",
    "length": "LLM_TRUNCATED",
    "filter": "MODEL_ENDED",
    "no_content": GARBAGE,
    "no_choices": GARBAGE,
    "no_usage": "done",
    "wrong_envelope": GARBAGE,
    "cut_gzip": GARBAGE,
}
EXPECTED = {
    **{fault.replace("_", "-"): code for fault, code in FAULTS.items()},
    **{f"model-{f.replace('_', '-')}": code for f, code in MODEL_FAULTS.items()},
    **{name: code for name, (code, _) in LIARS.items()},
}

ITEMS = """
select i.name, coalesce(o.state, 'waiting') as state,
       coalesce(o.code, (select a.code from waybill.attempts a where a.item_id = i.id
                          order by a.id desc limit 1), '') as code,
       (select a.message from waybill.attempts a where a.item_id = i.id
         order by a.id desc limit 1) as said,
       (select c.update::text from waybill.checkpoints c
         where c.item_id = i.id and c.step is null) as heard
  from waybill.items i left join waybill.outcomes o on o.item_id = i.id
"""


def run(say: Progress, *, kinds: list[str], items: int) -> dict[str, Any]:
    """`items` of each of these kinds; the figures."""
    with tempfile.TemporaryDirectory(prefix="waybill-lies-") as place:
        folder = Path(place)
        server = embedded.start(folder / "pg")
        try:
            with playing(_simulated(kinds)) as world:
                return anyio.run(_with, folder, server, world, kinds, items, say)
        finally:
            embedded.end(folder / "pg")


def _simulated(kinds: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in set(kinds) - set(LIARS):
        model = kind.startswith("model-")
        fault = kind.removeprefix("model-").replace("-", "_")
        found[kind] = {
            "kind": "chat" if model else "echo",
            "faults": {fault: 1.0},
            "flood_bytes": FLOOD_BYTES,
            "drip_s": 0.2,
        }
    return found


async def _with(
    folder: Path,
    server: embedded.Embedded,
    world: Steered,
    kinds: list[str],
    items: int,
    say: Progress,
) -> dict[str, Any]:
    async with lying() as liars, scene(folder, server, PIPELINE) as it:
        declared = folder / "vendors.toml"
        declared.write_text("".join(_declared(k, world, liars) for k in kinds))
        fleet = it.start(
            *("worker", "--processes", "1"),
            WAYBILL_VENDORS=str(declared),
            WAYBILL_LEASE_S=LEASE_S,
            WAYBILL_BLOCKED_S=BLOCKED_S,
        )
        try:
            await it.until(partial(it.up, 1), 60, "the worker")
            say(f"{len(kinds)} kinds of bad answers, {items} items each")
            batch = await it.store.open_batch("t0", "lies", deadline_s=86_400)
            names = [f"{kind}.{n}" for kind in kinds for n in range(items)]
            rows = [Submission(name, name, name, 1, {}) for name in names]
            await it.store.admit(batch, it.pipeline_id, rows)
            await it.until(lambda: _over(it), END_S, "the end of all items", 0.25)
            say("all have ended, or come again later")
        finally:
            stop(fleet)
        return await _figures(it, kinds, say)


def _declared(kind: str, world: Steered, liars: str) -> str:
    model = kind.startswith("model-")
    url = f"{liars}/{kind}" if kind in LIARS else world.url(kind) + "/v1" * model
    return (
        f'[vendor.{kind}]\nkind = "{"openai" if model else "http"}"\nurl = "{url}"\n'
        f'inside = true\nmodel = "{"simulated" * model}"\ntimeout_s = {TIMEOUT_S}\n'
        f"answer_bytes_max = {ANSWER_BYTES_MAX}\n"
    )


async def _over(it: Scene) -> bool:
    """Everything has ended, or was told to come again later."""
    rows = await it.con.fetch(ITEMS)
    return all(row["state"] != "waiting" or row["code"] for row in rows)


async def _figures(it: Scene, kinds: list[str], say: Progress) -> dict[str, Any]:
    rows = await it.con.fetch(ITEMS)
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    passed_on = 0
    for row in rows:
        kind, done = _kind(row), row["state"] == "done"
        outcomes[kind]["done" if done else row["code"]] += 1
        passed_on += done and (EXPECTED[kind] != "done" or not _true(row))
    named = {kind: " ".join(sorted(found)) for kind, found in outcomes.items()}
    unexpected = sorted(kind for kind in kinds if named[kind] != EXPECTED[kind])
    for row in rows:
        if (kind := _kind(row)) in unexpected:
            ended = f"{row['state']} {row['code']}: {row['said']}"
            say(f"{kind} is not {EXPECTED[kind]} but {ended}")
    log = (it.folder / "worker.log").read_text(encoding="utf-8", errors="replace")
    return {
        "passed_on": passed_on,
        "worker_deaths": sum(log.count(f'"event": "{word}"') for word in DEATHS),
        "unexpected": unexpected,
        "kinds": len(kinds),
        "items": len(rows),
        "outcomes": named,
    }


def _true(row: asyncpg.Record) -> bool:
    """Whether both questions have their own answer; a model repeats no mark."""
    heard = json.loads(row["heard"] or "{}").get("heard", [])
    models = _kind(row).startswith("model-")
    own = all(models or each["answer"] == each["mark"] for each in heard)
    return own and len(heard) == 2


def _kind(row: asyncpg.Record) -> str:
    kind: str = row["name"].rpartition(".")[0]
    return kind
