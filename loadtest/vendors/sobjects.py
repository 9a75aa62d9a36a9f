"""Records of a CRM: objects by type and id, and the little SOQL that finds them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

PREFIXES = {"Account": "001", "Contact": "003", "Lead": "00Q", "Case": "500"}
NAME = re.compile(r"[A-Za-z]\w{0,79}", re.ASCII)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
SOQL = re.compile(
    r"\s*select\s+(?P<fields>.+?)\s+from\s+(?P<kind>\w+)"
    r"(?:\s+where\s+(?P<where>.+?))?"
    r"(?:\s+order\s+by\s+(?P<order>\w+)(?P<down>\s+desc)?(?:\s+asc)?)?"
    r"(?:\s+limit\s+(?P<limit>\d+))?\s*",
    re.IGNORECASE | re.DOTALL,
)
TERM = re.compile(
    r"\s*(\w+)\s*(?:(=|!=)\s*('(?:[^'\\]|\\.)*'|[\w.]+)|in\s*\((.*?)\))\s*",
    re.IGNORECASE | re.DOTALL,
)
TEXT = re.compile(r"'((?:[^'\\]|\\.)*)'")

Record = dict[str, Any]


class Refused(Exception):
    """The whole call is refused."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one record; `external` is the id that its owner gave it."""

    id: str
    created: bool = False
    external: str = ""
    code: str = ""
    message: str = ""

    @property
    def success(self) -> bool:
        """Whether it was written."""
        return not self.code

    def outcome(self) -> dict[str, Any]:
        """As the API says it."""
        if self.success:
            done = {"id": self.id, "success": True, "errors": []}
            return {**done, "created": self.created}
        error = {"statusCode": self.code, "message": self.message, "fields": []}
        return {"success": False, "errors": [error]}

    def rolled_back(self) -> Written:
        """Of a collection that is written whole or not at all."""
        if not self.success:
            return self
        said = "Record rolled back because not all records were valid"
        code = "ALL_OR_NONE_OPERATION_ROLLED_BACK"
        return replace(self, created=False, code=code, message=said)


