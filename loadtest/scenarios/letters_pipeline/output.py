"""
Output of the load test: the built-in stage, and an order at the printer's shop.

Reads   `reply`.
Writes  `printed`; the print goes into a print batch (sink `print`), and an order to the
        vendor behind the sink `shop`, whose book says how often it came.
Steps   none.
Limits  none.
Ends    as the built-in stage.
"""

from __future__ import annotations

from pipeline.stage import Advance, Context, Outcome, Retry, stage
from stages.document import Document
from stages.output import output as typeset
from stages.printing.typesetter import PrintSettings


@stage(settings=PrintSettings, timeout_s=120, retry=Retry(attempts=4))
async def output(document: Document, ctx: Context) -> Outcome:
    """Typeset it, and order it."""
    ended = await typeset(document, ctx)
    if isinstance(ended, Advance):
        await ctx.effect("order", "shop", {"letter": ctx.item.name})
    return ended
