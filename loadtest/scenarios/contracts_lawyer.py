"""
A lawyer of the run: rules on what is doubtful, on working hours, as people do.

By the command line alone: `waybill review ls`, `show` and `edit`, each a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio

from loadtest.scenarios.chaos import Scene
from loadtest.scenarios.contracts_given import Word

DAY_S, NIGHT_S = 12.0, 8.0  # a working day of the run, and the night after it
LOOK_S = 3.0  # between two looks at what is held
COMMAND_S = 120.0


class Lawyer:
    """
    Knows the contracts, and says what stands in them.

    Attributes:
        said: Its word by contract and type of clause.
        holds: Those that it ruled on.
        others: Codes of holds that ask no lawyer, by how often they were met.
    """

    def __init__(self, it: Scene, known: Mapping[str, Mapping[str, Word]]) -> None:
        self._it = it
        self._known = known
        self.said: dict[tuple[str, str], Word] = {}
        self.holds = 0
        self.others: Counter[str] = Counter()

    @property
    def ruled(self) -> int:
        """Types of clause that it gave its word on."""
        return len(self.said)

    async def works(self) -> None:
        """Day after day, until nobody waits for it any more."""
        while True:
            end = anyio.current_time() + DAY_S
            while anyio.current_time() < end:
                await self._round(end)
                await anyio.sleep(LOOK_S)
            await anyio.sleep(NIGHT_S)

    async def _round(self, until: float) -> None:
        for row in await reviewed(self._it, "ls", "--limit", "50") or ():
            if anyio.current_time() > until:
                return  # the next day
            shown = await reviewed(self._it, "show", row["hold"])
            if shown is not None:
                await self._rule(row["hold"], row["item_name"], shown)

    async def _rule(self, hold: str, name: str, shown: Mapping[str, Any]) -> None:
        doubts = (shown["shown"]["evidence"] or {}).get("doubts")
        if doubts is None:
            self.others[shown["code"]] += 1
            return
        words = {
            clause: self._known[name].get(clause, Word("absent", "", 1))
            for clause in doubts
        }
        rulings = json.dumps({clause: one._asdict() for clause, one in words.items()})
        set_ = ("--set", f"rulings={rulings}", "--digest", shown["digest"])
        if (
            await reviewed(self._it, "edit", hold, *set_, "--no-run", "--yes")
            is not None
        ):
            self.holds += 1
            self.said |= {(name, clause): one for clause, one in words.items()}


async def reviewed(it: Scene, *command: str) -> Any:
    """What a command of `waybill review` prints; None where it failed."""
    line = [sys.executable, "-m", "waybill", "review", *command, "--json"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # ours
            line,
            env=it.env,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    done = await anyio.to_thread.run_sync(run)
    return json.loads(done.stdout) if done.returncode == 0 else None
