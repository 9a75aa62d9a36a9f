"""Several calls, one after the other: what is answered is never paid again."""

from __future__ import annotations

from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Request, Retry, Settings, stage

ANSWER_TOKENS = 100


class AskSettings(Settings):
    """`[stage.ask]`."""

    calls: int = 4  # of each item


@stage(settings=AskSettings, timeout_s=60, retry=Retry(attempts=20, cap_s=2))
async def ask(asked: object, ctx: Context) -> Outcome:
    """Ask a model, by name and number, so that each body is its own."""
    calls: int = ctx.settings.calls
    for n in range(calls):
        said = f"{ctx.item.name}, question {n}"
        body = {
            "messages": [{"role": "user", "content": said}],
            "max_tokens": ANSWER_TOKENS,
        }
        request = Request("chat/completions", json=body, max_tokens=ANSWER_TOKENS)
        await ctx.vendor("llm").call(f"ask-{n}", request)
    return Advance(answers=calls)
