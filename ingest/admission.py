"""
Admission: a file becomes an item, or is refused, and has a receipt either way.

The order is the promise; a crash between two lines leaves the file in the inbox,
and taking it again gives the receipt of the first time (`Submission.token`):

    copy    read through one descriptor into the artifact store, fsync
    probe   jailed, on the stored bytes and never on the inbox
    reason  of a refused file, written where the file will be kept
    look    once more: what was written to meanwhile, or is, stays
    admit   receipts and items of up to 200 files in one transaction
    move    to the archive or to quarantine, only after COMMIT

No document is deleted.  A file that is to blame is quarantined; a file that is
not ready is left for the next round; our own trouble pauses the round.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import structlog

from ingest.afterwards import Afterwards, Away
from ingest.answers import Prepared, Taken, left, note, token_of
from ingest.candidates import Candidate
from ingest.copying import (
    Copy,
    Paused,
    copy_bytes,
    folder_of,
    paused,
    require_rest,
    unreadable,
)
from ingest.shelf import Refusal, Shelf
from ingest.writers import BEING_WRITTEN
from pipeline.errors import (
    Refused,
    StoreUnavailable,
    Transient,
    Trouble,
    Unacceptable,
    WaybillError,
)
from pipeline.jail.codes import Cause, Codes, End
from pipeline.model import Batch, Disposal, Receipt, Submission
from pipeline.stage import Artifacts
from pipeline.store.port import AdmissionStore
from pipeline.threads import in_thread

log = structlog.get_logger()

GROUP = 200  # files a transaction: a commit's cost is spread, a retry stays cheap
GREW = "admission: its file was not whole yet"  # the author of a cancellation
MEMORY_BYTES = 4 << 20  # larger files go through the scratch folder
# What one odd file can make library code raise.  RuntimeError is not among them:
# that is a loop or a program in a bad state, and must be seen.
ODD = (ArithmeticError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Found:
    """What a probe says of a file: its kind, and the facts that its item keeps."""

    media_type: str
    facts: Mapping[str, Any]


# The stored bytes, the file's own name, its tenant, whose passwords may open it, and
# the pipeline it is meant for, which bounds its size.
Probe = Callable[[Path, str, str, int], Awaitable[Found]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    Limits of admission.

    Attributes:
        max_file_bytes: Larger files are quarantined unread (FILE_TOO_LARGE).
        at_once: Files copied and probed at once; as many as cores is right.
        probe_tries: A file whose probe died or hung this often is
            quarantined, for it is likely the file's fault.
    """

    max_file_bytes: int
    at_once: int = 2
    probe_tries: int = 3


@dataclass(slots=True)
class _Round:
    """One call of `take`: stops starting files at the first trouble of ours."""

    batch: Batch
    pipeline_id: int
    archive: bool
    trouble: Paused | None = field(default=None)


