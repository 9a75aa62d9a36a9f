"""An item's descendants as a tree: who runs, who waits for whom, what each did cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.tree import Tree

from pipeline.model import ItemId, State
from pipeline.store.postgres.trees import Node
from waybill import terminal
from waybill.commands.spending import cost_line, spent_json
from waybill.desk.why import LIVE

ENDED_SHOWN = 3  # of those that are done, of each parent; the others are counted


def tree_json(nodes: Sequence[Node]) -> list[dict[str, Any]]:
    """A node an object, those nearest to the root first."""
    return [
        {
            "id": node.row.id,
            "parent": node.row.parent_id,
            "name": node.row.name,
            "state": node.row.state,
            "stage": node.row.stage,
            "waits_for_children": node.row.joining,
            "code": node.row.code,
            "since": node.row.since,
            "spent": spent_json(node.spent),
        }
        for node in nodes
    ]


def print_tree(root: str, item: ItemId, nodes: Sequence[Node], *, whole: bool) -> None:
    """Draw it; unless `whole`, of those that are done only the first of each parent."""
    kin: dict[ItemId, list[Node]] = defaultdict(list)
    for node in nodes:
        if node.row.parent_id is not None:
            kin[node.row.parent_id].append(node)
    drawn = Tree(terminal.safe(root))
    _grow(drawn, item, kin, whole)
    terminal.out.print(drawn)


def _grow(
    drawn: Tree, parent: ItemId, kin: Mapping[ItemId, Sequence[Node]], whole: bool
) -> None:
    children = kin.get(parent, ())
    quiet = 0
    for node in children:
        plain = node.row.state is State.DONE and node.row.id not in kin
        quiet += plain
        if whole or not plain or quiet <= ENDED_SHOWN:
            _grow(drawn.add(terminal.safe(_line(node))), node.row.id, kin, whole)
    if not whole and quiet > ENDED_SHOWN:
        drawn.add(f"and {quiet - ENDED_SHOWN} more that are done: --tree shows them")


def _line(node: Node) -> str:
    row = node.row
    state = f"{row.state.value} at {row.stage}" if row.stage else row.state.value
    words = [f"{row.id} {terminal.visible(row.name)}", state]
    if row.joining:
        words.append("waits for its children")
    elif row.code:
        words.append(row.code)
    if row.state in LIVE:
        words.append(f"for {terminal.ago(row.since)}")
    if node.spent:
        words.append(cost_line(node.spent))
    return "  ".join(words)
