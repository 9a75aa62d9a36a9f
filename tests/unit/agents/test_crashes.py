"""Conversations that break off: by crashes, and by whoever goes on with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.agents.agent import Ended
from pipeline.messages import Results, Said, ToolCall
from tests.unit.agents.desk import ANSWER, Desk, call, calls

PIECES: Sequence[Callable[[int], ToolCall]] = (
    lambda n: call("find", words=f"w{n}"),
    lambda n: call("section", at="s1"),
    lambda n: call("nothing", n=n),
    lambda n: call("send", to=f"t{n}"),
    lambda n: ToolCall(id="", name="find", arguments="{"),
)
SAID = st.lists(
    st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=4), max_size=4
)


def drawn(plan: list[list[int]]) -> list[Said]:
    made = [
        calls(*(PIECES[kind](10 * n + k) for k, kind in enumerate(kinds)))
        for n, kinds in enumerate(plan)
    ]
    return [*made, ANSWER]


SLOW = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def survivors(steps: Sequence[tuple[str, Any]], cut: int, lost: set[int]) -> Any:
    """
    What is durable after a crash behind `cut` rows.

    Calls of one answer are made side by side, and their rows come in any order: of the
    last answer some, the `lost`, are not there yet.
    """
    asks = [name for name, _ in steps[:cut] if "/ask-" in name]
    last = f"one/call-{len(asks)}."
    return {
        name: value
        for place, (name, value) in enumerate(steps[:cut])
        if not (name.startswith(last) and place in lost)
    }


@given(plan=SAID, lost=st.sets(st.integers(0, 30)))
@SLOW
async def test_whatever_crashes_each_call_has_one_result(
    tmp_path: Path, plan: list[list[int]], lost: set[int]
) -> None:
    """After a crash at any step the conversation is the same, and nothing ran twice."""
    said = drawn(plan)
    first = Desk(*said)
    wanted = await first.ask(tmp_path)
    steps = list(first.ctx.recorded.items())

    for cut in range(len(steps) + 1):
        kept = survivors(steps, cut, lost)
        after = Desk(*said, recorded=kept)
        answer = await after.ask(tmp_path)

        assert (answer.ended, answer.output, answer.talk, answer.pending) == (
            wanted.ended,
            wanted.output,
            wanted.talk,
            wanted.pending,
        )
        named = [c.id for m in answer.talk if isinstance(m, Said) for c in m.calls]
        assert len(set(named)) == len(named)
        told = [
            r.call for m in answer.talk if isinstance(m, Results) for r in m.results
        ]
        waits = [] if wanted.ended is not Ended.APPROVAL else named[len(told) :]
        assert told == [c for c in named if c not in waits]
        assert not set(after.ctx.ran) & set(kept)
        assert after.ctx.effects == first.ctx.effects
        made = [name for name, _ in steps if "/call-" in name and name not in kept]
        assert len(after.made.ran) == len(made)


@given(
    plan=SAID,
    lost=st.sets(st.integers(0, 30)),
    cuts=st.lists(st.floats(0, 1), min_size=8, max_size=8),
    denied=st.sets(st.integers(0, 8)),
)
@SLOW
async def test_whatever_crashes_what_a_person_denied_is_never_run(
    tmp_path: Path,
    plan: list[list[int]],
    lost: set[int],
    cuts: list[float],
    denied: set[int],
) -> None:
    """Rulings come one by one, and between them workers die."""
    said = drawn(plan)
    rulings: dict[str, dict[str, str]] = {}
    approved: list[str] = []
    kept: Any = {}
    for cut in cuts:
        desk = Desk(*said, recorded=kept)
        answer = await desk.ask(tmp_path, rulings=rulings)
        ran = [what.removeprefix("send ") for what in desk.made.ran]
        ran = [to for to in ran if to.startswith("t")]
        assert set(ran) <= {*approved, *untainted(said)}
        steps = list(desk.ctx.recorded.items())
        kept = survivors(steps, round(cut * len(steps)), lost)
        for waiting in answer.pending:
            verdict = "deny" if len(rulings) in denied else "approve"
            rulings[waiting.digest] = {"verdict": verdict}
            if verdict == "approve":
                approved.append(waiting.arguments["to"])
    final = await (last := Desk(*said, recorded=kept)).ask(tmp_path, rulings=rulings)

    sent = [json.loads(e.payload)["to"] for e in last.ctx.effects.values()]
    wanted = {*approved, *untainted(said)} if final.ended is Ended.OUTPUT else set()
    assert sorted(sent) == sorted(wanted)
    assert final.ended is not Ended.APPROVAL


def untainted(said: Sequence[Said]) -> list[str]:
    """To whom is sent before anything from outside has been read."""
    found: list[str] = []
    for one in said:
        sends = [c for c in one.calls if c.name == "send"]
        found += [json.loads(c.arguments)["to"] for c in sends]
        if any(c.name == "section" for c in one.calls):
            break
    return found


@given(plan=SAID, cut=st.floats(0, 1))
@SLOW
async def test_a_talk_that_broke_off_anywhere_can_go_on(
    tmp_path: Path, plan: list[list[int]], cut: float
) -> None:
    """Every call of its past has exactly one result before anything else is said."""
    talk = (await Desk(*drawn(plan)).ask(tmp_path)).talk
    past = talk[: round(cut * len(talk))]
    desk = Desk(ANSWER)

    await desk.ask(tmp_path, history=past)

    asked = desk.asked[0].messages
    for before, after in pairwise(asked):
        if isinstance(before, Said) and before.calls:
            assert isinstance(after, Results)
            assert [r.call for r in after.results] == [c.id for c in before.calls]
        else:
            assert not isinstance(after, Results)
