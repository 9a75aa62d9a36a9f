"""Pages read as the product reads them, in the jail, and the processor time of each."""

from __future__ import annotations

import resource
from typing import Any

from stages.reading import page


def first(request: dict[str, Any]) -> dict[str, Any]:
    """`read_page`, and what it took."""
    return {"reading": page.read_page(request), "cpu_s": burnt()}


def second(request: dict[str, Any]) -> dict[str, Any]:
    """`read_again`, and what it took."""
    return {"reading": page.read_again(request), "cpu_s": burnt()}


def burnt() -> float:
    """Processor seconds of this process, which does nothing else, and its programs."""
    used = [
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return sum(one.ru_utime + one.ru_stime for one in used)
