"""
Pages of text, set plainly: a line is a line, in faces that can draw it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pipeline.errors import Permanent
from stages.printing.fonts import characters, face_of, loaded
from stages.printing.typesetter import tidy

# What no face can draw is drawn as this, so that a reader sees that something is there.
UNKNOWN = "\ufffd"
WORD_CHARS_MAX = 80  # a longer one has no place to break, and would leave the page

PAGE = rb"""
#let data = json(bytes(sys.inputs.data))
#set document(title: data.title)
#set page(paper: "a4", margin: 2cm)
#set text(font: data.fonts, size: data.size_pt * 1pt, fallback: false, hyphenate: false)
#set par(leading: 0.5em, spacing: 0.5em, justify: false)
#for (number, page) in data.pages.enumerate() {
  if number > 0 { pagebreak() }
  page.split("\n").join(linebreak())
}
"""


def text_pages(
    pages: Sequence[str], title: str, fonts: Sequence[str], size_pt: float
) -> bytes:
    """
    These pages as a PDF/A-2b; a long one takes several of its pages.

    Raises:
        Permanent: FONT_MISSING; TYPESET_FAILED when typst refuses the text.
    """
    import typst

    lines = [_spaced(tidy_page(page)) for page in pages]
    chosen, lines = drawable(lines, fonts)
    paths = tuple(path for _, path in chosen)
    data = {
        "title": tidy(title),
        "pages": lines,
        "fonts": [family for family, _ in chosen],
        "size_pt": size_pt,
    }
    compiler = typst.Compiler(PAGE, font_paths=loaded(paths))
    try:
        pdf, _ = compiler.compile_with_warnings(
            PAGE,
            format="pdf",
            sys_inputs={"data": json.dumps(data)},
            pdf_standards="a-2b",
            timestamp=0,  # it must have a date, and the same text gives the same bytes
        )
    except typst.TypstError as error:  # it may quote the text
        raise Permanent(
            "typst refused the text",
            code="TYPESET_FAILED",
            hint="check fonts and size_pt in [stage.searchable]",
        ) from error
    assert isinstance(pdf, bytes)
    return pdf


def tidy_page(page: str) -> str:
    """A page with its own line breaks and indents, without what is not drawn."""
    lines = page.expandtabs(8).replace("\r\n", "\n").split("\n")
    kept = []
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        kept.append(" " * indent + tidy(line).replace("\n", " "))
    return "\n".join(kept).rstrip()


def _spaced(page: str) -> str:
    # Spaces that stand together are taken for one, and those before a line for none.
    kept = re.sub(
        "(?m)^ +| {2,}", lambda found: "\u00a0" * (len(found[0]) - 1) + " ", page
    )
    kept = re.sub("(?m)^(\u00a0*) ", "\\1\u00a0", kept)
    long = re.compile(rf"(\S{{{WORD_CHARS_MAX}}})(?=\S)")
    return long.sub("\\1\n", kept)


def drawable(
    pages: Sequence[str], fonts: Sequence[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """
    The families, with their files, that draw most of `pages`, and what they draw.

    Raises:
        Permanent: FONT_MISSING, of the first; others that are missing are passed over.
    """
    wanted = {ord(char) for page in pages for char in page} - {ord("\n")}
    chosen: list[tuple[str, str]] = []
    known: set[int] = set()
    for family in fonts:
        if chosen and wanted <= known:
            break
        try:
            path, index = face_of(family)
        except Permanent:
            if not chosen:
                raise
            continue
        drawn: Any = characters(path, index)
        if not chosen or drawn & (wanted - known):
            chosen.append((family, path))
            known |= drawn
    lost = dict.fromkeys(wanted - known, UNKNOWN if ord(UNKNOWN) in known else "?")
    return chosen, [page.translate(lost) for page in pages]
