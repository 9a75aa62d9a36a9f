"""
The outside world as settings and `vendors.toml` declare it: vendors, keys, the door.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import anyio
import structlog
from pydantic import SecretStr

from pipeline.agents.declared import ModelSpec, read_models
from pipeline.agents.shapes import Output
from pipeline.artifacts.files import FileArtifacts
from pipeline.calls import UNBOUNDED_SERVICE, CallClass, ServiceBudget
from pipeline.effects.declared import FolderSpec, SinkSpec, SmtpSpec, read_sinks
from pipeline.effects.folder import Row, Sheet
from pipeline.effects.opened import folder_of, open_sinks
from pipeline.effects.posting import Caller
from pipeline.effects.sink import Sink
from pipeline.errors import Usage, WaybillError
from pipeline.faults import Faults
from pipeline.folder import Pipeline
from pipeline.outbox import SinkFacts
from pipeline.run.services import Jail, find_key, find_secret
from pipeline.vendors.addresses import resolve
from pipeline.vendors.declared import Declared, VendorSpec, read_vendors
from pipeline.vendors.door import Door
from pipeline.vendors.failures import failure
from pipeline.vendors.target import target_of
from stages.moderation import ModerationSettings
from stages.printing import proofs
from stages.rules.voting import MODEL, no_voter
from waybill.settings import Settings

log = structlog.get_logger()

SHEET_S = 120.0  # for one proof sheet
SECRETS = "secrets"  # folder in the home
PRINT = "print"  # the sink that is there without a declaration
LOOK_S = 5.0  # for the look-up of one name


def declared_vendors(settings: Settings) -> Declared:
    """
    Whom stages may call: those of the file, and the models of WAYBILL_LLM_URL and
    WAYBILL_VISION_URL, which go before.

    Raises:
        Usage: VENDORS_FILE, VENDOR_URL.
    """
    path = settings.vendors_file
    if settings.vendors is not None and not path.is_file():
        raise Usage(
            f"WAYBILL_VENDORS: there is no file {path}",
            code="VENDORS_FILE",
            hint="write it, or unset the variable: then it is vendors.toml in the home",
        )
    declared = read_vendors(path)
    named = {
        "llm": (settings.llm_url, settings.llm_model),
        "vision": (settings.vision_url, settings.vision_model),
    }
    shortest = {}
    for name, (url, model) in named.items():
        if not url:
            continue
        try:
            target_of(url)
        except Usage as error:
            said = f"WAYBILL_{name.upper()}_URL: {error.message}"
            raise Usage(said, code=error.code) from None
        # Whoever set the variable meant to call this host, wherever it stands.
        shortest[name] = VendorSpec(
            name=name, kind="openai", url=url, model=model, inside=True
        )
    return declared._replace(vendors={**declared.vendors, **shortest})


class Outsiders(NamedTuple):
    """Who is declared in `vendors.toml`, and what calls may cost."""

    vendors: Mapping[str, VendorSpec] = MappingProxyType({})
    budget: ServiceBudget = UNBOUNDED_SERVICE
    models: Mapping[str, ModelSpec] = MappingProxyType({})
    sinks: Mapping[str, SinkSpec] = MappingProxyType({})


def declared_outsiders(settings: Settings) -> Outsiders:
    """All of them; raises `Usage` where one cannot be."""
    vendors, budget = declared_vendors(settings)
    models = declared_models(settings, vendors)
    return Outsiders(vendors, budget, models, declared_sinks(settings, vendors))


def declared_models(
    settings: Settings, vendors: Mapping[str, VendorSpec]
) -> dict[str, ModelSpec]:
    """
    Whom agents ask: those of the file, and one for each variable's model, as `llm`.

    Raises:
        Usage: MODELS_FILE.
    """
    named = {"llm": settings.llm_url, "vision": settings.vision_url}
    shortest = {
        name: ModelSpec(name=name, vendor=name, output=Output.JSON_OBJECT)
        for name, url in named.items()
        if url and vendors[name].model
    }
    return shortest | read_models(settings.vendors_file, vendors, shortest)


def declared_sinks(
    settings: Settings, vendors: Mapping[str, VendorSpec]
) -> dict[str, SinkSpec]:
    """
    Where effects go: those of the file, and `print`, a folder of the home.

    Raises:
        Usage: SINKS_FILE.
    """
    usual = FolderSpec(kind="folder", name=PRINT)
    return {PRINT: usual, **read_sinks(settings.vendors_file, frozenset(vendors))}


def place_of(settings: Settings, spec: SinkSpec) -> str:
    """Where a sink delivers to, in a word or two; no secrets."""
    match spec:
        case FolderSpec():
            return str(folder_of(spec, settings.home.resolve()))
        case SmtpSpec():
            return f"{spec.host}:{spec.port}"
        case _:
            return f"vendor {spec.vendor}"


def sink_secret(settings: Settings, spec: SinkSpec) -> str:
    """
    Whose secret there is for a sink: "" where it needs none.

    Raises:
        Usage: VENDOR_KEY, neither the service has it nor any tenant.
    """
    reference = getattr(spec, "secret", "") or getattr(spec, "password", "")
    if not reference:
        return ""
    folder = settings.home.resolve() / SECRETS
    tenants = list(folder.glob(f"*/{reference.removeprefix('secret:')}.txt"))
    if tenants:
        return f"{len(tenants)} tenants'"
    find_secret(folder, reference, "", f"the sink {spec.name}")
    return "the service's"


def facts_of(specs: Mapping[str, SinkSpec]) -> dict[str, SinkFacts]:
    """What whoever plans effects must know of each sink."""
    return {name: spec.facts for name, spec in specs.items()}


def sinks_opener(
    settings: Settings,
    specs: Mapping[str, SinkSpec],
    artifacts: FileArtifacts,
    sheet: Sheet | None,
) -> Callable[[Caller], dict[str, Sink]]:
    """What opens the sinks for a session, which calls vendors as it is told."""
    secrets = settings.home.resolve() / SECRETS

    def opened(caller: Caller) -> dict[str, Sink]:
        return open_sinks(
            specs,
            home=settings.home.resolve(),
            artifacts=artifacts,
            caller=caller,
            secret=lambda ref, tenant: find_secret(secrets, ref, tenant, "a sink"),
            sheet=sheet,
        )

    return opened


def proof_sheets(jail: Jail, artifacts: FileArtifacts) -> Sheet:
    """What draws a proof sheet of the PDFs of a folder, jailed; none of other files."""

    async def drawn(rows: Sequence[Row]) -> dict[str, bytes]:
        pdfs = [row for row in rows if row.file.endswith(".pdf")]
        if not pdfs:
            return {}
        try:
            _, files = await jail.run_files(
                proofs.proofs,
                timeout_s=SHEET_S,
                keep=artifacts,
                pool="print",
                paths=[str(artifacts.path(row.sha256)) for row in pdfs],
                labels=[f"{row.place} {row.document}" for row in pdfs],
            )
        except WaybillError as error:
            # The folder is whole without it, and is not kept back.
            log.warning("no_proof_sheet", code=error.code, files=len(pdfs))
            return {}
        return {name: await artifacts.get(made) for name, made in files.items()}

    return drawn


def keys_of(settings: Settings) -> dict[str, SecretStr]:
    """The keys of the models that variables name."""
    found = {"llm": (settings.llm_url, settings.llm_key)}
    found["vision"] = (settings.vision_url, settings.vision_key)
    return {name: key for name, (url, key) in found.items() if url}


def service_key(settings: Settings, spec: VendorSpec) -> SecretStr:
    """
    The key that a vendor is called with on nobody's behalf; "" where it needs none.

    Raises:
        Usage: VENDOR_KEY.
    """
    folder = settings.home.resolve() / SECRETS
    return find_key(folder, keys_of(settings), spec, "")


def tenants_with_key(settings: Settings, spec: VendorSpec) -> list[str]:
    """The tenants that have a key of their own for it, sorted."""
    if not spec.key or spec.name in keys_of(settings):
        return []
    pattern = f"*/{spec.key.removeprefix('secret:')}.txt"
    found = (settings.home / SECRETS).glob(pattern)
    return sorted(path.parent.name for path in found)


def open_door(settings: Settings, home: Path) -> Door:
    """The vendors' door; downloads lie beside the artifacts until they are one."""
    return Door(allow_hosts=settings.vendor_hosts, scratch=home / "tmp")


