"""
The `waybill` command: its tree, and how an error ends.

Noun, verb.  Every read has `--json`: the object itself, or `{"error": …}`.  Exit
codes are part of the contract; `waybill --help` lists them.
"""

from __future__ import annotations

import gc
import os
import sys
from signal import (
    SIG_IGN,
    SIGINT,
    SIGTERM,
    default_int_handler,
    getsignal,
    raise_signal,
)
from signal import signal as on_signal
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from pipeline.errors import Trouble, Usage, WaybillError
from pipeline.run.shepherd import end_left
from pipeline.run.spare import follow_parent
from pipeline.store import embedded
from pipeline.trouble import Place, trouble_of
from waybill import __version__, terminal
from waybill.commands import (
    batches,
    budgets,
    db,
    demo,
    doctor,
    effects,
    evals,
    export,
    ingest,
    items,
    limits,
    moderation,
    pipelines,
    quarantine,
    review,
    separator,
    service,
    signal,
    status,
    suggest,
    vendors,
)
from waybill.foreground import LEFT_BEHIND
from waybill.settings import read_settings

INTERRUPTED = 130  # what a shell says of a command that SIGINT ended
EXIT_CODES = {
    0: "ok",
    1: "internal",
    2: "usage or configuration",
    3: "database or dependency unavailable",
    4: "finished with failed items",
    5: "finished with items held",
    6: "deadline missed",
    7: "conflict",
    8: "integrity",
    9: "not found",
    10: "throttled",
    INTERRUPTED: "interrupted",
}

_LISTED = " · ".join(f"{number} {meaning}" for number, meaning in EXIT_CODES.items())

app = typer.Typer(
    name="waybill",
    help="Files in, reviewed and finished documents out, nothing lost.",
    epilog=f"Exit codes: {_LISTED}.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

app.command()(demo.demo)
app.command()(doctor.doctor)
app.command()(service.up)
app.command()(service.worker)
app.command(hidden=True)(service.work)
app.command()(ingest.ingest)
app.command()(separator.separator)
app.command()(export.export)
app.command("eval")(evals.evaluate)
app.command()(status.status)
app.command()(signal.signal)
app.add_typer(items.items, name="items")
app.add_typer(batches.batches, name="batches")
app.add_typer(budgets.budgets, name="budgets")
app.add_typer(limits.limits, name="limits")
app.add_typer(quarantine.quarantine, name="quarantine")
app.add_typer(pipelines.pipelines, name="pipelines")
app.add_typer(review.review, name="review")
moderation.moderation.command("suggest")(suggest.moderation_suggest)
app.add_typer(moderation.moderation, name="moderation")
app.add_typer(vendors.vendors, name="vendors")
app.add_typer(effects.effects, name="effects")
app.add_typer(db.db, name="db")


def main() -> None:
    """Entry point; the process ends, whoever was left behind."""
    # What was imported stays to the end: to look through it, again and again and
    # once more at the end, takes longer than many a command.
    gc.freeze()
    terminal.open_streams()
    follow_parent()
    try:
        command()
    except SystemExit as end:
        if not LEFT_BEHIND.is_set():
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        end_left(embedded.keepers())
        os._exit(end.code if isinstance(end.code, int) else bool(end.code))
    finally:
        end_left(embedded.keepers())  # what stages have started in this process


def command() -> None:
    """An error becomes a sentence, a hint and an exit code."""
    terminal.escape_streams()
    as_json = "--json" in sys.argv
    # What a tenant sent is for the service and its group: nobody else reads it.
    os.umask(os.umask(0o077) | 0o007)
    on_signal(SIGTERM, _as_by_ctrl_c)
    try:
        if as_json:
            sys.exit(app(standalone_mode=False))
        app()
    except TyperException as wrong:  # scripts get every error in one shape
        _end(Usage(wrong.format_message(), hint="see `--help` of the command"), True)
    except WaybillError as error:
        _end(error, as_json)
    except BaseExceptionGroup as group:
        found = first_error(group)
        if found is None:
            raise
        _end(found, as_json)
    except OSError as error:
        # An error of a file names it, but for what was open already.
        lost = terminal.unwritten() if error.filename is None else None
        if isinstance(lost or error, BrokenPipeError):
            sys.exit(1)  # who read our output has gone, and knows
        if lost is not None:
            said = f"what this command says cannot be written: {lost.strerror}"
            hint = "stdout goes where there is no room, or that is gone"
            _end(Trouble(said, code="NO_OUTPUT", hint=hint), False)
        _end(trouble_at_home(error), as_json)
    except SystemExit as end:  # typer makes it of Ctrl-C, and says nothing
        if end.code == INTERRUPTED:
            kept = "interrupted; what was received is kept, run it again"
            terminal.err.print(kept)
        raise


def _as_by_ctrl_c(*_: object) -> None:
    """Whoever waits reads what became of it, and processes of ours are ended."""
    if getsignal(SIGINT) is SIG_IGN:  # begun with `&`
        on_signal(SIGINT, default_int_handler)
    raise_signal(SIGINT)


def trouble_at_home(error: OSError) -> WaybillError:
    """The trouble that an error is; raises it again when it is none."""
    found = trouble_of(
        error, [Place("the home folder", read_settings().home.absolute())]
    )
    if found is None:
        raise error
    return found


def _end(error: WaybillError, as_json: bool) -> NoReturn:
    terminal.print_error(error, as_json=as_json)
    sys.exit(error.exit_code)


def first_error(group: BaseExceptionGroup[BaseException]) -> WaybillError | None:
    """The error of ours inside a task group's."""
    for error in group.exceptions:
        if isinstance(error, WaybillError):
            return error
        if (trouble := trouble_of(error)) is not None:
            return trouble
        if isinstance(error, BaseExceptionGroup):
            found = first_error(error)
            if found is not None:
                return found
    return None


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
