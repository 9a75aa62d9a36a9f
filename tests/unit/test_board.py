"""What moves, as people see it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from pipeline.store.rows import Counts, WorkRow
from waybill.board import SAYS_S, Board, bar, work_line


def test_the_bar_is_as_full_as_the_work() -> None:
    """Empty, half, full; and never longer than it is."""
    bars = [bar(done, 10, 10) for done in (0, 5, 10, 99)]

    full = [sum(s.end - s.start for s in b.spans if s.style == "green") for b in bars]

    assert [len(b.plain) for b in bars] == [10] * 4
    assert full == [0, 5, 10, 10]
    assert len(bar(3, 0, 10).plain) == 10  # of a length that nobody knows


def test_a_documents_line_is_short_and_shows_what_hides() -> None:
    """Names are other people's: they are cut, and cannot turn the screen round."""
    _, text = work_line(WorkRow(1, "contract\u202e.pdf" + "x" * 100, "ocr", 61, 120))

    assert text.plain.startswith("contract\\u202e.pdf")
    assert text.plain.endswith("…  ocr  61 of 120")
    assert len(text.plain) < 80


async def test_without_a_terminal_there_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A log of five minutes is not silent, and not full of it either."""
    counts = Counts(*[0] * len(Counts._fields))._replace(received=3, live=2, done=1)

    async def count() -> Counts:
        return counts

    app: Any = None
    board = Board(app, 1, 3, count)
    for _ in range(5):
        await board.look()
        await anyio.sleep(SAYS_S / 2)

    said = capsys.readouterr().err.splitlines()
    assert said == ["1 of 3 have ended, 2 on their way"] * 2
