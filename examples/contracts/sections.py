"""
Sections: a contract's text in, its structure out, and what rules find in it.

Reads   `text` left by OCR, and the folder's rule files.
Writes  `structure`: sections, types of clauses, and what the two routes found of each;
        in `facts` how many sections, definitions, exhibits and signatures there are.
Steps   none: reading again gives the same bytes and the same name.
Limits  one jailed process: the text is a stranger's, and is split once for all types.
Ends    Advance; RULES_MISSING and RULES_INVALID fail.
"""

import json
from collections.abc import Iterator

from pipeline.errors import Usage
from pipeline.stage import Advance, Context, Folder, Outcome, Settings, stage
from stages.abstracts import reading
from stages.clauses.proving import faults_in

SOUND: set[str] = set()  # rules whose every phrase was looked at, by this process


class SectionsSettings(Settings):
    """Keys of `[stage.sections]`."""

    rules: str = "rules/*.toml"


def check_rules(folder: Folder, settings: SectionsSettings) -> Iterator[Usage]:
    """What is wrong with the rule files, and which of their examples they miss."""
    yield from faults_in(folder.texts(settings.rules))


@stage(settings=SectionsSettings, timeout_s=900, check=check_rules)
async def sections(contract, ctx: Context) -> Outcome:
    """Take the contract apart, and read it by rules."""
    rules = ctx.folder.texts(ctx.settings.rules)
    text = await ctx.artifacts.put(contract.text.encode())
    kept = await ctx.artifacts.put(json.dumps(rules).encode())
    found, files = await ctx.jailed_files(
        reading.read,
        text=str(ctx.artifacts.path(text)),
        rules=str(ctx.artifacts.path(kept)),
        name=text,
        whole=kept not in SOUND,
    )
    SOUND.add(kept)
    return Advance(structure=files[reading.STRUCTURE], facts=found)
