"""A long document whose worker is killed goes on where it was."""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pytest

from loadtest.scenarios import long


def test_the_long_document_is_what_it_says() -> None:
    """As many pages as asked for, of pictures alone, the same for the same seed."""
    made = long.scanned(14, 1)

    document = pypdfium2.PdfDocument(made)
    assert len(document) == 14
    assert document[13].get_textpage().get_text_range() == ""
    assert made == long.scanned(14, 1) != long.scanned(14, 2)


def test_pages_that_began_twice_are_counted(tmp_path: Path) -> None:
    """A page of this item that began again is seen; those of others are not."""
    lines = [(1, 1), (1, 2), (2, 1), (1, 2)]
    log = tmp_path / "log"
    log.write_text(
        "not json\n"
        + "".join(
            f'{{"item": {i}, "page": {p}, "event": "page_began"}}\n' for i, p in lines
        )
    )

    assert long.begun(log, 1) == {1: 1, 2: 2}


@pytest.mark.proof
def test_a_killed_worker_repeats_no_finished_page() -> None:
    """After kill -9 in the middle only the pages in hand begin again."""
    told: list[str] = []

    result = long.run(told.append, pages=9, kill_at=4, seed=1)

    assert result["bad"] == [], result
    assert result["pages"] == result["pages_begun"] == result["pages_ok"] == 9
    assert result["pages_reread"] <= long.REREAD_MAX
