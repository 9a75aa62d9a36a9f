"""
What every command shares: the application object, and how its work is run.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import anyio
import typer

from waybill import __version__, logs
from waybill.compose import App, database, open_app
from waybill.settings import Settings, read_settings

T = TypeVar("T")

EPILOG = (
    "Exit codes: 0 ok · 1 internal · 2 usage or configuration · 3 database or "
    "dependency unavailable · 4 finished with failed items · 5 finished with items "
    "held · 6 deadline missed · 7 conflict · 8 integrity · 9 not found · 10 throttled."
)

app = typer.Typer(
    name="waybill",
    help="Files in, reviewed and finished documents out, nothing lost.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run on asyncio with uvloop, as the service does."""
    return anyio.run(work, backend_options={"use_uvloop": sys.platform != "win32"})


def run_app(
    work: Callable[[App], Awaitable[T]],
    *,
    to_stderr: bool = False,
    settings: Settings | None = None,
) -> T:
    """Open the app, run `work` in it, close it; logs go to the home folder."""
    settings = settings or read_settings()
    file = None if to_stderr else settings.home / "logs" / "waybill.log"
    logs.configure(file=file)
    urls = database(settings)

    async def main() -> T:
        async with open_app(settings, urls) as opened:
            return await work(opened)

    return run_async(main)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"waybill {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Files in, reviewed and finished documents out, nothing lost."""
