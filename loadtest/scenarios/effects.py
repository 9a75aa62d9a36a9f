"""
Effects that happen once, by their receivers' own count: workers are killed at random
moments and replies are lost, and afterwards the receivers' book is laid beside the
table of effects.

Five receivers: two that know an effect by its key (a webhook, a CRM), one that can be
asked for it, and two that can neither (a printer's shop, a mail server).  They run in a
process of their own, and share no code with the service.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from loadtest.scenarios.chaos import Scene, scene, stop
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.store import embedded

PIPELINE = Path(__file__).parent / "effects_pipeline"
SECRET = "whsec_c2ltdWxhdGVkLXZlbmRvcnMtc2VjcmV0"  # noqa: S105  # of a toy
PROCESSES = 4
CALL_S = 0.15  # of a receiver's answer
BUSY_S = 1.5  # for a worker to have something in hand
END_S = 90.0  # after the last kill everything must be settled by then
LOST = {"lost": 0.04, "error_503": 0.03}


class Receiver(NamedTuple):
    """Who receives a sink's effects, of which class."""

    sink: str
    vendor: str
    of: str


RECEIVERS = (
    Receiver("hook", "hook", "a"),
    Receiver("crm", "crm", "a"),
    Receiver("asked", "print", "b"),
    Receiver("plain", "print-c", "c"),
    Receiver("mail", "mail", "c"),
)
DECLARED = """
[vendor.hook]
url = "{hook}"
inside = true
timeout_s = 5
[vendor.crm]
url = "{crm}"
inside = true
timeout_s = 5
[vendor.print]
url = "{print}"
inside = true
timeout_s = 5
idempotency_header = "idempotency-key"
[vendor.print-c]
url = "{plain}"
inside = true
timeout_s = 5
idempotency_header = "idempotency-key"
[sink.hook]
kind = "webhook"
vendor = "hook"
secret = "secret:hook"
[sink.crm]
kind = "crm"
vendor = "crm"
object = "Letter__c"
external_id = "Waybill_Key__c"
[sink.asked]
kind = "http"
vendor = "print"
path = "/batches"
ask = "/batches/{{key}}"
[sink.plain]
kind = "http"
vendor = "print-c"
path = "/batches"
[sink.mail]
kind = "smtp"
host = "127.0.0.1"
port = {smtp}
tls = "none"
sender = "office@example.com"
timeout_s = 5
"""


def run(
    say: Progress, *, items: int = 600, kills: int = 100, seed: int = 1
) -> dict[str, Any]:
    """
    Plan five effects an item, kill `kills` workers meanwhile, and count.

    Returns:
        What the class C receivers did twice, what was planned and nobody did and nobody
        doubts, and what is in doubt; and the same of every receiver by itself.
    """
    vendors = {r.vendor: {"faults": LOST, "latency": CALL_S} for r in RECEIVERS}
    with (
        tempfile.TemporaryDirectory(prefix="waybill-effects-") as folder,
        playing(vendors, seed=seed) as world,
    ):
        home = Path(folder) / "home"
        (home / "secrets").mkdir(parents=True)
        (home / "secrets" / "hook.txt").write_text(SECRET)
        (home / "vendors.toml").write_text(
            DECLARED.format(
                hook=world.url("hook"),
                crm=world.url("crm"),
                print=world.url("print"),
                plain=world.url("print-c"),
                smtp=world.smtp("mail"),
            )
        )
        server = embedded.start(home / "postgres")
        try:
            return anyio.run(
                _struck, Path(folder), server, world, items, kills, seed, say
            )
        finally:
            embedded.stop(home / "postgres")


