"""
People at the desk of the moderation run, by the commands that people use.

Two rule on what is grave, one reads what was drawn by lot, each hold by hold; they know
of a letter what a reader of it would.  The careless one takes no time: it names
everything that is open, of every line, and says yes.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from loadtest.driver.typist import Typist
from loadtest.scenarios.moderation_given import Letter

GRAVE, QUALITY = "safeguarding", "quality"  # roles
CARELESS = "careless"  # who
LINES = ("", GRAVE, QUALITY)
IDLE_S, ROUND_S = 2.5, 6.0
AT_ONCE = 40  # holds that the careless one names in a command
NOTHING = "NOTHING_HELD"
REPLY = {
    "greeting": "Dear friend,",
    "paragraphs": ["I read your letter twice, and I am glad that you wrote it."],
    "closing": "With love from the North Pole\nSanta",
    "writer": "a reviewer",
}


class People:
    """All of them, and what was answered to what they typed."""

    def __init__(self, letters: Mapping[str, Letter], codes: Sequence[str]) -> None:
        self._letters = letters
        self._codes = codes
        self.ruled: Counter[str] = Counter()  # by verb
        self.refused: Counter[str] = Counter()  # by code
        self.seen_in_common: set[str] = set()  # names, in the list of the common line

    async def read(self, typist: Typist, role: str, who: str) -> None:
        """Rule on that role's line, hold after hold, until it is cancelled."""
        env = {"WAYBILL_REVIEWER": who, "WAYBILL_ROLES": role}
        rng = random.Random(who)
        shown: Any = None
        while True:
            if shown is None:
                typed = await typist.type("review", "next", "--role", role, env=env)
                shown = typed.data if typed.code == 0 else None
                if shown is None:
                    await anyio.sleep(IDLE_S)
                    continue
            verb, *given = self._word_on(shown, rng)
            words = ("review", verb, shown["hold"], *given)
            typed = await typist.type(*words, "--yes", "--next", env=env)
            data = typed.data or {}
            if typed.code == 0:
                self.ruled[verb] += 1
            else:
                self.refused[_code(data)] += 1
            shown = data.get("next")

    def _word_on(self, shown: Mapping[str, Any], rng: random.Random) -> list[str]:
        """What somebody who has read it says."""
        letter = self._letters[shown["item_name"]]
        if "reply" in shown["needs"]:
            return ["edit", "--set", f"reply={json.dumps(REPLY)}"]
        if "answer_by" in shown["needs"]:
            if not letter.must_be_seen:
                why = ("--reason", "a false alarm")
                return ["edit", "--set", "answer_by=machine", *why]
            if rng.random() < 0.5:
                return ["reject", "--reason", "told the safeguarding lead"]
            return ["edit", "--set", "answer_by=person"]
        if letter.must_be_seen:
            return ["edit", "--set", f"missed={letter.category}"]
        return ["approve"]

    async def approve_everything(self, typist: Typist) -> None:
        """
        Say yes to all that is open, by name and by code, with the roles and without.

        Who has no role looks at the common line first, as everybody does.
        """
        rng = random.Random(CARELESS)
        for number in range(1 << 30):
            roles = {} if number % 2 else {"WAYBILL_ROLES": f"{GRAVE},{QUALITY}"}
            env = {"WAYBILL_REVIEWER": CARELESS, **roles}
            open_: list[str] = []
            for line in LINES:
                of = ("--role", line) if line else ()
                typed = await typist.type(
                    "review", "ls", "--limit", "200", *of, env=env
                )
                rows = typed.data if isinstance(typed.data, list) else []
                if not line:
                    self.seen_in_common |= {row["item_name"] for row in rows}
                names = [row["hold"] for row in rows]
                rng.shuffle(names)
                open_ += names[:AT_ONCE]
                if line == GRAVE and names:
                    # One alone: then it is no bulk, and an answer is asked for.
                    await self._approve(typist, env, names[0])
            if open_:
                await self._approve(typist, env, *open_)
            await self._approve(typist, env, "--code", rng.choice(self._codes))
            await anyio.sleep(ROUND_S)

    async def _approve(
        self, typist: Typist, env: Mapping[str, str], *which: str
    ) -> None:
        words = ("review", "approve", *which, "--yes", "--no-run")
        typed = await typist.type(*words, env=env)
        data = typed.data or {}
        for one in data.get("decisions", [data]):
            if "error" in one:
                self.refused[_code(one)] += 1
            elif one:
                self.ruled["careless"] += 1


def _code(data: Mapping[str, Any]) -> str:
    return str(data.get("error", {}).get("code", "none"))
