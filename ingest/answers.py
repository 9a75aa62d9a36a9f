"""
What admission knows of a file on its way in, and what it answers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import assert_never

import structlog

from ingest.candidates import Candidate, Seen
from ingest.copying import Paused
from ingest.shelf import Refusal
from pipeline.errors import WaybillError
from pipeline.model import Disposal, Receipt, Submission

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file whose bytes are in the store and which has been looked into."""

    candidate: Candidate
    seen: Seen
    submission: Submission
    refusal: Refusal | None
    arrived_s: float
    stored: bool  # False: over the size cap, its bytes were not read


@dataclass(frozen=True, slots=True)
class Taken:
    """
    What became of a candidate.

    Attributes:
        receipt: Given after COMMIT; None: the file is where it was, see `code`.
        code: Stable word; "" when all went well.  With a receipt: NOT_MOVED.
        paused: Our own trouble: nothing else will go through either.
        refusal: Why it went to quarantine, if it did.
        prepared: For `Admission.put_away`, when it was received but not moved.
    """

    candidate: Candidate
    receipt: Receipt | None = None
    code: str = ""
    why: str = ""
    hint: str = ""
    paused: bool = False
    refusal: Refusal | None = None
    prepared: Prepared | None = None


def token_of(tenant: str, identity: str, seen: Seen, key: str) -> str:
    """
    The name of one delivery: this file, at this place, in this version.

    Stable over crashes and restarts.  The inode is in it so that the same file
    put in again, even with its old mtime, is a delivery of its own.
    """
    parts = (tenant, identity, *map(str, seen), key)
    text = "\0".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def left(candidate: Candidate, error: WaybillError) -> Taken:
    """A candidate that stays where it is, and why."""
    return Taken(
        candidate,
        code=error.code,
        why=error.message,
        hint=error.hint,
        paused=isinstance(error, Paused),
    )


def note(taken: Taken) -> None:
    """Log a receipt: names and codes only."""
    receipt, prepared = taken.receipt, taken.prepared
    assert receipt is not None
    assert prepared is not None
    match receipt.disposal:
        case Disposal.ITEM:
            log.info("file_received", name=receipt.name, item=receipt.item_id)
        case Disposal.DUPLICATE:
            log.info("file_duplicate", name=receipt.name, item=receipt.item_id)
        case Disposal.QUARANTINED:
            log.warning(
                "file_quarantined",
                name=receipt.name,
                code=prepared.submission.refused_code,
                kept_at=prepared.submission.kept_at,
            )
        case _:
            assert_never(receipt.disposal)
