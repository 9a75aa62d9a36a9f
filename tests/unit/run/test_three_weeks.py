"""Three weeks of a real campaign in seconds: letters, weekends, bursts, crashes."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import anyio
import pytest
import structlog

from pipeline.errors import Conflict, Throttled, Transient
from pipeline.holds.ruling import ruling
from pipeline.model import Advance, Hold, ItemId, State
from pipeline.stage import Retry, Stage
from pipeline.store.memory import EPOCH
from pipeline.store.rows import HoldRow
from pipeline.vendors.pacing import LimitSpec
from tests.unit.engine import DAY_S, FINAL, Engine, Letter, Tape

SEED = 20261201
LETTERS = 2000
FEWER = 1000  # of them, where every test runs
TENANTS = 20
ARRIVAL_DAYS = 20  # the last ones on a Sunday: those that are held wait for Monday
DEADLINE_S = 5 * DAY_S
HOUR_S = 3600.0
WORKERS = 2
WINDOWS = {"intake": 50, "ocr": 40, "moderation": 40, "generation": 25, "output": 10}
OCR_AT_ONCE = 4
# 720 a day for each worker; 100 letters arrive a day.
LIMITS = {"ocr": LimitSpec(rate=30, per_s=HOUR_S, concurrency=OCR_AT_ONCE)}


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Three weeks of log lines would take longer than the three weeks."""
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)
    yield
    structlog.reset_defaults()