async def addresses_of(settings: Settings, spec: VendorSpec) -> list[str]:
    """
    Where a vendor's name leads, in at most `LOOK_S`.

    Raises:
        CallError: it leads nowhere, or where nobody may call.
    """
    target = target_of(spec.url)
    hosts = [host.lower().strip("[]") for host in settings.vendor_hosts]
    with anyio.move_on_after(LOOK_S):
        allowed = target.host in hosts
        found = await resolve(target.host, target.port, spec=spec, allowed=allowed)
        return [str(address) for address in found]
    raise failure(
        CallClass.TRANSIENT,
        spec,
        f"has a host name that did not resolve within {LOOK_S:g} s",
        hint="check DNS",
    )


async def reach(spec: VendorSpec, addresses: Sequence[str]) -> None:
    """
    Open a connection to a vendor, and close it again; in at most `LOOK_S`.

    Raises:
        CallError: nobody listens at any of its addresses.
    """
    port = target_of(spec.url).port
    for address in addresses:
        with anyio.move_on_after(LOOK_S / len(addresses)), suppress(OSError):
            stream = await anyio.connect_tcp(address, port)
            with suppress(OSError, anyio.BrokenResourceError):
                await stream.aclose()
            return
    raise failure(
        CallClass.TRANSIENT,
        spec,
        f"does not answer at port {port}",
        hint="check the port in its url, and that it is up",
    )


