"""`waybill review clause`: a lawyer's word on the clauses of a contract in doubt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import typer
from pydantic import ValidationError

from pipeline.errors import Usage
from pipeline.spoken import read_json
from pipeline.state import clean_text
from pipeline.store.rows import HoldRow
from stages.abstracts.answers import Answer, quote_fault
from waybill import terminal
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
from waybill.commands.run import run_app
from waybill.desk import model
from waybill.settings import read_settings

ALL = "all"
SAID_CHARS = 60  # of a value or a quote, in a row of --types
Named = list[str]


def review_clause(
    hold: HoldArg,
    accept: Annotated[
        Named, typer.Option(help="A type or check as it was found; or all.")
    ] = [],  # noqa: B006
    correct: Annotated[
        Named,
        typer.Option(help='TYPE="its words", or TYPE={"quote": "…", "value": "…"}.'),
    ] = [],  # noqa: B006
    absent: Annotated[
        Named, typer.Option(help="A type that the contract does not have.")
    ] = [],  # noqa: B006
    missed: Annotated[
        Named, typer.Option(help='TYPE="its words", of one that nobody found.')
    ] = [],  # noqa: B006
    types: Annotated[
        bool, typer.Option("--types", help="Instead, list what can be ruled on.")
    ] = False,
    reason: Reason = "",
    digest: Digest = "",
    no_run: NoRun = False,
    next_: Next = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Accept, correct, or say absent or missed; what is left out is asked again."""
    if types:
        _print_types(hold, json)
        return
    how = How(reason, digest, no_run, yes, dry_run, json, next_)
    said = Words(accept, correct, absent, missed)
    reviewer = read_settings().reviewer

    def edits(found: HoldRow) -> dict[str, Any]:
        return answers_of(found, said, reviewer, datetime.now(UTC), reason)

    decide(hold, "edit", how, edits)


def _print_types(hold: str, json: bool) -> None:
    """What the hold asks about, and the other types that one may say something of."""
    rows = rows_of(run_app(lambda opened: model.find(opened, hold)))
    if json:
        terminal.print_json(rows)
        return
    terminal.print_table(
        ["type", "in doubt", "verdict", "page", "value"],
        (
            [
                row["name"],
                "in doubt" if row["doubt"] else "",
                row["verdict"],
                "" if row["page"] is None else str(row["page"]),
                terminal.safe(row["value"]),
            ]
            for row in rows
        ),
    )


def rows_of(hold: HoldRow) -> list[dict[str, Any]]:
    """
    Each type and check that one may say something of, those in doubt first.

    Returns:
        Of each `name`, `doubt`, `verdict`, `page` of its first quote, 1-based, or None,
        and `value`, else that quote's beginning.  A check's verdict is `check`.

    Raises:
        Usage: the hold has no doubts.
    """
    doubts, others = names_of(hold)
    checks = _checks_of(hold)
    clauses = (hold.shown.get("state") or {}).get("clauses") or {}
    rows: list[dict[str, Any]] = []
    for name in (*doubts, *others):
        clause = clauses.get(name) or {}
        first: dict[str, Any] = next(iter(clause.get("quotes") or ()), {})
        said = (clause.get("value") or {}).get("text") or first.get("text") or ""
        words = " ".join(str(said).split())
        rows.append(
            {
                "name": name,
                "doubt": name in doubts,
                "verdict": "check" if name in checks else clause.get("verdict", ""),
                "page": first.get("page"),
                "value": words[:SAID_CHARS] + " …" * (len(words) > SAID_CHARS),
            }
        )
    return rows


class Words(NamedTuple):
    """What was said, as it was typed, by action."""

    accept: Sequence[str]
    correct: Sequence[str]
    absent: Sequence[str]
    missed: Sequence[str]


