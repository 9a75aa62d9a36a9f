"""
`python -m loadtest`: simulated vendors, failure runs and benchmarks.

    run kill      SIGKILL real workers at random moments
    run zombie    SIGSTOP a worker beyond its lease, replace it, let it go on
    run bundle    an archive of 500 letters, one poisoned, and a stack of 60
    run honesty   pages nobody can read, and blank ones: nothing may be invented
    run hostile   files that break parsers, dropped into a real service, twice
    run long      120 scanned pages, the worker killed at page 61
    bench NAME    steps, waiting, backlog, ocr, ocr-quality: a ratio, its baseline
    vendors       a scripted model service on loopback

`--json` prints one object on stdout; progress goes to stderr.
"""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated, Any

import anyio
import structlog
import typer

from loadtest.bench import engine as benches
from loadtest.bench import ocr as ocr_bench
from loadtest.bench import ocr_quality
from loadtest.scenarios import bundle as bundles
from loadtest.scenarios import chaos, honesty, hostile, long
from loadtest.scenarios.trial import SAMPLES
from loadtest.vendors import run as serve_vendors
from pipeline.errors import Usage, WaybillError

app = typer.Typer(
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run = typer.Typer(help="Failure runs.", no_args_is_help=True)
bench = typer.Typer(help="Benchmarks.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Seed = Annotated[int, typer.Option(help="Of the faults' moments.")]
Engine = Annotated[str, typer.Option(help="pytesseract or tesserocr.")]
Samples = Annotated[
    Path, typer.Option(help="Folder of real documents; used where it is there.")
]


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def show(result: dict[str, Any], as_json: bool) -> None:
    """The figures."""
    if as_json:
        print(jsonlib.dumps(result), flush=True)
        return
    for key, value in result.items():
        print(f"{key:24} {value}")


@run.command("kill")
def run_kill(
    items: Annotated[int, typer.Option(min=1, max=100_000)] = 300,
    kills: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """SIGKILL real worker processes at random moments."""
    result = chaos.run("kill", say, items=items, kills=kills, seed=seed)
    show(result, json)
    bad = ("lost", "duplicate_outputs", "missing_outputs", "finished_stages_rerun")
    _judge(any(result[b] for b in bad) or result["failed"] or not result["conserved"])


@run.command("zombie")
def run_zombie(
    rounds: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """SIGSTOP a worker beyond its lease, replace it, SIGCONT it."""
    result = chaos.run("zombie", say, rounds=rounds, seed=seed)
    show(result, json)
    _judge(result["late_writes_accepted"] or result["lost"] or not result["conserved"])


@run.command("honesty")
def run_honesty(
    pages: Annotated[int, typer.Option(min=1, max=1000, help="Of each set.")] = 21,
    engine: Engine = "pytesseract",
    samples: Samples = SAMPLES,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Cursive, unreadable, blank and readable pages: what is taken as read?"""
    result = honesty.measure(pages, seed, samples, say, engine)
    show(result, json)
    _judge(
        result["invented"]
        or result["blanks_missed"]
        or result["documents"] != result["submitted"]
        or result["controls_read"] < 0.9 * result["controls"]
    )


@run.command("bundle")
def run_bundle(
    letters: Annotated[int, typer.Option(min=2, max=9000)] = bundles.LETTERS,
    stack: Annotated[int, typer.Option(min=2, max=240)] = bundles.STACK,
    seed: Annotated[int, typer.Option(help="Of the letters.")] = 1,
    json: Json = False,
) -> None:
    """A ZIP of letters and a PDF with separator sheets; one letter is poison."""
    result = bundles.measure(letters, stack, seed, say)
    show(result, json)
    _judge(not result["good"])


@run.command("hostile")
def run_hostile(
    files: Annotated[int, typer.Option(min=1, help="Some of each group.")] = 260,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", exists=True, file_okay=False, help="Files to add."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One round, not two.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep files and logs.")] = False,
    seed: Annotated[int, typer.Option(help="Of the files.")] = 1,
    json: Json = False,
) -> None:
    """Hostile files of every kind, dropped into a real service: it must not care."""
    result = hostile.run(say, seed=seed, most=files, more=folder, once=once, keep=keep)
    show(result, json)
    _judge(result["bad"])


@run.command("long")
def run_long(
    pages: Annotated[int, typer.Option(min=13, max=500)] = 120,
    kill_at: Annotated[int, typer.Option(min=2, max=500, help="Page.")] = 61,
    seed: Annotated[int, typer.Option(help="Of the pages.")] = 1,
    json: Json = False,
) -> None:
    """SIGKILL the worker in the middle of a long scan: what is read twice?"""
    if kill_at > pages:
        raise Usage(f"page {kill_at} of {pages} is never read", hint="see --kill-at")
    result = long.run(say, pages=pages, kill_at=kill_at, seed=seed)
    show(result, json)
    _judge(result["bad"])


@bench.command("steps")
def bench_steps(
    items: Annotated[int, typer.Option(min=100, max=1_000_000)] = 20_000,
    in_flight: Annotated[int, typer.Option(min=1, max=100_000)] = 1000,
    json: Json = False,
) -> None:
    """Five no-op stages through the real worker, against raw inserts."""
    show(benches.measure("steps", items=items, in_flight=in_flight), json)


@bench.command("waiting")
def bench_waiting(
    items: Annotated[int, typer.Option(min=1, max=100_000)] = 5000,
    json: Json = False,
) -> None:
    """Items that each wait 2 s in a stage, in one process."""
    show(benches.measure("waiting", items=items), json)


@bench.command("backlog")
def bench_backlog(
    items: Annotated[int, typer.Option(min=100, max=1_000_000)] = 20_000,
    in_flight: Annotated[int, typer.Option(min=1, max=100_000)] = 1000,
    done: Annotated[int, typer.Option(help="Finished items.")] = 1_000_000,
    waiting: Annotated[int, typer.Option(help="Waiting items.")] = 200_000,
    json: Json = False,
) -> None:
    """`steps` with much history and backlog in the tables, against none."""
    sizes = {"items": items, "in_flight": in_flight, "done": done, "waiting": waiting}
    show(benches.measure("backlog", **sizes), json)


@bench.command("ocr")
def bench_ocr(
    pages: Annotated[int, typer.Option(min=2, max=10_000)] = 100,
    engine: Engine = "pytesseract",
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """The whole pipeline, against `xargs -P tesseract` on the same pages."""
    show(ocr_bench.measure(pages, seed, engine, say), json)


@bench.command("ocr-quality")
def bench_ocr_quality(
    pages: Annotated[int, typer.Option(min=9, max=10_000)] = 72,
    engine: Engine = "pytesseract",
    samples: Samples = SAMPLES,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Degraded and real pages: what is read wrong, against plain tesseract."""
    result = ocr_quality.measure(pages, seed, samples, engine, say)
    show(result, json)
    _judge(not result["good"])


@app.command()
def vendors(
    port: Annotated[int, typer.Option(min=1024, max=65535)] = 8808,
    seed: Seed = 1,
    bad: Annotated[float, typer.Option(min=0, max=1, help="Share of bad.")] = 0.2,
    latency_s: Annotated[float, typer.Option(min=0, max=60)] = 0.05,
    for_s: Annotated[float, typer.Option(min=1, max=86_400, help="Then end.")] = 600,
) -> None:
    """A model service on 127.0.0.1 that fails as real ones do."""

    async def main() -> None:
        with anyio.move_on_after(for_s):
            await serve_vendors(port, seed=seed, bad=bad, latency_s=latency_s)

    say(f"serving http://127.0.0.1:{port}/v1 for {for_s:.0f} s")
    anyio.run(main)


def _judge(bad: object) -> None:
    if bad:
        raise typer.Exit(8)


app.add_typer(run, name="run")
app.add_typer(bench, name="bench")


def main() -> None:
    """Entry point."""
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


if __name__ == "__main__":
    main()
