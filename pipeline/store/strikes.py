"""Deaths of workers: how many an item may have been there at, and how it runs."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.model import Attempt, ItemId

# Who was there when a worker died has a strike.  Two in company make a suspect; a
# third, among suspects, lets it run alone, where it takes two: workers die of what
# nobody did, too.
SUSPECT = 2
ALONE = 3
DEATHS = 5
# Suspects that run together.  Where workers were killed from outside, all that they
# had are suspects and nobody is guilty: one by one, hundreds would take hours.
# Where one is guilty, so many run alone at the most.
SUSPECTS_MAX = 32
# Where so many of one tenant's items killed their workers at one stage of a pipeline,
# and stand in line, the rest of it there may as well: each would be found by a death
# more, and workers that live a second finish nobody else's.  So many are suspects for
# it at each further death.
ALIKE, ALIKE_MAX = 3, 2000
KILLED_WHY = (
    "workers died while they had this item, in the end with nothing else in hand"
)


class Blame(NamedTuple):
    """
    One item for which a worker ended: those beside it are not charged, it runs
    alone from then on.

    With a `failed` try it is charged that one, and fails by its code when it was the
    `last`; without, it killed the worker: a strike.
    """

    item: ItemId
    failed: Attempt | None = None
    last: bool = False
