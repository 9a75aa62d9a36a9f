"""How a command's work is run: on asyncio, in an app that is opened and closed."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from pipeline.store.embedded import START_S
from waybill import logs, terminal
from waybill.compose import App, open_app
from waybill.database import database
from waybill.settings import Settings, read_settings

T = TypeVar("T")
BROKEN = "what runs goes on with what it has read; look: `waybill vendors ls`"


def run_app(work: Callable[[App], Awaitable[T]], *, wait_s: float = START_S) -> T:
    """
    Open the app, run `work` in it, close it; logs go to the home folder.

    An embedded database that must recover is waited for, `wait_s` at most.
    """
    settings = read_settings()
    log_to_home(settings)
    urls = database(settings, wait_s=wait_s)

    async def main() -> T:
        async with open_app(settings, urls, to_look=True) as opened:
            if opened.fault is not None:
                said = terminal.safe(f"{opened.fault.message}; {BROKEN}")
                terminal.err.print(said)
            return await work(opened)

    return run_async(main)


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run on asyncio with uvloop, as the service does; stages may print to stderr."""
    terminal.keep_stdout()
    return anyio.run(work, backend_options={"use_uvloop": sys.platform != "win32"})


def log_to_home(settings: Settings) -> None:
    """Commands that show something on the terminal log to a file."""
    logs.configure(settings.log_level, file=settings.home / "logs" / "waybill.log")
