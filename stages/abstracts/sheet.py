"""
The jailed side of `abstract`: a contract's record in, a printed abstract out.

The template is the pipeline folder's own.  Where no face can draw a character it is a
white box on paper; the record has it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.abstracts.checks import named_parties, spoken, term_in
from stages.clauses.values import values_of
from stages.printing.sheets import compiled, plain
from stages.printing.typesetter import page_count

ABSTRACT = "abstract.pdf"
FACES = ("DejaVu Serif", "DejaVu Sans")
QUOTE_CHARS_MAX = 280  # of the first one on paper; the record has all of each
SAID_CHARS_MAX = 100  # of a fact that has no value
LOOK_CHARS_MAX = 160
LOOK_MAX = 12  # on page one
NAME_CHARS_MAX = 120  # of a party
PARTIES_MAX = 8
MONEY = (
    *("price", "fees", "upfront_payment", "payment_terms"),
    *("minimum_commitment", "cap_on_liability", "liquidated_damages"),
)
# Page one, as a lawyer asks; a line that has nothing says so.
FACTS = (
    ("Dates", ("agreement_date", "effective_date", "expiration_date")),
    (
        "Term",
        (
            *("initial_term", "term", "renewal_term"),
            *("notice_period_to_terminate_renewal", "termination_for_convenience"),
        ),
    ),
    ("Money", MONEY),
    ("Law", ("governing_law", "jurisdiction", "dispute_resolution", "arbitration")),
    (
        "Restrictions",
        ("exclusivity", "non_compete", "anti_assignment", "change_of_control"),
    ),
)
EXPIRES, LASTS = "expiration_date", {"initial_term", "term"}
FIRST = ("parties", "dates", "termination", "law", "money", "risk")
CHECKS = {
    "quotes_verbatim": "Quotes",
    "two_parties": "Parties",
    "expiry_agrees": "Expiry",
    "signers_are_parties": "Signers",
    "one_currency": "Currency",
}
ACTIONS = {
    "accept": "accepted",
    "correct": "corrected",
    "absent": "ruled absent",
    "missed": "added",
}


def typeset(record: str, template: str, paper: str) -> dict[str, Any]:
    """
    Write the abstract as a PDF, the file `ABSTRACT` in the scratch folder.

    Args:
        record: Path of an artifact: `record.record` as JSON.
        template: The typst source.
        paper: As typst calls it, such as `a4`.

    Returns:
        Its number of pages.

    Raises:
        Permanent: FONT_MISSING; TYPESET_FAILED when typst refuses the template.
    """
    data = json.loads(Path(record).read_text(encoding="utf-8"))
    given = json.dumps(page_of(data) | {"fonts": FACES, "paper": paper})
    pdf = compiled(template, given, FACES, "abstract", "abstract")
    Path(os.environ["TMPDIR"], ABSTRACT).write_bytes(pdf)
    return {"pages": page_count(pdf), "size_bytes": len(pdf)}


# -- what is printed -------------------------------------------------------------------


def page_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` of the template: the record as a reader wants it, texts tidied."""
    clauses: Mapping[str, Any] = data["clauses"]
    titles = {name: field["title"] for name, field in clauses.items()}
    there = {n: f for n, f in clauses.items() if f["verdict"] != "absent"}
    name, pages = str(data["name"]), int(data["pages"])
    look = list(_to_look_at(data, titles))
    return {
        "title": plain(str(data["title"]), 200),
        "short": plain(name, 90),
        "parties": _parties(clauses),
        "note": data["note"],
        "facts": list(_facts(clauses)),
        "signers": _signers(clauses),
        "look": look[:LOOK_MAX],
        "more": max(0, len(look) - LOOK_MAX),
        "unmade": [
            {
                "title": CHECKS.get(check["name"], check["name"]),
                "why": plain(check["why"].removeprefix("not made: "), LOOK_CHARS_MAX),
            }
            for check in data["checks"]
            if check["ok"] is None
        ],
        "checks": [
            {**check, "title": CHECKS.get(check["name"], check["name"])}
            for check in data["checks"]
        ],
        "decisions": [
            {
                "title": _decided(one, titles),
                "action": ACTIONS[one["action"]],
                "by": plain(one["by"], 60) or "a reviewer",
                "at": one["at"][:16].replace("T", " "),
                "reason": plain(one["reason"], LOOK_CHARS_MAX),
            }
            for one in data["decisions"]
        ],
        "groups": [
            {"title": group, "clauses": [_clause(field) for field in fields]}
            for group, fields in _grouped(there)
        ],
        "absent": [
            {"title": group, "names": [_absent(field) for field in fields]}
            for group, fields in _grouped(
                {n: f for n, f in clauses.items() if f["verdict"] == "absent"}
            )
        ],
        # As templates ask for that were pinned or copied before `facts` and `look`.
        "terms": [row for fact in _facts(clauses) for row in fact["rows"]],
        "gaps": [
            {**gap, "title": titles.get(gap["type"], gap["type"].replace("_", " "))}
            for gap in data["gaps"]
        ],
        "readers": data["readers"],
        "model": data["model"],
        "source_line": f"{plain(name, 160)} · {pages} page{'s' * (pages != 1)} · "
        f"sha256 {str(data['source'])[:16]}…",
    }


