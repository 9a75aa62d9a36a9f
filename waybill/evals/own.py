"""
Our own form, which `waybill review export` writes:

    {"document": "PATH" | {"text": …} | {"artifact": SHA256}, "name": …,
     "expect": {TYPE: {"verdict": "present" | "absent", "quotes": […], "value": …}}}

A quote is a text, a list of the pieces it stands in, or an object with a `text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waybill.evals.labels import Label, Line, by_name, list_of, object_of


def read(line: Mapping[str, Any]) -> Line | None:
    """The line, when it is of this form; raises what it meets where it is not whole."""
    if "expect" not in line or "document" not in line:
        return None
    labels = by_name(
        (title, label)
        for title, said in object_of(line["expect"], "its expect").items()
        if (label := _label(title, object_of(said, title[:40])))
    )
    document, name = line["document"], str(line.get("name") or "")
    if isinstance(document, str):
        return Line(labels, (document,), name=name)
    if isinstance(object_of(document, "its document").get("text"), str):
        return Line(labels, text=document["text"], name=name)
    if "artifact" not in document:
        raise ValueError("its document has neither a text nor an artifact")
    return Line(labels, artifact=str(document["artifact"]), name=name)


def _label(title: str, said: Mapping[str, Any]) -> Label | None:
    """What is known; None where nobody knows: it is not scored."""
    verdict, quotes = said.get("verdict"), said.get("quotes") or []
    if verdict == "unclear":
        return None
    if verdict not in ("present", "absent"):
        raise ValueError(f"{title[:40]}: its verdict is neither present nor absent")
    if verdict == "absent":
        return Label(False, value=said.get("value"))
    if not quotes:
        raise ValueError(f"{title[:40]} is present, and has no quote")
    given = list_of(quotes, f"{title[:40]}: its quotes")
    spans = tuple(_span(title, quote) for quote in given)
    return Label(True, spans, said.get("value"))


def _span(title: str, quote: Any) -> tuple[str, ...]:
    if isinstance(quote, Mapping):
        quote = quote.get("text")
    if isinstance(quote, str):
        return (quote,)
    if not isinstance(quote, list):
        raise TypeError(f"{title[:40]}: a quote is no text")
    return tuple(quote)
