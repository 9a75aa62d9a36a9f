"""
The jailed side of `sections`: a contract's text in, its structure out.

A stranger wrote the text, so its sections are found and its clauses are read by rules
in a process that can be killed.  The text is split once for all types.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from stages.abstracts.forms import ROUTES, Cited, Clause, Said, Structure, Verdict
from stages.clauses.reading import Finding, load_types, read_clauses, sections_of
from stages.clauses.values import Value

STRUCTURE = "structure.json"


def read(
    text: str, rules: str, *, name: str = "", whole: bool = False
) -> dict[str, Any]:
    """
    Write the `Structure` of a contract, the file `STRUCTURE` in the scratch folder.

    Args:
        text: Path of an artifact: the document's text, UTF-8.
        rules: Path of an artifact: JSON of the rule files, their text by their name.
        name: Of the text's artifact, for the structure; "" of a pipeline pinned before
            it was asked for, whose store has it in the path's last two parts.
        whole: Whether every phrase is looked at, and not only those that the text
            needs: once for each version of the rules is enough, and costs 0.5 s.

    Returns:
        How many sections, exhibits and definitions there are.

    Raises:
        Usage: RULES_MISSING, RULES_INVALID.
    """
    document = Path(text).read_text(encoding="utf-8")
    types = load_types(json.loads(Path(rules).read_text(encoding="utf-8")))
    if whole:
        for one in types.values():
            one.compile()
    sections = sections_of(document)
    findings = read_clauses(types.values(), document, sections)
    structure = Structure(
        text=name or "".join(Path(text).parts[-2:]),
        sections=tuple(sections),
        types=tuple(one.type for one in types.values()),
        kinds={name: one.form.value for name, one in types.items()},
        by_rules={found.type: clause_of(found) for found in findings},
    )
    data = structure.model_dump_json(exclude_defaults=True).encode()
    Path(os.environ["TMPDIR"], STRUCTURE).write_bytes(data)
    kinds = [section.kind for section in sections]
    return {
        "sections": len(sections),
        "definitions": kinds.count("definitions"),
        "exhibits": kinds.count("exhibit"),
        "signatures": kinds.count("signature"),
    }


def clause_of(found: Finding) -> Clause:
    """What the rules found, with the opinion of each of the two routes."""
    return Clause(
        type=found.type,
        verdict=found.verdict,
        confidence=found.confidence,
        quotes=tuple(Cited(**quote.model_dump()) for quote in found.quotes),
        value=None if found.value is None else said_of(found.value),
        opinions=_opinions(found),
    )


def said_of(value: Value) -> Said:
    """A value as a record has it: figures stay figures."""
    amount = None if value.amount is None else f"{value.amount:f}"
    return Said(
        kind=value.kind,
        text=value.text,
        amount=amount,
        currency=value.currency,
        per=value.per,
    )


def _opinions(found: Finding) -> dict[str, Verdict]:
    """A route that came to a quote says what the finding says; the other is silent."""
    if found.verdict == "absent":
        return dict.fromkeys(ROUTES, "absent")
    came = {reader for quote in found.quotes for reader in quote.readers}
    return {route: found.verdict for route in ROUTES if route in came}
