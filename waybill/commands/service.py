"""The service: `up` watches and works, `worker` only works."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer
from anyio.abc import SocketListener

from ingest.http.callbacks import Mailbox
from ingest.http.server import Server
from ingest.signals import BYTES_MAX
from pipeline.run.spare import Spares, await_call
from pipeline.run.supervisor import Supervisor
from pipeline.store import embedded
from pipeline.store.keeper import try_lock
from pipeline.store.port import WorkStore
from waybill import logs, terminal
from waybill.callbacks import at, listen, webhook_secrets
from waybill.commands.run import run_async
from waybill.compose import App, open_app
from waybill.database import Urls, database, open_store
from waybill.foreground import watchdog_of
from waybill.manifest import ManifestKeeper
from waybill.settings import Settings, read_settings

UP_CONNECTIONS = 2  # of watcher and manifests; the workers have their own
HTTP_CONNECTIONS = 2  # of callbacks
JOINS = (
    "another `waybill up` runs in this home: both work, each file is taken once; "
    "`--processes` gives one of them more workers"
)
Processes = Annotated[int, typer.Option(min=1, max=64, help="Workers.")]


def up(processes: Processes = 1) -> None:
    """Run the service: watch the inbox, work, until SIGTERM (a second: now)."""
    given = read_settings()
    logs.configure(given.log_level)
    urls = database(given)

    async def main() -> None:
        async with (
            _listening(given) as (listener, settings),
            open_app(settings, urls, UP_CONNECTIONS) as opened,
        ):
            folders = opened.folders()
            watcher = opened.watcher(folders)
            terminal.err.print(f"drop files into {terminal.safe(folders.inbox)}")
            fleet = _fleet(settings, processes, urls, opened.store)
            with joined(settings.home):
                async with (
                    _callbacks(opened, urls, listener),
                    anyio.create_task_group() as tasks,
                ):
                    tasks.start_soon(watcher.run)
                    tasks.start_soon(ManifestKeeper(opened).run)
                    await fleet.run()
                    tasks.cancel_scope.cancel()

    run_async(main)


@asynccontextmanager
async def _listening(
    given: Settings,
) -> AsyncIterator[tuple[SocketListener | None, Settings]]:
    """
    A listener for callbacks where the settings want one, and the settings with the
    address that it really has, by which workers make their URLs.

    Raises:
        Usage: HTTP_ADDRESS, nobody can listen there.
    """
    if not given.http:
        yield None, given
        return
    async with await listen(given.http) as listener:
        yield listener, given.model_copy(update={"http": at(given.http, listener)})


@asynccontextmanager
async def _callbacks(
    opened: App, urls: Urls, listener: SocketListener | None
) -> AsyncIterator[None]:
    """Take callbacks there meanwhile, by connections of their own."""
    settings, services = opened.settings, opened.services
    if listener is None or services.callbacks is None:
        yield
        return
    async with open_store(urls, HTTP_CONNECTIONS) as store:
        mailbox = Mailbox(
            store,
            opened.artifacts,
            services.callbacks,
            partial(webhook_secrets, services.secrets),
        )
        terminal.err.print(f"callbacks to {settings.http}")
        async with anyio.create_task_group() as tasks:
            server = Server(mailbox.handle, bytes_max=BYTES_MAX)
            tasks.start_soon(server.serve, listener)
            yield
            tasks.cancel_scope.cancel()


@contextmanager
def joined(home: Path) -> Iterator[None]:
    """Be there meanwhile; says so when another `up` of this home is."""
    path = home / ".up"
    with ExitStack() as held:
        # Nothing depends on it: a file system without locks, or without room, is none.
        with suppress(OSError):
            file = try_lock(path, fcntl.LOCK_EX)
            if file is None:
                terminal.err.print(JOINS)
                file = path.open("ab")
            held.enter_context(file)
            fcntl.flock(file, fcntl.LOCK_SH)  # whoever else is there has the same
        yield


def worker(processes: Processes = 1) -> None:
    """Run workers only, until SIGTERM (a second one: now)."""
    settings = read_settings()
    logs.configure(settings.log_level)
    urls = database(settings)

    async def main() -> None:
        async with open_store(urls) as store:
            await _fleet(settings, processes, urls, store).run()

    run_async(main)


def _fleet(
    settings: Settings, processes: int, urls: Urls, store: WorkStore
) -> Supervisor:
    """Worker processes that share this machine's cores."""
    cores = max(1, settings.cores // processes)
    environment = {
        "WAYBILL_DATABASE_URL": urls.service,
        "WAYBILL_CORES": str(cores),
        **({"WAYBILL_HTTP": settings.http} if settings.http else {}),
    }
    command = [sys.executable, "-m", "waybill", "work"]
    # Killed, we leave workers for a moment, which put back what they have in hand.
    spares = Spares(command, environment, embedded.held(settings.home / "postgres"))
    return Supervisor(processes, spares, store, settings.blocked_bound_s)


def work() -> None:
    """One worker process, as the supervisor starts it."""
    settings = read_settings()
    logs.configure(settings.log_level)

    async def main() -> None:
        slate = await_call()  # here: what the loop imports is there
        async with open_app(settings, database(settings)) as opened:
            it = opened.worker(slate, _end_now)
            watchdog = watchdog_of(settings, slate, it.recycle)
            watchdog.stand()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(on_stop, it.drain, it.stop)
                tasks.start_soon(watchdog.run)
                await it.run()
                tasks.cancel_scope.cancel()
        _leave_threads()  # before the loop waits for those of its pool

    try:
        run_async(main)
    finally:
        _leave_threads(0 if sys.exc_info()[0] is None else 1)


def _leave_threads(code: int = 0) -> None:
    """End, if a stage left threads: they would keep a process whose work is done."""
    main_thread = threading.main_thread()
    if any(t is not main_thread and not t.daemon for t in threading.enumerate()):
        _end_now(code)


def _end_now(code: int = 0) -> None:
    sys.stderr.flush()
    os._exit(code)


async def on_stop(first: Callable[[], None], second: Callable[[], None]) -> None:
    """SIGTERM or SIGINT: drain; another one: stop now."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        act = first
        async for _ in signals:
            act()
            act = second
