"""Histories of the whole worker: that they are played, judged, and played again."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from loadtest.simulation import running
from loadtest.simulation.__main__ import main
from loadtest.simulation.history import play
from pipeline.errors import LeaseLost
from pipeline.store.memory.sessions import MemorySessions

# Seeds that once broke a promise are listed here, each with what it was.
KNOWN = (
    36,  # a worker was drained while it left a session, and ended with an error
    9166,  # held, ruled on and claimed again before its answer came: held once more
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)
    yield
    structlog.reset_defaults()


def test_short_histories_break_no_promise() -> None:
    """Killed and cut off workers, lost answers, bad stages: all ends rightly."""
    met: Counter[str] = Counter()
    for seed in (*KNOWN, *range(1, 21)):
        played = play(seed)
        met.update(played.met)
        assert played.broken == [], f"seed {seed}; {running.replay({'seed': seed})}"

    # What they went through, so that quiet histories cannot pass for these.
    gone_through = ("kill", "cut", "lost", "landed", "not_sent", "slow", "stage_hangs")
    assert all(met[what] >= 5 for what in gone_through)
    assert met["item_done"] > 20


def test_a_seed_is_one_history() -> None:
    """Whoever replays a failing seed sees the same failure."""
    assert play(7).trace == play(7).trace != play(8).trace


def test_a_broken_fence_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that lets replaced workers write is found out, by promise and seed."""

    def alive(self: MemorySessions, worker: Any) -> Any:
        row = self._workers.get(worker)
        if row is None:
            raise LeaseLost("gone")
        return row  # whether its lease is over nobody asks

    monkeypatch.setattr(MemorySessions, "_alive", alive)
    monkeypatch.setattr(MemorySessions, "_put_back", lambda *_, **__: 0)
    main(1, 3, 1)

    *broken, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert broken[0]["seed"] in (1, 2, 3)
    assert {promise for line in broken for promise, _ in line["broken"]} <= {
        *("I1", "I22", "I3", "I4", "I6")
    }
    assert last["played"] == 3
