"""
Pricing: stock and price of each part from the ERP, the sums, and what needs a person.

Reads   `enquiry`, `chosen`, `customer`, `before`; `granted`, by a person.
Writes  `quote`, with the digest of all that it promises.
Steps   one a question, such as `line-1/price-FIT-123456-12-1`; an answer that became
        too old while the quote was held is asked for anew, as `…-2`.
Limits  the ERP's own, as `vendors.toml` declares them.
Ends    Advance; Hold DISCOUNT_OVER_LIMIT and PRICE_JUMPED, which ask for `granted`, the
        digest of exactly this quote; PRICE_STALE is tried again.
"""

from pipeline.stage import Advance, Context, Hold, Outcome, Retry, stage
from stages.quoting import erp
from stages.quoting import pricing as sums
from stages.quoting.prices import PricingSettings, policy_of, quoted


@stage(settings=PricingSettings, timeout_s=900, retry=Retry(attempts=60, cap_s=30))
async def pricing(request, ctx: Context) -> Outcome:
    """Price the parts; a jump and a large discount need a person's word."""
    policy = policy_of(ctx.settings)
    quote = await quoted(request, ctx, policy, erp.now_utc())
    over, jumped = sums.over_limit(quote), sums.jumps(quote)
    if (over or jumped) and request.granted != quote.digest:
        changed = bool(request.granted)
        why = "; ".join([over] * bool(over) + jumped)
        return Hold(
            "DISCOUNT_OVER_LIMIT" if over else "PRICE_JUMPED",
            why + "; what was granted is not this quote any more" * changed,
            evidence={
                "quote": f"{quote.number} revision {quote.revision}",
                "customer": f"{quote.customer.number} {quote.customer.name}",
                "lines": sums.record_lines(quote),
                "subtotal": str(quote.subtotal),
                "discount_percent": str(quote.discount_percent),
                "discount": str(quote.discount),
                "total": f"{quote.total} {quote.currency}",
                "jumps": jumped,
                "answer": {"granted": quote.digest},
            },
            ask=("granted",),
            role=ctx.settings.role,
        )
    return Advance(quote=quote)
