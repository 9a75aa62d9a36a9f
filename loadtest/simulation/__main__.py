"""
`python -m loadtest.simulation FIRST COUNT EVERY`: histories of the seeds FIRST,
FIRST + EVERY, … one after the other; a line of JSON for each that breaks a promise,
and one for all at the end.  `python -m loadtest simulate` starts some of these.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

from loadtest.simulation.history import hush, play

SAID_EVERY = 100


def main(first: int, count: int, every: int) -> None:
    """Play them; everything that is said goes to stdout."""
    hush()
    met: Counter[str] = Counter()
    items, virtual_s = 0, 0.0
    for number in range(count):
        seen = play(first + number * every)
        met.update(seen.met)
        items += seen.items
        virtual_s += seen.virtual_s
        if seen.broken:
            _say({"seed": seen.seed, "broken": seen.broken})
        if (number + 1) % SAID_EVERY == 0:
            _say({"played": SAID_EVERY})
    _say(
        {
            "played": count % SAID_EVERY,
            "items": items,
            "virtual_s": virtual_s,
            "met": met,
        }
    )


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(*(int(given) for given in sys.argv[1:4]))
