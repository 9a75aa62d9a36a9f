"""
People who rule on what is held: on working hours, one hold after the other.

By the commands that people use, `waybill review ls`, `approve`, `edit`, `reject`, each
a process of its own; what can simply be approved goes in one command, as a person
does it at the end of a round.  Nothing of this run's own knowledge helps them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio

from loadtest.driver.stand import Stand

LOOK_S = 3.0  # between two looks at the desk when nothing lay there
LIST_MAX = 60
ROUND_MAX = 20  # holds of one round: then the day may be over
TYPED = "Dear friend, a reviewer has read this letter. Please write back."
WHY = "not for us"
GRAVE = "safeguarding"  # the role that they all have


class Reviewer:
    """
    One of them.

    Attributes:
        ruled: Decisions by verb, of those that were taken.
        refused: Commands that were not taken: somebody else was quicker, or the
            database was away.
    """

    def __init__(self, it: Stand, number: int, of: int) -> None:
        self._it = it
        self._number, self._of = number, of
        self._ways = it.scenario.reviewers
        self._rng = random.Random(f"reviewer:{it.scenario.seed}:{number}")
        self.ruled: Counter[str] = Counter()
        self.refused = 0

    async def run(self) -> None:
        """Day after day, until it is cancelled."""
        scaled = self._it.scenario.scaled
        day_s, night_s = scaled(self._ways.day_s), scaled(self._ways.night_s)
        while True:
            until = anyio.current_time() + day_s
            while anyio.current_time() < until:
                if not await self._round(until):
                    await anyio.sleep(scaled(LOOK_S))
            await anyio.sleep(night_s)

    async def _round(self, until: float) -> int:
        """What lies on the desk now, at most some; how many were looked at."""
        look = ("review", "ls", "--limit", str(LIST_MAX))
        held: list[Any] = []
        for line in ((), ("--role", GRAVE)):
            rows = await self._it.command(*look, *line)
            if not isinstance(rows, list):
                return 0
            held = [*rows, *held]  # what is grave first
        mine = [row for row in held if row["item_id"] % self._of == self._number]
        approved: list[str] = []
        looked = 0
        for row in mine[:ROUND_MAX]:
            if anyio.current_time() > until:
                break
            await anyio.sleep(self._it.scenario.scaled(self._ways.decision_s))
            looked += 1
            if row.get("needs"):
                await self._edit(row)
            elif self._rejects(row):
                await self._decide("reject", [row["hold"]], "--reason", WHY)
            else:
                approved.append(row["hold"])
        if approved:
            await self._decide("approve", approved, "--yes", "--no-run")
        return looked

    def _rejects(self, row: Mapping[str, Any]) -> bool:
        only = self._ways.reject_code
        return only in ("", row["code"]) and self._rng.random() < self._ways.reject

    async def _edit(self, row: Mapping[str, Any]) -> None:
        """
        A text that nobody could read is typed, what is grave was a false alarm or is
        rejected; what else is asked for is refused.
        """
        if (asked := row["needs"][0]) in ("text", "typed"):
            channel = "text" if asked == "text" else "typed.1"
            given = ("--set", f"{channel}={TYPED}", "--yes", "--no-run")
            await self._decide("edit", [row["hold"]], *given)
        elif asked == "answer_by" and not self._rejects(row):
            given = ("--set", "answer_by=machine", "--yes", "--no-run")
            await self._decide("edit", [row["hold"]], *given)
        else:
            await self._decide("reject", [row["hold"]], "--reason", WHY)

    async def _decide(self, verb: str, holds: list[str], *options: str) -> None:
        name = {
            "WAYBILL_REVIEWER": f"reviewer-{self._number + 1}",
            "WAYBILL_ROLES": GRAVE,
        }
        said = await self._it.command("review", verb, *holds, *options, **name)
        if said is None or (isinstance(said, dict) and "error" in said):
            self.refused += len(holds)
        else:
            self.ruled[verb] += len(holds)
