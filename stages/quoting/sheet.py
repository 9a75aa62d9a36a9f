"""
The jailed side of `document`: a quote's record in, a printed quote out.

The template is the pipeline folder's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from stages.printing.sheets import compiled, plain
from stages.printing.typesetter import page_count
from stages.quoting.wording import UNITS, day

QUOTE = "quote.pdf"
FACES = ("DejaVu Sans", "DejaVu Serif")
TEXT_CHARS_MAX = 300
SHOWN_REASONS = ("hose ", "thread ", "heat of ", "pressure of the assembly")


def typeset(record: str, template: str, paper: str) -> dict[str, Any]:
    """
    Write the quote as a PDF, the file `QUOTE` in the scratch folder.

    Args:
        record: Path of an artifact: `record.record` as JSON.
        template: The typst source.
        paper: As typst calls it, such as `a4`.

    Returns:
        Its number of pages and of bytes.

    Raises:
        Permanent: FONT_MISSING; TYPESET_FAILED when typst refuses the template.
    """
    data = json.loads(Path(record).read_text(encoding="utf-8"))
    given = json.dumps(page_of(data) | {"fonts": FACES, "paper": paper})
    pdf = compiled(template, given, FACES, "quote", "document")
    Path(os.environ["TMPDIR"], QUOTE).write_bytes(pdf)
    return {"pages": page_count(pdf), "size_bytes": len(pdf)}


def page_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` of the template: the record as a buyer wants it, texts tidied."""
    delivery = data["delivery"]
    return {
        "number": data["number"],
        "revision": data["revision"],
        "changes": [_plain(one) for one in data["changes"]],
        "house": {key: _plain(str(said)) for key, said in data["house"].items()},
        "customer": {key: _plain(str(s)) for key, s in data["customer"].items()},
        "made": day(data["made_at"]),
        "as_of": _as_of(data),
        "until": day(data["valid_until"]),
        "currency": data["currency"],
        "lines": [_line(line, data["currency"]) for line in data["lines"]],
        "subtotal": money(data["subtotal"]),
        "percent": data["discount_percent"],
        "discount": money(data["discount"]),
        "discounted": data["discount"] not in ("0", "0.00"),
        "total": money(data["total"]),
        "rounding": data["rounding"],
        "place": _plain(delivery["place"]),
        "asked_by": day(delivery["asked_by"]) if delivery["asked_by"] else "",
        "arrives": day(delivery["arrives"]) if delivery["arrives"] else "",
        "late": delivery["in_time"] is False,
        "short": [_plain(one) for one in delivery["short"]],
        "assumed": [_plain(one) for one in data["assumed"]],
        "answers": [
            {"key": key, "said": _plain(str(said))}
            for key, said in sorted(data["answers"].items())
        ],
        "terms": [_plain(one) for one in data["terms"]],
        "digest": data["digest"],
    }


def _line(line: Mapping[str, Any], currency: str) -> dict[str, Any]:
    reasons = [
        {
            "rule": _plain(one["rule"]),
            "why": _plain(one["why"]),
            "at": _plain(one["at"]),
            "fits": one["fits"],
        }
        for one in line["reasons"]
        if one["rule"].startswith(SHOWN_REASONS) or one["fits"] != "yes"
    ]
    once = {(one["rule"], one["why"]): one for one in reasons}
    return {
        "line": line["line"],
        "count": line["count"],
        "asked": _plain(line["asked"]),
        "bar": line["bears_bar"] or "",
        "psi": grouped(line["bears_psi"] or ""),
        "limited": _plain(line["limited_by"]),
        "reasons": list(once.values()),
        "open": sum(one["fits"] != "yes" for one in line["reasons"]),
        "rules": len({one["rule"] for one in line["reasons"]}),
        "others": [
            {"place": place, "said": [_plain(one) for one in said]}
            for place, said in line["others"].items()
        ],
        "parts": [
            {
                "part": one["part"],
                "title": _plain(one["title"]),
                "quantity": f"{grouped(one['quantity'])} {UNITS[one['unit']]}",
                "price": money(one["price"]),
                "total": money(one["total"]),
                "free": f"{grouped(one['free'])} {UNITS[one['unit']]} in stock",
                "enough": Decimal(one["free"]) >= Decimal(one["quantity"]),
            }
            for one in line["parts"]
        ],
        "total": money(line["total"]),
    }


def _as_of(data: Mapping[str, Any]) -> str:
    """When the oldest price or stock in it was so, in UTC."""
    times = [
        datetime.fromisoformat(one[key])
        for line in data["lines"]
        for one in line["parts"]
        for key in ("price_as_of", "stock_as_of")
    ]
    at = min(times).astimezone(UTC)
    return f"{day(at.date().isoformat())}, {at:%H:%M} UTC"


def money(amount: str) -> str:
    """`12,345.60`, of the text that was summed: no number is made of it."""
    whole, _, cents = amount.partition(".")
    return f"{grouped(whole)}.{(cents + '00')[:2]}"


def grouped(number: str) -> str:
    """Thousands apart."""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole.lstrip("-").isdecimal() else number


def _plain(text: str) -> str:
    return plain(text, TEXT_CHARS_MAX)
