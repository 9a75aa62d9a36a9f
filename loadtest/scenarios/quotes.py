"""
Quotes against an ERP that times out, while workers are killed; then all is recomputed.

Requests come as text, from `lines` on: how pages are read is measured elsewhere.  What
was asked twice is counted in the service's ledger of calls, what was sent twice in the
receivers' own book, and every quote is recomputed by a second implementation.
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
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from loadtest.corpora.enquiries import Truth, sound
from loadtest.scenarios.chaos import Scene, scene, stop
from loadtest.scenarios.quotes_second import faults_of
from loadtest.showing import Json, Seed, fail_if, say, show
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.artifacts.files import FileArtifacts
from pipeline.model import Submission
from pipeline.store import embedded

EXAMPLE = Path(__file__).parents[2] / "examples" / "quotes"
TIMED_OUT = 0.10  # of the ERP's calls
CALL_S = 1.0  # until a call is given up
PROCESSES = 2
END_S = 900.0
DECLARED = """
[vendor.erp]
url = "{erp}"
inside = true
timeout_s = {call_s}
idempotency_header = "idempotency-key"
[vendor.erp.limits]
concurrency = 40
[sink.erp]
kind = "http"
vendor = "erp"
path = "quotes"
dedupes = true
[sink.mail]
kind = "smtp"
host = "127.0.0.1"
port = {smtp}
tls = "none"
sender = "sales@house.example"
"""
# Calls that were begun when their step had its answer already.
RERUN = """
select c.stage, count(*) as n from waybill.calls c
  join waybill.checkpoints p using (item_id, stage, step)
 where c.opened_at > p.at group by c.stage
"""
STEPS = """
select count(*) from waybill.calls c
  join waybill.checkpoints p using (item_id, stage, step)
"""
CHECKED_AGAIN = """
select coalesce(sum(n - 1), 0) from (
  select count(*) as n from waybill.checkpoints
   where stage = 'fitting' and step is null group by item_id) as each
