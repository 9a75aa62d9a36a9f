"""
Effects as records of a CRM: collections of Salesforce's REST, written by external id.

A record that is there is changed, one that is not is made: sent twice it is the same
record.  Each of a collection has an outcome of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.calls import Moment, Request
from pipeline.effects.declared import CrmSpec
from pipeline.effects.posting import Caller, outcome_of
from pipeline.effects.sink import (
    Absent,
    Confirmed,
    NotSent,
    Outcome,
    Parcel,
    Refused,
    Unknown,
)
from pipeline.errors import WaybillError
from pipeline.outbox import key_of
from pipeline.vendors.failures import CallError

# What a record may be refused for, and not for ever.
PASSING = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "REQUEST_LIMIT_EXCEEDED",
        "SERVER_UNAVAILABLE",
        "REQUEST_RUNNING_TOO_LONG",
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "PROCESSING_HALTED",
    }
)
# A collection may be refused so for one of its records; elsewise the fault is in all.
OF_ONE = frozenset((400, 413, 422))
APART_MAX = 40  # calls to find out; one bad record of two hundred takes 17


class CrmSink:
    """Writes effects as records, up to two hundred in a call."""

    def __init__(self, spec: CrmSpec, caller: Caller) -> None:
        self.name, self.facts = spec.name, spec.facts
        self.together, self.at_once = spec.together, spec.at_once
        self.timeout_s = spec.timeout_s
        self._spec = spec
        self._caller = caller

    def __repr__(self) -> str:
        return f"<CrmSink {self.name} of {self._spec.object}>"

    async def send(self, parcels: Sequence[Parcel], begin: Moment) -> list[Outcome]:
        """One collection a tenant; two of one external id never in the same."""
        found: dict[int, Outcome] = {}
        groups: dict[str, dict[str, Parcel]] = {}
        for parcel in parcels:
            group = groups.setdefault(parcel.effect.tenant, {})
            if group.setdefault(self._id_of(parcel), parcel) is not parcel:
                found[parcel.effect.id] = NotSent("SAME_RECORD: one at a time")
        for tenant, group in groups.items():
            found |= await self._apart(tenant, list(group.values()), begin)
        return [found[p.effect.id] for p in parcels]

    async def ask(self, parcel: Parcel) -> Outcome:
        """Never needed: to send again is to ask."""
        return Absent()

    def _id_of(self, parcel: Parcel) -> str:
        return str(parcel.payload.get(self._spec.external_id) or parcel.effect.key)

    async def _apart(
        self, tenant: str, parcels: Sequence[Parcel], begin: Moment
    ) -> dict[int, Outcome]:
        """A collection; refused whole it is halved until it is known for whom."""
        found: dict[int, Outcome] = {}
        left = [parcels]
        for _ in range(APART_MAX):
            if not left:
                break
            group = left.pop()
            try:
                found |= await self._upsert(tenant, group, begin)
            except CallError as error:
                if len(group) == 1 or error.status not in OF_ONE:
                    found |= _of_all(group, outcome_of(error))
                else:
                    half = len(group) // 2
                    left += [group[half:], group[:half]]
        again = NotSent("REFUSED_TOGETHER: with others; it is sent again with fewer")
        return found | _of_all([p for group in left for p in group], again)

    async def _upsert(
        self, tenant: str, parcels: Sequence[Parcel], begin: Moment
    ) -> dict[int, Outcome]:
        """
        One call.

        Raises:
            CallError: it was refused whole, for ever.
        """
        spec = self._spec
        records = [
            {
                **parcel.payload,
                "attributes": {"type": spec.object},
                spec.external_id: self._id_of(parcel),
            }
            for parcel in parcels
        ]
        request = Request(
            f"{spec.path}/{spec.object}/{spec.external_id}",
            method="PATCH",
            json={"allOrNone": False, "records": records},
        )
        try:
            reply = await self._caller.send(
                spec.vendor,
                tenant,
                request,
                key=key_of(*(p.effect.key for p in parcels)),
                timeout_s=self.timeout_s,
                begin=begin,
            )
        except WaybillError as error:
            outcome = outcome_of(error)
            if isinstance(error, CallError) and isinstance(outcome, Refused):
                raise
            return _of_all(parcels, outcome)
        answers = reply.data if isinstance(reply.data, list) else []
        if len(answers) != len(parcels):
            lost = Unknown("VENDOR_GARBAGE: not one outcome for each record")
            return _of_all(parcels, lost)
        return {
            p.effect.id: _of_record(answer)
            for p, answer in zip(parcels, answers, strict=True)
        }


def _of_all(parcels: Sequence[Parcel], outcome: Outcome) -> dict[int, Outcome]:
    return {parcel.effect.id: outcome for parcel in parcels}


def _of_record(answer: Any) -> Outcome:
    """What became of one record of a collection."""
    if not isinstance(answer, Mapping) or "success" not in answer:
        return Unknown("VENDOR_GARBAGE: no outcome of the record")
    if answer["success"] is True:
        kept = {k: answer[k] for k in ("id", "created") if k in answer}
        return Confirmed(kept)
    errors = [e for e in _listed(answer, "errors") if isinstance(e, Mapping)]
    codes = [str(e.get("statusCode") or e.get("errorCode") or "") for e in errors]
    fields = [str(f) for e in errors for f in _listed(e, "fields")]
    # Not their sentences: those quote what was sent.
    why = f"{codes[0] if codes else 'VENDOR_REFUSED'}: the record is refused"
    why += f" for {', '.join(fields[:10])}" if fields else ""
    return NotSent(why) if codes and PASSING.issuperset(codes) else Refused(why)


def _listed(answer: Mapping[str, Any], key: str) -> list[Any]:
    """A list of an answer; empty where there is none, or something else."""
    found = answer.get(key)
    return found if isinstance(found, list) else []
