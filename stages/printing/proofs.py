"""
The jailed side of a proof sheet: the first page of each print, small, on sheets.

What a person looks at before a batch of prints is released, and what lies beside them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

PROOF = "proof.pdf"
DPI = 100
PAGE = (827, 1169)  # A4
ACROSS, DOWN = 4, 4
CELL = (PAGE[0] // ACROSS, PAGE[1] // DOWN)
MARGIN, LABEL = 10, 14
LABEL_CHARS = 24


def proofs(paths: list[str], labels: list[str]) -> int:
    """
    Draw a sheet for every sixteen files, as the file `PROOF` in the scratch folder.

    Returns the number of sheets; a file that is no PDF leaves its place empty.
    """
    from PIL import Image, ImageDraw

    sheets = []
    for at in range(0, len(paths), ACROSS * DOWN):
        sheet = Image.new("L", PAGE, 255)
        draw = ImageDraw.Draw(sheet)
        for place, path in enumerate(paths[at : at + ACROSS * DOWN]):
            left, top = place % ACROSS * CELL[0], place // ACROSS * CELL[1]
            small = _first_page(path)
            if small is not None:
                sheet.paste(small, (left + MARGIN, top + MARGIN))
            said = labels[at + place].encode("ascii", "replace").decode()
            below = (left + MARGIN, top + CELL[1] - LABEL)
            draw.text(below, said[:LABEL_CHARS], fill=0)
        sheets.append(sheet)
    if sheets:
        target = Path(os.environ["TMPDIR"], PROOF)
        sheets[0].save(target, save_all=True, append_images=sheets[1:], resolution=DPI)
    return len(sheets)


def _first_page(path: str) -> Image | None:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError:
        return None
    try:
        page = document[0]
        room = (CELL[0] - 2 * MARGIN, CELL[1] - 2 * MARGIN - LABEL)
        scale = min(room[0] / page.get_width(), room[1] / page.get_height())
        drawn: Image = page.render(scale=scale).to_pil().convert("L")
        return drawn
    finally:
        document.close()
