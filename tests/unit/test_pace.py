"""What limits a batch, and when it will be done, as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import Usage
from pipeline.outbox import EffectState, SinkClass, SinkFacts
from pipeline.store.effects import EffectRow
from pipeline.store.limits import LimitRow
from pipeline.store.outside import BreakerRow
from pipeline.store.rows import Counts, KeptRow, Pace, StageRow
from waybill.board import a_minute, frame
from waybill.commands.status import _end
from waybill.pace import Brake, By, brakes, done_in, sentence, still, when_done

COUNTS = Counts(10, 8, 1, 1, 0, 0, 0, 0, 0)
PACE = Pace(60.0, {"ocr": 12.0}, 4.0)
SEEN: dict[str, Any] = {"workers": [{"pid": 1}], "pace": PACE}
SEEN |= {"deadline_at": None, "limited_by": []}


class Store:
    """What a store says of what waits."""

    def __init__(
        self,
        limited: list[KeptRow],
        waiting: list[KeptRow],
        limits: Sequence[LimitRow] = (),
        away: Sequence[BreakerRow] = (),
        unsent: Mapping[str, int] | None = None,
        tried: Sequence[EffectRow] = (),
    ) -> None:
        self._tried = tried
        self._limited, self._waiting, self._limits = limited, waiting, limits
        self._away, self._unsent = away, unsent or {}

    async def breakers(self) -> Sequence[BreakerRow]:
        return self._away

    async def count_effects(self, batch_id: int | None) -> dict[Any, int]:
        return {(sink, EffectState.PLANNED): n for sink, n in self._unsent.items()}

    async def effects(self, *, sink: str, **_: Any) -> list[EffectRow]:
        return [row for row in self._tried if row.sink == sink]

    async def limited(self, batch_id: int | None) -> list[KeptRow]:
        return self._limited

    async def limits(self) -> Sequence[LimitRow]:
        return self._limits

    async def waiting(self, batch_id: int | None) -> list[KeptRow]:
        return self._waiting

    async def in_line(self, stages: list[str]) -> dict[str, int]:
        return dict.fromkeys(stages, 1)


SINKS = {"cases": SinkFacts(SinkClass.A, vendor="crm"), "print": SinkFacts(SinkClass.A)}


class Catalogue:
    """Stage `ocr` may have two items of a worker."""

    async def get(self, number: int, store: Any, patience_s: float) -> Any:
        stage = SimpleNamespace(stage=SimpleNamespace(window=2))
        return SimpleNamespace(stages={"ocr": stage})


class Broken(Catalogue):
    """Its folder cannot be read any more."""

    async def get(self, number: int, store: Any, patience_s: float) -> Any:
        raise Usage("it is not in order")


async def asked(
    stages: list[StageRow],
    *,
    workers: int = 1,
    counts: Counts = COUNTS,
    catalogue: Catalogue | None = None,
    limits: Sequence[LimitRow] = (),
    away: Sequence[BreakerRow] = (),
    unsent: Mapping[str, int] | None = None,
    tried: Sequence[EffectRow] = (),
    **there: list[KeptRow],
) -> list[Brake]:
    kept = there.get("limited", []), there.get("waiting", [])
    store = Store(*kept, limits, away, unsent, tried)
    services = SimpleNamespace(sinks=SINKS)
    app: Any = SimpleNamespace(
        store=store, catalogue=catalogue or Catalogue(), services=services
    )
    return await brakes(app, None, counts, stages, workers)


async def test_a_full_stage_is_a_window() -> None:
    """When its line has somebody, and its workers may have no more."""
    full = StageRow("ocr", 5, 4, 0, 0)

    assert (await asked([full], workers=2))[0] == Brake(By.WINDOW, "ocr", "4", 5)
    assert By.WINDOW not in {b.by for b in await asked([full], workers=3)}
    assert By.WINDOW not in {b.by for b in await asked([full], catalogue=Broken())}


async def test_what_is_asked_of_others_is_told_apart() -> None:
    """A limit of ours, a vendor who said so, a try that failed."""
    until = datetime.now(UTC)
    limited = [KeptRow("write", "llm", 3, None)]
    waiting = [
        KeptRow("write", "THROTTLED", 2, until),
        KeptRow("write", "VENDOR_DOWN", 2, until),
        KeptRow("ocr", "OCR_TIMEOUT", 1, until),
    ]

    found = await asked([], limited=limited, waiting=waiting)

    assert [brake.by for brake in found] == [
        *(By.LIMIT, By.VENDOR, By.VENDOR, By.RETRY, By.PERSON),
    ]


def a_limit(key: str, waits_s: float, clears_s: float, rate: float | None) -> LimitRow:
    """Of a vendor, with three calls that wait."""
    since = datetime.now(UTC) - timedelta(seconds=waits_s)
    numbers = (rate, 1.0, None)
    counts = (0.0, 0, 3, since, clears_s, None, "")
    return LimitRow(key, *numbers, *numbers, False, *counts)


async def test_a_vendor_s_calls_wait_for_its_tightest_limit() -> None:
    """Not for those on which nobody waits but in passing, nor for what is no limit."""
    rows = [
        a_limit("vendor/crm/requests", 9, 4.0, 5.0),
        a_limit("vendor/crm/tokens", 9, 60.0, 100.0),
        a_limit("vendor/crm/pipeline/quotes/requests", 9, 90.0, None),
        a_limit("vendor/llm/requests", 0, 1.0, 5.0),
        a_limit("pipeline/quotes/erp", 9, 1.0, 5.0),
    ]

    found = await asked([], limits=rows)

    assert found[0] == Brake(By.LIMIT, "", "vendor/crm/tokens", 3)
    assert [brake.by for brake in found] == [By.LIMIT, By.PERSON]


async def test_a_vendor_that_is_away_is_named() -> None:
    """Also when only effects wait for it; not when nothing does, or it is back."""
    soon = datetime.now(UTC) + timedelta(seconds=30)
    row = BreakerRow("crm", "open", 1, 5, soon, soon, 30.0, None, 1.0)
    back = row._replace(vendor="llm", state="closed")
    over = COUNTS._replace(live=0, held=0)

    [found] = await asked([], counts=over, away=[row, back], unsent={"cases": 7})
    nothing = await asked([], counts=over, away=[row])

    assert found[:4] == (By.VENDOR, "", "crm", 7)
    assert sentence(found).startswith("a vendor: crm is away and not called")
    assert "7 effects wait; `waybill vendors ls`" in sentence(found)
    assert nothing == []


async def test_effects_that_do_not_get_through_are_told_with_their_own_reason() -> None:
    """Not as those of a vendor that is away meanwhile, whom they do not go to."""
    row = BreakerRow("llm", "open", 1, 5, None, None, 30.0, None, 1.0)
    over = COUNTS._replace(live=0, held=0)
    effect = EffectRow(*[None] * len(EffectRow._fields))  # type: ignore[arg-type]
    due = datetime.now(UTC) + timedelta(seconds=20)
    tried = [
        effect._replace(sink="cases", why="", due_at=due),
        effect._replace(sink="cases", why="VENDOR_KEY: crm's key is away", due_at=due),
    ]

    unsent = {"cases": 10, "print": 3}
    found = await asked([], counts=over, away=[row], unsent=unsent, tried=tried)

    assert found == [Brake(By.EFFECT, "cases", "VENDOR_KEY", 10, due)]
    assert sentence(found[0]).startswith(
        "effects: 10 effects to cases wait, VENDOR_KEY;"
    )
    assert "`waybill effects ls --sink cases`" in sentence(found[0])


async def test_who_waits_for_an_answer_has_not_failed() -> None:
    """Nor is it known when it goes on: its time is when it gives up."""
    until = datetime.now(UTC) + timedelta(hours=1)

    [found, _] = await asked([], waiting=[KeptRow("confirm", "SIGNAL", 1, until)])

    assert found == Brake(By.ANSWER, "confirm", "SIGNAL", 1)
    assert sentence(found).startswith("an answer: 1 item waits before confirm for a")


async def test_nobody_works_is_said_first() -> None:
    """And a person who is waited for last; without either there is nothing to say."""
    idle = await asked([StageRow("ocr", 5, 0, 0, 0)], workers=0)
    busy = await asked([StageRow("ocr", 0, 5, 0, 0), StageRow("a", 0, 1, 0, 0)])
    over = await asked([], counts=Counts(1, 0, 0, 1, 0, 0, 0, 0, 0))

    assert [brake.by for brake in idle] == [By.WORKER, By.PERSON]
    assert busy[0] == Brake(By.WORK, "ocr", "", 5)
    assert over == []


def test_the_end_is_told_at_this_pace() -> None:
    """Against the deadline; nothing is promised of what nobody knows."""
    still = PACE._replace(left=0.0)
    over = COUNTS._replace(live=0)
    now = datetime.now(UTC)

    assert done_in(COUNTS, PACE) == 120
    assert done_in(COUNTS, still) is None
    assert done_in(over, still) == 0
    assert when_done(COUNTS, PACE, None) == "at this pace 8 items are done in 2 min"
    assert ", after the" in when_done(COUNTS, PACE, now + timedelta(seconds=90))
    assert ", before the" in when_done(COUNTS, PACE, now + timedelta(seconds=150))
    assert when_done(COUNTS, still, now) == when_done(over, PACE, now) == ""
    one = COUNTS._replace(live=1)
    assert when_done(one, PACE, None) == "at this pace 1 item is done in 15 s"
    quick = PACE._replace(left=600.0)  # of others: this one may be at work for long
    assert when_done(one, quick, None) == ""


def test_nothing_is_promised_of_who_waits_for_a_person() -> None:
    """Nor for money: neither goes on at any pace."""
    waits = [Brake(By.ANSWER, "ocr", "SIGNAL", 3), Brake(By.MONEY, "ocr", "", 3)]

    assert still([*waits, Brake(By.PERSON, items=9), Brake(By.RETRY, "ocr")]) == 6
    assert done_in(COUNTS, PACE, stay=6) == 30
    assert done_in(COUNTS, PACE, stay=8) is None
    said = when_done(COUNTS, PACE, None, stay=7)
    assert said == "at this pace 1 item is done in 15 s"
    seen = {**SEEN, "troubles": [], "limited_by": [*waits, waits[0]]}
    assert _end(COUNTS, seen) == ""


def test_nothing_is_promised_while_trouble_keeps_everything() -> None:
    """The pace was measured before; what is done stays done."""
    over = COUNTS._replace(live=0)

    assert done_in(COUNTS, PACE, kept=True) is None
    assert when_done(COUNTS, PACE, None, kept=True) == ""
    assert done_in(over, PACE, kept=True) == 0
    assert _end(COUNTS, {**SEEN, "troubles": []}) != ""
    assert _end(COUNTS, {**SEEN, "troubles": ["the disk is full"]}) == ""
    assert _end(COUNTS, {**SEEN, "troubles": [], "workers": []}) == ""


@pytest.mark.parametrize("code", ["NO_FOLDER", "TOO_MANY_FILES", "JAIL_START"])
async def test_our_own_trouble_is_no_failed_try(code: str) -> None:
    """It is told first, as what it is."""
    limited = [KeptRow("write", "llm", 3, None)]

    found = await asked([], limited=limited, waiting=[KeptRow("ocr", code, 1, None)])

    assert [brake.by for brake in found] == [By.TROUBLE, By.LIMIT, By.PERSON]
    assert sentence(found[0]).startswith(f"trouble: 1 item waits before ocr, {code};")


def test_what_is_late_was_due() -> None:
    """It cannot go on in the past; and one item waits, two wait."""
    past = datetime.now(UTC) - timedelta(seconds=9)

    said = sentence(Brake(By.RETRY, "ocr", "OCR_TIMEOUT", 1, past))

    assert said.endswith(
        "1 item waits before ocr, OCR_TIMEOUT; the first was due 9 s ago"
    )
    assert "2 items wait" in sentence(Brake(By.VENDOR, "ocr", "QUOTA", 2))
    assert "1 item in ocr waits" in sentence(Brake(By.LIMIT, "ocr", "llm", 1))


def test_every_brake_is_a_sentence() -> None:
    """Short, with what there is to do or to wait for."""
    soon = datetime.now(UTC) + timedelta(seconds=40.2)

    said = {by: sentence(Brake(by, "ocr", "llm", 2, soon)) for by in By}

    assert said[By.LIMIT] == "a limit: 2 items in ocr wait for [limit.llm]"
    assert said[By.VENDOR].endswith("before ocr, llm; the first goes on in 40 s")
    assert said[By.WINDOW].endswith("ocr has the llm that it may have, 2 items in line")
    assert "waybill review next" in said[By.PERSON]
    assert said[By.WORKER].startswith("no worker: nothing moves, start `waybill up`")
    assert sentence(Brake(By.WORK, "ocr", items=1)) == "the work itself: 1 item in ocr"


@pytest.mark.parametrize(
    ("pace", "said"), [(0.05, "0.05"), (3.14159, "3.1"), (10.4, "10"), (1234.5, "1234")]
)
def test_a_pace_is_told_with_two_digits(pace: float, said: str) -> None:
    """More would be noise; what nothing came through has none."""
    assert a_minute(Pace(60, {"ocr": pace}, 0), "ocr") == said
    assert a_minute(Pace(60, {}, 0), "ocr") == ""


def test_a_frame_shows_what_moves() -> None:
    """Stages with something in hand or a pace; what waits there is not drawn."""
    stages = [StageRow("ocr", 7, 2, 0, 0), StageRow("print", 9, 0, 3, 4)]
    pace = Pace(60, {"ocr": 12.0, "intake": 30.0}, 4.0)

    grid = frame(COUNTS, stages, 10, (), pace)

    lines = [str(cell) for cell in grid.columns[0].cells]
    assert lines[-1] == "intake 0▸ 30/min   ocr 2▸ 12/min"
    over = frame(COUNTS._replace(live=0), [], 10, (), pace)
    assert len(over.columns[0]._cells) == len(lines) - 1
