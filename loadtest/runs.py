"""
`python -m loadtest run`: failure runs.

A run that finds a promise broken exits with 8.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loadtest.driver.command import PLAY, Runs, play
from loadtest.scenarios import (
    budget,
    bundle,
    chaos,
    effects,
    evil,
    fallback,
    honesty,
    hostile,
    jail,
    long,
    model_runs,
    outage,
    trouble,
)
from loadtest.scenarios.ask_back import run_ask_back
from loadtest.scenarios.evil_stages import KINDS
from loadtest.scenarios.fitting import run_fitting
from loadtest.scenarios.moderation import run_moderation
from loadtest.scenarios.quotes import run_quotes
from loadtest.showing import Json, Reader, Samples, Seed, fail_if, say, show
from loadtest.trial import SAMPLES
from pipeline.errors import Usage

run = typer.Typer(
    cls=Runs,
    help="Load tests, and failure runs: real processes, killed or stopped.",
    no_args_is_help=True,
)
run.command(PLAY)(play)
run.command("fitting")(run_fitting)
run.command("moderation")(run_moderation)
run.command("zero-trust")(model_runs.run_zero_trust)
run.command("approvals")(model_runs.run_approvals)
run.command("contracts")(model_runs.run_contracts)
run.command("loop")(model_runs.run_loop)
run.command("lies")(model_runs.run_lies)
run.command("quotes")(run_quotes)
run.command("ask-back")(run_ask_back)


@run.command("kill")
def run_kill(
    items: Annotated[int, typer.Option(min=1, max=100_000, help="In all.")] = 300,
    kills: Annotated[int, typer.Option(min=1, max=1000, help="Of workers.")] = 20,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """SIGKILL real workers at random moments."""
    result = chaos.run(chaos.kill, say, items=items, kills=kills, seed=seed)
    show(result, json)
    bad = ("lost", "duplicate_outputs", "missing_outputs", "finished_stages_rerun")
    fail_if(any(result[b] for b in bad) or result["failed"] or not result["conserved"])


@run.command("effects")
def run_effects(
    items: Annotated[
        int, typer.Option(min=1, max=20_000, help="Five effects each.")
    ] = 600,
    kills: Annotated[int, typer.Option(min=1, max=1000, help="Of workers.")] = 100,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Killed workers and lost replies: what happens twice, what never?"""
    result = effects.run(say, items=items, kills=kills, seed=seed)
    show(result, json)
    fail_if(not result["good"])


@run.command("zombie")
def run_zombie(
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="A zombie each.")] = 20,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """SIGSTOP a worker beyond its lease, replace it, let it go on."""
    result = chaos.run(chaos.zombie, say, rounds=rounds, seed=seed)
    show(result, json)
    fail_if(result["late_writes_accepted"] or result["lost"] or not result["conserved"])


@run.command("budget")
def run_budget(
    parallel: Annotated[int, typer.Option(min=4, max=1000, help="Callers.")] = 64,
    items: Annotated[int, typer.Option(min=16, max=10_000, help="In all.")] = 160,
    kills: Annotated[int, typer.Option(min=0, max=20, help="Of workers.")] = 2,
    json: Json = False,
) -> None:
    """A budget of 10.00 under many callers: never passed; raised, all go on."""
    result = budget.run(say, parallel=parallel, items=items, kills=kills)
    show(result, json)
    fail_if(
        result["overspent"]
        or result["unpaid"]
        or not result["waited"]
        or result["resumed"] < result["waited"]
        or result["finished_steps_called_again"]
        or result["failed"]
        or not result["conserved"]
    )


@run.command("evil")
def run_evil(
    good: Annotated[int, typer.Option(min=1, max=10_000, help="Items beside.")] = 200,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(KINDS)}; again for more.")
    ] = None,
    processes: Annotated[
        list[int] | None, typer.Option(min=1, max=64, help="Workers; again for more.")
    ] = None,
    every_s: Annotated[
        float, typer.Option(min=0, max=60, help="Between two evil ones; 0: at once.")
    ] = 3.0,
    seed: Annotated[int, typer.Option(help="Of the items' order.")] = 1,
    json: Json = False,
) -> None:
    """Stages that harm their worker, one item each, among good ones."""
    kinds = kind or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        raise Usage(f"no such kind: {', '.join(sorted(unknown))}", hint="see --help")
    result = evil.run(
        say,
        good=good,
        kinds=kinds,
        processes=processes or [1, 2],
        every_s=every_s,
        seed=seed,
    )
    show(result, json)
    fail_if(
        result["good_done"] < good
        or result["good_p99_s"] > 10
        or result["evil_named"] < len(kinds)
        or result["innocents_charged"]
        or result["crash_loops"]
    )


