"""
`python -m loadtest bench`: benchmarks, each beside a baseline of the same run.
"""

from __future__ import annotations

from typing import Annotated

import typer

from loadtest.bench import (
    agents,
    calls,
    engine,
    ocr,
    ocr_quality,
    quota,
    quotes,
    scale,
    searchable,
)
from loadtest.showing import (
    InFlight,
    Items,
    Json,
    Reader,
    Samples,
    Scans,
    Seed,
    fail_if,
    say,
    show,
)
from loadtest.trial import SAMPLES

bench = typer.Typer(
    help="Benchmarks: ratios against a baseline of the same run.",
    no_args_is_help=True,
)


@bench.command("steps")
def bench_steps(
    items: Items = 20_000,
    in_flight: InFlight = 1000,
    json: Json = False,
) -> None:
    """Five no-op stages through the real worker, against raw inserts."""
    show(engine.measure(engine.steps, items=items, in_flight=in_flight), json)


@bench.command("waiting")
def bench_waiting(
    items: Annotated[int, typer.Option(min=1, max=100_000, help="In all.")] = 5000,
    json: Json = False,
) -> None:
    """Items that each wait 2 s in a stage, in one process."""
    show(engine.measure(engine.waiting, items=items), json)


@bench.command("calls")
def bench_calls(
    items: Annotated[int, typer.Option(min=1, max=20_000, help="In all.")] = 5000,
    json: Json = False,
) -> None:
    """Items that each call a vendor of 2 s, beside the bare calls, in one process."""
    show(engine.measure(calls.calls, items=items), json)


@bench.command("agents")
def bench_agents(
    contracts: Annotated[int, typer.Option(min=1, max=1000, help="In all.")] = 50,
    readers: Annotated[int, typer.Option(min=1, max=500, help="Of each.")] = 100,
    at_once: Annotated[
        int, typer.Option(min=0, max=10_000, help="Asks the model allows; 0: any.")
    ] = 200,
    json: Json = False,
) -> None:
    """A hundred agents a contract, a model of 1 s, beside the bare asks."""
    sizes = {"contracts": contracts, "readers": readers, "at_once": at_once}
    show(engine.measure(agents.agents, **sizes), json)


@bench.command("quotes")
def bench_quotes(
    number: Annotated[
        int, typer.Option("--quotes", min=1, max=100_000, help="In all.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Of catalogue and requests.")] = 1,
    json: Json = False,
) -> None:
    """Every total and verdict of quotes, beside a second implementation's."""
    result = quotes.measure(say, quotes=number, seed=seed)
    show(result, json)
    fail_if(any(result[name] for name in quotes.BROKEN))


@bench.command("quota")
def bench_quota(
    seconds: Annotated[float, typer.Option(min=2, max=600, help="Measured.")] = 60,
    processes: Annotated[int, typer.Option(min=1, max=16, help="Workers.")] = 4,
    json: Json = False,
) -> None:
    """Worker processes that share a vendor's rate: what is used, what refused."""
    result = engine.measure(quota.quota, seconds=seconds, processes=processes)
    show(result, json)
    fail_if(not result["good"])


@bench.command("backlog")
def bench_backlog(
    items: Items = 20_000,
    in_flight: InFlight = 1000,
    done: Annotated[int, typer.Option(help="Finished items.")] = 1_000_000,
    waiting: Annotated[int, typer.Option(help="Waiting items.")] = 200_000,
    json: Json = False,
) -> None:
    """`steps` with history and backlog in the tables, against none."""
    sizes = {"items": items, "in_flight": in_flight, "done": done, "waiting": waiting}
    show(engine.measure(engine.backlog, **sizes), json)


@bench.command("scale")
def bench_scale(
    items: Annotated[
        int, typer.Option(min=1000, max=10_000_000, help="Finished ones.")
    ] = 1_000_000,
    holds: Annotated[
        int, typer.Option(min=1000, max=1_000_000, help="Open ones.")
    ] = 100_000,
    tenants: Annotated[int, typer.Option(min=20, max=50_000, help="In line.")] = 5000,
    json: Json = False,
) -> None:
    """Claims, reviews and reports with a million items in the tables."""
    result = scale.measure(say, items=items, holds=holds, tenants=tenants)
    show(result, json)
    fail_if(not result["good"])


@bench.command("ocr")
def bench_ocr(
    pages: Annotated[int, typer.Option(min=2, max=10_000, help="In all.")] = 100,
    reader: Reader = "auto",
    reading: Annotated[
        str,
        typer.Option(help="fast, balanced or careful; with --engine fast."),
    ] = "",
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """The whole pipeline, against `xargs -P tesseract`."""
    reading = reading or ("balanced" if reader == "auto" else "fast")
    show(ocr.measure(pages, seed, reader, reading, say), json)


@bench.command("ocr-quality")
def bench_ocr_quality(
    pages: Annotated[int, typer.Option(min=9, max=10_000, help="Degraded.")] = 72,
    reader: Reader = "auto",
    samples: Samples = SAMPLES,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """What is read wrong, against plain tesseract."""
    result = ocr_quality.measure(pages, seed, samples, reader, say)
    show(result, json)
    fail_if(not result["good"])


@bench.command("searchable")
def bench_searchable(pages: Scans = 60, json: Json = False) -> None:
    """Scans to searchable PDFs, beside OCRmyPDF."""
    show(result := searchable.measure(pages, say), json)
    fail_if(not result["good"])