def _grouped(
    clauses: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Clauses by their groups, in the order in which those come."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for field in clauses.values():
        groups.setdefault(field["group"], []).append(field)
    for name in sorted(groups, key=_rank):
        yield name.replace("_", " "), groups[name]


def _rank(group: str) -> int:
    """As a lawyer asks: who, when, how it ends, then the rest as it comes."""
    return FIRST.index(group) if group in FIRST else len(FIRST)


def _clause(field: Mapping[str, Any]) -> dict[str, Any]:
    decision = field["decision"]
    said = _value(field)
    quotes = [
        {
            "text": plain(quote["text"], QUOTE_CHARS_MAX),
            "page": quote["page"],
            "readers": ", ".join(quote["readers"]),
        }
        for quote in field["quotes"][:1]
    ]
    first = [quote["page"] for quote in quotes]
    others = [q["page"] for q in field["quotes"] if q["page"] not in first]
    return {
        "title": field["title"],
        # A title or a name is its own quote.
        "value": "" if quotes and said == quotes[0]["text"] else said,
        "doubtful": field["verdict"] == "unclear",
        "decided": ""
        if decision is None
        else f"{ACTIONS[decision['action']]} by {plain(decision['by'], 40)}",
        "sure": "" if decision else f"{round(field['confidence'] * 100)} %",
        "quotes": quotes,
        "also": ", ".join(map(str, dict.fromkeys(others))),
    }


def _absent(field: Mapping[str, Any]) -> str:
    decided = " (ruled absent)" if field["decision"] else ""
    return f"{field['title']}{decided}"


def _facts(clauses: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    lasts = _lasts(clauses)
    for title, names in FACTS:
        fields = {name: clauses[name] for name in names if name in clauses}
        there = {n: f for n, f in fields.items() if f["verdict"] == "present"}
        # A clause that says how long it lasts, and no day, is a row of the term alone.
        if lasts and _value(there.get(EXPIRES, {"value": None})) == "":
            there.pop(EXPIRES, None)
        rows = [_fact(field) for field in there.values()]
        if lasts and title == "Term" and not LASTS & there.keys():
            rows.insert(0, lasts)
        yield {"title": title, "rows": rows}


def _lasts(clauses: Mapping[str, Any]) -> dict[str, Any] | None:
    """How long the first term is, where the clause of its end says so."""
    field = clauses.get(EXPIRES)
    if field is None or field["verdict"] != "present":
        return None
    found = term_in([quote["text"] for quote in field["quotes"]])
    if found is None:
        return None
    number, term = found
    said = _value({"value": {"kind": "duration", "text": term}})
    page = field["quotes"][number]["page"]
    return {"title": "Initial Term", "said": said, "page": page}


def _fact(field: Mapping[str, Any]) -> dict[str, Any]:
    first = field["quotes"][0]
    said = _value(field) or plain(first["text"], SAID_CHARS_MAX)
    return {"title": field["title"], "said": said, "page": first["page"]}


def _decided(one: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """The title of the type, or of the check, that was decided."""
    if "check" in one:
        name = str(one["check"])
        return CHECKS.get(name, name)
    name = str(one["type"])
    return titles.get(name, name)


def _signers(clauses: Mapping[str, Any]) -> list[str]:
    """Who signs, each once, as it stands there."""
    field = clauses.get("signatories")
    if field is None or field["verdict"] != "present":
        return []
    said = (plain(quote["text"], NAME_CHARS_MAX) for quote in field["quotes"])
    return list(dict.fromkeys(said))[:PARTIES_MAX]


def _to_look_at(
    data: Mapping[str, Any], titles: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """What nobody is sure of, with the page: doubts, failed checks, gaps."""
    for check in data["checks"]:
        if check["ok"] is False:
            taken = f"taken as it is by {check['accepted']}" * bool(check["accepted"])
            taken += f": {check['reason']}" * bool(check["reason"])
            title = CHECKS.get(check["name"], check["name"])
            why = plain(check["why"], LOOK_CHARS_MAX)
            why += f" ({plain(taken, LOOK_CHARS_MAX)})" * bool(taken)
            yield {"sign": "check", "title": title, "why": why}
    for field in data["clauses"].values():
        if field["verdict"] == "unclear":
            quotes = field["quotes"]
            page = f", page {quotes[0]['page']}" if quotes else ""
            why = f"its readers are not sure{page}"
            yield {"sign": "doubt", "title": field["title"], "why": why}
        elif field["verdict"] == "absent" and field["required"]:
            ruled = "a person says so" if field["decision"] else "nobody found it"
            why = f"required and absent: {ruled}"
            yield {"sign": "missing", "title": field["title"], "why": why}
    for name in MONEY:
        if several := _several(data["clauses"].get(name)):
            yield {"sign": "value", "title": titles[name], "why": several}
    for gap in data["gaps"]:
        title = titles.get(gap["type"], gap["type"].replace("_", " "))
        why = f"not read ({gap['why']})" + ", though required" * gap["required"]
        yield {"sign": "gap", "title": title, "why": why}


def _several(field: Mapping[str, Any] | None) -> str:
    """Which value was taken of a quote that says several; "" of any other clause."""
    if field is None or field["verdict"] != "present" or field["decision"]:
        return ""
    value = field["value"] or {"kind": "none"}
    for quote in field["quotes"]:
        said = {one.value.text for one in values_of(value["kind"], quote["text"])}
        if value.get("text") in said and len(said) > 1:
            return (
                f"{_value(field)} was taken of {len(said)} values, page {quote['page']}"
            )
    return ""


def _parties(clauses: Mapping[str, Any]) -> list[str]:
    """Who the parties are, as page one has room for them."""
    field = clauses.get("parties")
    if field is None or field["verdict"] != "present":
        return []
    decided = (field["decision"] or {}).get("action")
    if decided in ("correct", "missed") and field["value"]:
        # Whom a person named, and no longer the words that they stand in.
        named = str(field["value"]["text"]).split(";")
        said = [plain(one, NAME_CHARS_MAX) for one in named if one.strip()]
        return said[:PARTIES_MAX]
    said = [plain(quote["text"], NAME_CHARS_MAX) for quote in field["quotes"]]
    return named_parties(said)[:PARTIES_MAX]


MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


def _value(field: Mapping[str, Any]) -> str:
    """A value as people write it: `5 years`, `17 May 2026`."""
    value = field["value"]
    if value is None:
        return ""
    said = str(value["text"])
    if value["kind"] == "duration":
        return spoken(said)
    if value["kind"] == "date" and len(said) == 10:
        year, month, day = said.split("-")
        return f"{int(day)} {MONTHS[int(month) - 1]} {year}"
    if value["kind"] == "money" and value["amount"]:
        each = f" per {value['per']}" if value.get("per") else ""
        return f"{value['currency']} {float(value['amount']):,.2f}{each}"
    return plain(said, SAID_CHARS_MAX)
