"""
Parts: documents that were found in another, before they are items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PARTS_MAX = 500  # of one spawn: a journal's batch is no larger


@dataclass(frozen=True, slots=True)
class Part:
    """
    One document found in another: what `Context.spawn` makes a child of.

    `key` is what makes it the same document, as `Submission.key` does; "" is never
    a duplicate.  A `refused_code` makes it a quarantined receipt and no item.
    """

    name: str
    input: Mapping[str, Any]
    key: str = ""
    size_bytes: int = 0
    refused_code: str = ""
    refused_why: str = ""
