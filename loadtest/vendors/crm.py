"""
A CRM that speaks Salesforce's REST API, as far as a batch of records needs it.

Log in (OAuth, SOAP), describe, query with pages, create, read, update, delete, upsert
by external id, and composite collections of up to 200 with an outcome for each record.
Every call counts against `api_max`, and what is over it is refused with a 403.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from typing import Any

from loadtest.vendors import sobjects
from loadtest.vendors.book import Taken, now
from loadtest.vendors.kinds import Call, Plain, Reply
from loadtest.vendors.settings import Play
from loadtest.vendors.sobjects import Refused, Written

COLLECTION_MAX = 200
CURSORS_MAX = 100
VERSION = re.compile(r"/services/data/v(\d+)\.0(/.*)?", re.ASCII)
BATCH = re.compile(r"batchSize=(\d+)", re.ASCII)
SOAP = """<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope \
xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" \
xmlns="urn:partner.soap.sforce.com"><soapenv:Body><loginResponse><result>\
<serverUrl>{url}/services/Soap/u/59.0/00D000000000001</serverUrl>\
<sessionId>{session}</sessionId></result></loginResponse></soapenv:Body>\
</soapenv:Envelope>"""


class Crm(Plain):
    """One organisation and its records."""

    faults = frozenset({"locked", "fewer_outcomes", "swapped_outcomes"})

    def __init__(self) -> None:
        self._records = sobjects.Records()
        self._used = 0
        self._cursors: dict[str, list[dict[str, Any]]] = {}

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """As the path says; Salesforce's headers on everything."""
        if self.free(call):
            return self._login(call, play)
        if self._used >= play.api_max:
            reply = replace(self.error(call, 429, ""), refused="throttled")
        else:
            self._used += 1
            try:
                reply = self._answer(call, play, fault)
            except Refused as error:
                reply = _refused(error.status, error.code, error.message)
        usage = ("Sforce-Limit-Info", f"api-usage={self._used}/{play.api_max}")
        return replace(reply, headers=(*reply.headers, usage))

    def error(self, call: Call, status: int, message: str) -> Reply:
        """A list of one error; too many calls are a 403 and say no time."""
        codes = {401: "INVALID_SESSION_ID", 404: "NOT_FOUND", 400: "JSON_PARSER_ERROR"}
        if status == 429:
            said = "TotalRequests Limit exceeded."
            return _refused(403, "REQUEST_LIMIT_EXCEEDED", said)
        if status >= 500:
            return _refused(status, "SERVER_UNAVAILABLE", message)
        return _refused(status, codes.get(status, "INVALID_OPERATION"), message)

    def free(self, call: Call) -> bool:
        """Logging in."""
        return call.path.startswith(("/services/oauth2/", "/services/Soap/"))

    def _login(self, call: Call, play: Play) -> Reply:
        session = play.credential or "00D000000000001!simulated"
        if call.path.startswith("/services/Soap/"):
            text = SOAP.format(url=call.url, session=session)
            return Reply(data=text.encode(), media_type="text/xml")
        if "grant_type" not in call.form:
            error = {"error": "invalid_request", "error_description": "grant_type"}
            return Reply(400, error)
        granted = {
            "access_token": session,
            "instance_url": call.url,
            "id": f"{call.url}/id/00D000000000001/005000000000001",
            "token_type": "Bearer",
            "issued_at": str(int(now() * 1000)),
            "signature": "simulated",
        }
        return Reply(data=granted)

    def _answer(self, call: Call, play: Play, fault: str) -> Reply:
        if call.path.rstrip("/") == "/services/data":
            here = {"label": "Simulated", "url": "/services/data/v59.0"}
            return Reply(data=[{**here, "version": "59.0"}])
        found = VERSION.fullmatch(call.path)
        if found is None:
            raise Refused(404, "NOT_FOUND", "The requested resource does not exist")
        base = f"/services/data/v{found[1]}.0"
        match (call.method, *call.parts[3:]):
            case ("GET", "limits"):
                left = play.api_max - self._used
                daily = {"Max": play.api_max, "Remaining": left}
                return Reply(data={"DailyApiRequests": daily})
            case ("GET", "query" | "queryAll"):
                return self._query(call, play, base)
            case ("GET", "query" | "queryAll", cursor):
                return self._page(cursor, play, base)
            case ("GET", "sobjects"):
                return Reply(data=self._records.listed(base))
            case (_, "sobjects", kind, *rest):
                return self._one(call, kind, rest, base, fault)
            case ("POST" | "PATCH" | "DELETE", "composite", "sobjects", *rest):
                return self._many(call, rest, fault)
            case _:
                raise Refused(404, "NOT_FOUND", "The requested resource does not exist")

    # -- reading -------------------------------------------------------------------

    def _query(self, call: Call, play: Play, base: str) -> Reply:
        rows = self._records.query(call.query.get("q", ""), base)
        if isinstance(rows, int):
            return Reply(data={"totalSize": rows, "done": True, "records": []})
        wanted = BATCH.search(call.headers.get("sforce-query-options", ""))
        size = min(int(wanted[1]), play.page_size) if wanted else play.page_size
        if len(rows) <= size:
            return Reply(data=_found(rows, len(rows)))
        while len(self._cursors) >= CURSORS_MAX:
            del self._cursors[next(iter(self._cursors))]
        name = f"01g{len(self._cursors):012}{self._used:03}"
        self._cursors[name] = rows
        return self._page(f"{name}-0-{size}", play, base)

    def _page(self, cursor: str, play: Play, base: str) -> Reply:
        name, _, place = cursor.partition("-")
        start, _, size = place.partition("-")
        rows = self._cursors.get(name)
        if rows is None or not start.isdecimal():
            raise Refused(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        step = int(size) if size.isdecimal() else play.page_size
        end = int(start) + max(1, step)
        page = _found(rows[int(start) : end], len(rows))
        if end < len(rows):
            page["done"] = False
            page["nextRecordsUrl"] = f"{base}/query/{name}-{end}-{step}"
        return Reply(data=page)

    # -- writing -------------------------------------------------------------------

    def _one(
        self, call: Call, kind: str, rest: list[str], base: str, fault: str
    ) -> Reply:
        """One record, by its id or an external one; or what there is to know."""
        records = self._records
        match (call.method, *rest):
            case ("GET",):
                return Reply(data={"objectDescribe": records.described(kind, base)})
            case ("GET", "describe"):
                return Reply(data=records.described(kind, base))
            case ("POST",):
                written = records.create(kind, call.fields)
            case ("GET", identity):
                return Reply(data=records.shown(kind, "Id", identity, base))
            case ("GET", field, value):
                return Reply(data=records.shown(kind, field, value, base))
            case ("PATCH" | "DELETE", identity) if fault == "locked":
                written = records.locked(identity)
            case ("PATCH", identity):
                written = records.update(kind, identity, call.fields)
            case ("DELETE", identity):
                written = records.delete(kind, identity)
            case ("PATCH", field, value) if fault == "locked":
                written = records.locked(f"{field}={value}")
            case ("PATCH", field, value):
                written = records.upsert(kind, field, {**call.fields, field: value})
            case _:
                raise Refused(405, "METHOD_NOT_ALLOWED", "not allowed here")
        if not written.success:
            raise Refused(400, written.code, written.message)
        done = [_taken(call, kind, written, call.body)]
        if len(rest) == 1:
            return Reply(204, taken=done)
        return Reply(201 if written.created else 200, written.outcome(), taken=done)

    def _many(self, call: Call, rest: list[str], fault: str) -> Reply:
        """A collection: an outcome for each record, in their order."""
        records = call.fields.get("records")
        if call.method == "DELETE":
            ids = call.query.get("ids", "").split(",")
            records = [{"attributes": {"type": ""}, "Id": each} for each in ids]
        if not isinstance(records, list) or not all(
            isinstance(each, dict) for each in records
        ):
            raise Refused(400, "JSON_PARSER_ERROR", "records: a list is required")
        if len(records) > COLLECTION_MAX:
            said = f"record limit reached: maximum {COLLECTION_MAX}"
            raise Refused(400, "LIMIT_EXCEEDED", said)
        whole = bool(call.fields.get("allOrNone"))
        before = self._records.copy() if whole else self._records
        written = [
            self._records.locked(str(place))
            if fault == "locked" and place % 3 == 0
            else self._write(call.method, record, rest, records)
            for place, record in enumerate(records)
        ]
        if whole and not all(each.success for each in written):
            self._records = before
            written = [each.rolled_back() for each in written]
        done = [
            _taken(
                call, _type(record), each, json.dumps(record, sort_keys=True).encode()
            )
            for record, each in zip(records, written, strict=True)
            if each.success
        ]
        outcomes = [each.outcome() for each in written]
        if fault == "fewer_outcomes":
            outcomes = outcomes[:-1]
        if fault == "swapped_outcomes":
            outcomes.reverse()
        return Reply(data=outcomes, taken=done)

    def _write(
        self, method: str, record: dict[str, Any], rest: list[str], every: list[Any]
    ) -> Written:
        values = {k: v for k, v in record.items() if k != "attributes"}
        kind = _type(record)
        match (method, rest):
            case ("PATCH", [kind, field]):
                same = sum(each.get(field) == record.get(field) for each in every)
                if same > 1:
                    said = f"Duplicate external id specified: {record.get(field)}"
                    return Written("", code="DUPLICATE_VALUE", message=said)
                return self._records.upsert(kind, field, values)
            case ("POST", []):
                return self._records.create(kind, values)
            case ("PATCH", []):
                return self._records.update(kind, str(values.pop("Id", "")), values)
            case ("DELETE", []):
                return self._records.delete(kind, str(record["Id"]))
            case _:
                raise Refused(404, "NOT_FOUND", "The requested resource does not exist")


def _taken(call: Call, kind: str, written: Written, content: bytes) -> Taken:
    changed = "deleted" if call.method == "DELETE" else "updated"
    what = "created" if written.created else changed
    return Taken(f"{kind} {what}".strip(), written.external or written.id, content)


def _type(record: dict[str, Any]) -> str:
    attributes = record.get("attributes")
    return str(attributes.get("type", "")) if isinstance(attributes, dict) else ""


def _found(rows: list[dict[str, Any]], total: int) -> dict[str, Any]:
    return {"totalSize": total, "done": True, "records": rows}


def _refused(status: int, code: str, message: str) -> Reply:
    return Reply(status, [{"message": message, "errorCode": code}])
