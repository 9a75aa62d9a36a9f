"""
CUAD's form: `{"id", "clauses": {TITLE: {"spans": […], "answer"}}}`, texts in `txt/`.

A span with `<omitted>` stands for several pieces.  An answer is written in another
way than the document's, and is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waybill.evals.labels import Label, Line, by_name, list_of, object_of

OMITTED = "<omitted>"


def read(line: Mapping[str, Any]) -> Line | None:
    """The line, when it is of this form; raises what it meets where it is not whole."""
    if "clauses" not in line:
        return None
    said = line.get("id")
    name = str(said) if isinstance(said, (str, int)) else ""
    if not name or "/" in name or name.startswith("."):
        raise ValueError("its id names no file")
    labels = by_name(
        (title, _label(title, object_of(clause, title[:40])))
        for title, clause in object_of(line["clauses"], "its clauses").items()
    )
    return Line(labels, (f"txt/{name}.txt", f"pdf/{name}.pdf", f"pdf/{name}.PDF"))


def _label(title: str, clause: Mapping[str, Any]) -> Label:
    spans = list_of(clause.get("spans"), f"{title[:40]}: its spans")
    if not all(isinstance(span, str) for span in spans):
        raise TypeError(f"{title[:40]}: a span is no text")
    return Label(bool(spans), tuple(map(_pieces, spans)))


def _pieces(span: str) -> tuple[str, ...]:
    return tuple(piece for piece in span.split(OMITTED) if piece.strip())
