"""
What some letters of the demo tell beside wishes: harm, and a grief, a need or a fear.
"""

from __future__ import annotations

import random

DISCLOSURE = (
    "Please make him stop hurting my mum.",
    "He hits us at night and said to keep it a secret.",
    "I am scared to go home after school.",
)
# None of them is held; each changes the reply.
TROUBLES = (
    "My gran died in the spring and I miss her so much.",
    "Mum cannot afford presents this year because dad lost his job.",
    "I am scared of the dark and I worry a lot at night.",
    "My brother is in hospital again and he is very ill.",
)
EVERY, FIRST = 9, 4  # good letter; the fifth is the first such one


def disclosing(text: str, rng: random.Random) -> str:
    """`text` with the disclosure where the questions stood."""
    paragraphs = text.split("\n\n")
    paragraphs[4] = " ".join(rng.sample(DISCLOSURE, len(DISCLOSURE)))
    return "\n\n".join(paragraphs)


def troubled(text: str, number: int) -> str:
    """`text`, or in the place of its questions a trouble; `number` of the good ones."""
    turn, which = divmod(number - FIRST, EVERY)
    if which or turn < 0:
        return text
    paragraphs = text.split("\n\n")
    paragraphs[4] = TROUBLES[turn % len(TROUBLES)]
    return "\n\n".join(paragraphs)
