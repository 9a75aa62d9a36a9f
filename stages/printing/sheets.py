"""
Sheets: what a stage has printed from a record, through a template of its own folder.

Runs jailed.  The record travels to typst as JSON data, never as markup, so a document
that says `#include` prints as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pipeline.errors import Permanent
from stages.printing.fonts import faces_of, loaded
from stages.printing.typesetter import tidy


def plain(text: str, most: int) -> str:
    """On one line, without marks that steer a page; cut where it is too long."""
    line = " ".join(tidy(text).split())
    if len(line) <= most:
        return line
    return f"{line[:most].rsplit(' ', 1)[0]} …"


def compiled(
    template: str, given: str, families: Sequence[str], what: str, stage: str
) -> bytes:
    """
    The PDF of a template.

    Args:
        given: JSON text, `data` to the template.
        families: Of the fonts; their bold and italic faces are there too.
        what: As an error calls it; `stage` has the settings that are to blame.

    Raises:
        Permanent: FONT_MISSING; TYPESET_FAILED when typst refuses the template.
    """
    import typst

    source = template.encode()
    compiler = typst.Compiler(source, font_paths=_fonts(tuple(families)))
    try:
        pdf = compiler.compile(source, format="pdf", sys_inputs={"data": given})
    except typst.TypstError as error:
        # The diagnostic may quote the document.
        raise Permanent(
            f"typst refused the {what}",
            code="TYPESET_FAILED",
            hint=f"check `template` and `paper` in [stage.{stage}]",
        ) from error
    assert isinstance(pdf, bytes)
    return pdf


@lru_cache(maxsize=4)
def _fonts(families: tuple[str, ...]) -> Any:
    paths = [path for family in families for path in faces_of(family)]
    return loaded(tuple(dict.fromkeys(paths)))