def check_terms(
    pipeline: Pipeline,
    vendors: Mapping[str, VendorSpec],
    models: Mapping[str, ModelSpec],
) -> None:
    """
    Raises `Usage` where a pipeline is looser with a vendor than somebody declared, or
    asks nobody that is there: on its own terms, or for a second opinion.
    """
    faults = Faults()
    for name, terms in pipeline.vendors.items():
        with faults.gathered():
            if name not in vendors:
                there = (
                    f"the pipeline {pipeline.name} has [vendor.{name}], and there is "
                )
                raise _undeclared("vendor", name, vendors, there)
            vendors[name].within(terms)
    for name, bound in pipeline.stages.items():
        settings = [bound.settings]
        settings += [] if bound.degraded is None else [bound.degraded.settings]
        for by in dict.fromkeys(by for one in settings for by in _second(one)):
            with faults.gathered():
                _check_voter(by, f"[stage.{name}] second: ", vendors, models)
    faults.end()


def _second(settings: object) -> Sequence[str]:
    return settings.second if isinstance(settings, ModerationSettings) else ()


def _check_voter(
    by: str,
    where: str,
    vendors: Mapping[str, VendorSpec],
    models: Mapping[str, ModelSpec],
) -> None:
    model = by.removeprefix(MODEL)
    if model == by and by not in vendors:
        raise _undeclared("vendor", by, vendors, f"{where}there is ")
    if model == by and vendors[by].kind != "moderation":
        raise no_voter(by, vendors[by].kind, where)
    if model != by and model not in models:
        raise _undeclared("model", model, models, f"{where}there is ")


def _undeclared(what: str, name: str, declared: Collection[str], where: str) -> Usage:
    return Usage(
        f"{where}no such {what}",
        code=f"{what.upper()}_UNKNOWN",
        hint=f"declare [{what}.{name}] in vendors.toml; declared: "
        f"{', '.join(declared) or 'none'}",
    )
