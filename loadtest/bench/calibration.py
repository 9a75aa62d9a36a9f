"""
Does a page's confidence tell the truth, and are wrong amounts in doubt?

Confidence is the share of a page's words that are right: pages are put in bins by it,
and what it expects to be wrong is compared with what is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

from loadtest.corpora.truth import right
from stages.reading.protocol import PageReading

EDGES = (101.0, 99.0, 97.0, 95.0, 92.0, 85.0, 75.0, 0.0)
BIN_MIN = 10  # pages; fewer say nothing
OFF_MAX = 2.0  # per cent between expected and found
AMOUNT = re.compile(r"(?<![\d.,])\d{1,3}(?:[.,]?\d{3})*[.,]\d\d(?!\d)")
AMOUNTS_WRONG_MAX = 0.01
WITH_AMOUNTS = ("receipts", "generated", "forms")

Ended = tuple[str, PageReading, str]  # a page's truth, how it was read, its class


def bins(ended: Sequence[Ended]) -> dict[str, Any]:
    """By reader and bin: pages, and the words expected and found to be wrong, %."""
    groups: dict[str, dict[str, Any]] = {}
    for high, low in pairwise(EDGES):
        inside = [
            (100 - read.confidence, 100 - 100 * right(read.text, truth), read.engine)
            for truth, read, _ in ended
            if low <= read.confidence < high
        ]
        for reader in sorted({one for *_, one in inside} - {""}):
            mine = [(e, f) for e, f, engine in inside if engine == reader]
            groups.setdefault(reader, {})[f"from {low:.0f}"] = {
                "pages": len(mine),
                "expected": round(mean(e for e, _ in mine), 1),
                "found": round(mean(f for _, f in mine), 1),
            }
    return groups


def honest(groups: dict[str, Any]) -> bool:
    """Whether every bin of enough pages is as right as it says."""
    return all(
        abs(one["expected"] - one["found"]) <= OFF_MAX
        for group in groups.values()
        for one in group.values()
        if one["pages"] >= BIN_MIN
    )


def amounts(ended: Sequence[Ended]) -> dict[str, Any]:
    """Amounts with two decimals: how many there are, were read, and read wrongly."""
    count: Counter[str] = Counter()
    for truth, read, kind in ended:
        if kind not in WITH_AMOUNTS or read.layout is None or read.status != "OK":
            continue
        there = Counter(plain(one) for one in AMOUNT.findall(truth))
        count["there"] += there.total()
        for word in (w for line in read.layout.lines for w in line.words):
            for one in AMOUNT.findall(word.text):
                count["read"] += 1
                count["doubtful"] += word.doubtful
                if there[plain(one)] > 0:
                    there[plain(one)] -= 1
                else:
                    count["wrong"] += 1
                    count["wrong_unmarked"] += not word.doubtful
    keys = ("there", "read", "doubtful", "wrong", "wrong_unmarked")
    share = count["wrong_unmarked"] / max(1, count["read"])
    return {**{k: count[k] for k in keys}, "wrong_unmarked_share": round(share, 4)}


def plain(amount: str) -> str:
    """However its thousands and decimals are set apart."""
    return re.sub(r"\D", "", amount)
