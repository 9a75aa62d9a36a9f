"""
Trials: every case of a file, run as an ordinary batch of items of their own.

A trial is durable as every batch is: whoever begins it again while its result is not
written goes on with it.  No item of it has had a stage run for an earlier one, so that
nothing is scored but what this version does.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import anyio

from ingest.admission import Found
from pipeline.errors import Transient, Unacceptable, Usage
from pipeline.folder import Pipeline
from pipeline.model import Batch, ItemId, Submission
from pipeline.store.rows import Standing
from pipeline.threads import in_thread
from waybill.board import Board
from waybill.compose import App, look_into
from waybill.evals.cases import Case, Cases
from waybill.foreground import patiently, work_until

AUTHOR = "waybill eval"
SLICE = 100  # receipts of one statement
OPEN = ("ready", "running", "waiting", "held")
ITEMS_MAX = 1_000_000  # of one trial, with all that is found in them
PROBES = 3
PARKED_S = 2.0  # between two looks whether what is live waits for somebody outside


@dataclass(frozen=True, slots=True)
class Trying:
    """
    What is tried, `repeat` times each case.

    `role` tells a base from what is compared with it, when both are one pipeline.
    """

    cases: Cases
    tenant: str
    repeat: int
    number: int  # of the pipeline's version
    pipeline: Pipeline
    role: str = ""

    @property
    def version(self) -> str:
        """Of the pipeline: the digest of its files."""
        return self.pipeline.folder.version

    @property
    def digest(self) -> str:
        """What makes it the same trial, of whatever version of the pipeline."""
        said = (self.pipeline.name, self.cases.digest, str(self.repeat), self.role)
        return hashlib.sha256("\0".join(said).encode()).hexdigest()

    @property
    def total(self) -> int:
        """How many items it is."""
        return len(self.cases.cases) * self.repeat


class Try(NamedTuple):
    """One run of a case; `code` of one that was refused before it was an item."""

    case: Case
    repeat: int
    item: ItemId | None
    code: str = ""


class Ended(NamedTuple):
    """A try, and the item as it stands; None: it was refused."""

    tried: Try
    standing: Standing | None


async def begin(app: App, what: Trying, say: Callable[[str], None]) -> Batch:
    """
    The trial to go on with, or a new one.

    Open items of others that tried the same, with another version, are cancelled:
    nobody waits for them, and their calls cost what those of this one do.
    """
    store = app.store
    rows = await store.trials(what.tenant, what.digest)
    name = f"eval-{what.pipeline.name}-{what.version[:8]}-{what.digest[:8]}-"
    mine = next((r for r in rows if not r.ended and r.name.startswith(name)), None)
    counts = await store.counts_of([r.batch for r in rows])
    for row in rows:
        if row != mine and (counts[row.batch].live or counts[row.batch].held):
            say(f"giving up {row.name}, which was not finished")
            await give_up(app, row.batch)
    if mine is not None:
        say(f"going on with {mine.name}, which was interrupted")
    numbers = [int(r.name.rpartition("-")[2]) for r in rows]
    return await store.open_batch(
        what.tenant,
        mine.name if mine else f"{name}{max(numbers, default=0) + 1}",
        deadline_s=what.pipeline.deadline_s,
        trial=what.digest,
    )


async def run(app: App, what: Trying, batch: Batch) -> list[Try]:
    """Admit every case and work until nothing of them moves without a person."""
    tries: list[Try] = []
    board = Board(app, batch.id, what.total)
    look_at = anyio.current_time()

    async def admit() -> None:
        for case in what.cases.cases:
            tries.extend(await patiently(partial(_admit, app, what, batch, case)))
        # Whoever runs beside a worker is ended with it.
        await anyio.sleep_forever()

    async def done() -> bool:
        nonlocal look_at
        counts = await board.look()
        if len(tries) < what.total:
            return False
        if counts.live == 0:
            return True
        if anyio.current_time() < look_at:
            return False
        look_at = anyio.current_time() + PARKED_S
        items = [t.item for t in tries if t.item is not None]
        return not (await app.store.family(items)).moves

    with board.show():
        await work_until(app, done, beside=[admit])
    return tries


async def ended(app: App, batch: Batch, tries: list[Try]) -> AsyncIterator[Ended]:
    """Each try, as its item stands now."""
    by_item = {t.item: t for t in tries if t.item is not None}
    for refused in (t for t in tries if t.item is None):
        yield Ended(refused, None)
    last = 0
    while rows := await app.store.received(batch.id, after=last, limit=SLICE):
        last = rows[-1].id
        for row in rows:
            tried = by_item.get(row.item or 0)
            if tried is not None and row.standing is not None:
                yield Ended(tried, row.standing)


async def finish(app: App, batches: list[Batch]) -> None:
    """Their result is written: what is held of them waits for nobody."""
    await app.store.end_trials([b.id for b in batches])
    for batch in batches:
        await give_up(app, batch.id)


async def give_up(app: App, batch_id: int) -> None:
    """Cancel what is open of a trial."""
    for state in OPEN:
        ids = await app.store.item_ids(state=state, batch_id=batch_id, limit=ITEMS_MAX)
        if ids:
            await app.store.cancel(ids, AUTHOR)


async def _admit(app: App, what: Trying, batch: Batch, case: Case) -> list[Try]:
    """The case as so many items as it is repeated; again, the same ones."""
    key, size_bytes = await _kept(app, case)
    code = why = media_type = ""
    facts: dict[str, object] = {"name": case.name}
    try:
        found = await _looked_into(app, what, case, key)
        media_type = found.media_type
        facts |= found.facts
    except (Unacceptable, Transient) as error:
        code, why = error.code, error.message
    begins = {"source": key, "media_type": media_type, "facts": facts}
    receipts = await app.store.admit(
        batch,
        what.number,
        [
            Submission(
                name=case.name,
                key=key,
                token=f"trial/{batch.id}/{case.number}/{n}",
                size_bytes=size_bytes,
                input=begins,
                refused_code=code,
                refused_why=why,
            )
            for n in range(what.repeat)
        ],
    )
    return [Try(case, n, r.item_id, code) for n, r in enumerate(receipts)]


async def _looked_into(app: App, what: Trying, case: Case, key: str) -> Found:
    """
    What a probe says of the case's bytes, as admission asks one.

    Raises:
        Unacceptable: it would be quarantined.
        Transient: each probe of `PROBES` ended, which is likely the file's fault.
    """
    ask = partial(
        look_into,
        app.services,
        app.artifacts.path(key),
        case.name,
        what.tenant,
        what.pipeline,
        app.settings.max_file_bytes,
    )
    for _ in range(PROBES - 1):
        with suppress(Transient):
            return await ask()
    return await ask()


async def _kept(app: App, case: Case) -> tuple[str, int]:
    """The artifact of a case's bytes, and their number."""
    if case.artifact:
        data = await app.artifacts.get(case.artifact)
        return case.artifact, len(data)
    if case.path is not None:
        data = await in_thread(_read, case.path, app.settings.max_file_bytes)
    else:
        data = (case.text or "").encode("utf-8", "replace")
    return await app.artifacts.put(data), len(data)


def _read(path: Path, bytes_max: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise Usage(
            f"the case {path.name} has more than {bytes_max} bytes",
            code="FILE_TOO_LARGE",
            hint="raise WAYBILL_MAX_FILE_BYTES",
        )
    return data
