"""
Text that another program once laid under a scan, unseen: it gives way to ours, or a
search would find each word twice.
"""

from __future__ import annotations

import re
from typing import Any

from stages.formats.pdf import INVISIBLE_MODES

SETS_MODE = re.compile(rb"\b[37]\s+Tr\b")
SHOWS = frozenset({"Tj", "TJ", "'", '"'})
FORMS_MAX = 50  # of one page that are looked into; arbitrary


def remove(pdf: Any, page: Any) -> None:
    """Take unseen text from a page, and from the forms that it draws."""
    import pikepdf

    content = b"\n".join(part.read_bytes() for part in _parts(page.obj))
    if SETS_MODE.search(content):
        kept = _kept(pikepdf.parse_content_stream(page))
        page.obj.Contents = pdf.make_stream(kept)
    for form in _forms(page):
        if SETS_MODE.search(form.read_bytes()):
            form.write(_kept(pikepdf.parse_content_stream(form)))


def _parts(page: Any) -> list[Any]:
    import pikepdf

    found = page.get("/Contents")
    if found is None:
        return []
    return list(found) if isinstance(found, pikepdf.Array) else [found]


def _forms(page: Any) -> list[Any]:
    drawn = page.resources.get("/XObject", {})
    named = [drawn[name] for name in list(drawn.keys())[:FORMS_MAX]]
    return [each for each in named if each.get("/Subtype") == "/Form"]


def _kept(instructions: Any) -> bytes:
    """The instructions but those that show text in a mode that draws none."""
    import pikepdf

    mode, saved, kept = 0, [], []
    for instruction in instructions:
        operator = str(instruction.operator)
        if operator == "q":
            saved.append(mode)
        elif operator == "Q" and saved:
            mode = saved.pop()
        elif operator == "Tr" and len(instruction.operands) == 1:
            mode = int(instruction.operands[0])
        elif operator in SHOWS and mode in INVISIBLE_MODES:
            continue
        kept.append(instruction)
    return pikepdf.unparse_content_stream(kept)
