"""
What no reply to a grief, a need or a fear may do: joke, promise, or ask where a child
lives.

Words and phrases of English that are looked for, and no judgement: a reply in which
none stands may still be wrong.  It is the last look and not the first: the writer is
told before.
"""

from __future__ import annotations

import re

from stages.writing.reply import Written

_YOU_GET = r"(?:get|have|receive|find|see|be given)"
_I_DO = r"(?:bring|give|send|come|visit|make sure|fix|help|buy|deliver|see to it)"
CARELESS = (
    (
        "it jokes",
        r"\b(?:ha(?:ha)+|hee[ -]hee|ho[ ,-]*ho[ ,-]*ho|lol|just kidding|funny|"
        r"jok(?:e|es|ing)|giggl(?:e|es|ed|ing)|hilarious|silly)\b|[\U0001F600-\U0001F606\U0001F923]",
    ),
    (
        "it promises",
        rf"\b(?:i|we)(?:[’']ll| will| shall| am going to| are going to)"
        rf"(?! (?:not|never)\b)(?: \w+){{0,2}} {_I_DO}\b"
        rf"|\byou(?:[’']ll| will| shall| are going to)"
        rf"(?! (?:not|never)\b)(?: \w+)? {_YOU_GET}\b"
        r"|\b(?:i|we) (?:\w+ )?promise\b(?! (?:no|nothing)\b)|\bmy promise\b"
        r"|\b(?:under|beneath) (?:the|your) tree\b"
        r"|\b(?:everything|it|all) (?:will|is going to) be (?:all right|alright|fine|"
        r"ok|okay|well|better)\b",
    ),
    (
        "it asks where the child is",
        r"\b(?:your|home|street|postal|full|e-?mail) address\b"
        r"|\bwhere (?:do )?you live\b"
        r"|\b(?:phone|telephone|mobile) number\b|\bwhich (?:school|street|town|city)\b"
        r"|\bwhat (?:school|street|town|city)\b|\b(?:name of )?your school\b"
        r"|\b(?:write|send|tell) (?:me|us) (?:your|where)\b",
    ),
)
_FOUND = [(fault, re.compile(found, re.IGNORECASE)) for fault, found in CARELESS]


def careless(reply: Written) -> str:
    """What is wrong with a reply to such a letter; "" when nothing was found."""
    text = "\n".join((reply.greeting, *reply.paragraphs, reply.closing))
    return ", ".join(fault for fault, found in _FOUND if found.search(text))
