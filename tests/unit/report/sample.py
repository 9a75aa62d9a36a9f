"""
Folders of runs that never were: ten thousand letters with faults, from a seed.
"""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

STAGES = ("intake", "ocr", "moderation", "generation", "output")
MODELS = {"ocr": 40.0, "llm": 60.0, "printer": 30.0}
FAULTS = (
    *((0.14, 0.08, "slow-vendor", "ocr"), (0.27, 0.05, "outage", "llm")),
    *((0.4, 0.0, "kill", "worker 1"), (0.47, 0.0, "kill", "worker 3")),
    *((0.55, 0.01, "database-restart", "immediate"), (0.63, 0.03, "zombie", "2")),
    *((0.7, 0.0, "kill", "worker 2"), (0.74, 0.02, "network", "half open")),
)
VERDICT = (
    ("I1", "every item stands in exactly one place"),
    ("I1", "every file that was submitted has a receipt, and stands somewhere"),
    ("I2", "what was there at one look is there at every later one"),
    ("I5", "a worker that a look found replaced wrote nothing after that look"),
    ("I7", "a receiver that knows no keys accepted each effect once at most"),
    ("I11", "every urgent file was done by its deadline"),
    ("I22", "with the faults over, every item has ended or is with a person"),
)


def make(
    folder: Path,
    *,
    seed: int = 1,
    items: int = 10_000,
    seconds: float = 900.0,
    broken: str = "",
    metrics: tuple[str, ...] = (),
) -> Path:
    """A run's folder; `broken` an invariant, `metrics` the only ones sampled."""
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    rows, faults = _world(rng, items, seconds)
    with (folder / "samples.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("t", "metric", "label", "value"))
        out.writerows(r for r in rows if not metrics or r[1] in metrics)
    with (folder / "faults.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("t", "until", "kind", "what", "recovered_s"))
        out.writerows(faults)
    verdict = [
        {
            "invariant": number,
            "says": says,
            "checked": items,
            "violations": 2 if number == broken else 0,
            "examples": ["item 17", "item 4711"] if number == broken else [],
            "during": 180,
        }
        for number, says in VERDICT
    ]
    (folder / "checker.json").write_text(json.dumps(verdict))
    summary = _summary(folder.name, seed, items, seconds, faults, verdict)
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def _summary(
    name: str, seed: int, items: int, seconds: float, faults: list[Any], verdict: Any
) -> dict[str, Any]:
    bad = sum(line["violations"] for line in verdict)
    return {
        "scenario": "letters",
        "seed": seed,
        "pipeline": "letters",
        "command": f"python -m loadtest run letters --items {items} --out {name}",
        "version": "0.1.0",
        "machine": {"cores": 2, "python_ms": 61.2},
        "started_at": 1_795_000_000,
        "seconds": seconds,
        "speed": 1500,
        "items": {"submitted": items, "done": items - 212, "held": 0, "rejected": 212},
        "results": {
            "conserved": True,
            "lost": 0,
            "duplicate_effects": 0,
            "deadlines_missed": 0,
            "urgent_missed": 0,
            "violations": bad,
            "in_flight_max": 2310,
            "faults": {"kill": 3},
        },
        "faults": {f[2]: 1 for f in faults},
        "verdict": verdict,
        "good": not bad,
    }


def _world(
    rng: random.Random, items: int, seconds: float
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Samples every five seconds of something like a pipeline."""
    rows: list[tuple[Any, ...]] = []
    faults = [
        (
            round(at * seconds, 1),
            round((at + length) * seconds, 1),
            kind,
            what,
            round(rng.uniform(0.4, 9), 2),
        )
        for at, length, kind, what in FAULTS
    ]
    done = dict.fromkeys(STAGES, 0.0)
    calls = dict.fromkeys(MODELS, 0.0)
    refused = 0.0
    step = seconds / 180
    for tick in range(181):
        t = round(tick * step, 1)
        hit = any(f[0] <= t <= max(f[1], f[0] + 2 * step) for f in faults)
        pace = items / seconds * 1.25 * (0.25 if hit else rng.uniform(0.85, 1.15))
        before = min(items, items * t / seconds * 1.3 + 200)
        for stage in STAGES:
            done[stage] = min(before, done[stage] + pace * step)
            before = done[stage]
            rows.append((t, "finished", stage, round(done[stage])))
            rows.append(
                (
                    t,
                    "queue_age_s",
                    stage,
                    round(rng.uniform(1, 9) * (5 if hit else 1), 1),
                )
            )
        left = items - done["output"]
        flight = min(left, 2310, 90 + t * 40)
        held = min(left - flight, max(0.0, 400 * math.sin(t / seconds * math.pi)))
        for state, n in (
            ("done", done["output"] * 0.98),
            ("rejected", done["output"] * 0.02),
            ("running", flight * 0.4),
            ("waiting", flight * 0.6),
            ("held", max(0, held)),
            ("ready", max(0, left - flight - max(0, held))),
        ):
            rows.append((t, "items", state, round(n)))
        rows.append((t, "in_flight", "", round(flight)))
        for label, share in (("p0", 0.1), ("p1", 0.2), ("p50", 0.6)):
            rows.append((t, "slack_s", label, round(share * (1.2 * seconds - t * 0.9))))
        for vendor, limit in MODELS.items():
            calls[vendor] += min(limit, pace) * step
            refused += 3 * step if hit else 0
            rows.append((t, "vendor_calls", f"{vendor}:accepted", round(calls[vendor])))
            rows.append((t, "vendor_calls", f"{vendor}:throttled", round(refused)))
            rows.append((t, "vendor_limit", vendor, limit))
        rows.append((t, "rss_mb", "worker", round(310 + rng.uniform(0, 25))))
        rows.append((t, "rss_mb", "service", round(140 + rng.uniform(0, 9))))
        rows.append((t, "held", "DISCLOSURE", round(max(0, held) * 0.7)))
        rows.append((t, "held", "UNREADABLE", round(max(0, held) * 0.3)))
        for tenant, share in (("north", 0.8), ("south", 0.2)):
            rows.append((t, "tenant_finished", tenant, round(done["output"] * share)))
    return rows, faults
