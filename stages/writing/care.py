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

_YOU_GET = r"(?:get|have|receive|find|see|be given|feel better|be (?:happy|fine|okay))"
_I_DO = r"(?:bring|give|send|come|visit|make sure|fix|help|buy|deliver|see to it)"
_GIVERS = r"(?:i|we|santa|(?:the|my) (?:elves|reindeer|sleigh|helpers))"
_WILL = r"(?:[’']ll| will| shall| (?:am|are|is) going to)"
CARELESS = (
    (
        "it jokes",
        r"\b(?:ha(?:ha)+|ha,? ha|hee[ -]hee|ho[ ,-]*ho[ ,-]*ho|lol|"
        r"(?:just|only) kidding|funny|jok(?:e|es|ing)|giggl(?:e|es|ed|ing)|hilarious|"
        r"silly|ticklish|prank\w*)\b"
        r"|[\U0001F600-\U0001F606\U0001F609\U0001F61B-\U0001F61D\U0001F923\U0001F92A]",
    ),
    (
        "it promises",
        rf"\b{_GIVERS}{_WILL}(?! (?:not|never)\b)(?: \w+){{0,2}} {_I_DO}\b"
        rf"|\byou(?:[’']ll| will| shall| are going to)"
        rf"(?! (?:not|never)\b)(?: \w+)? {_YOU_GET}\b"
        r"|\b(?:i|we) (?:\w+ )?promise\b(?! (?:no|nothing)\b)|\bmy promise\b"
        r"|\b(?:under|beneath|beside) (?:the|your) tree\b|\bin your stocking\b"
        r"|\b(?:packed|wrapped|(?:on|onto) (?:my|the|our) sleigh)\b"
        r"|\b(?:everything|things|it|all) (?:will|is going to|are going to)"
        r" (?:soon )?(?:be (?:all right|alright|fine|ok|okay|well|better)"
        r"|get better|turn out|work out|pass)\b"
        r"|\bwill (?:soon )?(?:get (?:well|better)|(?:come|be) (?:back|home))\b"
        r"|\bcome true\b",
    ),
    (
        "it asks where the child is",
        r"\baddress(?:es)?\b|\b(?:post ?code|zip ?code)\b"
        r"|\bwhere (?:do |are )?you(?: are|[’']re)? ?(?:now )?(?:live|living|staying)\b"
        r"|\bwhere (?:is )?your (?:home|house|flat) ?(?:is)?\b"
        r"|\b(?:phone|telephone|mobile) number\b"
        r"|\b(?:which|what) (?:school|street|town|city|house)\b"
        r"|\b(?:name of )?your school\b"
        r"|\b(?:write|send|tell) (?:me|us) (?:your|where)\b",
    ),
)
_FOUND = [(fault, re.compile(found, re.IGNORECASE)) for fault, found in CARELESS]


def careless(reply: Written) -> str:
    """What is wrong with a reply to such a letter; "" when nothing was found."""
    text = "\n".join((reply.greeting, *reply.paragraphs, reply.closing))
    return ", ".join(fault for fault, found in _FOUND if found.search(text))
