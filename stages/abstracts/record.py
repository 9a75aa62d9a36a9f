"""
The record of a contract: CONTRACT.json, and what a CRM is told.

Everything in it can be accounted for: a field has its quotes, a quote its page, its box
and who came to it, a correction who made it and when.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from stages.abstracts.forms import ROUTES, Check, Clause, Gap
from stages.clauses.rulebook import ClauseType

NO_MODEL = "none"
FIELD_CHARS_MAX = 255  # of a CRM's text field
RULES_ALONE = (
    "Read by rules alone: by headings, and by the words of sentences. "
    "No model is configured."
)


def readers_of(model: str) -> list[str]:
    """Who read, by name."""
    return [*ROUTES, *([model] if model != NO_MODEL else [])]


def record(
    head: Mapping[str, Any],
    types: Sequence[ClauseType],
    clauses: Mapping[str, Clause],
    checks: Sequence[Check],
    gaps: Sequence[Gap],
    model: str,
) -> dict[str, Any]:
    """
    The whole of it, as plain data.

    Args:
        head: What contract it is: its name, its source, its pages.
        model: The model that read beside the rules, or `NO_MODEL`.
    """
    fields = {
        one.name: _field(clauses[one.name], one) for one in types if one.name in clauses
    }
    verdicts = [field["verdict"] for field in fields.values()]
    decisions = [
        {"type": name, **clause.decision.model_dump(mode="json")}
        for name, clause in clauses.items()
        if clause.decision is not None
    ]
    decisions += [
        {
            "check": check.name,
            "action": "accept",
            "by": check.accepted,
            "at": check.at,
            "reason": check.reason,
        }
        for check in checks
        if check.accepted
    ]
    return {
        **head,
        "title": _title(clauses, str(head.get("name", ""))),
        "readers": readers_of(model),
        "model": model,
        "note": RULES_ALONE if model == NO_MODEL else "",
        "counts": {
            "types": len(types),
            **{verdict: verdicts.count(verdict) for verdict in SHOWN},
            "gaps": len(gaps),
            "decided": len(decisions),
        },
        "clauses": fields,
        "checks": [check.model_dump(mode="json") for check in checks],
        "gaps": [gap.model_dump(mode="json") for gap in gaps],
        "decisions": decisions,
    }


SHOWN = ("present", "absent", "unclear")


def written(data: Mapping[str, Any]) -> bytes:
    """The record as a file, for people and programs."""
    return (json.dumps(data, ensure_ascii=False, indent=1) + "\n").encode()


def _field(clause: Clause, of: ClauseType) -> dict[str, Any]:
    field = clause.model_dump(mode="json", exclude={"type"})
    return {
        "title": of.title,
        "group": of.group,
        "required": of.required,
        **field,
    }


def _title(clauses: Mapping[str, Clause], name: str) -> str:
    for known in ("document_name", "title"):
        clause = clauses.get(known)
        if clause is not None and clause.verdict == "present":
            said = " ".join(clause.quotes[0].text.split())
            # A title that is found twice at one place is quoted with what follows it.
            return re.split(r"\s+(?:This|THIS)\s", said)[0]
    return name


def fields_of(data: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, str]:
    """
    What a CRM's record is told: its field -> the value of a type of clause.

    A type without a value gives its first quote, cut to `FIELD_CHARS_MAX`; one that is
    not there gives nothing, so that what a person wrote in the CRM stands.
    """
    found: dict[str, str] = {}
    for column, name in columns.items():
        clause = data["clauses"].get(name)
        if clause is None or clause["verdict"] != "present":
            continue
        said = (
            clause["value"]["text"] if clause["value"] else clause["quotes"][0]["text"]
        )
        found[column] = _plain(said)[:FIELD_CHARS_MAX]
    return found


def _plain(said: str) -> str:
    """One line of what is seen: nothing that turns or hides what others read of it."""
    line = " ".join(said.split())
    return "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf"))
