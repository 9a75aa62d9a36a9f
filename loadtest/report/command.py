"""
`python -m loadtest report RUN [RUN…]`: what runs looked like, as one page.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from loadtest.report.reading import read
from loadtest.showing import say
from pipeline.errors import NotFound, Usage

NAME = "report.html"


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN…", help="Folders that runs wrote.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"By itself {NAME} in the first folder."),
    ] = None,
) -> None:
    """
    One self-contained HTML page: the verdict, and charts of what happened.

    Several runs stand side by side, on the same scales.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise Usage("charts need matplotlib", hint="pip install 'waybill[loadtest]'")
    from loadtest.report.page import page

    try:
        found = [read(run) for run in runs]
    except FileNotFoundError as error:
        raise NotFound(
            str(error), hint="`loadtest run` says where its folder is"
        ) from None
    except ValueError as error:
        raise Usage(f"a run cannot be read: {error}") from None
    path = out or runs[0] / NAME
    path.write_text(page(found), encoding="utf-8")
    broken = sum(run.broken for run in found)
    say(f"{path}: {path.stat().st_size / 1000:.0f} kB, {broken} checks broken")
