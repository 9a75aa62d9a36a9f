"""
Calls of agents that need a person, ruled on one by one while workers are killed.

Each document has its agent call several tools in one answer, of which those that write
need a person, for what it read came from outside.  A simulated reviewer approves some,
some with other arguments, denies some, leaves some for later, and rules on what is
somebody else's.  What was really written is in the vendor's own book, by key.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio

from loadtest.scenarios.chaos import Scene, played, stop
from loadtest.scenarios.contracts_given import ORDER, ORDERS, made_up
from loadtest.scenarios.zero_trust import ENDS_S, PIPELINE, VENDORS
from loadtest.trial import Progress
from loadtest.vendors.playing import Steered, playing
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Conflict
from pipeline.model import Submission

WRITES = 2  # calls that need a person, of each document
MANIFEST = """
name = "zero"
deadline = "1d"
state = "Deal"
stages = ["write"]

[budget]
calls_max = 500

[grant]
"*/write/writer" = ["section", "record"]
"""
OPEN = """
select id, item_id, code, digest, shown, shown_ref from waybill.holds where open
 order by id
"""
WRITTEN = "select item_id, name, key, payload, state from waybill.effects"
LIVE = """
select (select count(*) from waybill.items)
     - (select count(*) from waybill.outcomes) as n
"""
TAKEN = """
select key, count(*) from calls
 where vendor = 'books' and outcome = 'accepted' group by key
"""
Call = tuple[int, str]  # an item, and a call of its conversation


class Reviewer:
    """Rules on calls as people would, and remembers what it said."""

    def __init__(self, it: Scene, seed: int) -> None:
        self._it = it
        self._rng = random.Random(seed)
        self._artifacts = FileArtifacts(it.folder / "home" / "objects")
        self._seen: dict[str, Call] = {}  # by digest
        self.said: dict[Call, dict[str, Any]] = {}
        self.foreign: set[Call] = set()
        self.other_codes: Counter[str] = Counter()
        self.decided = 0

    async def round(self, share: float) -> int:
        """Rule on a share of the open holds; how many there were."""
        rows = await self._it.con.fetch(OPEN)
        for row in rows:
            if self._rng.random() > share:
                continue
            text = row["shown"]
            if text is None:
                text = (await self._artifacts.get(row["shown_ref"])).decode()
            if row["code"] != "AGENT_APPROVAL":
                self.other_codes[row["code"]] += 1
                await self._end(row)
                continue
            calls = json.loads(text)["evidence"]["calls"]
            await self._rule(row, calls)
        return len(rows)

    async def _rule(self, row: Any, calls: list[dict[str, Any]]) -> None:
        rulings: dict[str, dict[str, Any]] = {}
        said: dict[Call, dict[str, Any]] = {}
        strangers = [d for d, (item, _) in self._seen.items() if item != row["item_id"]]
        for call in calls:
            mine = (row["item_id"], call["call"])
            self._seen[call["digest"]] = mine
            if (word := self._word()) is None:
                continue  # for later: it is asked again
            said[mine] = rulings[call["digest"]] = word
        if strangers and self._rng.random() < 0.3:
            # Of another document's call: no word on this one, and none on that one.
            digest = self._rng.choice(strangers)
            rulings[digest] = {"verdict": "approve"}
            self.foreign.add(self._seen[digest])
        # A second reviewer comes too late.
        for late in (False, True):
            with suppress(Conflict):
                await self._it.store.decide(
                    row["id"],
                    verb="edit",
                    author="a reviewer",
                    reason="",
                    digest=row["digest"],
                    update=json.dumps({"rulings": {} if late else rulings}),
                )
                self.decided += 1
                if late:
                    raise AssertionError("a hold was decided twice")
        self.said |= said

    async def _end(self, row: Any) -> None:
        """Whatever else an agent came to is the end of it here."""
        with suppress(Conflict):
            await self._it.store.decide(
                row["id"],
                verb="reject",
                author="a reviewer",
                reason="not asked for",
                digest=row["digest"],
                update=None,
            )

    def _word(self) -> dict[str, Any] | None:
        drawn = self._rng.random()
        if drawn < 0.5:
            return {"verdict": "approve"}
        if drawn < 0.65:
            other = f"changed-{self._rng.randrange(10**6)}"
            return {"verdict": "approve", "arguments": {"subject": other}}
        if drawn < 0.9:
            return {"verdict": "deny", "reason": "not this one"}
        return None


async def approvals(
    it: Scene, world: Steered, say: Progress, *, items: int, kills: int, seed: int
) -> dict[str, Any]:
    """Everybody writes, after a person's word; workers die meanwhile."""
    rng = random.Random(seed)
    documents = made_up(items, seed, ORDERS, every=1)
    batch = await it.store.open_batch("acme", "approvals", deadline_s=86_400)
    rows = [
        Submission(name, name, name, 1, deal.given())
        for name, deal in documents.items()
    ]
    await it.store.admit(batch, it.pipeline_id, rows)
    reviewer = Reviewer(it, seed)
    killed = 0
    fleet = it.start("worker", "--processes", "3", WAYBILL_CORES="1")
    try:
        with anyio.move_on_after(ENDS_S):
            while await it.con.fetchval(LIVE):
                await anyio.sleep(rng.uniform(0.05, 0.4))
                if killed < kills:
                    with anyio.move_on_after(1), suppress(ProcessLookupError):
                        os.kill(rng.choice(await it.in_company()), signal.SIGKILL)
                        killed += 1
                # Not all at once: kills meet every stage of a conversation.
                await reviewer.round(1.0 if killed >= kills else 0.1)
                say(f"{killed} of {kills} kills, {reviewer.decided} rulings")
            await it.until(lambda: _delivered(it), 60, "the end of all writes")
    finally:
        stop(fleet)
    return await _account(it, world, reviewer) | {"items": items, "kills": killed}


