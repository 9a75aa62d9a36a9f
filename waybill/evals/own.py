"""
Our own form, which `waybill review export` writes:

    {"document": "PATH" | {"text": …} | {"artifact": SHA256}, "name": …,
     "expect": {TYPE: {"verdict": "present" | "absent", "quotes": […], "value": …}}}

A quote is a text, a list of the pieces it stands in, or an object with a `text`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waybill.evals.labels import Label, Line, by_name


def read(line: Mapping[str, Any]) -> Line | None:
    """The line, when it is of this form; raises what it meets where it is not whole."""
    if "expect" not in line or "document" not in line:
        return None
    labels = by_name(
        (title, _label(title, said))
        for title, said in line["expect"].items()
        if said["verdict"] != "unclear"  # nobody knows: it is not scored
    )
    document, name = line["document"], str(line.get("name") or "")
    if isinstance(document, str):
        return Line(labels, (document,), name=name)
    if isinstance(document.get("text"), str):
        return Line(labels, text=document["text"], name=name)
    return Line(labels, artifact=str(document["artifact"]), name=name)


def _label(title: str, said: Mapping[str, Any]) -> Label:
    verdict, quotes = said["verdict"], said.get("quotes") or ()
    if verdict not in ("present", "absent"):
        raise ValueError(f"{title[:40]}: its verdict is neither present nor absent")
    if verdict == "present" and not quotes:
        raise ValueError(f"{title[:40]} is present, and has no quote")
    spans = tuple(map(_span, quotes)) if verdict == "present" else ()
    return Label(verdict == "present", spans, said.get("value"))


def _span(quote: Any) -> tuple[str, ...]:
    if isinstance(quote, Mapping):
        quote = quote["text"]
    pieces = (quote,) if isinstance(quote, str) else tuple(quote)
    if not all(isinstance(piece, str) for piece in pieces):
        raise TypeError("a quote is no text")
    return pieces
