"""
Every pairing of the catalogue in ten conditions, judged twice.

The checker reads the rule files of `examples/quotes`; the second implementation has
tables of its own.  A pairing that the first passes and the second does not is unsafe.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Annotated, Any

import typer

from loadtest.scenarios.fitting_second import Asked, verdict
from loadtest.showing import Json, Seed, fail_if, say, show
from loadtest.vendors.catalogue import catalogue
from stages.fitting.checker import Fits, check
from stages.fitting.parts import Assembly, Duty, Part
from stages.fitting.rulebook import load

RULES = Path(__file__).parents[2] / "examples" / "quotes" / "rules"
SIGNS = {Fits.YES: "y", Fits.UNKNOWN: "?", Fits.NO: "n"}
JOINED = frozenset({frozenset({"one", "other"})})
TELL_EVERY = 20_000  # pairings
EXAMPLES_MAX = 5
CONDITIONS = (
    Asked("mineral oil", 40, 100),
    Asked("mineral oil", 80, 250),
    Asked("mineral oil", 100, 350),
    Asked("mineral oil", 120, 210),
    Asked("mineral oil", 130, 50),
    Asked("mineral oil", -35, 100),
    Asked("water glycol", 50, 150),
    Asked("phosphate ester", 90, 120),
    Asked("synthetic ester", 70, 180, 250),
    Asked("water", 20, 40, 100),
)


def rule_files() -> dict[str, str]:
    """The text of each rule file of the example."""
    return {path.name: path.read_text("utf-8") for path in RULES.glob("*.toml")}


def run(
    tell: Callable[[str], None],
    *,
    pairs: int,
    seed: int,
    files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Judge pairings of two parts, each in every condition, by both implementations.

    Args:
        pairs: So many, drawn by `seed`; 0: all of them.
        files: Other rule files than those of the example.

    Returns:
        How many differ and which: `unsafe_passed` were passed by the checker alone,
        `safe_refused` by the second alone; of `told_apart` one says unknown and one
        no; and up to five `examples`.
    """
    rules = load(rule_files() if files is None else files)
    wares = [ware.part for ware in catalogue().values()]
    parts = {part["number"]: Part.model_validate(part) for part in wares}
    found = list(combinations_with_replacement(wares, 2))
    if pairs:
        found = random.Random(seed).sample(found, min(pairs, len(found)))
    counts: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    examples: list[str] = []
    started = time.monotonic()
    for number, (one, other) in enumerate(found, 1):
        joined = {"one": parts[one["number"]], "other": parts[other["number"]]}
        for asked in CONDITIONS:
            finding = check(Assembly(joined, JOINED), duty_of(asked), rules)
            first, second = SIGNS[finding.fits], verdict(one, other, asked)
            counts[first] += 1
            if first != second:
                wrong[_kind(first, second)] += 1
                examples.append(f"{one['title']} + {other['title']}: {first}{second}")
                del examples[EXAMPLES_MAX:]
        if number % TELL_EVERY == 0:
            tell(f"{number} of {len(found)} pairings")
    return {
        "parts": len(wares),
        "pairings": len(found),
        "conditions": len(CONDITIONS),
        "passed": counts["y"],
        "unknown": counts["?"],
        "refused": counts["n"],
        "unsafe_passed": wrong["unsafe_passed"],
        "safe_refused": wrong["safe_refused"],
        "told_apart": wrong["told_apart"],
        "examples": examples,
        "seconds": round(time.monotonic() - started, 1),
    }


def duty_of(asked: Asked) -> Duty:
    """A condition as the checker has it."""
    bend = Decimal(asked.bend) if asked.bend else None
    return Duty(asked.medium, Decimal(asked.celsius), Decimal(asked.bar), bend)


def _kind(first: str, second: str) -> str:
    if first == "y":
        return "unsafe_passed"
    return "safe_refused" if second == "y" else "told_apart"


def run_fitting(
    pairs: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="So many drawn; 0: all.")
    ] = 0,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Every pairing of 600 parts in ten conditions, judged by two implementations."""
    result = run(say, pairs=pairs, seed=seed)
    show(result, json)
    fail_if(any(result[b] for b in ("unsafe_passed", "safe_refused", "told_apart")))
