"""
CUAD's form: `{"id", "clauses": {TITLE: {"spans": […], "answer"}}}`, texts in `txt/`.

A span with `<omitted>` stands for several pieces.  An answer is written in another
way than the document's, and is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waybill.evals.labels import Label, Line, by_name

OMITTED = "<omitted>"


def read(line: Mapping[str, Any]) -> Line | None:
    """The line, when it is of this form; raises what it meets where it is not whole."""
    if "clauses" not in line:
        return None
    name = str(line["id"])
    if not name or "/" in name or name.startswith("."):
        raise ValueError("its id names no file")
    labels = by_name(
        (title, Label(bool(clause["spans"]), tuple(map(_pieces, clause["spans"]))))
        for title, clause in line["clauses"].items()
    )
    return Line(labels, (f"txt/{name}.txt", f"pdf/{name}.pdf", f"pdf/{name}.PDF"))


def _pieces(span: str) -> tuple[str, ...]:
    return tuple(piece for piece in span.split(OMITTED) if piece.strip())
