"""
Lapsing: what becomes of a hold that nobody decided in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EXPIRED = "expired"  # the verdict of a hold that lapsed; it was not denied
LAPSED = "HOLD_EXPIRED"  # the code of an item that ended by it
NOBODY = "nobody"  # who decided it


@dataclass(frozen=True, slots=True)
class Lapse:
    """
    What a hold comes to when nobody has decided it in time.

    Attributes:
        after_s: Seconds from when it is held.
        action: "go_on": as after a decision, the stage again where it asked, else the
            next one.  "end": the item is rejected, with the code HOLD_EXPIRED.
        updates: What the state receives where it goes on; nothing that was proposed.
    """

    after_s: float
    action: Literal["go_on", "end"] = "go_on"
    updates: Mapping[str, Any] = field(default_factory=dict)
