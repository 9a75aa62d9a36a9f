"""`waybill eval`: labelled cases, run and scored, and compared with others."""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.artifacts.durable import write_atomically
from pipeline.errors import Conflict, Integrity
from pipeline.model import Batch
from pipeline.threads import in_thread
from waybill import terminal
from waybill.commands.counts import WITH_FAILED
from waybill.commands.options import Header, Json
from waybill.commands.run import run_app
from waybill.compose import App
from waybill.evals import trial
from waybill.evals.cases import Cases, read_cases
from waybill.evals.comparing import SLOWER, Difference, compared, read_result
from waybill.evals.result import result_of, scored
from waybill.evals.trial import Trying

EVALS = "evals"  # in the home: results, by the name of their batch
REPEAT_MAX = 100
CODES_MAX = 10  # that are shown; --json has them all
BASE = "base"  # the role of a pipeline that is compared with
COLUMNS = ("type", "in", "precision", "recall", "f1", "exact", "wrong")
COLUMNS_MORE = ("fabricated", "wrongly absent", "unclear")


def evaluate(
    pipeline: Annotated[str, typer.Argument(help="Name or folder.")],
    cases: Annotated[Path, typer.Option(help="Labelled cases, JSON lines.")],
    repeat: Annotated[
        int, typer.Option(min=1, max=REPEAT_MAX, help="Runs of each case.")
    ] = 1,
    against: Annotated[
        str, typer.Option(help="A pipeline, or the JSON of an earlier result.")
    ] = "",
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="So much worse is no regression.")
    ] = 0.02,
    slower: Annotated[
        float, typer.Option(min=0, help="As a share; so much slower is none either.")
    ] = SLOWER,
    tenant: Annotated[str, typer.Option(help="Whose grants and vendors.")] = "default",
    header: Header = False,
    json: Json = False,
) -> None:
    """Run labelled cases and score what is found; exit 8 when it has become worse."""
    known = read_cases(cases)
    earlier = Path(against)
    base = read_result(earlier) if against and earlier.is_file() else None
    other = against if base is None else ""

    async def main(opened: App) -> dict[str, Any]:
        return await _main(opened, pipeline, known, repeat, tenant, other)

    report = run_app(main)
    base = report.pop("base", base)
    differences = [] if base is None else compared(report, base, margin, slower)
    if base is not None:
        report |= _comparison(against, base, margin, differences)
        same = base.get("cases_digest") == known.digest
        report["against"]["same_cases"] = same
        if not same:
            terminal.err.print("the base was scored by other cases")
    worse = [d for d in differences if d.worse]
    if json:
        terminal.print_json(report)
    else:
        _print(report, header)
    for one in worse:
        terminal.err.print(terminal.safe(_sentence(one)), soft_wrap=True)
    if worse:
        raise typer.Exit(Integrity.exit_code)
    if base is not None:
        of = base.get("batch") or against
        _say(f"compared with {of}: nothing is worse by more than {margin}")
    failed = report["all"]["failed_items"] == report["cases"] * report["repeat"]
    raise typer.Exit(WITH_FAILED if failed else 0)


async def _main(
    opened: App, pipeline: str, cases: Cases, repeat: int, tenant: str, against: str
) -> dict[str, Any]:
    """The result, with that of a pipeline it is compared with as `base`."""
    wanted = [(BASE, against)] if against else []
    tryings = []
    for role, name in (*wanted, ("", pipeline)):
        number, loaded = await opened.publish(name)
        tryings.append(Trying(cases, tenant, repeat, number, loaded, role))
    folder = opened.settings.home / EVALS
    results: dict[str, dict[str, Any]] = {}
    batches = []
    with _alone(folder, tryings):
        for what in tryings:
            batch, result = await _one(opened, what)
            batches.append(batch)
            results[what.role] = result
        for batch, result in zip(batches, results.values(), strict=True):
            result["saved"] = str(folder / f"{batch.name}.json")
            data = terminal.compact(result).encode()
            await in_thread(write_atomically, Path(result["saved"]), data)
        # All of them or none: a base that was run is not run again for the other.
        await trial.finish(opened, batches)
    report = results[""]
    return {**report, "base": results[BASE]} if against else report


