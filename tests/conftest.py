"""What every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[1].parent / "shared" / "samples"


@pytest.fixture
def anyio_backend() -> str:
    """Real time on asyncio, as in production; tests/unit overrides this."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first: a run of several at a time ends evenly."""
    items.sort(key=lambda item: "tests/system/" not in item.nodeid)
