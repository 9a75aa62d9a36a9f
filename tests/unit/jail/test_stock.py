"""A start of a jail on a busy machine: waited for, and not begun anew."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pipeline.errors import Trouble
from pipeline.jail import process, stock
from pipeline.jail.process import TemplateProcess
from pipeline.jail.stock import START_S, Stock
from pipeline.proc import EXCUSED


class Slow:
    """A template, warm after `needs_s`; this `share` of them it stands in line."""

    def __init__(self, needs_s: float, share: float) -> None:
        self.began = anyio.current_time()
        self.needs_s, self.share = needs_s, share
        self.process = SimpleNamespace(returncode=-9)

    @property
    def queued_s(self) -> float:
        return (anyio.current_time() - self.began) * self.share

    async def ready(self) -> None:
        await anyio.sleep_until(self.began + self.needs_s)

    async def aclose(self, patience_s: float) -> bool:
        return True


async def started(
    monkeypatch: pytest.MonkeyPatch, needs_s: float, share: float
) -> tuple[Stock, float]:
    """A stock with its template, and the seconds that it took."""

    async def start(*_: Any) -> Slow:
        return Slow(needs_s, share)

    monkeypatch.setattr(stock, "start", start)
    it = Stock({}, None)
    monkeypatch.setattr(it, "_scratch", SimpleNamespace(place=lambda: None))
    began = anyio.current_time()
    await it.ready()
    return it, anyio.current_time() - began


async def test_one_that_has_no_core_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the time that it had: what it has done so far is not lost."""
    it, took_s = await started(monkeypatch, 4 * START_S, 0.95)

    assert it.counts["templates"] == 1
    assert took_s == pytest.approx(4 * START_S)


async def test_one_that_has_a_core_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    began = anyio.current_time()

    with pytest.raises(Trouble, match="it did not start in 30 s"):
        await started(monkeypatch, 4 * START_S, 0.0)

    assert anyio.current_time() - began == pytest.approx(START_S)


async def test_nobody_is_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = anyio.current_time()

    with pytest.raises(Trouble, match="the machine gave it no core"):
        await started(monkeypatch, 1e6, 1.0)

    most = START_S * (1 + EXCUSED)
    assert anyio.current_time() - began == pytest.approx(most)


def test_it_is_the_child_of_what_was_started_that_stands_in_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The guard waits for the template, and never for a core."""
    lines: dict[int, float | None] = {7: 0.1, 8: 21.0, 9: None}
    monkeypatch.setattr(process, "descendants", lambda _: (8, 9))
    monkeypatch.setattr(process, "queued_s", lines.get)
    guard: Any = SimpleNamespace(pid=7)

    assert TemplateProcess(guard, control=guard).queued_s == 21.0
