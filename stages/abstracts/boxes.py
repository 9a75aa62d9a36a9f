"""
Boxes of quotes: where on their pages they stand, by what was read of those pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.stage import Context
from stages.abstracts.forms import Clause
from stages.abstracts.places import parts, with_spots
from stages.document import PageText
from stages.layout import Layout


async def with_boxes(
    found: Mapping[str, Clause],
    read: Sequence[PageText],
    ctx: Context,
    text: str = "",
) -> dict[str, Clause]:
    """
    The same clauses, their quotes with boxes where the pages' words are known.

    Args:
        text: The document's; without it words that a page has twice are boxed where
            they stand first.
    """
    pages = {page.number: page.layout for page in read if page.layout}
    quoted = {
        page
        for clause in found.values()
        for quote in clause.quotes
        if not quote.spots
        for page in parts(quote)
    }
    layouts = {
        page: Layout.model_validate_json(await ctx.artifacts.get(pages[page]))
        for page in sorted(quoted & pages.keys())
    }
    return {name: _placed(clause, layouts, text) for name, clause in found.items()}


def _placed(clause: Clause, layouts: Mapping[int, Layout], text: str) -> Clause:
    quotes = tuple(
        q if q.spots else with_spots(q, layouts, text) for q in clause.quotes
    )
    return clause.model_copy(update={"quotes": quotes})
