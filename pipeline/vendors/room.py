"""
Room: who begins of those that need no moment, where only so many may be under way.

Between its turn and its call each has something to do (the ledger's row): were its room
taken for that as well, the vendor would be asked by fewer than it allows.  So a few
more than there is room for come in early, and begin, in order, as soon as there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import anyio

from pipeline.vendors.limit import Limit

SHORT_S = 0.2  # while somebody waits without a permit, limits are exchanged so often


def let_in(limits: Sequence[Limit]) -> None:
    """
    Let those begin who need no moment, in order, while there is room.

    One whose line is paced has its room from the store; where its moment is near it
    is kept for it, or those of other lines would take it for ever.
    """
    now = anyio.current_time()
    kept: Counter[Limit] = Counter()
    lines = {line for limit in limits for line in limit.lines}
    for line in lines:
        line.turn_back(now)
    # Each line twice: those who are ready, and those who are not yet let in.
    ready, waiting = set(lines), set(lines)
    while True:
        found = [(ln.ready_order, True, ln) for ln in ready if ln.ready]
        found += [(ln.order, False, ln) for ln in waiting if ln.short]
        if not found:
            return
        _, is_ready, first = min(found, key=lambda one: one[0])
        if is_ready:
            if first.has_room(now, kept):
                first.call_ready()
            else:
                ready.discard(first)
        elif first.paced:
            if max(lim.lead_s(now) for lim in first.limits) <= SHORT_S:
                kept.update(first.limits)
            waiting.discard(first)
        elif not first.let_in(now, kept):
            waiting.discard(first)
