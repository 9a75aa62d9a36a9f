"""Why an item is where it is: what it waits for, and what failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pipeline.model import State
from pipeline.stage import Retry
from pipeline.store.limits import LimitRow
from pipeline.store.rows import AttemptRow, ItemRow, Origin, TroubleRow, WaitsRow
from pipeline.vendors.pacing import LimitSpec
from tests.unit.engine import Engine, Tape, pipeline_of, until
from waybill.desk.why import Reasons, explain
from waybill.desk.why import reasons as reasons_of
from waybill.settings import Settings

NOW = datetime.now(UTC)
LIMITS = {"llm": LimitSpec(rate=10, per_s=60)}


COUNTS = (0.0, 0, 3, None, None, None)  # of a limit: who calls, who waits


def reasons(state: State, **more: Any) -> Reasons:
    """Of an item at `ask`, a stage with a limit, a window of 5 and four tries."""
    stage = Tape().station("ask", limit="llm", window=5, retry=Retry(attempts=4))
    facts: dict[str, Any] = {
        "id": 7,
        "name": "a.png",
        "tenant": "north",
        "batch": "b",
        "key": "k",
        "pipeline_id": 1,
        "state": state,
        "stage": "ask",
        "attempt": 0,
        "code": "",
        "why": "",
        "received_at": NOW,
        "since": NOW,
        "until": None,
        "deadline_at": NOW + timedelta(days=1),
    }
    asked: dict[str, Any] = {
        "waits": WaitsRow(0, 0, ""),
        "ahead": 0,
        "workers": 2,
        "hold": None,
        "children": {},
        "failures": [],
        "pipeline": pipeline_of([stage], LIMITS),
        "troubles": [],
        "troubled": 0,
        "away": [],
        "paused": [],
    }
    asked |= {k: more.pop(k) for k in list(more) if k in asked}
    return Reasons(row=ItemRow(**(facts | more)), **asked)


def failure(code: str, *, charged: bool = True, frames: str = "") -> AttemptRow:
    return AttemptRow("ask", 1, code, "it said", charged, frames.splitlines(), NOW)


def test_a_permit_is_named_with_its_pace() -> None:
    """A running item whose stage has not begun says for whom it waits."""
    text = explain(reasons(State.RUNNING, waits=WaitsRow(0, 1, "llm")))

    assert "waits for a permit of [limit.llm] (10 in 60 s)" in text
    assert "permit" not in explain(reasons(State.RUNNING))


def test_who_is_not_called_is_named() -> None:
    """A vendor that is away, a limit that somebody paused, and until when."""
    numbers = (None, 1.0, None)
    row = LimitRow("vendor/crm/requests", *numbers, *numbers, False, *COUNTS, "owner")
    never = NOW.replace(year=NOW.year + 30)

    away = explain(reasons(State.WAITING, why="VENDOR_OPEN", away=["llm"]))
    still = explain(
        reasons(
            State.WAITING, why="LIMIT_WAIT", paused=[row._replace(paused_until=never)]
        )
    )

    assert "Away now: llm; look: `waybill vendors ls`" in away
    assert "vendor/crm/requests, paused by owner until resumed" in still
    assert "now:" not in explain(reasons(State.WAITING, why="VENDOR_OPEN"))


def test_a_full_stage_is_named_with_its_window() -> None:
    """In all workers: ten are in it, and five a worker may be."""
    full = explain(reasons(State.READY, waits=WaitsRow(0, 10, "")))
    free = explain(reasons(State.READY, waits=WaitsRow(0, 9, "")))

    assert "10 items are in it, its window is 5 a worker" in full
    assert "window" not in free


def test_a_suspect_waits_for_its_turn() -> None:
    """It runs among suspects and then alone, for workers ended with it."""
    among = explain(reasons(State.READY, waits=WaitsRow(2, 0, "")))
    alone = explain(reasons(State.READY, waits=WaitsRow(3, 0, "")))

    assert "2 workers ended with it" in among
    assert "run beside none but such" in among
    assert "run alone" in alone


def test_a_waiting_item_tells_when_and_how_often() -> None:
    """And that its limit rests for everybody, when somebody asked for it."""
    until_ = datetime.now(UTC) + timedelta(seconds=605)  # not at import: a run is long
    throttled = [failure("THROTTLED", charged=False)]

    text = explain(
        reasons(
            State.WAITING,
            until=until_,
            attempt=2,
            why="THROTTLED",
            failures=throttled,
        )
    )

    assert "because of THROTTLED; it goes on in 10 min" in text
    assert "; 2 attempts are charged, of 4" in text
    assert "[limit.llm]" in text


def test_a_waiting_item_that_is_late_was_due() -> None:
    """It cannot go on in the past."""
    past = datetime.now(UTC) - timedelta(seconds=9)

    text = explain(reasons(State.WAITING, until=past, attempt=1, why="STAGE_RAISED"))

    assert "; it was due 9 s ago; 1 attempt is charged, of 4." in text
    assert "late" not in text


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"ahead": 1, "workers": 1}, "1 item of its tenant comes before it"),
        ({"ahead": 1, "workers": 1}, "and 1 worker is up."),
        ({"ahead": 0, "workers": 0}, "no item of its tenant comes before it"),
        ({"ahead": 0, "workers": 0}, "no worker is up: start `waybill up`"),
        ({"ahead": 2, "workers": 2}, "2 items of its tenant come before it"),
        ({"ahead": 2, "workers": 2}, "and 2 workers are up."),
    ],
)
def test_what_is_counted_agrees(facts: dict[str, int], said: str) -> None:
    """One, none and several."""
    assert said in explain(reasons(State.READY, **facts))


FULL = TroubleRow("the output folder: the disk is full: free space", "/out", NOW)
TOLD = "the output folder: the disk is full: free space (/out)."


@pytest.mark.parametrize("code", ["NO_FOLDER", "TOO_MANY_FILES", "DISK_FULL"])
def test_who_waits_for_our_trouble_is_told_which(code: str) -> None:
    """What, where and what to do; when it is over, that too."""
    stands = explain(reasons(State.WAITING, why=code, troubles=[FULL], troubled=2))
    over = explain(reasons(State.WAITING, why=code))
    alone = explain(reasons(State.WAITING, why=code, workers=0))

    assert f"because of {code}; " in stands
    assert f"trouble of ours, no fault of its: {TOLD}" in stands
    assert "nobody tells of it now" in over
    assert "no worker is up: start `waybill up`" in alone
    assert "no worker" not in stands + over


def test_a_failed_try_is_nobodys_trouble() -> None:
    """Trouble beside it is not what it waits for."""
    text = explain(reasons(State.WAITING, why="STAGE_RAISED", troubles=[FULL]))

    assert "trouble" not in text


def test_a_line_that_no_worker_takes_from_says_so() -> None:
    """All in trouble: those before it are not the reason; one that works is hope."""
    all_in = explain(reasons(State.READY, ahead=1, troubles=[FULL], troubled=2))
    one_in = explain(reasons(State.READY, ahead=1, troubles=[FULL], troubled=1))

    assert f"ask: every worker is in trouble and takes nothing new: {TOLD}" in all_in
    assert "comes before it" not in all_in
    assert "1 item of its tenant comes before it, and 2 workers are up." in one_in


@pytest.mark.parametrize("state", [State.HELD, State.REJECTED, State.FAILED])
@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("it said no", "NO: it said no. "),
        ("it said no.", "NO: it said no. "),
        ("is it so?", "NO: is it so? "),
        ("", "NO. "),
    ],
)
def test_a_reason_ends_its_sentence(state: State, why: str, said: str) -> None:
    """The next one does not run into it."""
    assert said in explain(reasons(state, code="NO", why=why, hold=1))


def test_who_failed_for_time_is_given_some_before_a_retry() -> None:
    """A retry alone fails again; where there is time again it is enough."""
    late = {"code": "DEADLINE_PASSED", "deadline_at": NOW - timedelta(seconds=1)}
    more = "First `waybill batches set north/b --deadline 5d`"

    assert more in explain(reasons(State.FAILED, **late))
    assert more not in explain(reasons(State.FAILED, code="DEADLINE_PASSED"))


def test_failed_attempts_stand_below_newest_first() -> None:
    """With code, words and age; the newest that was raised says where."""
    raised = failure("STAGE_RAISED", frames="ask.py:3 in ask\njson/decoder.py:1 in x")
    text = explain(
        reasons(
            State.FAILED,
            code="STAGE_RAISED",
            failures=[failure("STAGE_TIMEOUT"), raised, raised],
        )
    )

    _, head, first, second, frame, deeper, third = text.splitlines()
    assert head.startswith("Failed attempts")
    assert first.startswith("- ask, attempt 2, ")
    assert first.endswith(" ago: STAGE_TIMEOUT it said")
    assert "STAGE_RAISED" in second
    assert "STAGE_RAISED" in third
    assert (frame.strip(), deeper.strip()) == (
        "ask.py:3 in ask",
        "json/decoder.py:1 in x",
    )
    assert "--pipeline current" in text


def test_a_pipeline_that_cannot_be_read_keeps_nobody_from_asking() -> None:
    """What is known is said."""
    for state in (State.READY, State.RUNNING, State.WAITING):
        waits = WaitsRow(0, 99, "llm")
        assert explain(reasons(state, waits=waits, pipeline=None))


async def test_who_is_in_trouble_is_counted_among_those_that_are_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they tell with their lease; who has lost his says nothing any more."""
    engine = Engine([Tape().station("ask")])
    [item] = await engine.submit(1)
    store = engine.store

    async def none(item: int) -> Any:
        return 0

    for asked in ("ahead", "failures"):  # of PostgreSQL alone
        monkeypatch.setattr(store, asked, none, raising=False)
    well, sick, gone = [
        await store.join(Origin("here", pid, "1"), lease_s=lease_s)
        for pid, lease_s in ((1, 30), (2, 30), (3, 0.001))
    ]
    await store.renew(gone, lease_s=0.001, troubles=[FULL])
    await anyio.sleep(1)
    await store.renew(sick, lease_s=30, troubles=[FULL])
    settings = Settings(home=tmp_path)
    (tmp_path / "objects" / "fresh").mkdir(parents=True)
    app: Any = SimpleNamespace(
        settings=settings, store=store, catalogue=engine.catalogue
    )

    one_in = await reasons_of(app, item)
    await store.renew(well, lease_s=30, troubles=[FULL])
    all_in = await reasons_of(app, item)

    assert (one_in.workers, one_in.troubled, one_in.troubles) == (2, 1, [FULL])
    assert (all_in.workers, all_in.troubled) == (2, 2)
    assert "every worker is in trouble" in explain(all_in)


async def test_who_waits_for_a_permit_lets_it_be_known() -> None:
    """While it waits, and no longer; who gets one at once says nothing."""
    stage = Tape().station("ask", limit="llm", took_s=50, timeout_s=1000)
    limits = {"llm": LimitSpec(rate=100, per_s=1, burst=100, concurrency=1)}
    engine = Engine([stage], limits)
    first, second = await engine.submit(2)

    async def waiting() -> bool:
        found = [(await engine.store.waits(i)).limit for i in (first, second)]
        return sorted(found) == ["", "llm"]

    async with engine.session():
        await until(waiting, within_s=50)
        ends = await engine.finish([first, second], within_s=500)

    assert ends == {"done": 2}
    assert (await engine.store.waits(first)).limit == ""
    notes = [e.progress for e in engine.wire.entries if e.progress is not None]
    assert [p.waits_for for p in notes] == ["llm", ""]
