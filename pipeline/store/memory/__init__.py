"""
The store in memory: the same port for virtual time.

It exists so that three weeks pass in seconds, with the real dispatcher, journal
and worker on top; tests/store runs one conformance suite on it and on PostgreSQL.
Time is anyio's clock, counted from `EPOCH`.  Nothing here is durable.
"""

from __future__ import annotations

from pipeline.store.memory.breakers import MemoryBreakers
from pipeline.store.memory.cancels import MemoryCancels
from pipeline.store.memory.claims import MemoryClaims
from pipeline.store.memory.commits import MemoryCommits
from pipeline.store.memory.holds import MemoryHolds
from pipeline.store.memory.limits import MemoryLimits
from pipeline.store.memory.reports import MemoryReports
from pipeline.store.memory.tables import EPOCH

__all__ = ["EPOCH", "MemoryStore"]


class MemoryStore(
    MemoryClaims,
    MemoryCommits,
    MemoryHolds,
    MemoryCancels,
    MemoryBreakers,
    MemoryLimits,
    MemoryReports,
):
    """Every protocol of the port, on dictionaries."""