class Campaign:
    """The letters, the vendor, the two reviewers and whoever pulls the plug."""

    def __init__(self, letters: int) -> None:
        self.letters = letters
        self.rng = random.Random(SEED)
        self.tape = Tape()
        self.engine = Engine(
            self.stages(), LIMITS, items_max=150, lease_s=4 * HOUR_S, poll_s=1200
        )
        self.engine.port = self.engine.store  # nothing is cut here, only people
        self.again: list[tuple[ItemId, str]] = []  # finished, and run again
        self.said: Counter[str] = Counter()  # what the vendor said
        self.ruled: Counter[str] = Counter()
        self.crashes = 0
        self.over = False

    # -- stages ------------------------------------------------------------------------

    def stages(self) -> list[Stage]:
        hour = Retry(attempts=25, base_s=30, cap_s=900)
        return [
            self.stage("intake", self.plain(1, 20)),
            self.stage("ocr", self.plain(20, 240), limit="ocr", timeout_s=300),
            self.stage("moderation", self.moderation),
            self.stage("generation", self.generation, retry=hour, timeout_s=600),
            self.stage("output", self.plain(1, 60)),
        ]

    def stage(self, name: str, run: Any, **policies: Any) -> Stage:
        async def watched(letter: Letter, ctx: Any) -> Any:
            self.check(ctx.item.id, name, None)
            return await run(letter, ctx)

        return self.tape.station(name, watched, window=WINDOWS[name], **policies)

    def check(self, item: ItemId, stage: str, step: str | None) -> None:
        """Note it when what runs here has left its checkpoint already."""
        kept = self.engine.store._items[item].checkpoints
        if any((c.stage, c.step) == (stage, step) for c in kept):
            self.again.append((item, stage))

    def plain(self, least_s: float, most_s: float) -> Any:
        async def run(letter: Letter, ctx: Any) -> Advance:
            await anyio.sleep(self.rng.uniform(least_s, most_s))
            return Advance(pence=1)

        return run

    async def moderation(self, letter: Letter, ctx: Any) -> Advance | Hold:
        await anyio.sleep(self.rng.uniform(0.1, 2))
        if ctx.item.id % 10 == 3:
            return Hold("DISCLOSURE", "a person must see it", text="seen")
        return Advance(text="harmless")

    async def generation(self, letter: Letter, ctx: Any) -> Advance:
        async def ask() -> str:
            self.check(ctx.item.id, "generation", "ask-1")
            return await self.vendor()

        answer = await ctx.step("ask-1", ask)
        await anyio.sleep(self.rng.uniform(1, 30))
        return Advance(answer=answer)

    async def vendor(self) -> str:
        """Has hours when it throttles and hours when most calls fail."""
        hour = int(anyio.current_time() % DAY_S / HOUR_S)
        await anyio.sleep(self.rng.uniform(1, 20))
        if hour in (10, 11, 16):
            self.said["throttled"] += 1
            retry_after_s = self.rng.uniform(300, 3600)
            raise Throttled("slow down", retry_after_s=retry_after_s)
        if hour in (4, 13, 20) and self.rng.random() < 0.8:
            self.said["failed"] += 1
            raise Transient("503")
        self.said["answered"] += 1
        return "Dear child"

    # -- people and faults -------------------------------------------------------------

    async def arrivals(self) -> None:
        """Every day every tenant drops some letters, at an hour of its own."""
        order = [n % TENANTS for n in range(self.letters)]
        self.rng.shuffle(order)
        a_day = -(-self.letters // ARRIVAL_DAYS)
        for day in range(ARRIVAL_DAYS):
            today = Counter(order[day * a_day : (day + 1) * a_day])
            for tenant, count in today.items():
                await anyio.sleep(self.rng.uniform(0, DAY_S / TENANTS))
                name = f"tenant-{tenant}"
                await self.engine.submit(count, tenant=name, deadline_s=DEADLINE_S)
            await anyio.sleep_until((day + 1) * DAY_S)

    async def reviewer(self, name: str) -> None:
        """Nine to five on weekdays; the most urgent hold first."""
        store = self.engine.store
        while not self.over:
            now = EPOCH + timedelta(seconds=anyio.current_time())
            if now.weekday() >= 5 or not 9 <= now.hour < 17:
                await anyio.sleep(HOUR_S / 2)
                continue
            try:
                free = [h for h in await store.holds() if h.claimed_by is None]
                if not free:
                    await anyio.sleep(HOUR_S / 4)
                    continue
                hold = await store.claim_hold(free[0].id, name, lease_s=HOUR_S)
                await anyio.sleep(self.rng.uniform(60, 600))
                await self.rule(hold, name)
            except Conflict:
                self.ruled["conflict"] += 1

    async def rule(self, hold: HoldRow, name: str) -> None:
        verb = self.rng.choices(["approve", "edit", "reject"], [7, 2, 1])[0]
        edits = {"text": "rewritten"} if verb == "edit" else {}
        update = ruling(hold, self.engine.pipeline, edits)
        await self.engine.store.decide(
            hold.id,
            verb=verb,
            author=name,
            reason="because",
            digest=hold.digest,
            update=None if verb == "reject" else update,
        )
        self.ruled[verb] += 1

    async def worker(self, number: int) -> None:
        """A process that is killed once a day, and started again."""
        while not self.over:
            async with self.engine.session() as session:
                lives_s = self.rng.uniform(0.5, 1.5) * DAY_S
                until = anyio.current_time() + lives_s
                while anyio.current_time() < until and not self.over:  # noqa: ASYNC110
                    await anyio.sleep(HOUR_S / 2)
            await self.engine.bury(session)
            self.crashes += 1

    async def run(self) -> None:
        """Until every letter that came is final, and no earlier than it can be."""
        store = self.engine.store
        async with anyio.create_task_group() as tasks:
            for number in range(WORKERS):
                tasks.start_soon(self.worker, number)
            for name in ("ann", "ben"):
                tasks.start_soon(self.reviewer, name)
            await self.arrivals()
            while len(store._outcomes) < self.letters:  # noqa: ASYNC110
                await anyio.sleep(HOUR_S / 2)
            self.over = True

    def late(self) -> list[ItemId]:
        ends = self.engine.store._outcomes.items()
        return [i for i, (_, at) in ends if at > self.engine.store._items[i].deadline]


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize(
    ("anyio_backend", "letters"),
    [
        ("asyncio", FEWER),
        pytest.param("asyncio", LETTERS, marks=pytest.mark.proof),
        pytest.param("trio", LETTERS, marks=pytest.mark.proof),
    ],
    indirect=["anyio_backend"],
)
async def test_three_weeks_of_letters_lose_double_and_delay_nothing(
    letters: int,
) -> None:
    """Letters of 20 tenants through bursts, weekends and daily crashes: each is
    done or rejected in time, no finished stage or step runs again, no bound breaks."""
    random.seed(SEED)
    campaign = Campaign(letters)
    store = campaign.engine.store

    with anyio.fail_after(22 * DAY_S):
        await campaign.run()

    counts = await store.counts()
    ends = Counter(end.state for end, _ in store._outcomes.values())
    assert await campaign.engine.sound()
    assert (counts.received, counts.live, counts.held) == (letters, 0, 0)
    assert set(ends) == {State.DONE, State.REJECTED}
    assert set(ends) < set(FINAL)
    assert ends[State.REJECTED] == campaign.ruled["reject"] > 0
    assert campaign.late() == []
    assert campaign.again == []

    for stage, window in WINDOWS.items():
        assert campaign.tape.most[stage] <= WORKERS * window
    assert campaign.tape.most["ocr"] <= WORKERS * OCR_AT_ONCE

    # What it went through, so that a quiet scenario cannot pass for this one.
    assert campaign.crashes >= 21
    assert campaign.said["throttled"] > letters / 40
    assert campaign.said["failed"] > letters / 40
    assert (
        ends[State.DONE] <= campaign.said["answered"] < ends[State.DONE] + letters / 40
    )
    assert campaign.ruled["approve"] + campaign.ruled["edit"] > letters / 20
    assert anyio.current_time() > 20 * DAY_S
    tried = Counter(a.code for _, a in store.attempts if a.charged)
    assert set(tried) == {"TRANSIENT"}
    assert tried["TRANSIENT"] == campaign.said["failed"]
