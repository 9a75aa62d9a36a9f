"""
A run, from its first file to its verdict: the one driver of every scenario.

Phase one is safety: everything that a scenario does to the service, with the checker
looking on.  Then the faults are over, and everything must finish.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio

from loadtest.driver.board import Board
from loadtest.driver.drops import Dropper, Source, source_of
from loadtest.driver.faults import Ground
from loadtest.driver.figures import broken, growth
from loadtest.driver.folder import RunFolder
from loadtest.driver.outcome import account
from loadtest.driver.phases import Phases
from loadtest.driver.reviewers import Reviewer
from loadtest.driver.rows import admitting
from loadtest.driver.samples import Sampler, limits
from loadtest.driver.scenario import Scenario
from loadtest.driver.stand import AWAY, Stand, standing
from loadtest.driver.verdict import CHECKER, Judge
from loadtest.trial import Progress

UP_S = 300.0  # until the first worker works, on a busy machine
LOOK_S = 0.5
# Documents that have a receipt, each once, however often it came.
TAKEN = """
select count(*) from (select distinct b.tenant_id, r.key from waybill.receipts r
                        join waybill.batches b on b.id = r.batch_id) r
"""
UNSENT = ("planned", "sending")
OF_ALL = 10_000  # items, of which a scenario says how many are in flight


def run(
    scenario: Scenario,
    beside: Path,
    text: str,
    out: Path,
    say: Progress,
    *,
    keep: bool = False,
) -> dict[str, Any]:
    """
    Play a scenario; the summary, as it stands in `out` too.

    Args:
        beside: The folder of the scenario's file.
        text: The file.
        keep: Leave the home in `out`; else it is removed.
    """
    folder = RunFolder(out, beside)
    (out / "scenario.toml").write_text(text, encoding="utf-8")
    say(f"the run's folder is {out}")
    source, labels = source_of(scenario, folder)
    place = out if keep else Path(tempfile.mkdtemp(prefix="waybill-load-"))
    try:
        with standing(folder, scenario, place / "home", labels=labels) as it:
            summary = anyio.run(_Run(it, source).play)
    finally:
        folder.close()
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    folder.write("summary.json", summary)
    return summary


class _Run:
    """One run on its stand."""

    def __init__(self, it: Stand, source: Source) -> None:
        self._it = it
        self._scenario = it.scenario
        self._sampler = Sampler(it)
        self._board = Board(it.run, self._sampler, it.scenario.total)
        self._on = Ground(it, self._board.say)
        self._source = source
        self._judge = Judge(it.run.path, it.server.owner_url, it.world.book)
        many = it.scenario.reviewers.count
        self._reviewers = [Reviewer(it, n, many) for n in range(many)]

    async def play(self) -> dict[str, Any]:
        """Everything; the summary."""
        it = self._it
        it.up()
        async with AsyncExitStack() as stack:
            stack.callback(self._judge.stop)
            rows = None
            if self._scenario.corpus.kind == "rows":
                rows = await stack.enter_async_context(admitting(it))
            phases = Phases(self._on, Dropper(it, self._source, rows))
            return await self._played(phases)

    async def _played(self, phases: Phases) -> dict[str, Any]:
        it = self._it
        if not await self._on.until(self._works, UP_S):
            raise RuntimeError(f"no worker came up: {it.log_tail()}")
        it.run.begin()
        self._judge.follow()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sampler.run)
            tasks.start_soon(self._board.run)
            tasks.start_soon(self._show, phases)
            for reviewer in self._reviewers:
                tasks.start_soon(reviewer.run)
            await phases.run()
            phases.now = "finishing"
            faulted_s = it.run.last_fault_ended
            await anyio.to_thread.run_sync(self._judge.stop)
            in_time = await self._finished()
            finished_s = it.run.now()
            tasks.cancel_scope.cancel()
        if not in_time:
            self._board.say(
                f"not finished; the service's log ends with:\n{it.log_tail()}"
            )
        await self._sampler.look()
        it.run.recovered(self._sampler.throughput)
        figures = await account(it)
        verdict = await anyio.to_thread.run_sync(self._judge.verdict)
        return self._summary(figures, verdict, finished_s, faulted_s)

    async def _works(self) -> bool:
        """Whether a worker has a session."""
        there: bool = await self._on.ask("select exists (select from waybill.workers)")
        return there

    async def _show(self, phases: Phases) -> None:
        while True:
            self._board.phase = phases.now
            await anyio.sleep(LOOK_S)

    async def _finished(self) -> bool:
        """Wait until every item is final and every effect is sent; whether it came."""
        limit_s = self._scenario.scaled(self._scenario.finish_s)
        end = anyio.current_time() + limit_s
        submitted = len({(one.tenant, one.sha256) for one in self._it.run.submitted})
        while anyio.current_time() < end:
            seen = self._sampler.last
            if seen is not None and seen.t > self._it.run.now() - 10:
                unsent = sum(seen.effects.get(state, 0) for state in UNSENT)
                busy = seen.unfinished or unsent
                if not busy and await self._taken() >= submitted:
                    return True
            await anyio.sleep(LOOK_S)
        return False

    async def _taken(self) -> int:
        """How many have a receipt; 0 while the database does not say."""
        with suppress(*AWAY):
            return int(await self._on.ask(TAKEN))
        return 0

    # -- the summary -------------------------------------------------------------------

    def _summary(
        self,
        figures: dict[str, Any],
        verdict: list[dict[str, Any]],
        finished_s: float,
        faulted_s: float,
    ) -> dict[str, Any]:
        it, scenario = self._it, self._scenario
        wanted = min(scenario.in_flight, scenario.in_flight * scenario.items // OF_ALL)
        results: dict[str, Any] = {
            "conserved": figures["conserved"],
            "lost": figures["lost"],
            "unfinished": figures["unfinished"],
            "duplicate_effects": figures["duplicate_effects"],
            "deadlines_missed": figures["deadlines_missed"],
            "urgent_missed": figures["urgent_missed"],
            "unexpected": figures["unexpected"],
            "violations": sum(int(one["violations"]) for one in verdict),
            "in_flight_max": self._sampler.in_flight_max,
            "finished_within_s": round(max(0.0, finished_s - faulted_s), 1),
            "faults": it.run.fired,
            "not_run": self._on.not_run,
            "memory_growth": growth(self._sampler.rss_worker),
            **figures["more"],
        }
        amiss = broken(scenario.must, results)
        none = [
            *("lost", "unfinished", "duplicate_effects", "deadlines_missed"),
            *("urgent_missed", "unexpected", "violations"),
        ]
        good = (
            results["conserved"]
            and not any(results[name] for name in none if name not in scenario.may)
            and not amiss
            and results["in_flight_max"] >= wanted
        )
        decisions = sum((r.ruled for r in self._reviewers), start=Counter[str]())
        return {
            "scenario": scenario.name,
            "seed": scenario.seed,
            "pipeline": it.pipeline,
            "command": " ".join(["python -m loadtest", *sys.argv[1:]]),
            "version": _version(),
            "machine": {"cores": os.cpu_count(), "python_ms": python_ms()},
            "started_at": datetime.fromtimestamp(it.run.began, UTC).isoformat(),
            "seconds": round(finished_s, 1),
            "speed": scenario.speed,
            "items": {"submitted": len(it.run.submitted), **figures["states"]},
            "results": results,
            "faults": it.run.fired,
            "verdict": verdict,
            "checked_by": CHECKER if verdict else "nobody but the driver",
            "vendors": self._vendors(),
            "reviewers": {
                "decisions": dict(decisions),
                "refused": sum(r.refused for r in self._reviewers),
                "by": "waybill review ls, approve, edit, reject",
            },
            "memory_mb": self._memory(),
            "amiss": figures["amiss"],
            "must": amiss,
            "good": bool(good),
        }

    def _vendors(self) -> dict[str, dict[str, Any]]:
        allowed = limits(self._it)
        found = {}
        for name in self._scenario.vendor:
            counts = self._it.world.counts(name)
            words = ("accepted", "throttled", "failed", "outage", "repeated")
            found[name] = {
                **{word: counts.get(word, 0) for word in words},
                "limit": allowed.get(name),
                "under_way_max": counts.get("under_way_max", 0),
            }
        return found

    def _memory(self) -> dict[str, float]:
        """The largest worker: at its largest, and in the last third of the run."""
        sizes = [mb for _, mb in self._sampler.rss_worker]
        last = sizes[-max(1, len(sizes) // 3) :]
        return {
            "worker_max": max(sizes, default=0.0),
            "worker_last_third_max": max(last, default=0.0),
        }


def _version() -> str:
    """The commit, or the package's version where there is none."""
    git = ["git", "describe", "--always", "--dirty", "--tags"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(git, cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return version("waybill")


def python_ms() -> float:
    """Milliseconds of a fixed loop: how quick this machine was just then."""
    began = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number * number % 7
    return round(1000 * (time.perf_counter() - began), 1)
