"""
Grants: which tools an agent of a stage may call, for a tenant.

    [grant]
    "*/clause/clause_reader" = ["read_section", "find_text"]
    "acme/populate/writer" = ["crm_upsert"]

Nothing else may be called; there is no other way to a tool.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.agents.agent import Agent
from pipeline.errors import Usage
from pipeline.faults import Faults
from pipeline.messages import Granted
from pipeline.names import is_tenant

ANY = "*"


def granted(
    grants: Mapping[str, Sequence[str]], tenant: str, stage: str, agent: str
) -> Granted:
    """What these lines grant; all that fit are taken together."""
    found: set[str] = set()
    for line, tools in grants.items():
        if _meets(line.split("/"), (tenant, stage, agent)):
            found |= set(tools)
    to = [tenant, stage, agent, *sorted(found)]
    digest = hashlib.sha256(json.dumps(to).encode()).hexdigest()[:16]
    return Granted(frozenset(found), digest)


def ungranted(
    grants: Mapping[str, Sequence[str]], stage: str, agent: Agent
) -> list[str]:
    """Tools of an agent of this stage that no line grants, whatever the tenant."""
    given = [
        set(tools)
        for line, tools in grants.items()
        if _meets(line.split("/")[1:], (stage, agent.name))
    ]
    return sorted({tool.name for tool in agent.tools}.difference(*given))


def _meets(parts: Sequence[str], own: Sequence[str]) -> bool:
    return all(p in (ANY, o) for p, o in zip(parts, own, strict=True))


def agents_of(run: Callable[..., Any]) -> list[Agent]:
    """The agents at the top of a stage's file, also those in lists and mappings."""
    found: list[Agent] = []
    for value in getattr(inspect.unwrap(run), "__globals__", {}).values():
        each = value.values() if type(value) is dict else value
        several = type(value) in (dict, list, tuple)
        found += [one for one in (each if several else [value]) if type(one) is Agent]
    return found


def check_grants(
    grants: Mapping[str, Sequence[str]],
    agents: Mapping[str, Sequence[Agent]],
    where: str,
) -> None:
    """
    That each line grants what there is, to whom there is.

    Args:
        agents: Of each stage.

    Raises:
        Usage: a line is no `tenant/stage/agent`, or names a stage, an agent or a tool
            that there is not.
    """
    faults = Faults()
    for line, tools in grants.items():
        with faults.gathered():
            _check_line(line, tools, agents, where)
    faults.end()


def _check_line(
    line: str,
    tools: Sequence[str],
    agents: Mapping[str, Sequence[Agent]],
    where: str,
) -> None:
    parts = line.split("/")
    if len(parts) != 3 or not (parts[0] == ANY or is_tenant(parts[0])):
        raise _bad(where, line, f'write it as "tenant/stage/agent", `{ANY}` for any')
    _, stage, agent = parts
    if stage not in (ANY, *agents):
        raise _bad(where, line, f"`stages` are {', '.join(agents)}")
    there = [a for s, own in agents.items() if stage in (ANY, s) for a in own]
    meant = [a for a in there if agent in (ANY, a.name)]
    if not meant:
        known = ", ".join(sorted({a.name for a in there})) or "no agent"
        raise _bad(where, line, f"at the top of its stage's file stands {known}")
    known_tools = sorted({tool.name for a in meant for tool in a.tools})
    if not tools or set(tools) - set(known_tools):
        hint = f"its tools are {', '.join(known_tools) or 'none'}"
        raise _bad(where, line, hint)


def _bad(where: str, line: str, hint: str) -> Usage:
    return Usage(f"{where} [grant]: {line!r} cannot be", hint=hint)
