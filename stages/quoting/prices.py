"""A quote from chosen parts: the stock, price and last price of each, by the ERP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic import Field

from pipeline.stage import Context, Settings
from stages.quoting import erp
from stages.quoting.forms import Policy, Position, Quote
from stages.quoting.pricing import break_count, position, quantities, quote_of


class PricingSettings(Settings):
    """Keys of `[stage.pricing]`, and of `[stage.document]`, which looks again."""

    price_age_h: float = Field(default=24, gt=0)
    stock_age_h: float = Field(default=24, gt=0)
    jump_percent: Decimal = Field(default=Decimal(20), gt=0)
    discount_limit_percent: Decimal = Field(default=Decimal(5), ge=0, le=100)
    valid_days: int = Field(default=14, gt=0, le=365)
    dispatch_days: int = Field(default=1, ge=0, le=365)
    transit_days: dict[str, int] = Field(default_factory=dict)
    role: str = ""  # who grants


def policy_of(settings: PricingSettings) -> Policy:
    """What a house allows."""
    return Policy(
        price_age_h=settings.price_age_h,
        stock_age_h=settings.stock_age_h,
        jump=settings.jump_percent / 100,
        discount_limit=settings.discount_limit_percent,
        valid_days=settings.valid_days,
        dispatch_days=settings.dispatch_days,
        transit_days=settings.transit_days,
    )


async def quoted(request: Any, ctx: Context, policy: Policy, now: datetime) -> Quote:
    """
    The quote of a request's chosen parts, by answers that are no older than allowed.

    Raises:
        Transient: PRICE_STALE, VENDOR_GARBAGE, and as `Vendor.call`.
        Permanent: UNIT_DIFFERS, CURRENCIES_DIFFER.
    """
    customer, enquiry = request.customer, request.enquiry
    chosen = {one.line: one for one in request.chosen}
    lines: list[tuple[int, list[Position]]] = []
    for line in enquiry.lines:
        made = []
        for part, places, needed in quantities(line, chosen[line.number]):
            at = f"line-{line.number}"
            count = str(break_count(needed))
            query = {"region": customer.region, "tier": customer.tier, "count": count}
            price, asked = await erp.price(
                ctx,
                f"{at}/price-{part.number}-{count}",
                part.number,
                query,
                timedelta(hours=policy.price_age_h),
                now,
            )
            stock, _ = await erp.stock(
                ctx,
                f"{at}/stock-{part.number}",
                part.number,
                customer.region,
                timedelta(hours=policy.stock_age_h),
                now,
            )
            of = {"customer": customer.number, "part": part.number}
            known = await erp.quotes(ctx, f"{at}/last", of)
            last = last_price(known.quotes, part.number, price.currency)
            made.append(position(part, places, needed, price, stock, last, asked))
        lines.append((line.number, made))
    number = enquiry.quote if request.before else f"Q-{ctx.item.id:06d}"
    percent = enquiry.discount
    return quote_of(number, customer, lines, percent, policy, now, request.before)


def last_price(
    known: tuple[Mapping[str, Any], ...], number: str, currency: str
) -> Decimal | None:
    """What was quoted for a part the last time, in this currency."""
    for quote in known:
        for line in quote.get("lines") or ():
            if line.get("part") == number and quote.get("currency") == currency:
                try:
                    return Decimal(str(line["price"]))
                except (InvalidOperation, KeyError):
                    return None
    return None
