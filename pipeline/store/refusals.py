"""
What both stores refuse, in the same words.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from pipeline.errors import Conflict, Integrity, Usage
from pipeline.lapse import EXPIRED
from pipeline.model import Batch, Disposal, ItemId, Receipt, Submission
from pipeline.names import is_component, is_tenant, is_text, visible
from pipeline.store.rows import HoldRow


def check_names(tenant: str, batch: str) -> None:
    """
    Names become folders of the output: they must not lead out of it.

    Raises:
        Usage: BAD_NAME.
    """
    good = (
        all(is_component(name) for name in (tenant, *batch.split("/")))
        # What is printed as an escape could not be typed again.
        and is_text(tenant + batch)
        and visible(tenant + batch) == tenant + batch
        and is_tenant(tenant)
        and len(tenant) <= 200
        and len(batch) <= 200
    )
    if not good:
        raise Usage(
            "a tenant or batch has a name that cannot be a folder",
            code="BAD_NAME",
            hint="no / (but in a batch's name), no dot in front, no control characters",
        )


def looked_at_again(
    submission: Submission, before: tuple[int, Receipt] | None, batch_id: int
) -> Submission:
    """
    A delivery that was quarantined `before` (in a batch, with a receipt) is another
    one when nothing is wrong with it any more (a password was added, a bound raised),
    or when it is refused in another batch, which has to tell it too.  The first
    receipt stands.
    """
    if before is None or before[1].disposal is not Disposal.QUARANTINED:
        return submission
    if not submission.refused_code:
        return replace(submission, token=f"{submission.token}/again")
    if before[0] == batch_id:
        return submission
    return replace(submission, token=f"{submission.token}/in/{batch_id}")


def check_trial(batch: Batch, trial: str) -> Batch:
    """
    The batch, when it is a trial of that, or none ("").

    Raises:
        Conflict: BATCH_IS_TRIAL.
    """
    if batch.trial == trial:
        return batch
    what = "is a trial" if batch.trial else "is no trial"
    raise Conflict(
        f"the batch {batch.tenant}/{batch.name} {what}",
        code="BATCH_IS_TRIAL",
        hint="name another batch: what is tried stands apart from what is done",
    )


def key_in_trial(
    batch_id: int, submission: Submission, parent: ItemId | None
) -> Submission:
    """
    The same, with a key that no other delivery has; of what was found in an item, no
    other of that item.
    """
    origin = submission.token if parent is None else parent
    said = f"trial\0{batch_id}\0{origin}\0{submission.key}"
    return replace(submission, key=hashlib.sha256(said.encode()).hexdigest())


def decided_before(hold: HoldRow) -> Conflict:
    """The error a second decision gets: it names the first."""
    first = hold.decision
    if first is None:
        return Conflict(f"hold h{hold.id} is closed: its item was cancelled or retried")
    if first.verb == EXPIRED:
        return lapsed(hold)
    return Conflict(
        f"hold h{hold.id} was decided before: {first.verb} by {first.author} "
        f"at {first.decided_at:%Y-%m-%d %H:%M:%S %Z}",
        code="DECIDED",
        hint=f"the first decision stands; see `waybill items show {hold.item_id}`",
    )


def lapsed(hold: HoldRow) -> Conflict:
    """Nobody decided in time, and the item went on, or ended, without."""
    assert hold.lapses_at is not None
    return Conflict(
        f"hold h{hold.id} lapsed at {hold.lapses_at:%Y-%m-%d %H:%M:%S %Z}: nobody had "
        "decided it",
        code="LAPSED",
        hint=f"what came of it: `waybill items show {hold.item_id}`",
    )


def taken(hold: HoldRow) -> Conflict:
    """Another reviewer is reading this hold."""
    return Conflict(
        f"hold h{hold.id} is claimed by {hold.claimed_by} until "
        f"{hold.claimed_until:%H:%M:%S %Z}",
        code="CLAIMED",
        hint="`waybill review next` gives you another",
    )


def not_theirs(hold: HoldRow) -> Conflict:
    """Only who has the hold's role rules on it."""
    return no_such_role(hold.role, f"hold h{hold.id} ({hold.code}) is")


def no_such_role(role: str, what: str = "this line is") -> Conflict:
    """The reviewer has not the role that this needs."""
    return Conflict(
        f"{what} for the role {role} alone",
        code="ROLE_NEEDED",
        hint=f"whoever has it sets WAYBILL_ROLES={role} beside WAYBILL_REVIEWER",
    )


def changed(hold: HoldRow) -> Integrity:
    """Somebody changed the hold's row: nobody was shown what it says now."""
    return Integrity(
        f"hold h{hold.id} was changed in the database",
        code="HOLD_CHANGED",
        hint=f"have its item held anew: waybill items retry {hold.item_id}",
    )


def stale(hold: HoldRow) -> Conflict:
    """What was shown is not what is held now."""
    return Conflict(
        f"hold h{hold.id} is not what you were shown: its digest is {hold.digest[:12]}",
        code="STALE",
        hint=f"look again: `waybill review show h{hold.id}`",
    )
