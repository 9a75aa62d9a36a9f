"""
Requests that leave something open: each is asked once, and answered days later.

Buyers read their mail and answer by its signed link, over HTTP; some never do, some say
nothing by it, some answer twice, and of some no address is known: of those a clerk is
asked.  Days pass in the database's clock, half a day at a time; workers are killed.
Nobody is waited for in real time, and only the service's own tables know of days.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError

import anyio
import typer

from loadtest.corpora.gaps import VAGUE, Gapped, gapped
from loadtest.scenarios.ask_back_account import (
    Asked,
    Case,
    Step,
    asking_of,
    calls_of,
    values_assumed,
)
from loadtest.scenarios.chaos import Scene, scene, stop
from loadtest.scenarios.quotes import in_trade
from loadtest.scenarios.quotes_second import faults_of
from loadtest.showing import Json, Seed, fail_if, say, show
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered
from pipeline.artifacts.files import FileArtifacts
from pipeline.model import Submission
from pipeline.store import embedded

TIMED_OUT = 0.05  # of the ERP's calls
PROCESSES = 2
DAY_S, STEP_DAYS, DAYS = 86_400.0, 0.5, 7.0
SETTLED_S = 3600.0  # for half a day: a busy machine takes its time
LINK = re.compile(r"^(https?://\S+/signals/(\S+))$", re.MULTILINE)
KEY = re.compile(r"^  ([\w.]+): ", re.MULTILINE)
CLOCK = """
create or replace function waybill.clock() returns timestamptz
language sql stable parallel safe as
$$ select statement_timestamp() + interval '{ahead_s} seconds' $$;
update waybill.workers set lease_until = lease_until + interval '{by_s} seconds'
"""
# What is still to be done without anybody's word.
BUSY = """
select (select count(*) from waybill.ready) + (select count(*) from waybill.running)
     + (select count(*) from waybill.waiting
         where code <> 'SIGNAL' or until <= waybill.clock())
     + (select count(*) from waybill.effects where state in ('planned', 'sending'))
"""
HOLDS = """
select id, item_id, code, digest, shown::text as shown, shown_ref from waybill.holds
 where open order by id
"""
# Calls that came to nothing: they failed, or their worker was killed with the answer.
LEDGER = """
select c.item_id, c.stage, c.step,
       count(*) filter (where c.code <> '' or
         (c.worker_id = any($1::uuid[]) and c.worker_id is distinct from p.worker_id))
       as void
  from waybill.calls c
  left join waybill.checkpoints p using (item_id, stage, step)
 where c.vendor = 'erp' group by 1, 2, 3
"""
BOOK = """
select at, key, path, query, outcome in ('accepted', 'repeated') and fault = '' as good
  from calls where vendor = 'erp' and method = 'GET' order by seq
