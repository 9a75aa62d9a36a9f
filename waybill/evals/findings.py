"""
Findings: what a pipeline has left of each type in an item's state.

They stand in the channel `findings` or `clauses`, or in `findings` of the channel
`facts`: a list, or a mapping by type, of `{type, verdict, quotes: [{text, …}], value}`,
the verdict `present`, `absent` or `unclear`.  What else stands there is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from waybill.evals.labels import type_name

CHANNELS = {"findings", "clauses", "facts"}
VERDICTS = ("present", "unclear", "absent")  # of several for one type the first


class Found(NamedTuple):
    """What was found of one type in one document."""

    verdict: str
    quotes: tuple[str, ...]
    values: tuple[Any, ...]


def findings_of(state: Mapping[str, Any]) -> dict[str, Found] | None:
    """By type; None where the state has no findings, not even an empty list."""
    facts = state.get("facts")
    within = facts.get("findings") if isinstance(facts, Mapping) else None
    for listed in (state.get("findings"), within, state.get("clauses")):
        if isinstance(listed, Mapping):
            return _joined(listed.values())
        if isinstance(listed, list):
            return _joined(listed)
    return None


def _joined(listed: Iterable[Any]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for type_, one in _each(listed):
        other = found.get(type_, Found("absent", (), ()))
        verdict = min(other.verdict, one.verdict, key=VERDICTS.index)
        quotes = other.quotes + one.quotes
        found[type_] = Found(verdict, quotes, other.values + one.values)
    return found


def _each(raws: Iterable[Any]) -> Iterator[tuple[str, Found]]:
    for raw in raws:
        if not isinstance(raw, Mapping) or raw.get("verdict") not in VERDICTS:
            continue
        said = raw.get("quotes")
        listed = said if isinstance(said, list) else [said]  # a text is one quote
        quotes = tuple(text for quote in listed if (text := _text(quote)))
        value = raw.get("value")
        values = () if value is None else (value,)
        yield type_name(str(raw.get("type"))), Found(raw["verdict"], quotes, values)


def _text(quote: Any) -> str:
    text = quote.get("text") if isinstance(quote, Mapping) else quote
    return text if isinstance(text, str) else ""
