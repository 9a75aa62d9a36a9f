"""Tools, agents and grants: what cannot be is said where it is declared."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.agents.agent import Budget
from pipeline.agents.grants import agents_of, check_grants, granted
from pipeline.agents.tools import ToolContext, tool
from pipeline.errors import Usage
from pipeline.stage import Advance
from tests.unit.agents.desk import agent, find, read

READER = agent()
SEVERAL = {"a": agent(tools=())}


@pytest.mark.parametrize(
    ("line", "tools", "hint"),
    [
        ("reader", ["find"], "tenant/stage/agent"),
        ("a/b/c/d", ["find"], "tenant/stage/agent"),
        ("../read/reader", ["find"], "tenant/stage/agent"),
        ("*/write/reader", ["find"], "`stages` are read"),
        ("*/read/", ["find"], "stands reader"),
        ("*/read/raeder", ["find"], "stands reader"),
        ("*/empty/reader", ["find"], "stands no agent"),
        ("*/read/reader", [], "its tools are broken, find"),
        ("*/read/reader", ["fnid"], "its tools are broken, find"),
        ("*/*/*", ["find", "fnid"], "its tools are broken, find"),
    ],
)
def test_a_grant_that_cannot_be_is_refused(
    line: str, tools: list[str], hint: str
) -> None:
    """When the folder is read, by what there is."""
    agents = {"read": [READER], "empty": []}
    with pytest.raises(Usage, match="grant") as refused:
        check_grants({line: tools}, agents, "pipeline.toml")
    assert hint in refused.value.hint


@pytest.mark.parametrize("line", ["acme.com/read/reader", "Müller & Co/*/*", "*/*/*"])
def test_whoever_may_be_a_tenant_may_be_granted(line: str) -> None:
    """Its name as it is."""
    check_grants({line: ["find"]}, {"read": [READER]}, "pipeline.toml")
    tenant = line.split("/")[0]

    assert granted({line: ["find"]}, tenant, "read", "reader").tools == {"find"}


def test_agents_stand_at_the_top_of_their_stages_file() -> None:
    """Also in a mapping or a list there."""

    async def here(letter: Any, ctx: Any) -> Advance:
        return Advance()

    assert agents_of(here) == [READER, *SEVERAL.values()]
    assert agents_of(read.run) == []
    assert agents_of(len) == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"models": ()}, "names no model"),
        ({"tools": (find, find)}, "two of its tools are named find"),
    ],
)
def test_an_agent_that_cannot_be_is_refused(given: Any, why: str) -> None:
    """Before anybody is asked."""
    with pytest.raises(Usage, match=why):
        agent(**given)


def test_an_answer_is_no_tool() -> None:
    """Both would be called by one name."""

    @tool()
    async def answer(around: ToolContext) -> None:
        """No tool of ours."""

    with pytest.raises(Usage, match="names no tool"):
        agent(tools=(answer,))


@pytest.mark.parametrize("given", [{"cost": "0.20"}, {"asks": 0}, {"tokens": 1.5}])
def test_a_budget_that_cannot_be_is_refused(given: Any) -> None:
    """Before the first ask is paid."""
    with pytest.raises(Usage, match="budget cannot be"):
        Budget(**given)


def test_a_tool_that_cannot_be_is_refused() -> None:
    """Where it is declared."""

    async def untyped(around, what):  # type: ignore[no-untyped-def]
        return what

    async def many(around: ToolContext, *what: str) -> None:
        return None

    for run in (untyped, many):
        with pytest.raises(Usage, match="cannot be"):
            tool()(run)
    with pytest.raises(Usage, match="sink"):
        tool(effect="write")(find.run)
