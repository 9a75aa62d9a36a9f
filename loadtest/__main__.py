"""
`python -m loadtest`: failure runs and their report, benchmarks, and a vendor that
misbehaves.

`run --help` and `bench --help` list them; README says what was seen.
`--json` prints one object on stdout; progress goes to stderr.  A run that
finds a promise broken exits with 8.
"""

from __future__ import annotations

import signal
import sys

import structlog
import typer

from loadtest.benches import bench
from loadtest.proving import mutants, proof, simulate
from loadtest.report.command import report
from loadtest.runs import run
from loadtest.showing import say
from loadtest.vendors.__main__ import vendors
from pipeline.errors import WaybillError

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(run, name="run")
app.add_typer(bench, name="bench")
app.command()(vendors)
app.command()(simulate)
app.command()(mutants)
app.command()(report)
app.command()(proof)


def main() -> None:
    """Entry point."""
    _end_as_by_ctrl_c(signal.SIGTERM, signal.SIGHUP)
    # A benchmark's worker logs as a service does: JSON, to a file.
    with open("/dev/null", "w", encoding="utf-8") as sink:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            logger_factory=structlog.WriteLoggerFactory(file=sink),
            cache_logger_on_first_use=True,
        )
        try:
            app()
        except WaybillError as error:
            say(f"{error.message}\n{error.hint}")
            sys.exit(error.exit_code)


def _end_as_by_ctrl_c(*signals: signal.Signals) -> None:
    """Each run cleans up after itself then; killed, its processes end by themselves."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # `&` has it ignored
    for each in signals:
        if signal.getsignal(each) is not signal.SIG_IGN:  # by nohup
            signal.signal(each, lambda *_: signal.raise_signal(signal.SIGINT))


if __name__ == "__main__":
    main()