def answers_of(
    hold: HoldRow, said: Words, reviewer: str, at: datetime, reason: str = ""
) -> dict[str, Any]:
    """
    Answers for the channel that the hold asks for: with who gave them, when and why.

    Raises:
        Usage: the hold has no doubts; a name that is none of its types and checks; a
            quote that stands nowhere; a check that is not accepted; one ruled on twice;
            or nothing is said.
    """
    doubts, others = names_of(hold)
    known = {*doubts, *others}
    checks = _checks_of(hold)
    state = hold.shown.get("state") or {}
    text = str(state.get("text") or "")
    answers: dict[str, Any] = {}
    who = {"by": reviewer, "at": at.isoformat(timespec="seconds")}
    if why := clean_text(reason).strip():
        who["reason"] = why
    for name, given in _given(said, doubts, known):
        if name in answers:
            raise Usage(
                f"{name} is ruled on twice",
                hint="once each; of several places one quote, and what they say in "
                f"""its value: {name}={{"quote": "…", "value": "one; another"}}""",
            )
        if name in checks and given["action"] != "accept":
            raise _no_clause(name, checks[name])
        answer = _answer(name, {**given, **who}, text)
        answers[name] = answer.model_dump(exclude_defaults=True)
    if ALL in said.accept:
        rest = (name for name in doubts if name not in answers)
        answers |= {name: {"action": "accept", **who} for name in rest}
    if not answers:
        raise Usage(
            "nothing is ruled",
            hint="--accept all, or --accept, --correct, --absent of "
            f"{', '.join(doubts[:6])}; --missed of any type",
        )
    return {hold.needs[0]: answers}


def names_of(hold: HoldRow) -> tuple[list[str], list[str]]:
    """
    The types and checks in doubt, and the other types, as the hold names them.

    Raises:
        Usage: it has no doubts.
    """
    evidence = hold.shown.get("evidence") if isinstance(hold.shown, dict) else None
    evidence = evidence if isinstance(evidence, dict) else {}
    doubts = [d["rule_on"] for d in evidence.get("doubts") or () if "rule_on" in d]
    if not doubts or not hold.needs:
        raise Usage(
            f"h{hold.id} asks about no clauses",
            hint=f"waybill review show h{hold.id}",
        )
    others = str(evidence.get("types") or "").split(", ")
    return doubts, [name for name in others if name]


def _checks_of(hold: HoldRow) -> dict[str, list[str]]:
    """The checks in doubt, each with the types that it looked at."""
    found: dict[str, list[str]] = {}
    for doubt in hold.shown["evidence"]["doubts"]:
        if "check" in doubt:
            found[doubt["rule_on"]] = str(doubt.get("about") or "").split(", ")
    return found


def _no_clause(name: str, about: Sequence[str]) -> Usage:
    """A check has no words of its own: it is taken, or made anew of other words."""
    types = [one for one in about if one]
    mend = f'--correct {types[0]}="its words"' if types else "correct its clauses"
    return Usage(
        f"{name} is a check, and no clause: it can only be accepted",
        hint=f"--accept {name}, or {mend}, and it is made anew",
    )


def _given(
    said: Words, doubts: Sequence[str], known: Collection[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each type or check that was named, and what was said of it."""
    for name in said.accept:
        if name != ALL:
            yield _known(name, known, doubts), {"action": "accept"}
    for name in said.absent:
        yield _known(name, known, doubts), {"action": "absent"}
    for action, typed in (("correct", said.correct), ("missed", said.missed)):
        for one in typed:
            name, equals, written = one.partition("=")
            if not equals or not written.strip():
                raise Usage(f'--{action} is TYPE="words of the contract"')
            yield (
                _known(name, known, doubts),
                {**_written(name, written), "action": action},
            )


def _known(name: str, known: Collection[str], doubts: Sequence[str]) -> str:
    if name not in known:
        raise Usage(
            f"no type and no check is named {name[:40]!r}",
            hint=f"in doubt are {', '.join(doubts)}; --types lists them all",
        )
    return name


def _written(name: str, written: str) -> Mapping[str, Any]:
    """A quote as it is, or an object with `quote` and `value`."""
    if not written.lstrip().startswith("{"):
        return {"quote": written}
    try:
        found = read_json(written)
    except ValueError as error:
        raise Usage(f"what is said of {name} is no JSON: {error}") from None
    if not isinstance(found, dict) or not found.keys() <= {"quote", "value"}:
        raise Usage(f'of {name} one says {{"quote": "…", "value": "…"}}')
    return found


def _answer(name: str, given: Mapping[str, Any], text: str) -> Answer:
    try:
        answer = Answer.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Usage(f"{name}: {place}: {first['msg']}") from None
    if answer.quote and (why := quote_fault(answer.quote, text)):
        raise Usage(
            f"{name}: {why}",
            code="QUOTE_NOWHERE",
            hint="copy the words from text.txt, which `waybill review open` writes",
        )
    return answer
