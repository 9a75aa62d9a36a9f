"""What all agents of an item may take together: it ends, and nothing is lost by it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.agents.agent import Budget, Ended
from pipeline.agents.declared import ModelSpec
from pipeline.agents.loop import ask
from pipeline.doubles import Answers
from pipeline.errors import Transient
from pipeline.messages import Said
from pipeline.purse import Amounts, Draw, Drawn, Most, Purse
from pipeline.testing import Context
from pipeline.vendors.declared import VendorSpec
from tests.unit.agents.desk import ANSWER, Desk, Finding, agent, call, calls, read

LIE = Said(text='{"verdict": "present", "quote": "a lie"}')
FREE = Budget(asks=99, calls=99, faults=99)
VENDORS = {
    "llm": VendorSpec(name="llm", kind="openai", url="http://llm.test", model="small")
}
MODELS = {"model": ModelSpec(name="model", vendor="llm")}


class Watched(Purse):
    """One that knows how it was before and after each draw."""

    def __init__(self, most: Most) -> None:
        super().__init__(most)
        self.were = [Purse(most)]

    def draw(self, wish: Draw, holds: Amounts) -> Drawn:
        """As ever."""
        drawn = super().draw(wish, holds)
        self.were.append(Purse(self.most, self.taken, self.held, self.lacked))
        return drawn


def talkative(times: int = 20) -> list[Said]:
    """It asks for two tools each time, and knows its answer when it must."""
    return [
        calls(call("find", words=f"a{n}"), call("find", words=f"b{n}"))
        for n in range(times)
    ]


@pytest.mark.parametrize(
    ("most", "lacks", "asks"),
    [
        (Most(asks=4), "item_asks", 4),
        (Most(calls=5), "item_calls", 4),
        (Most(tokens=9_000), "item_tokens", 8),
    ],
)
async def test_at_the_end_there_is_one_last_answer(
    tmp_path: Path, most: Most, lacks: str, asks: int
) -> None:
    """Without tools; the hold names what came to its end, and nothing is held."""
    purse = Purse(most)
    desk = Desk(*talkative(), budget=FREE, purse=purse, by_size=lambda _: 1_000)
    script = desk.script
    desk.script = (  # type: ignore[method-assign]
        lambda asked: script(asked) if asked.tools_allowed else ANSWER
    )

    answer = await desk.ask(tmp_path)

    assert (answer.ended, answer.lacks) == (Ended.BUDGET, (lacks,))
    assert answer.output == Finding(verdict="present", quote="Term: a year.")
    assert abs(answer.spent.asks - asks) <= 1
    assert purse.held == Amounts()
    assert purse.taken.asks == answer.spent.asks
    assert purse.taken.tokens == answer.spent.tokens
    hold = answer.hold()
    assert (hold.code, hold.evidence["lacks"]) == ("AGENT_BUDGET", [lacks])
    assert lacks in hold.why


async def test_with_more_it_goes_on_where_it_stood(tmp_path: Path) -> None:
    """As docs/agents.md says: under a name of its own, with what was said so far."""
    purse = Purse(Most(asks=4))
    desk = Desk(*talkative(4), ANSWER, budget=FREE, purse=purse)
    ended = await desk.ask(tmp_path)
    asked = len(desk.asked)

    still = await desk.ask_on(name="one-v1", history=ended.talk)
    same = len(desk.asked)
    purse.most = Most(asks=12)
    again = await desk.ask_on(name="one")
    more = await desk.ask_on(name="one-v2", history=again.talk)

    assert (ended.ended, still.ended, again.ended) == (Ended.BUDGET,) * 3
    assert (asked, same) == (4, 4)
    assert more.ended is Ended.OUTPUT
    assert len(desk.asked) == 5
    assert purse.taken.asks == 5


async def test_faults_of_all_are_counted(tmp_path: Path) -> None:
    """Two are forgiven, wherever; then there is one last answer."""
    purse = Purse(Most(faults=2), taken=Amounts(faults=1))
    desk = Desk(LIE, budget=FREE, purse=purse)

    answer = await desk.ask(tmp_path)

    assert (answer.ended, answer.lacks) == (Ended.BUDGET, ("item_faults",))
    assert answer.spent.asks == 3
    assert purse.taken.faults == 2


async def test_what_others_have_taken_is_not_there(tmp_path: Path) -> None:
    """Nobody is asked, and it says why."""
    purse = Purse(Most(asks=9), held=Amounts(asks=9))
    desk = Desk(ANSWER, purse=purse)

    answer = await desk.ask(tmp_path)

    assert (answer.ended, answer.spent.asks) == (Ended.BUDGET, 0)
    assert desk.asked == []


async def test_where_nothing_is_bounded_nothing_is_drawn(tmp_path: Path) -> None:
    """It costs no step."""
    desk = Desk(*talkative(1), ANSWER)

    await desk.ask(tmp_path)

    assert not [name for name in desk.ctx.ran if "purse" in name]


@given(
    plan=st.lists(st.sampled_from(["tools", "lie"]), max_size=5),
    asks=st.integers(1, 6),
    many=st.integers(1, 6),
    faults=st.integers(1, 3),
)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_whatever_crashes_nothing_is_counted_twice(
    tmp_path: Path, plan: list[str], asks: int, many: int, faults: int
) -> None:
    """The purse is as if there had been no crash, behind every step."""
    tools = talkative()
    said = [tools[n] if kind == "tools" else LIE for n, kind in enumerate(plan)]
    most = Most(asks=asks, calls=many, faults=faults)
    purse = Watched(most)
    first = Desk(*said, ANSWER, budget=FREE, purse=purse)
    wanted = await first.ask(tmp_path)
    steps = list(first.ctx.recorded.items())

    assert purse.held == Amounts()
    for name in ("asks", "calls", "faults"):
        assert getattr(purse.taken, name) <= getattr(most, name)
    for cut in range(len(steps)):
        kept = dict(steps[:cut])
        draws = sum("/purse-" in name for name in kept)  # the last is how it ended
        again = replace(purse.were[draws])
        after = Desk(*said, ANSWER, budget=FREE, purse=again, recorded=kept)
        answer = await after.ask(tmp_path)

        assert (answer.ended, answer.output) == (wanted.ended, wanted.output)
        assert (again.taken, again.held) == (purse.taken, purse.held)


async def test_answers_that_were_none_are_counted_as_they_were_paid(
    tmp_path: Path,
) -> None:
    """Each before it is asked once more; at the end of the purse nobody is."""
    purse = Purse(Most(asks=99, tokens=30_000))
    none = {"choices": [], "usage": {"prompt_tokens": 4_000, "completion_tokens": 9}}
    (tmp_path / "prompt.md").write_text("You read contracts.")
    recorded: dict[str, str] = {}
    tokens, ended = [], None
    for _ in range(20):
        ctx = Context(
            read,
            door=Answers(none),
            vendors=VENDORS,
            models=MODELS,
            folder=tmp_path,
            recorded=recorded,
            purse=purse,
        )
        with suppress(Transient):
            ended = await ask(ctx, agent(tools=()), "Which term?", name="one")
        recorded = ctx.recorded
        tokens.append(purse.taken.tokens)
        if ended is not None:
            break

    paid = 4_009 * (len(tokens) - 1)
    assert ended is not None
    assert (ended.ended, ended.lacks) == (Ended.BUDGET, ("item_tokens",))
    assert tokens[:3] == [4_009, 8_018, 12_027]
    assert purse.taken == Amounts(asks=len(tokens) - 1, tokens=paid)
    assert ended.spent.tokens == paid <= 30_000
    assert purse.held == Amounts()


async def test_an_answer_after_some_that_were_none_is_counted_once(
    tmp_path: Path,
) -> None:
    """Also when it is looked at again after a crash."""
    purse = Purse(Most(asks=99))
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    none = {"choices": [], "usage": usage}
    choice = {"message": {"content": ANSWER.text}, "finish_reason": "stop"}
    right = {"choices": [choice], "usage": usage}
    (tmp_path / "prompt.md").write_text("You read contracts.")
    given = {"vendors": VENDORS, "models": MODELS, "folder": tmp_path, "purse": purse}
    reader = agent(tools=(), checks=())
    first = Context(read, door=Answers(none), **given)
    with pytest.raises(Transient):
        await ask(first, reader, "Which term?", name="one")

    second = Context(read, door=Answers(right), recorded=first.recorded, **given)
    answer = await ask(second, reader, "Which term?", name="one")
    third = Context(read, door=Answers(), recorded=second.recorded, **given)
    again = await ask(third, reader, "Which term?", name="one")

    assert (answer.ended, again.ended) == (Ended.OUTPUT, Ended.OUTPUT)
    assert answer.spent == again.spent
    assert answer.spent.tokens == 30
    assert purse.taken == Amounts(asks=2, tokens=30)
    assert purse.held == Amounts()