async def _struck(
    folder: Path,
    server: embedded.Embedded,
    world: Steered,
    items: int,
    kills: int,
    seed: int,
    say: Progress,
) -> dict[str, Any]:
    rng = random.Random(seed)
    async with scene(folder, server, PIPELINE) as it:
        fleet = it.start("worker", "--processes", str(PROCESSES))
        began = time.monotonic()
        try:
            await it.until(partial(it.up, 2), 60, "two workers")
            for number in range(kills):
                # Effects are planned all the time, so that every kill meets some.
                await it.submit(items * (number + 1) // kills - items * number // kills)
                # One of those left goes on: a fleet that never works shows nothing.
                await it.until(partial(it.up, 2), 60, "two workers")
                struck = await _victim(it, rng)
                try:
                    os.kill(struck, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                if number % 10 == 9:
                    said = await it.store.count_effects()
                    standing = ", ".join(f"{n} {s} {e}" for (s, e), n in said.items())
                    say(f"kill {number + 1} of {kills}: {standing}")
            for receiver in RECEIVERS:  # the last of them must get through
                world.set(receiver.vendor, faults={})
            with suppress(TimeoutError):
                await it.until(lambda: _settled(it), END_S, "the end", 0.5)
        finally:
            stop(fleet)
        return {
            **await _compared(it, world, items),
            "kills": kills,
            "items": items,
            "took_s": round(time.monotonic() - began, 1),
        }


OPEN = """
select count(*) from waybill.effects
 where state in ('planned', 'sending') or (state = 'in_doubt' and class <> 'c')
"""


async def _victim(it: Scene, rng: random.Random) -> int:
    """A worker with effects in hand, where there is one, at a moment of its calls."""
    end = time.monotonic() + BUSY_S
    while True:
        workers = {str(session): pid for pid, session in (await it.workers()).items()}
        rows = await it.con.fetch(
            "select distinct worker_id::text as id from waybill.effects"
            " where worker_id is not null"
        )
        busy = sorted(workers[r["id"]] for r in rows if r["id"] in workers)
        if busy or (workers and time.monotonic() > end):
            await anyio.sleep(rng.uniform(0, 2 * CALL_S))
            return rng.choice(busy or sorted(workers.values()))
        await anyio.sleep(0.02)


async def _settled(it: Scene) -> bool:
    live = (await it.store.counts()).live
    return bool(live == 0 and await it.con.fetchval(OPEN) == 0)


async def _compared(it: Scene, world: Steered, items: int) -> dict[str, Any]:
    """The table of effects beside what each receiver wrote into its own book."""
    found: dict[str, dict[str, Any]] = {}
    for receiver in RECEIVERS:
        rows = await it.con.fetch(
            "select key, state, item_id from waybill.effects where sink = $1",
            receiver.sink,
        )
        states = {r["key"]: r["state"] for r in rows}
        found[receiver.sink] = {
            "class": receiver.of,
            **_against(states, _taken(world, receiver.vendor)),
            "effects": len(states),
        }
    listed = await it.store.effects(limit=10_000)
    doubts = [e for e in listed if e.state.value == "in_doubt"]
    of_c = [found[r.sink] for r in RECEIVERS if r.of == "c"]
    others = [found[r.sink] for r in RECEIVERS if r.of != "c"]
    in_doubt = sum(f["in_doubt"] for f in of_c)
    return {
        "duplicates": sum(f["twice"] for f in of_c),
        "lost": sum(f["lost"] for f in found.values()),
        "in_doubt": in_doubt,
        "in_doubt_listed": len(doubts),
        "in_doubt_and_done": sum(f["doubted_and_done"] for f in of_c),
        "in_doubt_why": Counter(e.why.partition(":")[0] for e in doubts),
        "unsettled": await it.con.fetchval(OPEN),
        "unbidden": sum(f["unbidden"] for f in found.values()),
        "other_bodies": sum(f["bodies"] for f in found.values()),
        "done_twice_though_known": sum(f["twice"] for f in others if f["class"] == "b"),
        "not_planned": items * len(RECEIVERS)
        - sum(f["effects"] for f in found.values()),
        "replies_lost": {
            str(vendor): lost
            for vendor, lost in world.rows(
                "select vendor, count(*) from calls where fault = 'lost' group by 1"
            )
        },
        "receivers": found,
        "good": all(f["lost"] == 0 for f in found.values())
        and all(f["bodies"] + f["unbidden"] == 0 for f in found.values())
        and all(f["twice"] == 0 for f in found.values() if f["class"] != "a")
        and in_doubt == len(doubts)
        and await it.con.fetchval(OPEN) == 0,
    }


def _taken(world: Steered, vendor: str) -> dict[str, list[str]]:
    """Key -> the digests of the bodies that the receiver accepted under it."""
    taken: dict[str, list[str]] = {}
    for key, body in world.rows(
        "select key, body_sha from taken where vendor = ? order by at", vendor
    ):
        plain = str(key).strip("<>").partition("@")[0]
        taken.setdefault(plain, []).append(body)
    return taken


def _against(
    states: Mapping[str, str], taken: Mapping[str, list[str]]
) -> dict[str, Any]:
    """How one receiver's book fits what we say of its effects."""
    standing = Counter(states.values())
    return {
        "confirmed": standing["confirmed"],
        "in_doubt": standing["in_doubt"],
        "refused": standing["refused"],
        "doubted_and_done": sum(
            key in taken for key, state in states.items() if state == "in_doubt"
        ),
        "keys": len(taken),
        "accepted": sum(map(len, taken.values())),
        "twice": sum(len(bodies) - 1 for bodies in taken.values()),
        "bodies": sum(len(set(bodies)) - 1 for bodies in taken.values()),
        "unbidden": len(set(taken) - set(states)),
        # Not done, and nobody doubts it: neither listed nor said no to.
        "lost": sum(
            key not in taken and state not in ("in_doubt", "refused")
            for key, state in states.items()
        ),
    }
