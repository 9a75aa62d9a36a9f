"""Work that meets our own trouble, in the foreground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from ingest.answers import Taken
from ingest.candidates import Candidate
from pipeline.errors import Trouble
from pipeline.jail.stock import no_start
from pipeline.model import Batch, Disposal, Receipt
from waybill.commands.ingest import _is_known, _take
from waybill.foreground import SENT_S, _sent, patiently, twice


class Late:
    """Work whose first tries meet a trouble."""

    def __init__(self, *met: Trouble) -> None:
        self.met = [*met]

    async def __call__(self) -> str:
        if self.met:
            raise self.met.pop(0)
        return "made"


async def test_a_jail_that_did_not_start_is_tried_once_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And whoever waits reads why."""
    assert await twice(Late(no_start("no jail could be made (slow)"))) == "made"
    assert "waits: no jail could be made (slow)" in capsys.readouterr().err

    with pytest.raises(Trouble, match="second"):
        await twice(Late(no_start("first"), no_start("second")))


async def test_other_trouble_is_told_at_once() -> None:
    work = Late(Trouble("the disk is full", code="DISK_FULL"))

    with pytest.raises(Trouble, match="disk is full"):
        await twice(work)
    assert await work() == "made"


class Sender:
    """A worker that has so much to send, in seconds."""

    def __init__(self, left_s: float) -> None:
        self.left_s = left_s

    async def caught_up(self) -> None:
        await anyio.sleep(self.left_s)


@pytest.mark.parametrize(
    ("left_s", "over", "waited_s", "told"),
    [(5, False, 5, False), (3600, False, SENT_S, True), (3600, True, 0, False)],
)
async def test_whoever_works_in_the_foreground_is_not_kept_by_much_to_send(
    left_s: float,
    over: bool,
    waited_s: float,
    told: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = anyio.Event()
    if over:
        ended.set()
    began = anyio.current_time()

    worker: Any = Sender(left_s)
    await _sent(worker, ended)

    assert anyio.current_time() - began == pytest.approx(waited_s, abs=0.1)
    assert ("up` sends them" in capsys.readouterr().err) == told


class Halting:
    """An admission that knows one file, and has no jail for the last at first."""

    def __init__(self) -> None:
        self.receipts = {"old.txt"}
        self.paused = True

    async def take(
        self, files: Sequence[Candidate], *_: Any, archive: bool
    ) -> list[Taken]:
        answers = []
        for number, file in enumerate(files, 1):
            if self.paused and file is files[-1]:
                self.paused = False
                late = Taken(file, None, code="JAIL_START", why="no jail", paused=True)
                answers.append(late)
                continue
            again = file.name in self.receipts
            self.receipts.add(file.name)
            receipt = Receipt(file.name, Disposal.ITEM, number, again)
            answers.append(Taken(file, receipt))
        return answers


async def test_what_a_call_took_before_it_waited_is_not_known_to_it(
    tmp_path: Path,
) -> None:
    """It was dropped once, and read once; another call's file is known."""
    admission = Halting()
    opened: Any = SimpleNamespace(
        settings=SimpleNamespace(home=tmp_path),
        folders=lambda: SimpleNamespace(
            archive=tmp_path, quarantine=tmp_path, scratch=tmp_path
        ),
        admission=lambda _: admission,
    )
    files = [
        Candidate(tmp_path, name, name) for name in ("old.txt", "chair.txt", "b.txt")
    ]
    into: Batch = SimpleNamespace()  # type: ignore[assignment]

    taken = await _take(opened, files, into, 1, patiently)

    known = [t.candidate.name for t in taken if t.receipt and _is_known(t.receipt)]
    assert known == ["old.txt"]
