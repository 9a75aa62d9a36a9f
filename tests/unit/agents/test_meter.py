"""Budgets of a conversation: no ask is made that does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.agents.agent import Budget, Ended
from pipeline.agents.meter import Meter
from pipeline.agents.tools import ToolContext, tool
from pipeline.calls import Usage
from pipeline.messages import ModelAnswer, ModelRequest, Said
from tests.unit.agents.desk import CENT, Desk, Finding, call, calls, size_of


@tool(max_calls=99, result_bytes=50_000)
async def find(around: ToolContext, many: int) -> str:
    """So many characters."""
    return "word " * (many // 5)


def in_prose(request: ModelRequest) -> int:
    """Four bytes a token, and an answer of 200."""
    return size_of(request) // 4 + 200


@given(
    sizes=st.lists(
        st.lists(st.integers(0, 40_000), min_size=1, max_size=4), min_size=1, max_size=9
    ),
    tokens=st.integers(3_000, 80_000),
    in_money=st.booleans(),
)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_whatever_tools_bring_the_budget_is_kept(
    tmp_path: Path, sizes: Sequence[Sequence[int]], tokens: int, in_money: bool
) -> None:
    """A talk that grows by leaps ends before the ask that would not fit."""
    made = [calls(*(call("find", many=n) for n in turn)) for turn in sizes]
    bound = {"cost": Decimal(tokens) / CENT} if in_money else {"tokens": tokens}
    budget = Budget(asks=20, calls=99, same_call=99, **bound)  # type: ignore[arg-type]
    desk = Desk(*made, budget=budget, tools=(find,), by_size=in_prose)

    answer = await desk.ask(tmp_path)

    assert answer.ended is Ended.BUDGET
    assert answer.spent.tokens <= tokens
    assert answer.spent.cost <= Decimal(tokens) / CENT


async def test_who_reads_a_little_is_not_ended_early(tmp_path: Path) -> None:
    """Two thirds of the budget are used at least, and the last answer fits."""
    made = [calls(call("find", many=n)) for n in range(400, 420)]
    answer = Said(text='{"verdict": "present"}')
    desk = Desk(
        *made,
        budget=Budget(asks=99, tokens=40_000),
        tools=(find,),
        by_size=lambda asked: in_prose(asked) if asked.tools_allowed else 500,
    )
    desk.said = (*made[:12], answer)

    ended = await desk.ask(tmp_path)

    assert ended.output == Finding(verdict="present")
    assert ended.spent.asks == 13


@pytest.mark.parametrize("tokens", [5_000, 9_000, 20_000, 41_000])
async def test_who_never_stops_gives_one_last_answer(
    tmp_path: Path, tokens: int
) -> None:
    """Room for it is kept, as long as the talk grows by steps."""
    made = [calls(call("find", many=n)) for n in range(400, 500)]
    desk = Desk(
        *made,
        budget=Budget(asks=99, calls=99, tokens=tokens),
        tools=(find,),
        by_size=in_prose,
    )
    last = Said(text='{"verdict": "present"}')
    script = desk.script
    desk.script = (  # type: ignore[method-assign]
        lambda asked: script(asked) if asked.tools_allowed else last
    )

    answer = await desk.ask(tmp_path)

    assert (answer.ended, answer.output) == (Ended.BUDGET, Finding(verdict="present"))
    assert answer.spent.tokens <= tokens


@pytest.mark.parametrize("tokens", [100, 2_000])
async def test_a_question_that_is_surely_too_long_is_not_asked(
    tmp_path: Path, tokens: int
) -> None:
    """Nobody is paid for an answer that cannot be."""
    desk = Desk(Said(text="{}"), budget=Budget(tokens=tokens))
    (tmp_path / "prompt.md").write_text("")

    answer = await desk.ask(tmp_path, history=[Said(text="word " * 2_000)])

    assert (answer.ended, answer.output) == (Ended.BUDGET, None)
    assert (answer.spent.asks, desk.asked) == (0, [])
    assert answer.hold().code == "AGENT_BUDGET"


def test_the_longest_answer_is_reserved_before_each_ask() -> None:
    """As it is declared, or as the longest that came."""
    meter = Meter(Budget(tokens=1_000), max_tokens=300)
    other = Meter(Budget(tokens=1_000))
    short = ModelAnswer(
        said=Said(), declared="m", usage=Usage(input_tokens=200, output_tokens=10)
    )
    for one in (meter, other):
        one.took(800, short)

    assert meter.fits(800 + 800)  # 210 spent, 200 + 266 + 300 ahead
    assert not meter.fits(800 + 1_000)
    assert other.fits(800 + 1_000)
