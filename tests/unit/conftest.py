"""Unit tests run on asyncio and on trio, both in virtual time: no test sleeps."""

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


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    if request.param == "trio":
        return "trio", {"clock": MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualLoop}