class Records:
    """All records of an organisation."""

    def __init__(self) -> None:
        self._by_type: dict[str, dict[str, Record]] = {}
        self._external: dict[tuple[str, str], dict[str, str]] = {}
        self._made = 0

    def copy(self) -> Records:
        """As they are now."""
        other = Records()
        other._by_type = {
            kind: {identity: dict(record) for identity, record in rows.items()}
            for kind, rows in self._by_type.items()
        }
        other._external = {key: dict(ids) for key, ids in self._external.items()}
        other._made = self._made
        return other

    # -- writing -------------------------------------------------------------------

    def create(self, kind: str, values: Record) -> Written:
        """A record of its own, whatever else there is."""
        if wrong := _invalid(kind, values):
            return wrong
        self._made += 1
        prefix = PREFIXES.get(kind, "a00")
        identity = f"{prefix}{self._made:012}AAA"
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000+0000}"
        kept = {"Id": identity, **values, "CreatedDate": stamp}
        self._by_type.setdefault(kind, {})[identity] = kept
        return Written(identity, created=True)

    def upsert(self, kind: str, field: str, values: Record) -> Written:
        """The record with this external id is made, or changed."""
        value = str(values.get(field) or "")
        if not value:
            said = f"{field} not specified"
            return Written("", code="MISSING_ARGUMENT", message=said)
        known = self._external.setdefault((kind, field), {})
        if value in known:
            written = self.update(kind, known[value], values)
        else:
            written = self.create(kind, values)
            if written.success:
                known[value] = written.id
        return replace(written, external=value)

    def update(self, kind: str, identity: str, values: Record) -> Written:
        """The record is changed."""
        record = self._by_type.get(kind, {}).get(identity)
        if record is None:
            return Written(identity, code="ENTITY_IS_DELETED", message="no such record")
        if wrong := _invalid(kind, values):
            return wrong
        record.update(values)
        return Written(identity)

    def delete(self, kind: str, identity: str) -> Written:
        """The record is gone; without a type it is looked for in all."""
        for name in [kind] if kind else list(self._by_type):
            if self._by_type.get(name, {}).pop(identity, None) is not None:
                for (of, _), known in self._external.items():
                    for value in [v for v, i in known.items() if i == identity]:
                        if of == name:
                            del known[value]
                return Written(identity)
        return Written(identity, code="ENTITY_IS_DELETED", message="no such record")

    def locked(self, what: str) -> Written:
        """Somebody else is writing it just now."""
        said = f"unable to obtain exclusive access to this record: {what}"
        return Written("", code="UNABLE_TO_LOCK_ROW", message=said)

    # -- reading -------------------------------------------------------------------

    def shown(self, kind: str, field: str, value: str, base: str) -> Record:
        """One record with its attributes."""
        rows = self._by_type.get(kind, {})
        identity = self._external.get((kind, field), {}).get(value, value)
        record = rows.get(identity)
        if record is None:
            raise Refused(404, "NOT_FOUND", "The requested resource does not exist")
        return {"attributes": _attributes(kind, identity, base), **record}

    def query(self, soql: str, base: str) -> list[Record] | int:
        """Its rows, or their number where that is asked."""
        found = SOQL.fullmatch(soql)
        if found is None:
            raise Refused(400, "MALFORMED_QUERY", f"unexpected token: {soql[:80]!r}")
        kind = found["kind"]
        fits = _condition(found["where"] or "")
        rows = [row for row in self._by_type.get(kind, {}).values() if fits(row)]
        if found["order"]:
            by = found["order"]
            rows.sort(key=lambda r: str(r.get(by) or ""), reverse=bool(found["down"]))
        rows = rows[: int(found["limit"])] if found["limit"] else rows
        names = [name.strip() for name in found["fields"].split(",")]
        if names[0].lower() == "count()":
            return len(rows)
        return [
            {"attributes": _attributes(kind, row["Id"], base)}
            | {name: row.get(name) for name in names}
            for row in rows
        ]

    def described(self, kind: str, base: str) -> Record:
        """What is known of a type: the fields that its records have."""
        if not NAME.fullmatch(kind):
            raise Refused(404, "NOT_FOUND", "The requested resource does not exist")
        names = {name for row in self._by_type.get(kind, {}).values() for name in row}
        external = {field for of, field in self._external if of == kind}
        fields = [
            {
                "name": name,
                "label": name,
                "type": "id" if name == "Id" else "string",
                "externalId": name in external,
                "updateable": name != "Id",
                "createable": name != "Id",
                "nillable": name != "Id",
            }
            for name in sorted(names | {"Id", "CreatedDate"})
        ]
        urls = {"sobject": f"{base}/sobjects/{kind}"}
        top = {"name": kind, "label": kind, "keyPrefix": PREFIXES.get(kind, "a00")}
        can = {"queryable": True, "createable": True, "updateable": True}
        return {**top, **can, "fields": fields, "urls": urls}

    def listed(self, base: str) -> Record:
        """Every type there is."""
        kinds = sorted({*PREFIXES, *self._by_type})
        described = [self.described(kind, base) for kind in kinds]
        for each in described:
            del each["fields"]
        return {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": described}


def _condition(where: str) -> Callable[[Record], bool]:
    """
    Terms joined by `and`.

    Raises:
        Refused: it is none.
    """
    terms = []
    for term in re.split(r"\s+and\s+", where, flags=re.IGNORECASE) if where else []:
        found = TERM.fullmatch(term)
        if found is None:
            raise Refused(400, "MALFORMED_QUERY", f"unexpected token: {term[:80]!r}")
        name, sign, value, several = found.groups()
        listed = TEXT.findall(several) if several else [value.strip("'")]
        wanted = {re.sub(r"\\(.)", r"\1", each) for each in listed}
        terms.append((name, sign != "!=", wanted))

    def fits(row: Record) -> bool:
        return all((_said(row.get(n)) in wanted) == yes for n, yes, wanted in terms)

    return fits


def _said(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def _invalid(kind: str, values: Record) -> Written | None:
    """Why a record is refused for ever."""
    if not NAME.fullmatch(kind):
        return Written("", code="INVALID_TYPE", message=f"no such type: {kind!r}")
    email = values.get("Email")
    if email and not EMAIL.fullmatch(str(email)):
        said = "Email: invalid email address"
        return Written("", code="INVALID_EMAIL_ADDRESS", message=said)
    if kind == "Contact" and values.get("LastName", "?") in (None, ""):
        said = "Required fields are missing: [LastName]"
        return Written("", code="REQUIRED_FIELD_MISSING", message=said)
    return None


def _attributes(kind: str, identity: str, base: str) -> Record:
    return {"type": kind, "url": f"{base}/sobjects/{kind}/{identity}"}
