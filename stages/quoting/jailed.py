"""What is handed to the jail: the rule files of a folder, and a request to be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pipeline.stage import Context
from stages.document import PageText
from stages.quoting import reading
from stages.quoting.forms import Enquiry
from stages.quoting.scans import doubtful_of


async def rules_of(ctx: Context, pattern: str) -> str:
    """Path of an artifact that has the folder's rule files, by name."""
    kept = await ctx.artifacts.put(json.dumps(ctx.folder.texts(pattern)).encode())
    return str(ctx.artifacts.path(kept))


async def read(
    ctx: Context,
    text: str,
    pages: Sequence[PageText],
    rules: str,
    received: str,
    answers: Mapping[str, str],
) -> Enquiry:
    """
    A request as the rules read it.

    Args:
        pages: That the text is of; words that a reader doubts are asked about.
        rules: Which files of the folder.
        received: ISO date.
        answers: What was answered, by the keys of questions.
    """
    kept = await ctx.artifacts.put(text.encode())
    found = await ctx.jailed(
        reading.read,
        text=str(ctx.artifacts.path(kept)),
        rules=await rules_of(ctx, rules),
        received=received,
        answers=dict(answers),
        doubtful=await doubtful_of(pages, ctx),
    )
    return Enquiry.model_validate(found)
