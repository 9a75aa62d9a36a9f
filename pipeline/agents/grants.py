"""
Grants: which tools an agent of a stage may call, for a tenant.

    [grant]
    "*/clause/clause_reader" = ["read_section", "find_text"]
    "acme/populate/writer" = ["crm_upsert"]

Nothing else may be called; there is no other way to a tool.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence

from pipeline.errors import Usage
from pipeline.messages import Granted

PART = re.compile(r"\*|[A-Za-z0-9][\w-]{0,100}", re.ASCII)


def granted(
    grants: Mapping[str, Sequence[str]], tenant: str, stage: str, agent: str
) -> Granted:
    """What these lines grant; all that fit are taken together."""
    found: set[str] = set()
    for line, tools in grants.items():
        parts = line.split("/")
        if all(
            p in ("*", own)
            for p, own in zip(parts, (tenant, stage, agent), strict=True)
        ):
            found |= set(tools)
    names = sorted(found)
    digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    return Granted(frozenset(names), digest)


def check_grants(
    grants: Mapping[str, Sequence[str]], stages: Collection[str], where: str
) -> None:
    """
    Raises:
        Usage: a line is no `tenant/stage/agent`, or names a stage that there is not.
    """
    for line, tools in grants.items():
        parts = line.split("/")
        if len(parts) != 3 or not all(PART.fullmatch(part) for part in parts):
            raise _bad(where, line, 'write it as "tenant/stage/agent", `*` for any')
        if parts[1] != "*" and parts[1] not in stages:
            raise _bad(where, line, f"`stages` are {', '.join(stages)}")
        if not tools or any(not name.isidentifier() for name in tools):
            raise _bad(where, line, "it grants tools, by the names of their functions")


def _bad(where: str, line: str, hint: str) -> Usage:
    return Usage(f"{where} [grant]: {line!r} cannot be", hint=hint)