class Admission:
    """
    Takes files in, many at once, each on its own.

    Args:
        store: Where receipts are made durable.
        artifacts: Where bytes are made durable.
        probe: Looks into stored bytes, jailed; raises Unacceptable or Transient.
            What it finds is decided here, and no stage asks again.
        shelf: Where files go afterwards.
        scratch: Folder for copies of large files.
        codes: What is known of the codes that `probe` raises.
    """

    def __init__(
        self,
        store: AdmissionStore,
        artifacts: Artifacts,
        probe: Probe,
        shelf: Shelf,
        *,
        scratch: Path,
        codes: Codes,
        bounds: Bounds,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._probe = probe
        self._shelf = shelf
        self._scratch = scratch
        self._codes = codes
        self._bounds = bounds
        self._afterwards = Afterwards(shelf)
        self._withdrawn: set[int] = set()  # items to cancel: their files grew
        self._failed_probes: dict[str, int] = {}  # token -> probes that died

    def __repr__(self) -> str:
        return f"<Admission to {self._shelf.archive_root}>"

    async def take(
        self,
        files: Sequence[Candidate],
        batch: Batch,
        pipeline_id: int,
        *,
        archive: bool = True,
    ) -> list[Taken]:
        """
        Take `files` into `batch`; one answer each, in their order.

        Raises nothing for a single file and nothing for the store: both are in
        the answers.  Calling again with the same files is always safe.

        Args:
            archive: Move the sources away; False leaves them where they are
                (files that a person named), and quarantines copies.
        """
        this = _Round(batch, pipeline_id, archive)
        taken: list[Taken] = []
        for start in range(0, len(files), GROUP):
            group = files[start : start + GROUP]
            if this.trouble is not None:
                taken += [left(file, this.trouble) for file in group]
            else:
                taken += await self._take_group(group, this)
        return taken

    async def put_away(self, taken: Taken, *, archive: bool = True) -> Taken:
        """
        Move a file that was received but is still where it was.

        A file that is gone, or was replaced by another one, counts as moved:
        its receipt stands, and the other one is a delivery of its own.
        """
        prepared, receipt = taken.prepared, taken.receipt
        assert prepared is not None
        assert receipt is not None
        try:
            await in_thread(self._move, prepared, receipt, archive)
        except Paused as error:
            return replace(taken, code="NOT_MOVED", why=error.message, hint=error.hint)
        except Transient as error:
            if error.code == BEING_WRITTEN:
                return replace(
                    taken, code=error.code, why=error.message, hint=error.hint
                )
            # Whatever is there now is found by the next scan.
            if error.code == "FILE_GREW":
                self._withdraw(receipt)
                await self._cancel_withdrawn()
        except OSError as error:
            if error.errno != errno.ENOENT or taken.candidate.path.exists():
                why = os.strerror(error.errno or errno.EIO)
                return replace(
                    taken,
                    code="NOT_MOVED",
                    why=f"received, but it cannot be moved: {why}",
                    hint="let the service write to the inbox and the archive",
                )
        except ODD as error:
            why = f"received, but moving it failed with {type(error).__name__}"
            return replace(taken, code="NOT_MOVED", why=why)
        return replace(taken, code="", why="", hint="", prepared=None)

    async def look_again(self) -> None:
        """Of what was put away lately, take back what was written to since."""
        for away in await in_thread(lambda: list(self._afterwards.grown())):
            self._withdraw(away.receipt)
        await self._cancel_withdrawn()

    def _withdraw(self, receipt: Receipt) -> None:
        """The file of this item was not whole: what it has become is another item."""
        log.warning("file_grew", name=receipt.name, item=receipt.item_id)
        if receipt.disposal is Disposal.ITEM and receipt.item_id is not None:
            self._withdrawn.add(receipt.item_id)

    async def _cancel_withdrawn(self) -> None:
        if self._withdrawn:
            try:
                await self._store.cancel(sorted(self._withdrawn), GREW)
            except StoreUnavailable:
                return  # once more when we look again
            self._withdrawn.clear()

    # -- one group, one transaction ----------------------------------------------

    async def _take_group(
        self, group: Sequence[Candidate], this: _Round
    ) -> list[Taken]:
        answers: list[Prepared | Taken | None] = [None] * len(group)
        queue = iter(enumerate(group))

        async def lane(queue: Iterator[tuple[int, Candidate]]) -> None:
            for number, candidate in queue:  # shared: each lane takes the next
                answers[number] = await self._prepare(candidate, this)

        async with anyio.create_task_group() as lanes:
            for _ in range(min(self._bounds.at_once, len(group))):
                lanes.start_soon(lane, queue)

        # Copies and probes took their time: whoever wrote meanwhile is asked once more.
        answers = await in_thread(_resting, answers)
        ready = [a for a in answers if isinstance(a, Prepared)]
        admitted = iter(await self._admit(ready, this))
        taken: list[Taken] = []
        for answer in answers:
            assert answer is not None
            one = next(admitted) if isinstance(answer, Prepared) else answer
            if one.receipt is not None:
                note(one)
                one = await self.put_away(one, archive=this.archive)
            taken.append(one)
        return taken

    async def _admit(self, ready: Sequence[Prepared], this: _Round) -> list[Taken]:
        """Receipts for all of `ready`; bad rows are found by halving."""
        if not ready:
            return []
        if this.trouble is not None and this.trouble.code == StoreUnavailable.code:
            return [left(p.candidate, this.trouble) for p in ready]
        try:
            receipts = await self._store.admit(
                this.batch, this.pipeline_id, [p.submission for p in ready]
            )
        except Refused as error:
            if len(ready) == 1:
                return [left(ready[0].candidate, error)]
            half = len(ready) // 2
            return [
                *await self._admit(ready[:half], this),
                *await self._admit(ready[half:], this),
            ]
        except WaybillError as error:
            # Nothing was written, or we cannot know (a lost answer to COMMIT).
            # Either way the files stay, and the tokens tell next time.
            this.trouble = Paused(error.message, code=error.code, hint=error.hint)
            return [left(p.candidate, this.trouble) for p in ready]
        return [
            Taken(p.candidate, receipt, prepared=p, refusal=p.refusal)
            for p, receipt in zip(ready, receipts, strict=True)
        ]

    # -- one file ----------------------------------------------------------------

    async def _prepare(self, candidate: Candidate, this: _Round) -> Prepared | Taken:
        """Copy and probe one file; whatever it is, only its own answer tells."""
        if this.trouble is not None:
            return left(candidate, this.trouble)
        try:
            return await self._copy_and_probe(candidate, this)
        except (Trouble, StoreUnavailable) as error:
            this.trouble = Paused(error.message, code=error.code, hint=error.hint)
            return left(candidate, this.trouble)
        except WaybillError as error:
            return left(candidate, error)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                this.trouble = paused(error, "reading the inbox")
                return left(candidate, this.trouble)
            return left(candidate, unreadable(error))
        except ODD as error:
            # Only the type: the message of a parser may quote the document.
            return left(
                candidate,
                Transient(
                    f"taking it failed with {type(error).__name__}",
                    code="UNEXPECTED",
                    hint="report this with the file's type and size",
                ),
            )

    async def _copy_and_probe(self, candidate: Candidate, this: _Round) -> Prepared:
        copy = await in_thread(self._copy, candidate)
        key = await self._keep(copy, candidate)
        token = token_of(this.batch.tenant, candidate.identity, copy.seen, key)
        media_type, facts = "", candidate.facts
        stored = copy.data is not None or copy.spool is not None
        refusal: Refusal | None = None
        if stored:
            try:
                found = await self._look_into(key, candidate.name, token, this)
                media_type = found.media_type
                facts |= found.facts
            except Unacceptable as error:
                refusal = Refusal(error.code, error.message, error.hint)
        else:
            refusal = Refusal(
                "FILE_TOO_LARGE",
                f"{copy.seen.size} bytes, more than {self._bounds.max_file_bytes}",
                "split it, or raise max_file_bytes and put it in again",
            )
        submission = Submission(
            name=candidate.name,
            key=key,
            token=token,
            size_bytes=copy.seen.size,
            input={
                "source": key if stored else "",
                "media_type": media_type,
                "facts": facts,
            },
        )
        prepared = Prepared(
            candidate, copy.seen, submission, refusal, copy.arrived_s, stored
        )
        if refusal is None:
            return prepared
        kept_at = await in_thread(self._reserve, prepared, refusal)
        submission = replace(
            submission,
            refused_code=refusal.code,
            refused_why=refusal.said,
            kept_at=kept_at,
        )
        return replace(prepared, submission=submission)

    def _copy(self, candidate: Candidate) -> Copy:
        return copy_bytes(
            candidate,
            max_bytes=self._bounds.max_file_bytes,
            in_memory_bytes=MEMORY_BYTES,
            scratch=self._scratch,
        )

    async def _keep(self, copy: Copy, candidate: Candidate) -> str:
        """The bytes' sha256, once they are durable."""
        try:
            if copy.data is not None:
                return await self._artifacts.put(copy.data)
            if copy.spool is not None:
                return await self._artifacts.put_file(copy.spool)
        except OSError as error:
            raise paused(error, "the artifact store") from error
        finally:
            if copy.spool is not None:
                copy.spool.unlink(missing_ok=True)
        # Nobody read these bytes: the key is that of the delivery alone.
        return token_of("FILE_TOO_LARGE", candidate.identity, copy.seen, "")

    async def _look_into(self, key: str, name: str, token: str, this: _Round) -> Found:
        """
        Probe stored bytes; a probe that keeps killing its process is a refusal.

        Raises:
            Unacceptable: also with the jail's code, after `probe_tries`.
            Transient: the probe died; the file is tried again later.
            Paused: no jailed process could be started.
        """
        try:
            path = self._artifacts.path(key)
            found = await self._probe(path, name, this.batch.tenant, this.pipeline_id)
        except OSError as error:
            raise paused(error, "starting the probe") from error
        except WaybillError as error:
            known = self._codes.get(error.code)
            if known is None or isinstance(error, Unacceptable):
                raise
            if known.end is End.UNBEGUN:
                raise Paused(error.message, code=error.code, hint=error.hint) from error
            if known.cause is not Cause.DOCUMENT:
                raise
            # The probe began, and this file ended it.
            tries = self._failed_probes.pop(token, 0) + 1
            if tries >= self._bounds.probe_tries:
                raise Unacceptable(
                    f"{error.message} ({tries} times)",
                    code=error.code,
                    hint="open it by hand; it exhausts or crashes the parser",
                ) from error
            self._failed_probes[token] = tries
            while len(self._failed_probes) > 10_000:  # arbitrary: bounds memory
                self._failed_probes.pop(next(iter(self._failed_probes)))
            raise
        self._failed_probes.pop(token, None)
        return found

    def _reserve(self, prepared: Prepared, refusal: Refusal) -> str:
        try:
            return self._shelf.reserve(
                prepared.candidate,
                refusal,
                key=prepared.submission.key,
                token=prepared.submission.token,
                size_bytes=prepared.seen.size,
                arrived_s=prepared.arrived_s,
            )
        except OSError as error:
            raise paused(error, "the quarantine folder") from error

    def _move(self, prepared: Prepared, receipt: Receipt, archive: bool) -> None:
        """Put one received file where its receipt says.  Blocking."""
        candidate, submission = prepared.candidate, prepared.submission
        refused = receipt.disposal is Disposal.QUARANTINED
        kept_at = submission.kept_at
        if refused and not kept_at:
            # The receipt is of an earlier time, when the file was refused.
            again = Refusal("REFUSED_BEFORE", "refused when it first came", "")
            kept_at = self._reserve(prepared, again)
        if not archive:
            if refused and prepared.stored:
                bytes_at = self._artifacts.path(submission.key)
                self._shelf.keep_copy(bytes_at, kept_at)
            return
        self._shelf.drop_marker(candidate)
        if refused:
            target = self._shelf.quarantine(
                candidate, prepared.seen, kept_at, across=prepared.stored
            )
        else:
            target = self._shelf.archive(candidate, prepared.seen, submission.token)
        self._afterwards.check(Away(target, prepared, receipt))


def _resting(
    answers: Sequence[Prepared | Taken | None],
) -> list[Prepared | Taken | None]:
    """The same; what was written to since it was copied, or is, is left.  Blocking."""
    return [_rests(a) if isinstance(a, Prepared) else a for a in answers]


def _rests(prepared: Prepared) -> Prepared | Taken:
    try:
        with folder_of(prepared.candidate) as (folder, name):
            require_rest(Path(name), prepared.seen, folder)
    except OSError as error:
        return left(prepared.candidate, unreadable(error))
    except Transient as error:
        return left(prepared.candidate, error)
    return prepared
