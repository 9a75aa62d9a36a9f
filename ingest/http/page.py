"""
The page behind a signed link: one form for what is asked, without a script.

What a stage asks for says by its JSON Schema which texts it takes; each is a field,
its `title` the question.  Opening a link changes nothing: mail servers do it, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple
from urllib.parse import parse_qs

FIELDS_MAX = 60
CHARS_MAX = 2000  # of an answer whose schema says nothing
LOOK = (
    "body{font:17px/1.5 system-ui,sans-serif;max-width:38em;margin:2em auto;"
    "padding:0 1em;color:#222}h1{font-size:1.4em}label{display:block;margin:1.2em 0}"
    "input{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.4em;"
    "margin-top:.3em}button{font:inherit;padding:.5em 1.5em}.wrong{color:#a00}"
)
# No script, no picture, nothing from elsewhere, and no word of the link to anybody.
HEADERS: tuple[tuple[str, str], ...] = (
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-robots-tag", "noindex"),
)


class Page(NamedTuple):
    """An answer that a person reads."""

    status: int
    html: str
    retry_after_s: int = 0


class Asked(NamedTuple):
    """A text that is asked for: where it stands in the answer, and the question."""

    path: tuple[str, ...]
    question: str
    most: int


def texts_of(schema: Mapping[str, Any] | None) -> list[Asked]:
    """The texts that a schema asks for by name; [] where a form cannot answer it."""
    found = list(_texts((schema or {}), ()))
    needed = {(str(name),) for name in (schema or {}).get("required", ())}
    # Also of an object that is needed one text is enough.
    there = {one.path[:1] for one in found}
    return found if needed <= there and len(found) <= FIELDS_MAX else []


def _texts(schema: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Asked]:
    for name, one in (schema.get("properties") or {}).items():
        if not isinstance(one, dict):
            continue
        if one.get("type") == "string":
            most = one.get("maxLength", CHARS_MAX)
            yield Asked((*path, name), str(one.get("title") or name), int(most))
        elif one.get("type") == "object" and not path:
            yield from _texts(one, (name,))


def said_in(body: bytes, texts: Sequence[Asked]) -> bytes | None:
    """The answer of a form as JSON; None: it says nothing."""
    try:
        sent = parse_qs(body.decode(), max_num_fields=2 * FIELDS_MAX)
    except ValueError:
        return None
    answer: dict[str, Any] = {}
    for number, one in enumerate(texts):
        said = (sent.get(f"f{number}") or [""])[-1].strip()
        if said:
            *above, name = one.path
            inner = answer.setdefault(above[0], {}) if above else answer
            inner[name] = said
    return json.dumps(answer).encode() if answer else None


def form(texts: Sequence[Asked], wrong: str = "") -> Page:
    """The questions, a field each, and a button."""
    note = f'<p class="wrong">{escape(wrong)}</p>' if wrong else ""
    fields = "".join(
        f"<label>{escape(one.question)}"
        f'<input name="f{number}" maxlength="{one.most}" autocomplete="off"></label>'
        for number, one in enumerate(texts)
    )
    asked = "A question" if len(texts) == 1 else f"{len(texts)} questions"
    html = f'{note}<form method="post">{fields}<button>Send</button></form>'
    more = "<p>Your answer can be sent once.</p>"
    return Page(422 if wrong else 200, _whole(f"{asked} for you", html + more))


def sentence(status: int, title: str, text: str, retry_after_s: int = 0) -> Page:
    """A page with one sentence."""
    return Page(status, _whole(title, f"<p>{escape(text)}</p>"), retry_after_s)


def _whole(title: str, inside: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{LOOK}</style></head>"
        f"<body><h1>{escape(title)}</h1>{inside}</body></html>"
    )


THANKS = sentence(200, "Thank you", "Your answer has arrived. This link is used up.")
USED = sentence(
    409, "Answered already", "The first answer counts; to change it, reply to the mail."
)
OVER = sentence(
    410, "It is over", "This is not asked any more; please reply to the mail."
)
FOREIGN = sentence(
    404, "This link is not valid", "Or not any more. Please reply to the mail instead."
)
EARLY = sentence(503, "In a minute", "We are not ready for your answer yet.", 60)
BUSY = sentence(
    503, "In a minute", "Your answer was not taken: please send it again.", 5
)
NOTHING = "Nothing was said: please answer at least one question."
UNFIT = "This was not understood: please say it in other words."
BY_STATUS = {200: THANKS, 404: FOREIGN, 409: USED, 410: OVER}
