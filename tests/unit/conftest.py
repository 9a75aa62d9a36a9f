"""Unit tests run on asyncio, and on trio too: both in virtual time, no test sleeps."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from tests.unit.virtual import VirtualLoop
from waybill import terminal


@pytest.fixture(autouse=True)
def stdout_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command keeps stdout for itself for good: these run where others do too."""
    monkeypatch.setattr(terminal, "keep_stdout", lambda: None)


# As production does; that nothing leans on its loop is shown by `make proof`.
@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.proof)])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    if request.param == "trio":
        return "trio", {"clock": MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualLoop}
