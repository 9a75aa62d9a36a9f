"""
Moderation under everything at once: does anything grave get by?

Letters of which it is known what is in them pass the letters' moderation, with a
simulated service and a model that err at set rates, go away, and are given orders by
what they read; workers are killed.  People rule by the commands, one of them in haste.
Afterwards the database is asked, in SQL of this run's own: did a vote let a held letter
pass, was anything grave in the common line or approved among several, and were the
planted misses drawn for people at the rate that is stated?
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from loadtest.driver.typist import typing
from loadtest.scenarios.chaos import Scene, scene, stop
from loadtest.scenarios.moderation_account import account
from loadtest.scenarios.moderation_given import (
    EXAMPLE,
    Letter,
    letters,
    severities,
    write_labels,
)
from loadtest.scenarios.moderation_people import GRAVE, QUALITY, People
from loadtest.showing import Json, Seed, fail_if, say, show
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.artifacts.files import FileArtifacts
from pipeline.folder import Builtin, Catalogue
from pipeline.model import Submission
from pipeline.store import embedded
from stages.document import Document
from stages.generation import generation
from stages.moderation import moderation

RATE = 0.1  # of what passes is read by people
AWAY = ("hold", "wait", "sample")  # a pipeline each
PROCESSES, UP_S = 2, 180.0
WAVES = 10
WAVE_S = 2.0  # between two
OUTAGE_S = 8.0
# By wave: who goes away, and how.
OUTAGES = {
    1: (("moderation", "error"),),
    3: (("opinions", "hang"),),
    5: (("moderation", "reset"), ("opinions", "error")),
}
END_S = 900.0  # from the last wave to the end of all, on a busy machine too
READERS = ((GRAVE, "lead-1"), (GRAVE, "lead-2"), (QUALITY, "reader-1"))

MANIFEST = """
name = "letters-{away}"
deadline = "1d"
stages = ["moderation", "generation"]

[stage.moderation]
second = ["moderation", "model:reader"]
when_away = "{away}"
sample = "{rate:.0%}"

[stage.generation]
template = "templates/reply.toml"
"""
VENDORS = """
[vendor.moderation]
kind = "moderation"
url = "{moderation}/v1"
inside = true
model = "omni"
timeout_s = 4

[vendor.opinions]
kind = "openai"
url = "{opinions}/v1"
inside = true
model = "large"
timeout_s = 4

