"""
A quote added up a second time, in whole cents and millimetres, by what was asked for.

Nothing of `stages/quoting` and `stages/fitting` is looked at: prices are those of the
catalogue, and what fits is said by `fitting_second`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from loadtest.corpora.enquiries import Truth
from loadtest.scenarios.fitting_second import Asked, verdict
from loadtest.vendors.catalogue import REGIONS, Ware, catalogue


def faults_of(
    record: Mapping[str, Any],
    customer: Mapping[str, str],
    truths: Sequence[Truth],
    wares: Mapping[str, Ware] | None = None,
) -> Counter[str]:
    """
    What is wrong with a QUOTE.json: how often, by the promise that it breaks.

    Args:
        wares: The catalogue; None: the ERP's.
    """
    known = catalogue() if wares is None else wares
    found: Counter[str] = Counter()
    found["lines_wrong"] += len(record["lines"]) != len(truths)
    total = 0
    for line, truth in zip(record["lines"], truths, strict=False):
        named = {one["part"]: known.get(one["part"]) for one in line["parts"]}
        found["parts_invented"] += sum(ware is None for ware in named.values())
        if None in named.values():
            continue
        found["unsafe"] += not _fits(line, truth, known)
        pieces = line_total = 0
        for one in line["parts"]:
            ware = known[one["part"]]
            is_hose = ware.part["kind"] == "hose"
            needed = truth.count * (truth.length_mm if is_hose else 1000)
            needed *= 1 if is_hose else len(one["at"])
            pieces += 0 if is_hose else needed // 1000
            found["quantities_wrong"] += _thousandths(one["quantity"]) != needed
            price = ware.price(
                customer["region"], customer["tier"], max(1, needed // 1000)
            )
            found["prices_guessed"] += _cents(one["price"]) != int(price * 100)
            sum_ = (int(price * 100) * needed + 500) // 1000
            found["totals_wrong"] += _cents(one["total"]) != sum_
            line_total += sum_
        total += line_total
        found["totals_wrong"] += _cents(line["total"]) != line_total
        found["quantities_wrong"] += pieces != 2 * truth.count
    for name, cents in (("subtotal", total), ("discount", 0), ("total", total)):
        found["totals_wrong"] += _cents(record[name]) != cents
    found["totals_wrong"] += record["currency"] != REGIONS[customer["region"]][0]
    return found


def _fits(line: Mapping[str, Any], truth: Truth, wares: Mapping[str, Ware]) -> bool:
    """Whether the hose bears it with each of its two ends."""
    parts = [wares[one["part"]].part for one in line["parts"]]
    [hose] = [part for part in parts if part["kind"] == "hose"]
    asked = Asked(truth.medium, truth.celsius, truth.bar)
    ends = [part for part in parts if part["kind"] != "hose"]
    return bool(ends) and all(verdict(hose, end, asked) == "y" for end in ends)


def _cents(amount: str) -> int:
    whole, _, cents = amount.partition(".")
    return int(whole) * 100 + int((cents + "00")[:2])


def _thousandths(amount: str) -> int:
    whole, _, rest = amount.partition(".")
    return int(whole) * 1000 + int((rest + "000")[:3])
