"""
OCR as a service: at once, or later by polling or a signed callback.

    POST /v1/read               the document as body, or JSON with "text" to be read
    POST /v1/jobs               the same, with "callback_url" and "reference" in JSON
                                or the query: 202 and a job
    GET  /v1/jobs/ID            queued, running, succeeded or failed

What is read is made from the document's digest, so that the same document reads the
same; JSON with a "text" reads as that.  `labels` names a file of lines {"sha256",
"text", "confidence"}: a document that is in it reads as it says.
"""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

from loadtest.vendors.book import Taken, digest, now
from loadtest.vendors.kinds import Call, Delivery, Plain, Reply
from loadtest.vendors.labels import read_texts
from loadtest.vendors.settings import Play

WRONG_SECRET = "whsec_bm90LXRoZS1zZWNyZXQtb2YtdGhpcy1qb2I="  # noqa: S105  # forged
JOBS_MAX = 100_000
SURE = 0.97


class Job(NamedTuple):
    """A document that is being read."""

    id: str
    reference: str
    done_at: float
    state: str  # what it will be
    result: dict[str, Any]

    def shown(self, at: float) -> dict[str, Any]:
        """As the service says it."""
        known = {"id": self.id, "reference": self.reference, "status": "running"}
        if at < self.done_at:
            return known
        if self.state == "failed":
            return {**known, "status": "failed", "error": {"code": "unreadable"}}
        return {**known, "status": self.state, "result": self.result}


class Reading(Plain):
    """An OCR service."""

    faults = frozenset(
        {"job_failed", "job_stuck", "garbled", "no_pages"}
        | {"never", "duplicate", "forged", "foreign", "early"}
    )

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """A reading, a job, or what became of one."""
        match (call.method, *call.parts):
            case ("POST", "v1", "read") if call.body:
                identity = f"read_{dice.getrandbits(64):016x}"
                data = {
                    "id": identity,
                    "status": "succeeded",
                    **_read(call, play, fault),
                }
                return Reply(data=data, taken=[Taken("reading", identity, call.body)])
            case ("POST", "v1", "jobs") if call.body:
                return self._submitted(call, play, fault, dice)
            case ("GET", "v1", "jobs", identity) if identity in self._jobs:
                job = self._jobs[identity].shown(now())
                wait = (("retry-after", "1"),) if job["status"] == "running" else ()
                return Reply(data=job, headers=wait)
            case _:
                return self.error(call, 404, "no such job")

    def _submitted(
        self, call: Call, play: Play, fault: str, dice: random.Random
    ) -> Reply:
        identity = f"job_{dice.getrandbits(64):016x}"
        given = call.query | call.fields
        reference = str(given.get("reference", ""))
        stuck_s = 1e9 if fault == "job_stuck" else 0.0
        state = "failed" if fault == "job_failed" else "succeeded"
        done_at = now() + play.done_after_s + stuck_s
        job = Job(identity, reference, done_at, state, _read(call, play, fault))
        if len(self._jobs) >= JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]
        self._jobs[identity] = job
        url = str(given.get("callback_url", ""))
        later = _callbacks(job, url, play, fault) if url and not stuck_s else ()
        return Reply(
            202,
            {"id": identity, "reference": reference, "status": "queued"},
            (("location", f"{call.url}/v1/jobs/{identity}"), ("retry-after", "1")),
            taken=[Taken("job", reference or identity, call.body)],
            later=later,
        )


def _callbacks(job: Job, url: str, play: Play, fault: str) -> tuple[Delivery, ...]:
    """What is sent when the job is done, and what else goes wrong with that."""
    if fault == "never":
        return ()
    after_s = 0.0 if fault == "early" else play.done_after_s
    secret = WRONG_SECRET if fault == "forged" else play.secret
    right = Delivery(url, f"evt_{job.id}", _event(job), after_s, secret)
    if fault == "duplicate":
        return (right, right)
    if fault == "foreign":
        other = job._replace(id=f"job_{0:016x}", reference="nobody's")
        return (Delivery(url, f"evt_{other.id}", _event(other), 0.0, secret), right)
    return (right,)


def _event(job: Job) -> bytes:
    shown = job.shown(job.done_at)
    event = {"type": f"ocr.job.{shown['status']}", "timestamp": int(job.done_at)}
    return json.dumps({**event, "data": shown}).encode()


def _read(call: Call, play: Play, fault: str) -> dict[str, Any]:
    """Pages with text and how sure the service is of each."""
    if fault == "no_pages":
        return {"pages": []}
    text = str(call.fields.get("text") or f"Document {digest(call.body)[:12]}")
    sure = SURE
    if play.labels:
        text, sure = read_texts(play.labels).get(digest(call.body), (text, sure))
    if fault == "garbled":
        text = "".join(chr(0xFFFD) if c.isalpha() else c for c in text)
    words = [{"text": word, "confidence": sure} for word in text.split()]
    page = {"page": 1, "text": text, "confidence": sure, "words": words}
    return {"pages": [page]}
