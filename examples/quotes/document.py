"""
Document: the quote as a PDF that a buyer can trust, and the same as JSON.

Reads   `quote`, `enquiry`, `chosen`, `answers`, left by the stages before.
Writes  `files` and, in `facts`, number, revision and total; as products `record`
        (QUOTE.json) and `quote` (PDF), and copies in the batch's output folder.
Steps   where a price became too old meanwhile, those of pricing, asked anew.
Limits  one jailed process.
Ends    Advance; Hold QUOTE_CHANGED, new prices came to another sum; FONT_MISSING and
        TYPESET_FAILED fail.
Effects `mail`: the quote to the customer's address in the ERP, once; `erp`: one record
        by number and revision.  Each where such a sink is declared.
"""

from pydantic import Field

from pipeline.stage import Advance, Context, Hold, Outcome, Retry, Settings, stage
from stages.printing.handout import give_out, tell
from stages.quoting import asking, erp, sheet
from stages.quoting import pricing as sums
from stages.quoting.prices import quoted
from stages.quoting.record import for_erp, mail_of, record, written


class DocumentSettings(Settings):
    """Keys of `[stage.document]`."""

    template: str = "templates/quote.typ"
    paper: str = "a4"
    mail: str = ""
    erp: str = ""
    house: dict[str, str] = Field(default_factory=lambda: {"name": "The house"})
    terms: tuple[str, ...] = ()


@stage(settings=DocumentSettings, timeout_s=600, retry=Retry(attempts=20), window=64)
async def document(request, ctx: Context) -> Outcome:
    """QUOTE.json, the printed quote, one mail and one record in the ERP."""
    settings, quote = ctx.settings, request.quote
    if sums.is_old(quote, erp.now_utc()):
        # It lay here longer than its prices hold: they are asked for, not believed.
        now = await quoted(request, ctx, quote.policy, erp.now_utc())
        if now.digest != quote.digest and request.granted != now.digest:
            return Hold(
                "QUOTE_CHANGED",
                f"{now.total} {now.currency} instead of {quote.total}",
                evidence={
                    "lines": sums.record_lines(now),
                    "answer": {"granted": now.digest},
                },
                ask=("granted",),
            )
        quote = now
    terms = {"house": settings.house, "terms": settings.terms}
    answers = asking.plain(request.answers)
    data = record(quote, request.enquiry, request.chosen, answers, terms)
    kept = await ctx.artifacts.put(written(data))
    made, files = await ctx.jailed_files(
        sheet.typeset,
        pool="print",
        record=str(ctx.artifacts.path(kept)),
        template=ctx.folder.text(settings.template),
        paper=settings.paper,
    )
    stem = quote.number + f"-r{quote.revision}" * (quote.revision > 1)
    products = {
        "record": (kept, f"{stem}/QUOTE.json"),
        "quote": (files[sheet.QUOTE], f"{stem}/{stem}.pdf"),
    }
    await give_out(ctx, products)
    sent = {f"{stem}.pdf": files[sheet.QUOTE], f"{stem}.json": kept}
    sinks = {
        "mail": await tell(ctx, "mail", settings.mail, mail_of(data), sent),
        "erp": await tell(ctx, "erp", settings.erp, for_erp(data)),
    }
    return Advance(
        quote=quote,
        files={name: file for name, (_, file) in products.items()},
        facts={
            "number": quote.number,
            "revision": quote.revision,
            "customer": quote.customer.number,
            "total": f"{quote.total} {quote.currency}",
            "pages": made["pages"],
            "told": sinks,
        },
    )
