"""Time on a machine that gives a process no core: whose doing it is, and whose not."""

from __future__ import annotations

import os
import time

import pytest

from pipeline import proc
from pipeline.errors import Disposition, LoopBlocked, LoopCrowded
from pipeline.proc import Lines, queued_s
from pipeline.run.holding import HOLDING, Holding
from pipeline.run.slate import Holder, Slate
from pipeline.run.supervisor import LOOK_S, _Watch
from pipeline.run.watchdog import Watchdog


class Machine:
    """Its clock, and how long a process stood in line for a core."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.line_s: float | None = 0.0

    def passes(self, wall_s: float, *, queued: float = 0.0) -> None:
        """Time, of which this share was spent in line."""
        self.now_s += wall_s
        if self.line_s is not None:
            self.line_s += wall_s * queued


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(proc, "monotonic", lambda: made.now_s)
    monkeypatch.setattr(proc, "queued_s", lambda pid="self": made.line_s)
    return made


def rings(machine: Machine, *, queued: float, for_s: float = 60.0) -> float | None:
    """When the alarm ends whose stage is on the loop, in seconds; None: it does not."""
    dog = Watchdog(Slate(), blocked_s=3, memory_bytes=1, recycle=lambda _: None)
    held = Holding(Holder(7, "read", 1, False, False))
    token = HOLDING.set(held)
    began = machine.now_s
    try:
        machine.passes(1.0, queued=queued)
        while machine.now_s - began < for_s:
            dog._alarm(0, None)
            machine.passes(0.25, queued=queued)
    except LoopBlocked:
        return machine.now_s - began
    finally:
        HOLDING.reset(token)
    assert held.end is None
    return None


def test_who_sleeps_on_the_loop_is_ended_on_time(machine: Machine) -> None:
    """It stands in no line: all of that time is its own."""
    assert rings(machine, queued=0.0) == 3.0


def test_who_computes_is_ended_by_the_time_it_had(machine: Machine) -> None:
    """On a machine that gives it two thirds of a core, half as late again."""
    at = rings(machine, queued=1 / 3)

    assert at is not None
    assert 4 <= at <= 5


def test_a_stage_that_gets_no_core_is_not_charged(machine: Machine) -> None:
    """Seconds pass, of which it had next to nothing."""
    assert rings(machine, queued=0.99, for_s=3.0) is None


def test_before_the_lease_is_lost_it_is_sent_away_uncharged(machine: Machine) -> None:
    """Else all that its worker has would be taken for that of a dead one."""
    with pytest.raises(LoopCrowded) as ended:
        rings(machine, queued=0.99)

    assert ended.value.disposition is Disposition.WAIT
    assert machine.now_s - 1000.0 <= 2 * 3.0


def test_where_nobody_counts_the_line_the_wall_clock_decides(machine: Machine) -> None:
    """As before, and as on systems without Linux's count."""
    machine.line_s = None

    assert rings(machine, queued=0.0) == 3.0


def test_a_worker_without_a_core_does_not_hang(machine: Machine) -> None:
    """What its supervisor counts is the time that it had."""
    slate = Slate()
    slate.pid = 7
    slate.beat()
    starved, hangs = _Watch(slate), _Watch(slate)
    for watch in (starved, hangs):
        watch.look(LOOK_S)

    for _ in range(100):
        machine.passes(LOOK_S, queued=0.9)
        starved.look(LOOK_S)
    hangs.look(LOOK_S)
    for _ in range(100):
        hangs.look(LOOK_S)

    assert starved.still_s == pytest.approx(10 * LOOK_S)
    assert starved.stood_s == pytest.approx(100 * LOOK_S)
    assert hangs.still_s == pytest.approx(100 * LOOK_S)


@pytest.mark.skipif(queued_s() is None, reason="nobody counts it here")
def test_the_kernel_counts_a_line_and_no_sleep() -> None:
    """What it says grows with waiting for a core alone, and of the dead is nothing."""
    lines, began = Lines(), time.monotonic()
    lines.since(os.getpid())
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)

    assert 0.0 <= lines.since(os.getpid()) <= time.monotonic() - began
    assert lines.since(child) == 0.0
    assert queued_s(child) is None