[model.reader]
vendor = "opinions"
max_tokens = 300
"""
ENDED = "select count(*) from waybill.outcomes"


def run(say: Progress, *, count: int, kills: int, seed: int) -> dict[str, Any]:
    """On a server, with vendors and in a folder of its own."""
    given = {letter.name: letter for letter in letters(count, seed)}
    with tempfile.TemporaryDirectory(prefix="waybill-moderation-") as place:
        folder = Path(place)
        flags, says = write_labels(folder, given.values())
        slow = {"low_s": 0.01, "high_s": 0.1}
        plays: dict[str, dict[str, Any]] = {
            "moderation": {
                "labels": str(flags),
                "latency": slow,
                "faults": {"fewer_results": 0.01, "error_500": 0.01, "bad_json": 0.01},
            },
            "opinions": {
                "kind": "judge",
                "labels": str(says),
                "latency": slow,
                "faults": {"length": 0.01, "not_even_json": 0.01, "lost": 0.01},
            },
        }
        server = embedded.start(folder / "pg")
        try:
            with playing(plays, seed=seed) as world:

                async def main() -> dict[str, Any]:
                    async with scene(folder, server) as it:
                        return await _run(it, world, given, kills, seed, say)

                return anyio.run(main)
        finally:
            embedded.end(folder / "pg")


async def _run(
    it: Scene,
    world: Steered,
    given: dict[str, Letter],
    kills: int,
    seed: int,
    say: Progress,
) -> dict[str, Any]:
    (it.folder / "home").mkdir(exist_ok=True)
    urls = {name: world.url(name) for name in ("moderation", "opinions")}
    (it.folder / "home" / "vendors.toml").write_text(VENDORS.format(**urls))
    pipelines = [await _published(it, away) for away in AWAY]
    people = People(given, [name.upper() for name in severities()])
    with ExitStack() as stack:
        log = it.folder / "people.log"
        typists = [stack.enter_context(typing(it.env, log)) for _ in (*READERS, "")]
        fleet = it.start("worker", "--processes", str(PROCESSES), WAYBILL_CORES="2")
        stack.callback(stop, fleet)
        began = time.monotonic()
        try:
            async with anyio.create_task_group() as tasks:
                await it.until(partial(it.up, PROCESSES), UP_S, "two workers")
                for typist, (role, who) in zip(typists, READERS, strict=False):
                    tasks.start_soon(people.read, typist, role, who)
                tasks.start_soon(people.approve_everything, typists[-1])
                killed = await _sent(it, world, given, pipelines, kills, seed, say)
                what = partial(_ended, it, len(given), people, say)
                await it.until(what, END_S, "the end of all letters", 2)
                tasks.cancel_scope.cancel()
        except TimeoutError:
            say(f"the workers' log ends with:\n{_tail(it.folder / 'worker.log')}")
            raise
        took_s = round(time.monotonic() - began, 1)
        stats = await typists[0].type("moderation", "stats")
    found = await account(it.con, given, RATE, people, stats.data)
    return {**found, "kills": killed, "took_s": took_s}


async def _published(it: Scene, away: str) -> int:
    """The letters' own folder, with second opinions; its number."""
    folder = it.folder / f"letters-{away}"
    shutil.copytree(EXAMPLE, folder)
    manifest = MANIFEST.format(away=away, rate=RATE)
    (folder / "pipeline.toml").write_text(manifest, encoding="utf-8")
    known = Builtin({s.name: s for s in (moderation, generation)}, Document)
    kept = FileArtifacts(it.folder / "home" / "objects")
    catalogue = Catalogue(kept, it.folder / "home" / "pipelines", known)
    number, _ = await catalogue.publish(folder, it.store)
    return number


async def _sent(
    it: Scene,
    world: Steered,
    given: dict[str, Letter],
    pipelines: list[int],
    kills: int,
    seed: int,
    say: Progress,
) -> int:
    """Wave after wave, vendors away and workers killed in between; kills made."""
    rng = random.Random(seed)
    names, killed = [*given], 0
    for wave in range(WAVES):
        for vendor, how in OUTAGES.get(wave, ()):
            world.outage(vendor, for_s=OUTAGE_S, how=how)
            say(f"{vendor} is away ({how})")
        mine = names[wave::WAVES]
        for place, number in enumerate(pipelines):
            batch = await it.store.open_batch(
                f"t{wave % 3}", f"wave-{wave}-{AWAY[place]}", deadline_s=86_400
            )
            await it.store.admit(
                batch, number, [_row(given[name]) for name in mine[place::3]]
            )
        wanted = kills * (wave + 1) // WAVES
        while killed < wanted:
            with anyio.move_on_after(2) as waited:
                await anyio.sleep(rng.uniform(0.1, 0.5))
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(await it.in_company()), signal.SIGKILL)
                    killed += 1
            if waited.cancelled_caught:
                break  # nobody has several in hand
        await anyio.sleep(WAVE_S)
    return killed


def _row(letter: Letter) -> Submission:
    source = hashlib.sha256(letter.text.encode()).hexdigest()
    given = {"source": source, "text": letter.text}
    return Submission(letter.name, source, letter.name, len(letter.text), given)


async def _ended(it: Scene, count: int, people: People, say: Progress) -> bool:
    ended = await it.con.fetchval(ENDED)
    say(f"{ended} of {count} ended; ruled on: {dict(people.ruled)}")
    return bool(ended >= count)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def run_moderation(
    number: Annotated[
        int, typer.Option("--letters", min=200, max=20_000, help="In all.")
    ] = 2000,
    kills: Annotated[int, typer.Option(min=0, max=1000, help="Of workers.")] = 8,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Votes that err, orders in letters, careless people: is anything grave let by?"""
    result = run(say, count=number, kills=kills, seed=seed)
    show(result, json)
    fail_if(result["bad"])
