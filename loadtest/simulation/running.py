"""
Many histories, on every core.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loadtest.simulation.faults import POINTS

SHOWN_MAX = 20  # seeds that broke a promise, of which it is said how


def run(
    say: Callable[[str], None], *, histories: int, seed: int, processes: int
) -> dict[str, Any]:
    """
    Play `histories` of the seeds `seed`, `seed + 1`, …

    Returns what broke, by promise and by seed, and what the histories went through.
    """
    processes = min(processes, histories)
    began = time.monotonic()
    broken: list[dict[str, Any]] = []
    met: Counter[str] = Counter()
    sums: Counter[str] = Counter()

    def one(place: int) -> int:
        count = len(range(place, histories, processes))
        command = [sys.executable, "-m", "loadtest.simulation"]
        with subprocess.Popen(
            [*command, *map(str, (seed + place, count, processes))],
            stdout=subprocess.PIPE,
            text=True,
            # Sets of names are walked in an order that Python draws at its start.
            env={**os.environ, "PYTHONHASHSEED": "0"},
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                seen = json.loads(line)
                if "broken" in seen:
                    broken.append(seen)
                    say(f"seed {seen['seed']}: {seen['broken'][0]}; {replay(seen)}")
                met.update(seen.pop("met", {}))
                sums.update(
                    {k: seen.get(k, 0) for k in ("played", "items", "virtual_s")}
                )
                if "played" in seen and "virtual_s" not in seen:
                    say(f"{sums['played']} of {histories}, {len(broken)} broken")
        return child.returncode

    with ThreadPoolExecutor(processes) as pool:
        ended = list(pool.map(one, range(processes)))
    broken.sort(key=lambda seen: seen["seed"])
    promises = Counter(promise for seen in broken for promise, _ in seen["broken"])
    return {
        "histories": sums["played"],
        "seed": seed,
        "violations": sum(promises.values()),
        "promises_broken": dict(promises),
        "failing": [{**seen, "replay": replay(seen)} for seen in broken[:SHOWN_MAX]],
        "failing_seeds": len(broken),
        "crash_points": {
            "met": sum(f"killed {point}" in met for point in POINTS),
            "named": len(POINTS),
            "not_met": [p for p in POINTS if f"killed {p}" not in met],
        },
        "items": sums["items"],
        "virtual_s": round(sums["virtual_s"]),
        "met": dict(sorted(met.items())),
        "seconds": round(time.monotonic() - began, 1),
        "good": sums["played"] == histories and not broken and not any(ended),
    }


def replay(seen: dict[str, Any]) -> str:
    """How to play one history again."""
    return f"python -m loadtest simulate --histories 1 --seed {seen['seed']} --json"
