"""What is written down of a quote: QUOTE.json, and what a mail and an ERP are told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from stages.fitting.parts import Part
from stages.fitting.units import from_bar, inches, shown_down
from stages.quoting import pricing
from stages.quoting.forms import Chosen, Enquiry, Line, Position, Quote
from stages.quoting.wording import day, shown

RULE_CHARS_MAX = 200


def record(
    quote: Quote,
    enquiry: Enquiry,
    chosen: Sequence[Chosen],
    answers: Mapping[str, str],
    terms: Mapping[str, Any],
) -> dict[str, Any]:
    """
    A quote as JSON; sums and quantities are text, as they are printed.

    Args:
        terms: Of the house: `house` (who it is), `terms` (sentences).
    """
    parts = {one.line: one for one in chosen}
    lines = {one.number: one for one in enquiry.lines}
    arrives = pricing.arrives(quote, quote.priced_at.date())
    return {
        "number": quote.number,
        "revision": quote.revision,
        "changes": pricing.changes(quote),
        "digest": quote.digest,
        "house": terms["house"],
        "customer": quote.customer.model_dump(),
        "currency": quote.currency,
        "lines": [
            _line(lines[one.line], parts[one.line], one.positions, str(one.total))
            for one in quote.lines
        ],
        "subtotal": str(quote.subtotal),
        "discount_percent": shown(quote.discount_percent),
        "discount": str(quote.discount),
        "total": str(quote.total),
        "rounding": pricing.ROUNDING,
        "made_at": _time(quote.priced_at),
        "valid_until": _time(quote.valid_until),
        "delivery": {
            "place": enquiry.place,
            "asked_by": enquiry.by.isoformat() if enquiry.by else "",
            "arrives": arrives.isoformat() if arrives else "",
            "in_time": None
            if arrives is None or enquiry.by is None
            else arrives <= enquiry.by,
            "short": pricing.short_of(quote),
        },
        "assumed": list(_assumed(quote, enquiry, chosen)),
        "answers": dict(answers),
        "terms": list(terms["terms"]),
    }


def _line(
    line: Line, chosen: Chosen, positions: Sequence[Position], total: str
) -> dict[str, Any]:
    assert line.length_mm is not None
    assert line.size is not None
    return {
        "line": line.number,
        "count": line.count,
        "asked": _asked(line),
        "words": {
            name: spot.model_dump(exclude_defaults=True)
            for name, spot in line.spots.items()
        },
        "bears_bar": None if chosen.bar is None else shown_down(chosen.bar),
        "bears_psi": None
        if chosen.bar is None
        else shown_down(from_bar(chosen.bar, "psi")),
        "limited_by": _limit(chosen),
        "reasons": [one.model_dump(mode="json") for one in chosen.reasons],
        "others": {place: list(said) for place, said in chosen.others.items()},
        "parts": [_part(one) for one in positions],
        "total": total,
    }


def _part(one: Position) -> dict[str, Any]:
    return {
        "part": one.part.number,
        "title": one.part.title,
        "at": list(one.places),
        "quantity": shown(one.quantity),
        "unit": one.price.unit,
        "price": str(one.price.price),
        "price_for": one.price.count,
        "tier": one.price.tier,
        "region": one.price.region,
        "total": str(one.total),
        "price_as_of": _time(one.price.as_of),
        "free": shown(one.stock.free),
        "stock_as_of": _time(one.stock.as_of),
        "last_quoted": None if one.last is None else str(one.last),
    }


def _asked(line: Line) -> str:
    """A line in a sentence, in the units that it is checked in."""
    assert line.length_mm is not None
    assert line.size is not None
    ends = " × ".join(
        f"{end.thread.upper()} {end.gender}{' swivel' * end.swivel} "
        f"{inches(end.size)} in"
        for end in line.ends
    )
    metres = shown(line.length_mm / 1000)
    said = f"hose {inches(line.size)} in, {metres} m, {ends}; {line.medium}"
    if line.celsius is not None:
        said += f" at up to {shown(line.celsius)} °C"
    if line.bar is not None:
        said += f", {shown(line.bar.quantize(pricing.CENT))} bar"
    return said


def _limit(chosen: Chosen) -> str:
    """The part that bears least, with the rule that says so."""
    at = next((r for r in chosen.reasons if r.rule == "pressure of the assembly"), None)
    if at is None:
        return ""
    names = {f"{place} {part.number}" for place, part in chosen.parts.items()}
    weakest = [name for name in at.parts if name in names]
    heat = [
        f"{r.rule}: {r.why}"
        for r in chosen.reasons
        if r.rule.startswith("heat of ")
        and set(r.parts) & set(weakest)
        and "%" in r.why
    ]
    rated = [
        f"{r.rule}: {r.why}"
        for r in chosen.reasons
        if r.rule.startswith(("hose ", "thread ")) and set(r.parts) & set(weakest)
    ]
    said = [", ".join(weakest), *dict.fromkeys(rated), *dict.fromkeys(heat)]
    return "; ".join(one[:RULE_CHARS_MAX] for one in said if one)


def _assumed(quote: Quote, enquiry: Enquiry, chosen: Sequence[Chosen]) -> Any:
    """What nobody asked for, and is in it all the same."""
    yield "Lengths are overall lengths; hose is charged by that length."
    for one in chosen:
        parts: Mapping[str, Part] = one.parts
        if one.others:
            named = (f"{place} {parts[place].number}" for place in one.others)
            taken = ", ".join(named)
            yield (
                f"Line {one.line}: no type or material was asked for; {taken} was "
                f"taken of several that pass, and the others stand with the line."
            )
        for said in one.assumed:
            if said.startswith("vouched"):
                yield f"Line {one.line}: {said}"
    if not enquiry.discount:
        return
    granted = ", and granted by a person" * bool(pricing.over_limit(quote))
    percent = shown(quote.discount_percent)
    yield f"The discount of {percent} % was asked for{granted}."


def written(data: Mapping[str, Any]) -> bytes:
    """The record as a file: the same record is the same bytes."""
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def for_erp(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the ERP keeps of a quote: by its number and revision, its external id."""
    parts = [
        {"line": line["line"], **{k: one[k] for k in ("part", "quantity", "unit")}}
        | {"price": one["price"], "total": one["total"]}
        for line in data["lines"]
        for one in line["parts"]
    ]
    kept = ("number", "revision", "digest", "currency", "subtotal", "total")
    return {
        **{name: data[name] for name in (*kept, "discount_percent", "discount")},
        "customer": data["customer"]["number"],
        "made_at": data["made_at"],
        "valid_until": data["valid_until"],
        "lines": parts,
    }


def mail_of(data: Mapping[str, Any]) -> dict[str, str]:
    """The mail that a quote goes out with; its files are attached."""
    again = f", revision {data['revision']}" if data["revision"] > 1 else ""
    changed = "".join(f"  {one}\n" for one in data["changes"])
    text = (
        f"Dear {data['customer']['name']},\n\nattached is our quote {data['number']}"
        f"{again}, of {data['total']} {data['currency']}, valid until "
        f"{day(data['valid_until'])}.\n"
        + f"\nWhat has changed:\n{changed}" * bool(changed)
        + f"\n{data['house']['name']}\n"
    )
    subject = f"Quote {data['number']}{again}"
    return {"to": data["customer"]["mail"], "subject": subject, "text": text}


def _time(at: datetime) -> str:
    return at.isoformat(timespec="seconds")
