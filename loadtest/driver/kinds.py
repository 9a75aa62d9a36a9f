"""
The kinds of phases of a scenario, each with its keys.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Share = Annotated[float, Field(ge=0, le=1)]
Times = Annotated[int, Field(ge=1, le=1000)]


class Part(BaseModel):
    """A part of a scenario: what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Lasting(Part):
    """
    What all phases have.

    Attributes:
        for_s: How long it lasts.
        share: Of all items, those that are dropped meanwhile.
        count: So many more, whatever `items` is.
        at_once: They are dropped in one go, at its beginning.
        tenant: Who drops them; "": all, by their shares.
        deadline_s: Of what it drops; 0: the scenario's.
        beside: The next phase begins with it.
        overloads: More than can be done: its items may end otherwise.
    """

    for_s: Seconds = 10.0
    share: Share = 0.0
    count: int = Field(default=0, ge=0, le=1_000_000)
    at_once: bool = False
    tenant: str = ""
    deadline_s: Seconds = 0.0
    beside: bool = False
    overloads: bool = False


class Quiet(Lasting):
    """Items come, and nothing is done to anybody."""

    kind: Literal["warm-up", "steady", "burst", "second-tenant"]


class Urgent(Lasting):
    """Late items with a deadline of their own, by `waybill ingest --deadline`."""

    kind: Literal["late-urgent"]


class SlowVendor(Lasting):
    """A vendor takes so many times as long."""

    kind: Literal["slow-vendor"]
    vendor: str
    times: float = Field(default=5.0, gt=1, le=1000)


class Outage(Lasting):
    """A vendor accepts nothing."""

    kind: Literal["outage"]
    vendor: str
    how: Literal["error", "hang", "reset"] = "error"


class Kill(Lasting):
    """SIGKILL to workers, spread over the phase."""

    kind: Literal["kill"]
    times: Times = 3


class Zombie(Lasting):
    """A worker is stopped beyond its lease, replaced, and goes on."""

    kind: Literal["zombie"]
    times: Times = 1
    lease_s: float = Field(default=2.0, ge=1, le=60)


class Drain(Lasting):
    """SIGTERM to the whole service, which is started again."""

    kind: Literal["drain"]
    times: Times = 1


class DatabaseRestart(Lasting):
    """PostgreSQL is stopped, each way in turn; its keeper starts it again."""

    kind: Literal["database-restart"]
    how: tuple[Literal["fast", "immediate", "kill"], ...] = (
        *("fast", "immediate", "kill"),
    )


class Backends(Lasting):
    """Every connection of the service is ended by the database."""

    kind: Literal["backends"]
    times: Times = 3


class Network(Lasting):
    """
    The network between service and database, each way in turn.

    `delay` adds 50 ms, `cut` ends all connections, `cut-commit` ends a connection after
    its COMMIT went through and before the answer, `half-open` swallows everything.
    """

    kind: Literal["network"]
    how: tuple[Literal["delay", "cut", "cut-commit", "half-open"], ...] = (
        *("delay", "cut", "cut-commit", "half-open"),
    )


class Clock(Lasting):
    """A worker whose clock is wrong by so many hours; takes libfaketime."""

    kind: Literal["clock"]
    hours: float = 5.0


class DiskFull(Lasting):
    """Small disks of their own at folders of the home, filled; takes root."""

    kind: Literal["disk-full"]
    where: tuple[Literal["objects", "tmp"], ...] = ("objects", "tmp")


class Memory(Lasting):
    """Documents whose reader runs out of memory in its jail."""

    kind: Literal["memory"]
    times: Times = 2


class Poison(Lasting):
    """Documents that break parsers, among the good ones."""

    kind: Literal["poison"]
    times: Times = 5


class Upgrade(Lasting):
    """The pipeline's folder changes: what comes from then on runs by the new one."""

    kind: Literal["upgrade"]


class Failover(Lasting):
    """The first server is killed for good, its standby is promoted."""

    kind: Literal["failover"]
    how: Literal["synchronous", "asynchronous"] = "synchronous"


Phase = Annotated[
    Quiet
    | Urgent
    | SlowVendor
    | Outage
    | Kill
    | Zombie
    | Drain
    | DatabaseRestart
    | Backends
    | Network
    | Clock
    | DiskFull
    | Memory
    | Poison
    | Upgrade
    | Failover,
    Field(discriminator="kind"),
]