"""
BROKEN = (
    *("assumed", "asked_twice", "redone_needlessly", "lost", "failed", "not_quoted"),
    *("never_asked", "asked_wrong", "answers_refused", "second_words_taken"),
    *("held_otherwise", "wrong_figures", "unattributed"),
)


class People:
    """
    Buyers and a clerk, who know what was left open.

    Attributes:
        cases: By item, what was asked and said.
        counted: How the service took what they said.
    """

    def __init__(self, it: Scene, world: Steered, cases: Mapping[int, Case]) -> None:
        self._it, self._world = it, world
        self._artifacts = FileArtifacts(it.folder / "home" / "objects")
        self._links: dict[int, str] = {}
        self._seen = 0
        self.cases = cases
        self.counted: Counter[str] = Counter()

    def read_mail(self) -> None:
        """Whatever came since they looked last."""
        messages = _get(f"{self._world.url('mail')}/messages")["messages"]
        for mail in messages[self._seen :]:
            text = mail["text"].replace("\r\n", "\n")
            if found := LINK.search(text):
                item = _item_of(found[2])
                self._links[item] = found[1]
                self.cases[item].mails.append(set(KEY.findall(text)))
        self._seen = len(messages)

    async def answer(self, day: float, till: float) -> None:
        """Buyers whose time has come answer what they were asked."""
        for item, link in self._links.items():
            request = self.cases[item].request
            if request.manner != "silent" and day <= request.after < till:
                await anyio.to_thread.run_sync(self._answer, item, link)

    def _answer(self, item: int, link: str) -> None:
        of = self.cases[item]
        said = {
            key: VAGUE if of.request.manner == "vague" else words
            for key, words in of.request.answers.items()
        }
        of.answered_at = time.time()
        self.counted["answers_refused"] += _post(link, said) != 200
        if of.request.manner != "vague":
            of.said = said
        if of.request.manner == "repeats":
            other = dict.fromkeys(said, "one of each")
            self.counted["second_words_taken"] += _post(link, other) == 200
            self.counted["second_words"] += 1

    async def rule(self) -> None:
        """The clerk says what the buyer said on the telephone."""
        for row in await self._it.con.fetch(HOLDS):
            if row["code"] != "QUESTIONS_OPEN":
                self.counted["held_otherwise"] += 1
                continue
            text = row["shown"] or (await self._artifacts.get(row["shown_ref"]))
            questions = json.loads(text)["evidence"]["questions"]
            of = self.cases[row["item_id"]]
            of.holds.append({one["key"] for one in questions})
            of.answered_at = of.answered_at or time.time()
            of.said = dict(of.request.answers)
            await self._it.store.decide(
                row["id"],
                verb="edit",
                author="clerk",
                reason="",
                digest=row["digest"],
                update=json.dumps({"answers": of.said}),
            )


class Killer:
    """Kills workers that have something in hand; knows whom it killed."""

    def __init__(self, it: Scene, dice: random.Random, most: int) -> None:
        self._it, self._dice, self._most = it, dice, most
        self.sessions: list[Any] = []

    async def strike(self) -> None:
        """Kill one worker at a moment when it has several items, if there is one."""
        if len(self.sessions) >= self._most or await _settled(self._it):
            return
        await anyio.sleep(self._dice.uniform(0.1, 1.0))
        with anyio.move_on_after(2), suppress(ProcessLookupError):
            victim = self._dice.choice(await self._it.in_company())
            session = (await self._it.workers()).get(victim)
            os.kill(victim, signal.SIGKILL)
            self.sessions += [session] * (session is not None)


def run(tell: Progress, *, requests: int, kills: int, seed: int) -> dict[str, Any]:
    """Ask back about `requests` requests over a week, killing `kills` workers."""
    work = partial(_week, requests, kills, seed, tell)
    return in_trade(work, "ask-back", timed_out=TIMED_OUT, seed=seed)


async def _week(
    requests: int,
    kills: int,
    seed: int,
    tell: Progress,
    folder: Path,
    server: embedded.Embedded,
    pipeline: Path,
    world: Steered,
) -> dict[str, Any]:
    dice = random.Random(f"ask-back/{seed}")
    began, ahead_s = time.monotonic(), 0.0
    async with scene(folder, server, pipeline) as it:
        cases = await _submit(it, dice, requests)
        people, killer = People(it, world, cases), Killer(it, dice, kills)
        fleet = it.start(
            *("up", "--processes", str(PROCESSES)), WAYBILL_HTTP="127.0.0.1:0"
        )
        try:
            await it.until(partial(it.up, PROCESSES), 120, "two workers")
            for day in _half_days():
                for _ in range(max(1, kills // 6)):
                    await killer.strike()
                await it.until(lambda: _settled(it), SETTLED_S, "the next day", 0.3)
                tell(f"day {day:g}: {len(killer.sessions)} of {kills} kills")
                people.read_mail()
                await people.rule()
                ahead_s += STEP_DAYS * DAY_S
                await it.con.execute(
                    CLOCK.format(ahead_s=ahead_s, by_s=STEP_DAYS * DAY_S)
                )
                await people.answer(day, day + STEP_DAYS)
            await it.until(lambda: _settled(it), SETTLED_S, "the end", 0.3)
            people.read_mail()
        finally:
            stop(fleet)
        found = await _added_up(it, world, people, killer.sessions)
        return {
            "requests": requests,
            **found,
            "kills": len(killer.sessions),
            "days": ahead_s / DAY_S,
            "took_s": round(time.monotonic() - began, 1),
        }


def _half_days() -> Iterable[float]:
    return (at * STEP_DAYS for at in range(round(DAYS / STEP_DAYS)))


async def _submit(it: Scene, dice: random.Random, count: int) -> dict[int, Case]:
    artifacts = FileArtifacts(it.folder / "home" / "objects")
    batch = await it.store.open_batch("house", "ask-back", deadline_s=30 * DAY_S)
    rows: list[Submission] = []
    asked: dict[str, Gapped] = {}
    for number in range(count):
        request = gapped(dice)
        name = f"request-{number:05}.txt"
        source = await artifacts.put(f"{name}\n{request.text}".encode())
        given = {"source": source, "media_type": "text/plain", "text": request.text}
        rows.append(Submission(name, name, name, len(request.text), given))
        asked[name] = request
    await it.store.admit(batch, it.pipeline_id, rows)
    items = await it.store.items(limit=count)
    return {row.id: Case(asked[row.name]) for row in items}


async def _settled(it: Scene) -> bool:
    return not await it.con.fetchval(BUSY)


async def _added_up(
    it: Scene, world: Steered, people: People, killed: list[Any]
) -> dict[str, Any]:
    """Everything counted, by whoever did not do it."""
    counts = await it.store.counts()
    cases = people.cases
    asked = [Asked(*row) for row in world.rows(BOOK)]
    steps = [Step(*row) for row in await it.con.fetch(LEDGER, killed)]
    found = calls_of(asked, steps, cases) + asking_of(cases.values())
    quoted = 0
    for path in (it.folder / "home" / "out").glob("*/*/Q-*/QUOTE.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        of = cases[int(record["number"][2:])]
        wrong = faults_of(record, of.request.customer, of.request.truths)
        found["wrong_figures"] += sum(wrong.values())
        found["assumed"] += values_assumed(record, of)
        quoted += 1
    ended = sum((counts.held, counts.done, counts.rejected, counts.failed))
    states = await it.store.count_effects()
    return {
        **{
            name: found[name]
            for name in ("assumed", "asked_twice", "redone_needlessly")
        },
        "lost": len(cases) - ended - counts.cancelled,
        "failed": counts.failed,
        "not_quoted": len(cases) - quoted,
        **{
            name: found[name] + people.counted[name]
            for name in (
                *("never_asked", "asked_wrong", "answers_refused", "wrong_figures"),
                *("second_words", "second_words_taken", "held_otherwise"),
                *("unattributed", "asked_by_mail", "asked_by_clerk", "lookups"),
                "lookups_after_the_answer",
            )
        },
        "in_doubt": sum(n for (_, state), n in states.items() if state == "in_doubt"),
        "conserved": counts.conserved and not await it.store.astray(),
    }


def _item_of(token: str) -> int:
    """Whose answer it is: the first line of what a token says."""
    from base64 import urlsafe_b64decode

    said = token.partition(".")[0]
    text = urlsafe_b64decode(said + "=" * (-len(said) % 4)).decode()
    return int(text.split("\n")[0])


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310  # ours
        return json.load(answer)


def _post(url: str, answers: Mapping[str, str]) -> int:
    """The status of an answer that was given."""
    body = json.dumps({"answers": dict(answers)}).encode()
    head = {"content-type": "application/json"}
    request = urllib.request.Request(url, body, head)  # noqa: S310  # ours, on loopback
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            status: int = answer.status
    except HTTPError as error:
        status = error.code
    return status


def run_ask_back(
    requests: Annotated[
        int, typer.Option(min=1, max=900, help="Each leaves something open.")
    ] = 300,
    kills: Annotated[int, typer.Option(min=0, max=1000, help="Of workers.")] = 12,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Requests that leave something open: asked once, answered days later."""
    result = run(say, requests=requests, kills=kills, seed=seed)
    show(result, json)
    fail_if(any(result[name] for name in BROKEN) or not result["conserved"])
