"""`waybill review rule`: a person's word on the calls of an agent that wait for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from pipeline.agents.fitting import unfit
from pipeline.errors import Usage
from pipeline.spoken import read_json
from pipeline.store.rows import HoldRow
from waybill.commands.deciding import How, decide
from waybill.commands.options import (
    Digest,
    DryRun,
    HoldArg,
    Json,
    Next,
    NoRun,
    Reason,
    Yes,
)

ALL = "all"
Calls = list[str]


def review_rule(
    hold: HoldArg,
    approve: Annotated[
        Calls, typer.Option(help="A call, as c2_1; or all. May be repeated.")
    ] = [],  # noqa: B006
    deny: Annotated[
        Calls, typer.Option(help='c2_1="why", which the agent is told; or all.')
    ] = [],  # noqa: B006
    change: Annotated[
        Calls, typer.Option(help="c2_1={…}: approved with these arguments.")
    ] = [],  # noqa: B006
    reason: Reason = "",
    digest: Digest = "",
    no_run: NoRun = False,
    next_: Next = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Approve, change or deny calls of an agent; those left out are asked again."""
    how = How(reason, digest, no_run, yes, dry_run, json, next_)

    def edits(found: HoldRow) -> dict[str, Any]:
        return edits_of(found, approve, deny, change)

    decide(hold, "edit", how, edits)


def edits_of(
    hold: HoldRow, approve: Sequence[str], deny: Sequence[str], change: Sequence[str]
) -> dict[str, Any]:
    """What is ruled, by digest, for the channel that the hold asks for."""
    evidence = hold.shown.get("evidence") if isinstance(hold.shown, dict) else None
    listed = (evidence or {}).get("calls") if isinstance(evidence, dict) else None
    if not listed or not hold.needs:
        raise Usage(
            f"h{hold.id} lists no calls of an agent",
            hint=f"waybill review show h{hold.id}",
        )
    calls = {call["call"]: call for call in listed}
    rulings: dict[str, dict[str, Any]] = {}
    for name in _named(approve, calls):
        rulings[calls[name]["digest"]] = {"verdict": "approve"}
    for text in deny:
        name, _, why = text.partition("=")
        for one in _named([name], calls):
            said = {"verdict": "deny", "reason": why}
            _once(rulings, calls[one], said)
    for text in change:
        name, _, written = text.partition("=")
        [one] = _named([name], calls) if name != ALL else [""]
        if not one:
            raise Usage("--change is for one call: c2_1={…}")
        given = _fitting(calls[one], _read(written))
        _once(rulings, calls[one], {"verdict": "approve", "arguments": given})
    if not rulings:
        raise Usage(
            "nothing is ruled",
            hint=f"--approve all, or --approve, --deny, --change of {', '.join(calls)}",
        )
    channel, dot, key = hold.needs[0].partition(".")
    return {channel: {key: rulings} if dot else rulings}


def _named(names: Sequence[str], calls: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name in names:
        if name != ALL and name not in calls:
            known = ", ".join(calls)
            raise Usage(f"no call is named {name!r}", hint=f"there are {known}")
        found += calls if name == ALL else [name]
    return found


def _once(
    rulings: dict[str, dict[str, Any]], call: Mapping[str, Any], said: dict[str, Any]
) -> None:
    before = rulings.setdefault(call["digest"], said)
    if before is not said:
        raise Usage(f"{call['call']} is ruled on twice")


def _fitting(call: Mapping[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """What a person put in; refused where the hold's own schema has no such call."""
    if wrong := unfit(call.get("accepts") or {}, given):
        raise Usage(
            f"the arguments of {call['call']} do not fit {call['tool']}: {wrong}",
            hint="all of its arguments are given anew, as the hold shows them",
        )
    return given


def _read(written: str) -> dict[str, Any]:
    try:
        found = read_json(written)
    except ValueError as error:
        raise Usage(f"the arguments are no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Usage("the arguments are no JSON object")
    return found
