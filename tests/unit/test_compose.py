"""What is put together from settings."""

from __future__ import annotations

import os

import pytest

from waybill.compose import second_readers

GIB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "gib", "readers"), [(2, 24, 2), (64, 24, 6), (8, 2, 1), (1, 64, 1)]
)
def test_second_readers_leave_three_quarters_of_the_memory(
    cores: int, gib: int, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as cores where there is room; one on the smallest machine."""
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": gib * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)

    assert second_readers(cores) == readers
