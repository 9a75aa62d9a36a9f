"""
A model that is asked for its opinion of a text, as moderation asks one.

The text stands between two lines `DATA-…`, whatever it says.  A file of labels has what
the model says of it: its answers in turn, the second where it is asked once more.  A
text that is in no label needs no adult.  In the book each answer stands by what it was,
with the text's digest as key.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace

from loadtest.vendors.book import digest
from loadtest.vendors.chat import REFUSAL, Chat, Said, texts_of
from loadtest.vendors.kinds import Call, Reply
from loadtest.vendors.labels import read_opinions
from loadtest.vendors.settings import Play

DATA = re.compile(r"^(DATA-\w+)\n(.*)\n\1$(.*)", re.DOTALL | re.MULTILINE)
NONE_NEEDED = {"adult_needed": False, "kinds": [], "why": "Nothing.", "words": []}
REFUSES = "refuses"  # in the place of an answer


class Judge(Chat):
    """A model service whose model gives opinions."""

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """As any model service; the text's digest is its key in the book."""
        reply = super().answer(call, play, fault, dice)
        key = digest(_piece(call)[0].encode())
        return replace(reply, taken=[one._replace(key=key) for one in reply.taken])

    def said(self, call: Call, play: Play, fault: str) -> Said:
        """What the labels say, unless something goes wrong."""
        if fault in Chat.faults:
            return super().said(call, play, fault)._replace(kind=fault)
        piece, again = _piece(call)
        known = read_opinions(play.labels) if play.labels else {}
        answers = known.get(digest(piece.encode())) or [NONE_NEEDED]
        says = answers[min(again, len(answers) - 1)]
        if says == REFUSES:
            return Said(REFUSAL, "refusal", kind=REFUSES)
        alarm = bool(says["adult_needed"] or says["kinds"])
        return Said(json.dumps(says), "stop", kind="hold" if alarm else "pass")


def _piece(call: Call) -> tuple[str, bool]:
    """The text that is asked about, and whether for the second time."""
    found = DATA.search("\n".join(texts_of(call.fields.get("messages") or [])))
    return (found[2], bool(found[3].strip())) if found else ("", False)
