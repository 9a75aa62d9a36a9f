"""Words of a scan that a reader is not sure of: no figure is taken of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.stage import Context
from stages.document import PageText
from stages.layout import Layout
from stages.quoting.forms import Spot

EDGES = ".,;:()[]„“”\"'"


async def doubtful_of(read: Sequence[PageText], ctx: Context) -> dict[str, str]:
    """Doubtful words of all pages, each with what another reader made of it, or ""."""
    found: dict[str, str] = {}
    for page in read:
        if page.layout and page.doubtful:
            data = await ctx.artifacts.get(page.layout)
            for line in Layout.model_validate_json(data).lines:
                found |= {
                    word.text.strip(EDGES): word.other.strip(EDGES)
                    for word in line.words
                    if word.doubtful
                }
    return found


def doubt_of(spot: Spot, doubtful: Mapping[str, str]) -> str:
    """Why the words of a value must be asked about; "" where a reader is sure."""
    for word in spot.text.split():
        other = doubtful.get(word.strip(EDGES))
        if other is not None:
            read = f", another reader has “{other}”" * bool(other)
            return f"the scan is hard to read here{read}: is it “{spot.text}”?"
    return ""
