"""
Lines: the text of a request in, its lines out, and what must be asked of the buyer.

Reads   `text` left by OCR; the folder's rule files.
Writes  `enquiry`; `asked`, where the buyer was sent the questions.
Steps   `received`, the day on which it was read first: "the 14th" stays that day.
Limits  one jailed process: the text is a stranger's.
Ends    Advance, with questions or without; RULES_MISSING and RULES_INVALID fail.
Effects `ask`: one mail with all questions and a signed link, where a mail sink and
        callbacks are declared, and the sender is a customer.
"""

from collections.abc import Iterator

from pipeline.errors import Permanent, Usage
from pipeline.stage import Advance, Context, Folder, Outcome, Settings, stage
from stages.fitting.rulebook import load
from stages.quoting import erp, jailed
from stages.quoting.asking import ANSWERS, mail_of
from stages.quoting.forms import Enquiry


class LinesSettings(Settings):
    """Keys of `[stage.lines]`."""

    rules: str = "rules/*.toml"
    ask: str = ""  # a mail sink; "": a clerk asks


def check_rules(folder: Folder, settings: LinesSettings) -> Iterator[Usage]:
    """What is wrong with the rule files."""
    try:
        load(folder.texts(settings.rules))
    except Usage as error:
        yield error


@stage(settings=LinesSettings, timeout_s=300, check=check_rules)
async def lines(request, ctx: Context) -> Outcome:
    """Read the request by rules; what is missing or means two things is asked."""
    received = await ctx.step("received", today)
    enquiry = await jailed.read(
        ctx, request.text, request.read, ctx.settings.rules, received, {}
    )
    asked = await ask(enquiry, ctx) if enquiry.open else ""
    facts = {"lines": len(enquiry.lines), "questions": len(enquiry.open)}
    return Advance(enquiry=enquiry, asked=asked, facts=facts)


async def today() -> str:
    """By this machine's clock, in UTC."""
    return erp.now_utc().date().isoformat()


async def ask(enquiry: Enquiry, ctx: Context) -> str:
    """Plan the one mail with all questions; "" where a clerk must ask."""
    sink = ctx.settings.ask
    if not sink or not enquiry.sender:
        return ""
    known = await erp.customers(ctx, {"mail": enquiry.sender})
    if len(known) != 1:
        return ""  # questions go to nobody whom the ERP does not know
    try:
        link = await ctx.signal_url(ANSWERS)
        await ctx.effect("ask", sink, mail_of(enquiry, known[0], link))
    except Usage as error:
        if error.code != "NO_CALLBACKS":
            raise
        return ""
    except Permanent as error:
        if error.code != "NO_SUCH_SINK":
            raise
        return ""
    return "mail"