async def _delivered(it: Scene) -> bool:
    open_ = "select count(*) from waybill.effects where state in ('planned', 'sending')"
    return not await it.con.fetchval(open_)


async def _account(it: Scene, world: Steered, reviewer: Reviewer) -> dict[str, Any]:
    taken = dict(world.rows(TAKEN))
    written: dict[Call, Any] = {}
    wrong = 0
    for row in await it.con.fetch(WRITTEN):
        call = (row["item_id"], row["name"].removeprefix("term-"))
        if row["key"] not in taken:
            continue
        written[call] = row["key"]
        wanted = (reviewer.said.get(call) or {}).get("arguments")
        if wanted is not None and json.loads(row["payload"]) != wanted:
            wrong += 1
    approved = {c for c, said in reviewer.said.items() if said["verdict"] == "approve"}
    without = set(written) - approved
    states = await it.con.fetch(
        "select state, count(*) as n from waybill.outcomes group by 1"
    )
    return {
        "ran_without_approval": len(without),
        "ran_twice": sum(n > 1 for n in taken.values()),
        "answered_by_another": len(without & reviewer.foreign),
        "other_arguments": wrong,
        "lost": len(approved - set(written)),
        "writes": len(written),
        "approved": len(approved),
        "denied": len(reviewer.said) - len(approved),
        "foreign_rulings": len(reviewer.foreign),
        "rulings": reviewer.decided,
        "ended": {r["state"]: r["n"] for r in states},
        "held_otherwise": dict(reviewer.other_codes),
        "conserved": (await it.store.counts()).conserved
        and not await it.store.astray(),
    }


def run(say: Progress, *, items: int, kills: int, seed: int) -> dict[str, Any]:
    """On a server, with vendors and in a folder of its own."""
    plays: dict[str, dict[str, Any]] = {
        "llm": {
            "kind": "reader",
            "faults": {"obeys": 1.0},
            "order": ORDER,
            "at_once": WRITES,
            "latency": {"low_s": 0.02, "high_s": 0.2},
        },
        "books": {"kind": "echo", "key_header": "idempotency-key", "dedupe": False},
    }
    with (
        tempfile.TemporaryDirectory(prefix="waybill-approvals-") as place,
        playing(plays, seed=seed, for_s=ENDS_S + 120) as world,
    ):
        folder = Path(place)
        shutil.copytree(PIPELINE, folder / "zero")
        (folder / "zero" / "pipeline.toml").write_text(MANIFEST)
        (folder / "home").mkdir()
        urls = {"llm": world.url("llm"), "books": world.url("books")}
        (folder / "home" / "vendors.toml").write_text(VENDORS.format(**urls))
        return played(
            folder,
            folder / "zero",
            lambda it: approvals(it, world, say, items=items, kills=kills, seed=seed),
        )
