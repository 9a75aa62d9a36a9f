"""What a route to a clause comes to: places in the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Hit(NamedTuple):
    """
    `[start, end)` of the text.

    `key` is what stands there, in one form, where two routes may find it at two places:
    a name, a date; "" where the place itself is what counts.
    """

    start: int
    end: int
    key: str = ""

    def meets(self, other: Hit) -> bool:
        """Whether both are about the same: one place, or the same words at two."""
        if self.key and self.key == other.key:
            return True
        return self.start < other.end and other.start < self.end


# The hits of the route by headings, and those of the route by words, best first.
Routes = tuple[Sequence[Hit], Sequence[Hit]]
