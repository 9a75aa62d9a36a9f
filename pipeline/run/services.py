"""
What stages may reach: the services of one process, given by the composition root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from pipeline.agents.declared import ModelSpec
from pipeline.calls import UNBOUNDED_SERVICE, ServiceBudget
from pipeline.effects.posting import Caller
from pipeline.effects.sink import Sink
from pipeline.errors import Trouble, Usage
from pipeline.jail.custom import FileFunction
from pipeline.messages import Model
from pipeline.names import is_tenant
from pipeline.outbox import SinkFacts
from pipeline.run.doubts import Doubts
from pipeline.run.lots import Lots
from pipeline.run.outside import Door
from pipeline.signals import Callbacks
from pipeline.stage import Artifacts, Context
from pipeline.threads import in_thread
from pipeline.trouble import Place, look_at
from pipeline.vendors.declared import VendorSpec

SECRETS_BYTES_MAX = 64 << 10  # a list of passwords, not a dictionary


@dataclass(frozen=True, slots=True)
class Services:
    """
    What stages may reach, given once by the composition root.

    Attributes:
        out: Folder in which finished documents lie, by tenant and batch.
        trials: The same of trials, whose documents nobody waits for; None: `out`.
        secrets: Folder of `<tenant>/<name>.txt`; None: there are none.
        vendors: Whom stages may call, by name.
        keys: Of vendors whose key is no file, by name.
        budget: What all calls of a tenant, and of a day, may cost.
        places: Folders of ours that stages write to.
        doubts: Tries that met trouble which nothing bears out.
        callbacks: Makes the URLs to which signals are sent; None: nobody listens.
        sinks: Where effects go, by the names that stages use.
        models: Whom agents ask, by name.
        scripts: In tests, models that are functions: each makes one for a context.
        open_sinks: Opens them for one session, which calls vendors so.
        lots: Draws them; by default with a key that ends with the process.
    """

    artifacts: Artifacts
    jail: Jail
    door: Door
    out: Path
    secrets: Path | None = None
    vendors: Mapping[str, VendorSpec] = field(default_factory=dict)
    keys: Mapping[str, SecretStr] = field(default_factory=dict)
    budget: ServiceBudget = UNBOUNDED_SERVICE
    places: tuple[Place, ...] = ()
    doubts: Doubts = field(default_factory=Doubts)
    callbacks: Callbacks | None = None
    sinks: Mapping[str, SinkFacts] = field(default_factory=dict)
    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    scripts: Mapping[str, Callable[[Context], Model]] = field(default_factory=dict)
    open_sinks: Callable[[Caller], Mapping[str, Sink]] = lambda _: {}
    trials: Path | None = None
    lots: Lots = field(default_factory=lambda: Lots(os.urandom(32)))

    async def look(self) -> list[Trouble]:
        """Try every place; what is wrong with them."""
        found = [await in_thread(look_at, place) for place in self.places]
        return [trouble for trouble in found if trouble is not None]


class Jail(Protocol):
    """What runs functions jailed (`pipeline/jail/pools.py`)."""

    async def run(
        self,
        fn: Callable[..., Any] | FileFunction,
        /,
        *,
        timeout_s: float,
        pool: str = "",
        owner: Hashable = None,
        **kwargs: Any,
    ) -> Any:
        """Run `fn(**kwargs)` in a jailed process; slots are fair between owners."""
        ...

    async def run_files(
        self,
        fn: Callable[..., Any] | FileFunction,
        /,
        *,
        timeout_s: float,
        keep: Artifacts,
        pool: str = "",
        owner: Hashable = None,
        **kwargs: Any,
    ) -> tuple[Any, dict[str, str]]:
        """Like `run`; the files it left are kept: name -> artifact."""
        ...


def secret_lines(folder: Path | None, tenant: str, name: str) -> list[str]:
    """
    The lines of `<folder>/<tenant>/<name>.txt`; none where it is missing.

    Raises:
        Usage: a name that could lead elsewhere.
    """
    for part in (tenant, name):
        if not is_tenant(part):
            raise Usage(
                f"{part!r} names no secrets",
                code="BAD_NAME",
                hint="use a-z, 0-9 and dashes",
            )
    return _lines(folder, tenant, name)


def _lines(folder: Path | None, owner: str, name: str) -> list[str]:
    if folder is None:
        return []
    try:
        with (folder / owner / f"{name}.txt").open("rb") as file:
            text = file.read(SECRETS_BYTES_MAX).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    return [line for line in text.splitlines() if line]


def key_of(services: Services, spec: VendorSpec, tenant: str) -> SecretStr:
    """The vendor's key for this tenant; see `find_key`."""
    return find_key(services.secrets, services.keys, spec, tenant)


def find_key(
    folder: Path | None, keys: Mapping[str, SecretStr], spec: VendorSpec, tenant: str
) -> SecretStr:
    """
    The vendor's key for this tenant: its own, else the service's; "" where none is
    declared.

    Raises:
        Usage: VENDOR_KEY, it is declared and not there.
    """
    if spec.name in keys:
        return keys[spec.name]
    if not spec.key:
        return SecretStr("")
    return find_secret(folder, spec.key, tenant, f"the vendor {spec.name}")


def find_secret(
    folder: Path | None, reference: str, tenant: str, whose: str
) -> SecretStr:
    """
    What `secret:NAME` stands for: the tenant's own, else the service's.

    Raises:
        Usage: VENDOR_KEY, it is not there.
    """
    name = reference.removeprefix("secret:")
    for owner in (tenant, ""):  # the service's own lie beside the tenants' folders
        if lines := _lines(folder, owner, name):
            return SecretStr(lines[0].strip())
    raise Usage(
        f"the secret {name} of {whose} is not there",
        code="VENDOR_KEY",
        hint=f"put it into secrets/{name}.txt of WAYBILL_HOME, or secrets/TENANT/"
        f"{name}.txt for one tenant",
    )
