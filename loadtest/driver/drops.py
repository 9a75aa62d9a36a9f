"""
What is dropped, by whom and when: the run's own record first, then the file.

Files are renamed into the inbox, as a good sender does.  What has a deadline of its own
goes by `waybill ingest --deadline`; rows, which have no document, straight into the
database.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio

from loadtest.corpora.many import Letters, with_comment, with_text_chunk, write_labels
from loadtest.driver.folder import RunFolder, Submitted
from loadtest.driver.rows import Row, Rows
from loadtest.driver.scenario import Corpus, Scenario, Tenant
from loadtest.driver.stand import Stand
from pipeline.errors import Usage

PIECE = 50  # files written to the disk in one go
PIECE_ROWS = 2000
TRIES, AGAIN_S = 10, 2.0  # of a command, while the database is away
INGEST_MAX = 200  # files of one `waybill ingest`
HIDDEN = (".", "~$")


class Dropped(NamedTuple):
    """One document to be dropped."""

    name: str
    data: bytes
    expect: str


class Source(Protocol):
    """Documents by number, from 0."""

    def __call__(self, number: int) -> Dropped: ...


def source_of(scenario: Scenario, run: RunFolder) -> tuple[Source, Path | None]:
    """
    The documents of a scenario, and what its OCR vendor knows of them, if anything.

    Raises:
        Usage: the folder has no files, or not enough and some that cannot go twice.
    """
    corpus = scenario.corpus
    if corpus.kind == "letters":
        shares = (corpus.machine, corpus.disclosing, corpus.unsure)
        letters = Letters(scenario.seed, *shares)
        labels = run.path / "labels.jsonl"
        write_labels(labels, (letters.letter(n) for n in range(scenario.total)))

        def made(number: int) -> Dropped:
            one = letters.letter(number)
            expect = "done" if one.kind in ("photo", "printed") else "any"
            return Dropped(one.name, one.data, expect)

        return made, labels
    if corpus.kind == "files":
        return _of_folder(corpus, scenario.total), None

    def row(number: int) -> Dropped:
        return Dropped(
            f"item-{number:06}", f"{scenario.seed}:{number}".encode(), "done"
        )

    return row, None


def _of_folder(corpus: Corpus, items: int) -> Source:
    """The files of a folder in order, and again as other files when they run out."""
    assert corpus.folder is not None
    files = sorted(
        path
        for path in corpus.folder.rglob("*")
        if path.is_file() and not path.name.startswith(HIDDEN)
    )
    if not files:
        raise Usage(f"there is no file in {corpus.folder}", hint="--files DIR")
    if items > len(files):
        stuck = sorted({p.suffix for p in files if again(p.suffix, b"..", 1) is None})
        if stuck:
            raise Usage(
                f"{corpus.folder} has {len(files)} files and {items} are asked for; "
                f"{', '.join(stuck) or 'files without a suffix'} cannot go twice",
                hint=f"--items {len(files)}, or more files",
            )

    def one(number: int) -> Dropped:
        turn, place = divmod(number, len(files))
        path = files[place]
        data = path.read_bytes()
        if turn:
            data = again(path.suffix, data, turn) or data
        return Dropped(f"{path.stem}-{number:06}{path.suffix}", data, "any")

    return one


def again(suffix: str, data: bytes, turn: int) -> bytes | None:
    """The same document as another file; None where nobody knows how."""
    remark = f"copy {turn}".encode()
    match suffix.lower():
        case ".jpg" | ".jpeg":
            return with_comment(data, remark)
        case ".png":
            return with_text_chunk(data, remark) if b"IEND" in data else data
        case ".pdf":
            return data + b"\n%" + remark + b"\n"
        case ".txt" | ".md" | ".eml" | ".csv":
            blanks = "".join(" \t"[int(bit)] for bit in f"{turn:b}")
            return data + b"\n" + blanks.encode() + b"\n"
        case _:
            return None


class Dropper:
    """
    Drops a scenario's documents, each once, in order.

    Args:
        rows: Where rows are admitted; None: documents are dropped.
    """

    def __init__(self, it: Stand, source: Source, rows: Rows | None = None) -> None:
        self._it = it
        self._rows = rows
        self._source = source
        self._next = 0
        self._rng = random.Random(f"tenants:{it.scenario.seed}")
        self._odd = 0

    @property
    def dropped(self) -> int:
        """How many were dropped so far."""
        return self._next

    async def drop(
        self,
        count: int,
        *,
        batch: str,
        tenant: str,
        due: float,
        urgent: bool,
        expect: str = "",
    ) -> None:
        """
        So many more, now.

        Args:
            tenant: "" is whoever's turn it is.
            due: Their deadline, unix time; of a batch that is there, the one it has.
            expect: How they end; "": as the source says.
        """
        scenario = self._it.scenario
        first = self._next
        self._next = min(first + count, scenario.total)
        numbers = iter(range(first, self._next))
        most = PIECE if self._rows is None else PIECE_ROWS
        while piece := list(islice(numbers, most)):
            docs = await anyio.to_thread.run_sync(self._made, piece)
            if expect:
                docs = [one._replace(expect=expect) for one in docs]
            for name, mine in self._turns(docs, tenant):
                await self._drop(mine, batch, name, due, urgent)

    def _made(self, numbers: Sequence[int]) -> list[Dropped]:
        return [self._source(number) for number in numbers]

    async def odd(self, docs: Sequence[Dropped], *, batch: str, due: float) -> None:
        """Documents beside the scenario's own: poison, and the like."""
        named = [
            one._replace(name=f"odd-{self._odd + n:04}-{one.name}")
            for n, one in enumerate(docs)
        ]
        self._odd += len(docs)
        await self._drop(named, batch, self._it.scenario.tenant[0].name, due, False)

    def _turns(
        self, docs: Sequence[Dropped], tenant: str
    ) -> Iterator[tuple[str, list[Dropped]]]:
        """Who drops which of them."""
        if tenant:
            yield tenant, list(docs)
            return
        tenants: tuple[Tenant, ...] = self._it.scenario.tenant
        weights = [each.share for each in tenants]
        owners = self._rng.choices([t.name for t in tenants], weights, k=len(docs))
        for name in dict.fromkeys(owners):
            yield name, [d for d, o in zip(docs, owners, strict=True) if o == name]

    async def _drop(
        self, docs: Sequence[Dropped], batch: str, tenant: str, due: float, urgent: bool
    ) -> None:
        it = self._it
        at = time.time()
        it.run.submit(
            Submitted(
                at,
                tenant,
                batch,
                it.pipeline,
                one.name,
                sha256(one.data).hexdigest(),
                due,
                urgent,
                one.expect,
            )
            for one in docs
        )
        if self._rows is not None:
            rows = [Row(one.name, one.data) for one in docs]
            left_s = max(1.0, due - time.time())
            await self._rows.admit(rows, tenant=tenant, batch=batch, deadline_s=left_s)
            return
        if urgent:
            await self._ingest(docs, batch, tenant, due)
            return
        inbox = it.home / "inbox" / tenant / it.pipeline / batch
        await anyio.to_thread.run_sync(put, inbox, docs)

    async def _ingest(
        self, docs: Sequence[Dropped], batch: str, tenant: str, due: float
    ) -> None:
        """By a command: it says by when."""
        folder = self._it.run.path / "urgent" / batch
        await anyio.to_thread.run_sync(put, folder, docs)
        paths = [str(folder / one.name) for one in docs]
        for at in range(0, len(paths), INGEST_MAX):
            some = paths[at : at + INGEST_MAX]
            for _ in range(TRIES):
                if await self._ingested(some, batch, tenant, due):
                    break
                await anyio.sleep(AGAIN_S)

    async def _ingested(
        self, paths: Sequence[str], batch: str, tenant: str, due: float
    ) -> bool:
        """Whether all were taken; what was already is a duplicate."""
        left = max(1, round(due - time.time()))
        command = ("ingest", *paths, "--tenant", tenant, "--batch", batch)
        command += ("--pipeline", self._it.pipeline, "--deadline", f"{left}s")
        said = await self._it.command(*command)
        return isinstance(said, dict) and len(said.get("files", ())) == len(paths)


def put(folder: Path, docs: Sequence[Dropped]) -> None:
    """Write files beside, and rename them into place."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in docs:
        part = folder / f"{one.name}.part"
        part.write_bytes(one.data)
        os.replace(part, folder / one.name)
