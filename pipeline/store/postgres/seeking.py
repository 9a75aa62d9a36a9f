"""
What people look for, as facts of SQL.

A name is found by a part of it, without an index: that would cost every item that
comes in, and a part is found as quickly by reading some hundred thousand names.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from pipeline.names import part_pattern
from pipeline.store.rows import Sought


class Parameters:
    """The parameters of a statement, in the order in which they are named."""

    def __init__(self, *values: Any) -> None:
        self.values = list(values)

    def __call__(self, value: Any) -> str:
        """What stands for this value in the statement."""
        self.values.append(value)
        return f"${len(self.values)}"


def all_of(facts: Iterable[str]) -> str:
    """That every fact is so."""
    return " and ".join(facts) or "true"


def of_items(sought: Sought, batch_id: int | None, of: Parameters) -> list[str]:
    """What must be so of an item `i`, for what it is and not for where."""
    facts = []
    if batch_id is not None:
        facts.append(f"i.batch_id = {of(batch_id)}")
    if sought.pipeline:
        facts.append(f"i.pipeline = {of(sought.pipeline)}")
    if sought.name:
        # In this collation only ASCII has cases, and that is quick.
        facts.append(f'i.name collate "C" ilike {of(_like(sought.name))}')
        if not sought.name.isascii():
            facts.append(f"i.name ~ {of(part_pattern(sought.name))}")
    return facts


def beside(item: str, facts: Iterable[str]) -> list[str]:
    """The same of the item with this id: looked up by its key, whatever is planned."""
    said = all_of(facts)
    if said == "true":
        return []
    return [f"(select {said} from waybill.items i where i.id = {item})"]


def _like(part: str) -> str:
    """What names with this part are like: whatever stands where it has no ASCII."""
    return f"%{''.join(map(_char, unicodedata.normalize('NFC', part)))}%"


def _char(char: str) -> str:
    if not char.isascii():
        return "%"
    return f"\\{char}" if char in "%_\\" else char
