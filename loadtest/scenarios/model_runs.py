"""
`python -m loadtest run`, of models and the agents that are driven by them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from loadtest.scenarios import approvals, contracts, lies, zero_contracts, zero_trust
from loadtest.showing import Json, Samples, Seed, fail_if, say, show
from loadtest.trial import SAMPLES
from pipeline.errors import Usage


def run_zero_trust(
    answers: Annotated[
        int, typer.Option(min=10, max=1_000_000, help="Of the model, about.")
    ] = 10_000,
    shipped: Annotated[
        bool, typer.Option("--shipped", help="Of examples/contracts, as it is.")
    ] = False,
    seed: Seed = 1,
    samples: Samples = SAMPLES,
    json: Json = False,
) -> None:
    """A model a third of whose answers misbehave: what does it get done?"""
    if shipped:
        wrong = zero_contracts.WRONG
        result = zero_contracts.run(
            say, answers=answers, seed=seed, faults=wrong, samples=samples
        )
    else:
        items = max(1, round(answers / zero_trust.ASKS))
        wrong = zero_trust.WRONG
        result = zero_trust.run(
            say, items=items, seed=seed, faults=wrong, samples=samples
        )
    show(result, json)
    bad = ("forbidden_calls_run", "invented_quotes_passed", "injected_orders_obeyed")
    fail_if(any(result[b] for b in bad) or result["bricked"] or not result["conserved"])


def run_approvals(
    items: Annotated[int, typer.Option(min=1, max=10_000, help="In all.")] = 200,
    kills: Annotated[int, typer.Option(min=0, max=1000, help="Of workers.")] = 50,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Calls that need a person, ruled on one by one while workers are killed."""
    result = approvals.run(say, items=items, kills=kills, seed=seed)
    show(result, json)
    bad = ("ran_without_approval", "ran_twice", "answered_by_another", "lost")
    fail_if(
        any(result[b] for b in bad)
        or result["other_arguments"]
        or result["ended"] != {"done": items}
        or not result["conserved"]
    )


def run_contracts(
    number: Annotated[
        int, typer.Option("--contracts", min=1, max=10_000, help="In all.")
    ] = 100,
    kills: Annotated[
        int, typer.Option(min=0, max=1000, help="Beside the two that are always.")
    ] = 4,
    seed: Seed = 1,
    samples: Samples = SAMPLES,
    json: Json = False,
) -> None:
    """A hundred agents a contract, kills, a lawyer at times, a CRM that limits."""
    result = contracts.run(
        say, contracts=number, kills=kills, seed=seed, samples=samples
    )
    show(result, json)
    bad = ("lost", "asks_paid_twice", "records_twice", "finished_steps_rerun")
    fail_if(
        any(result[b] for b in bad)
        or result["account"]["unexplained"]
        or not result["conserved"]
    )


def run_loop(
    items: Annotated[int, typer.Option(min=1, max=100_000, help="In all.")] = 500,
    seed: Seed = 1,
    json: Json = False,
) -> None:
    """Models that never stop, four a document: each ends inside its budgets, held."""
    faults = {"loops": 1.0}
    result = zero_trust.run(say, items=items, seed=seed, faults=faults, loops=True)
    show(result, json)
    fail_if(
        result["ended"] != items
        or result["over_budget"]
        or result["items_over_budget"]
        or result["without_work"]
        or not result["conserved"]
    )


def run_lies(
    items: Annotated[int, typer.Option(min=1, max=4, help="Of each kind.")] = 2,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="This kind; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Every kind of bad answer: is one passed on, does a worker die of it?"""
    if unknown := set(only or ()) - set(lies.EXPECTED):
        raise Usage(
            f"no such kind: {', '.join(sorted(unknown))}",
            hint=f"kinds: {', '.join(lies.EXPECTED)}",
        )
    result = lies.run(say, kinds=only or list(lies.EXPECTED), items=items)
    show(result, json)
    fail_if(result["passed_on"] or result["worker_deaths"] or result["unexpected"])