"""
OPEN = "select count(*) from waybill.effects where state in ('planned', 'sending')"
BROKEN = (
    *("lost", "failed", "lookups_rerun", "prices_rerun", "checks_rerun", "sent_twice"),
    *("prices_guessed", "parts_invented", "totals_wrong", "quantities_wrong"),
    *("unsafe", "lines_wrong", "not_quoted"),
)


def run(
    tell: Progress, *, quotes: int, kills: int, outage_s: float, seed: int
) -> dict[str, Any]:
    """
    Quote `quotes` requests, kill `kills` workers meanwhile, and add everything up.

    Args:
        outage_s: So long the ERP takes nothing, beginning with the first kill.
    """
    work = partial(_quoted, quotes, kills, outage_s, seed, tell)
    return in_trade(work, "quotes", timed_out=TIMED_OUT, seed=seed)


def in_trade(
    work: Callable[[Path, embedded.Embedded, Path, Steered], Awaitable[dict[str, Any]]],
    name: str,
    *,
    timed_out: float,
    seed: int,
) -> dict[str, Any]:
    """
    Run `work` with the example's folder, an ERP, and whoever takes mail.

    Args:
        name: Of the run, for its folder.
        timed_out: The share of the ERP's calls that get no answer.
    """
    erp = {"faults": {"silent": timed_out}}
    with (
        tempfile.TemporaryDirectory(prefix=f"waybill-{name}-") as place,
        playing({"erp": erp, "mail": {}}, seed=seed) as world,
    ):
        folder = Path(place)
        home = folder / "home"
        home.mkdir()
        said = DECLARED.format(
            erp=world.url("erp"), smtp=world.smtp("mail"), call_s=CALL_S
        )
        (home / "vendors.toml").write_text(said)
        pipeline = without_pages(folder / "quotes")
        server = embedded.start(home / "postgres")
        try:
            return anyio.run(work, folder, server, pipeline, world)
        finally:
            embedded.stop(home / "postgres")


def without_pages(folder: Path) -> Path:
    """The example as it is, but for the stages that read pages."""
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    manifest = folder / "pipeline.toml"
    text = manifest.read_text(encoding="utf-8")
    text = text.replace('"intake", "ocr", ', "").replace(
        '[stage.ocr]\nlang = "eng"\n', ""
    )
    manifest.write_text(text, encoding="utf-8")
    return folder


async def _quoted(
    quotes: int,
    kills: int,
    outage_s: float,
    seed: int,
    tell: Progress,
    folder: Path,
    server: embedded.Embedded,
    pipeline: Path,
    world: Steered,
) -> dict[str, Any]:
    dice = random.Random(f"quotes/{seed}")
    began = time.monotonic()
    async with scene(folder, server, pipeline) as it:
        asked = await _submit(it, dice, quotes)
        fleet = it.start("worker", "--processes", str(PROCESSES))
        try:
            await it.until(partial(it.up, PROCESSES), 120, "two workers")
            for number in range(kills):
                await anyio.sleep(dice.uniform(0.5, 2.0))
                if number == 0 and outage_s:
                    world.outage("erp", for_s=outage_s)
                if (await it.store.counts()).live == 0:
                    break
                await it.until(partial(it.up, PROCESSES), 120, "two workers")
                with suppress(ProcessLookupError):
                    os.kill(dice.choice(await it.in_company()), signal.SIGKILL)
                tell(f"kill {number + 1} of {kills}")
            with suppress(TimeoutError):
                await it.until(lambda: _settled(it), END_S, "the end", 0.5)
        finally:
            stop(fleet)
        found = await _added_up(it, world, asked)
        return {"quotes": quotes, **found, "took_s": round(time.monotonic() - began, 1)}


async def _submit(
    it: Scene, dice: random.Random, quotes: int
) -> dict[str, tuple[dict[str, str], list[Truth]]]:
    """Requests of one to three lines, of which it is known what they ask for."""
    artifacts = FileArtifacts(it.folder / "home" / "objects")
    batch = await it.store.open_batch("house", "quotes", deadline_s=86_400)
    rows, asked = [], {}
    for number in range(quotes):
        text, customer, truths = sound(dice, dice.randint(1, 3))
        name = f"request-{number:05}.txt"
        source = await artifacts.put(f"{name}\n{text}".encode())
        given = {"source": source, "media_type": "text/plain", "text": text}
        rows.append(Submission(name, name, name, len(text), given))
        asked[name] = (customer, truths)
    await it.store.admit(batch, it.pipeline_id, rows)
    return asked


async def _settled(it: Scene) -> bool:
    return (await it.store.counts()).live == 0 and await it.con.fetchval(OPEN) == 0


async def _added_up(
    it: Scene, world: Steered, asked: dict[str, tuple[dict[str, str], list[Truth]]]
) -> dict[str, Any]:
    """Everything counted, by whoever did not do it."""
    counts = await it.store.counts()
    ended = sum((counts.held, counts.done, counts.rejected, counts.failed))
    ended += counts.cancelled
    rows = {row["stage"]: row["n"] for row in await it.con.fetch(RERUN)}
    wrong: Counter[str] = Counter()
    names = {row.id: row.name for row in await it.store.items(limit=len(asked))}
    written = 0
    for path in (it.folder / "home" / "out").glob("*/*/Q-*/QUOTE.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        customer, truths = asked[names[int(record["number"][2:])]]
        wrong += faults_of(record, customer, truths)
        written += 1
    keys = "select count(*) - count(distinct key) from taken where vendor = ?"
    twice = [world.rows(keys, vendor)[0][0] for vendor in ("erp", "mail")]
    faults = "select count(*) from calls where vendor = 'erp' and fault = 'silent'"
    return {
        "lost": len(asked) - ended,
        "failed": counts.failed,
        "lookups_rerun": rows.get("lookup", 0) + rows.get("lines", 0),
        "prices_rerun": rows.get("pricing", 0) + rows.get("document", 0),
        "checks_rerun": int(await it.con.fetchval(CHECKED_AGAIN)),
        **{
            name: wrong[name]
            for name in (
                *("prices_guessed", "parts_invented", "totals_wrong"),
                *("quantities_wrong", "unsafe", "lines_wrong"),
            )
        },
        "not_quoted": len(asked) - written,
        "sent_twice": sum(twice),
        "in_doubt": sum(
            n
            for (_, s), n in (await it.store.count_effects()).items()
            if s == "in_doubt"
        ),
        "conserved": counts.conserved,
        "calls_with_steps": await it.con.fetchval(STEPS),
        "erp_calls": world.counts("erp")["calls"],
        "erp_timed_out": world.rows(faults)[0][0],
    }


def run_quotes(
    quotes: Annotated[int, typer.Option(min=1, max=20_000, help="Requests.")] = 2000,
    kills: Annotated[int, typer.Option(min=0, max=1000, help="Of workers.")] = 20,
    outage_s: Annotated[
        float, typer.Option(min=0, max=600, help="Of the ERP; 0: none.")
    ] = 60,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Quotes, an ERP that times out, killed workers; all recomputed a second time."""
    result = run(say, quotes=quotes, kills=kills, outage_s=outage_s, seed=seed)
    show(result, json)
    fail_if(any(result[name] for name in BROKEN) or not result["conserved"])