@run.command("honesty")
def run_honesty(
    pages: Annotated[int, typer.Option(min=1, max=1000, help="Of each set.")] = 21,
    reader: Reader = "auto",
    samples: Samples = SAMPLES,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Pages nobody can read, and blank ones: nothing may be invented."""
    result = honesty.run(say, pages=pages, engine=reader, samples=samples, seed=seed)
    show(result, json)
    fail_if(
        result["invented"]
        or result["blanks_missed"]
        or result["blank_but_inked"]
        or result["held_but_readable"] > 0.03
        or result["documents"] != result["submitted"]
        or result["controls_read"] < 0.9 * result["controls"]
    )


@run.command("bundle")
def run_bundle(
    letters: Annotated[
        int, typer.Option(min=2, max=9000, help="In the archive.")
    ] = bundle.LETTERS,
    stack: Annotated[
        int, typer.Option(min=2, max=240, help="In the PDF.")
    ] = bundle.STACK,
    seed: Annotated[int, typer.Option(help="Of the letters.")] = 1,
    json: Json = False,
) -> None:
    """An archive of letters, one poisoned, and a stack in one PDF."""
    result = bundle.run(say, letters=letters, stack=stack, seed=seed)
    show(result, json)
    fail_if(not result["good"])


@run.command("hostile")
def run_hostile(
    files: Annotated[int, typer.Option(min=1, help="Some of each group.")] = 260,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", exists=True, file_okay=False, help="Files to add."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One round, not two.")] = False,
    busy: Annotated[
        int, typer.Option(min=0, max=64, help="Loops beside the last round.")
    ] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep files and logs.")] = False,
    seed: Annotated[int, typer.Option(help="Of the files.")] = 1,
    json: Json = False,
) -> None:
    """Files that break parsers, dropped into a real service, twice."""
    result = hostile.run(
        say, seed=seed, most=files, more=folder, once=once, busy=busy, keep=keep
    )
    show(result, json)
    fail_if(result["bad"])


@run.command("long")
def run_long(
    pages: Annotated[int, typer.Option(min=13, max=500, help="Of the scan.")] = 120,
    kill_at: Annotated[int, typer.Option(min=2, max=500, help="At which page.")] = 61,
    seed: Annotated[int, typer.Option(help="Of the pages.")] = 1,
    json: Json = False,
) -> None:
    """A long scan, its worker killed midway: what is read twice?"""
    if kill_at > pages:
        raise Usage(f"page {kill_at} of {pages} is never read", hint="see --kill-at")
    result = long.run(say, pages=pages, kill_at=kill_at, seed=seed)
    show(result, json)
    fail_if(result["bad"])


@run.command("trouble")
def run_trouble(
    items: Annotated[int, typer.Option(min=10, max=20_000, help="In the inbox.")] = 500,
    for_s: Annotated[
        float, typer.Option(min=4, max=600, help="How long each lasts.")
    ] = 20,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="This one; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Full disks, no descriptors, no connections, a killed server: nothing is lost."""
    result = trouble.run(say, items=items, for_s=for_s, only=only or ())
    show(result, json)
    fail_if(
        any(result[word] for word in trouble.SUMS) or result["resumed_within_s"] > 10
    )


@run.command("outage")
def run_outage(
    items: Annotated[int, typer.Option(min=100, max=50_000, help="In all.")] = 2000,
    down_s: Annotated[
        float, typer.Option(min=1, max=600, help="How long the vendor is down.")
    ] = 60,
    per_s: Annotated[
        int, typer.Option(min=10, max=1000, help="Calls a second that it allows.")
    ] = 50,
    how: Annotated[str, typer.Option(help="error, hang or reset.")] = "error",
    json: Json = False,
) -> None:
    """A vendor that is down for a while, under items that all need it."""
    result = outage.run(say, items=items, down_s=down_s, per_s=per_s, how=how)
    show(result, json)
    fail_if(result["bad"])


@run.command("fallback")
def run_fallback(
    items: Annotated[int, typer.Option(min=1, max=100_000, help="In all.")] = 300,
    kills: Annotated[int, typer.Option(min=0, max=1000, help="Of workers.")] = 5,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """The first vendor is down: all is done by the second, and paid once."""
    result = fallback.run(say, items=items, kills=kills, seed=seed)
    show(result, json)
    fail_if(
        result["paid_twice"]
        or result["failed"]
        or not result["done"] == result["by_fallback"] == items
        or not result["conserved"]
    )


@run.command("jail")
def run_jail(
    rounds: Annotated[int, typer.Option(min=1, max=100, help="All, so often.")] = 2,
    gigabytes: Annotated[int, typer.Option(min=2, help="Of scratch.")] = 6,
    files: Annotated[int, typer.Option(min=20_000, help="Of scratch.")] = 200_000,
    tier: Annotated[int, typer.Option(min=1, max=3, help="Of the jail.")] = 3,
    json: Json = False,
) -> None:
    """A process that a document took over tries everything, between two tenants."""
    sizes = {"gigabytes": gigabytes, "files": files}
    result = jail.run(say, rounds=rounds, tier=tier, **sizes)
    show(result, json)
    fail_if(result["allowed"] or result["seen_of_others"] or result["left_behind"])