async def _one(opened: App, what: Trying) -> tuple[Batch, dict[str, Any]]:
    began = time.monotonic()
    batch = await trial.begin(opened, what, _say)
    of = "" if what.repeat == 1 else f", {what.repeat} times each"
    _say(f"{what.pipeline.name}: {len(what.cases.cases)} cases{of}, as {batch.name}")
    tries = await trial.run(opened, what, batch)
    found = await scored(opened, what, batch, tries)
    efforts = await opened.store.efforts(batch.id)
    took_s = time.monotonic() - began
    return batch, result_of(what, batch, found, efforts, took_s)


def _say(text: str) -> None:
    terminal.err.print(f"[dim]{terminal.safe(text)}[/dim]")


@contextmanager
def _alone(folder: Path, tryings: Sequence[Trying]) -> Iterator[None]:
    """
    While nobody else in this home tries the same: each would give up the other's.

    Raises:
        Conflict: EVAL_RUNS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = []
    try:
        for digest in sorted({what.digest for what in tryings}):
            held.append((folder / f".{digest[:16]}.lock").open("w"))
            fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict(
            "these cases are being tried with this pipeline by another process",
            code="EVAL_RUNS",
            hint="wait for it, or end it: what it did is gone on with",
        ) from None
    finally:
        for file in held:
            file.close()


# -- what is said ----------------------------------------------------------------------


def _comparison(
    against: str, base: dict[str, Any], margin: float, found: Sequence[Difference]
) -> dict[str, Any]:
    return {
        "against": {
            "name": against,
            "pipeline": base.get("pipeline"),
            "version": base.get("version"),
            "batch": base.get("batch"),
            "saved": base.get("saved"),
            "margin": margin,
        },
        "differences": [d._asdict() for d in found if d.now != d.base],
        "regressions": [d._asdict() for d in found if d.worse],
    }


def _sentence(one: Difference) -> str:
    noise = ", within its interval" if one.within_interval else ""
    return f"worse: {one.type} {one.rate} {one.now:.4g}, was {one.base:.4g}{noise}"


def _print(report: dict[str, Any], header: bool) -> None:
    rows = [_row(type_, rates) for type_, rates in report["types"].items()]
    rows.append(_row("all", report["all"]))
    terminal.print_table([*COLUMNS, *COLUMNS_MORE], rows, header=header)
    whole = report["all"]
    items = report["cases"] * report["repeat"]
    lines = {
        "items": f"{items}, {whole['held_items']} held, {whole['failed_items']} failed",
        "held": _codes(report["held_items"]),
        "failed": _codes(report["failed_items"]),
        "good": f"{report['good_types']} of {len(report['types'])} types with "
        "precision of 0.8 at recall of 0.5",
        "took": f"{whole['seconds_per_item']:.2f} s of stages an item; "
        f"{report['wall_s']} s in all",
        "cost": ", ".join(f"{amount} {c}" for c, amount in whole["cost"].items()),
        "agreed": _percent(whole.get("agreement")),
        "saved": report["saved"],
    }
    for word, line in lines.items():
        if line:
            terminal.err.print(f"{word:8} {terminal.safe(line)}", soft_wrap=True)


def _codes(items: Sequence[dict[str, Any]]) -> str:
    """`2 ODD, 1 BAD`: of items that are named, by how many."""
    counted = Counter(item["code"] for item in items)
    return ", ".join(f"{n} {code}" for code, n in counted.most_common(CODES_MAX))


def _row(type_: str, rates: dict[str, Any]) -> list[str]:
    intervals = rates["intervals"]
    return [
        type_,
        str(rates["labelled"]),
        *(terminal.rate(rates[n], intervals.get(n)) for n in ("precision", "recall")),
        *(_number(rates[n]) for n in ("f1", "exact_quote", "wrong", "fabricated")),
        *(_number(rates[n]) for n in ("wrongly_absent", "unclear")),
    ]


def _number(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.3g}"


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.1%} of repeats said the same"
