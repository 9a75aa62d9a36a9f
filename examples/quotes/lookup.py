"""
Lookup: who asks, and what the ERP has for each line.

Reads   `enquiry`; `answers`, by a clerk; the folder's rule files.
Writes  `enquiry` with what was answered, `customer`, `before`, `found`.
Steps   one a question to the ERP, named by it (`line-1/hose/6f2c…`): a question that
        an answer changes is asked, and no other is asked again.
Limits  the ERP's own, as `vendors.toml` declares them.
Ends    Advance; Hold QUESTIONS_OPEN, which asks a clerk for `answers` and runs again
        with them; waits for the signal `answers` where the buyer was sent a link.
"""

from collections.abc import Mapping

from pipeline.stage import Advance, Context, Hold, Outcome, Retry, Settings, stage
from stages.quoting import asking, erp, jailed
from stages.quoting.forms import Customer, Enquiry, Found, Line, Open
from stages.quoting.matching import searches, settled


class LookupSettings(Settings):
    """Keys of `[stage.lookup]`."""

    rules: str = "rules/*.toml"
    wait_s: float = 5 * 86400.0  # for the buyer's answer; then a clerk asks


# A try ends with each call that times out, and the next has all others in memory.
@stage(settings=LookupSettings, timeout_s=900, retry=Retry(attempts=60, cap_s=30))
async def lookup(request, ctx: Context) -> Outcome:
    """Ask the ERP; lines that nothing is asked of are looked up before any answer."""
    enquiry, answers = request.enquiry, {}
    if enquiry.open and request.asked:
        await all_lines(enquiry, ctx)
        said = await ctx.signal(
            asking.ANSWERS,
            asking.answers_to(enquiry.open),
            within_s=ctx.settings.wait_s,
            or_none=True,
        )
        if said is not None:
            answers = asking.plain(said.answers)
    answers |= asking.plain(request.answers)  # a clerk's word is the later one
    if answers:
        enquiry = await read_again(request, answers, ctx)
    found, open_ = await all_lines(enquiry, ctx)
    customer, unknown = await who(enquiry, ctx)
    before, lost = await earlier(enquiry, customer, ctx)
    open_ = [*enquiry.open, *open_, *unknown, *lost]
    if open_:
        return Hold(
            "QUESTIONS_OPEN",
            asking.sentence(open_),
            evidence=asking.evidence(open_, request.text),
            ask=("answers",),
        )
    return Advance(
        enquiry=enquiry,
        answers=answers,
        customer=customer,
        before=before,
        found=found,
    )


async def read_again(request, answers: Mapping[str, str], ctx: Context) -> Enquiry:
    """The request with what was answered put into it."""
    received = request.enquiry.received.isoformat()
    rules = ctx.settings.rules
    return await jailed.read(ctx, request.text, request.read, rules, received, answers)


async def all_lines(enquiry: Enquiry, ctx: Context) -> tuple[list[Found], list[Open]]:
    """What there is for each line of which nothing is asked."""
    found, open_ = [], []
    for line in enquiry.lines:
        if line.number not in enquiry.blocked:
            one, asks = await one_line(line, ctx)
            open_ += asks
            found += [one] if one else []
    return found, open_


async def one_line(line: Line, ctx: Context) -> tuple[Found | None, list[Open]]:
    """The parts that a line names, and all that are of its sizes and ends."""
    at = f"line-{line.number}"
    named = []
    for number in line.named:
        there = await erp.parts(ctx, f"{at}/named", {"number": number})
        if not there.parts:
            why = f"the ERP has no part {number}"
            return None, [Open(about="parts", line=line.number, why=why)]
        named += there.parts
    whole, places, asks = settled(line, named)
    if asks:
        return None, asks
    parts = {}
    for place, query in searches(whole).items():
        there = await erp.parts(ctx, f"{at}/{place.replace(' ', '-')}", query)
        if there.total > len(there.parts):
            why = f"the ERP has {there.total} such parts: name the part"
            return None, [Open(about=place, line=line.number, why=why)]
        parts[place] = there.parts
    return Found(line=line.number, parts=parts, named=places), []


async def who(enquiry: Enquiry, ctx: Context) -> tuple[Customer | None, list[Open]]:
    """The customer, by the number in the request or else by the sender's address."""
    query = (
        {"number": enquiry.customer}
        if enquiry.customer
        else {"mail": enquiry.sender}
        if enquiry.sender
        else {}
    )
    known = await erp.customers(ctx, query) if query else ()
    if len(known) == 1:
        return known[0], []
    why = "the ERP has several such customers" if known else "the ERP knows no such one"
    choices = tuple(f"{one.number}: {one.name}" for one in known)
    why = why if query else "neither a customer's number nor an address stands in it"
    return None, [Open(about="customer", line=0, why=why, choices=choices)]


async def earlier(
    enquiry: Enquiry, customer: Customer | None, ctx: Context
) -> tuple[dict | None, list[Open]]:
    """The quote that this request revises, where it names one."""
    if not enquiry.quote or customer is None:
        return None, []
    known = await erp.quotes(ctx, "earlier", {"number": enquiry.quote})
    for one in known.quotes:
        if one.get("customer") == customer.number:
            return one, []
    why = f"the ERP has no quote {enquiry.quote} of this customer"
    return None, [Open(about="quote", line=0, why=why)]
