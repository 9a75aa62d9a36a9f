"""
The `waybill` command.

Noun, verb.  Every read has `--json`: the object itself, or `{"error": …}`.  Exit
codes are part of the contract and listed in `waybill --help`.
"""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from pipeline.errors import Usage, WaybillError
from waybill import terminal

# Commands register themselves on import.
from waybill.commands import (  # noqa: F401
    demo,
    doctor,
    items,
    review,
    separator,
    service,
)
from waybill.commands.run import app


def main() -> None:
    """Entry point: an error becomes a sentence, a hint and an exit code."""
    as_json = "--json" in sys.argv
    try:
        if as_json:
            sys.exit(app(standalone_mode=False))
        app()
    except TyperException as wrong:  # scripts get every error in one shape
        error = Usage(wrong.format_message(), hint="see `--help` of the command")
        terminal.print_error(error, as_json=True)
        sys.exit(error.exit_code)
    except typer.Abort:
        error = Usage("nobody is there to answer", hint="say --yes")
        terminal.print_error(error, as_json=True)
        sys.exit(error.exit_code)
    except WaybillError as error:
        terminal.print_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except BaseExceptionGroup as group:
        found = first_error(group)
        if found is None:
            raise
        terminal.print_error(found, as_json=as_json)
        sys.exit(found.exit_code)
    except KeyboardInterrupt:
        terminal.err.print("interrupted; what was received is kept, run it again")
        sys.exit(130)


def first_error(group: BaseExceptionGroup[BaseException]) -> WaybillError | None:
    """The error of ours inside a task group's."""
    for error in group.exceptions:
        if isinstance(error, WaybillError):
            return error
        if isinstance(error, BaseExceptionGroup):
            found = first_error(error)
            if found is not None:
                return found
    return None
