"""`waybill separator`: the sheet that goes between two documents in a scanner."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import Usage
from stages.formats.separators import sheet
from waybill import terminal


def separator(
    output: Annotated[Path, typer.Option("--output", "-o", help="The PDF.")] = Path(
        "separator.pdf"
    ),
    paper: Annotated[str, typer.Option(help="a4, a5, us-letter …")] = "a4",
) -> None:
    """Write a separator sheet as PDF, to lay between documents that are scanned."""
    made = sheet(paper)
    try:
        output.write_bytes(made)
    except OSError as error:
        raise Usage(
            f"{output} cannot be written: {os.strerror(error.errno or 0)}",
            code="NOT_WRITTEN",
            hint="name another file with -o",
        ) from None
    terminal.err.print(f"wrote {terminal.safe(output)}; print one for every gap")
