"""`waybill vendors`: who is declared, and whether they can be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from pipeline.calls import Request
from pipeline.errors import NotFound, StoreUnavailable, Usage, WaybillError
from pipeline.store.keeper import state_of
from pipeline.store.outside import BreakerRow
from pipeline.vendors.declared import Rate, VendorLimits, VendorSpec, text_of
from pipeline.vendors.target import target_of
from waybill import terminal
from waybill.commands.models import model_json, model_row, try_model
from waybill.commands.options import Header, Json
from waybill.commands.run import run_async
from waybill.database import database, open_store
from waybill.health import ASKED_S
from waybill.outside import (
    addresses_of,
    declared_models,
    declared_vendors,
    open_door,
    reach,
    service_key,
    tenants_with_key,
)
from waybill.settings import Settings, read_settings

TRY_S = 15.0  # the longest that trying one vendor takes
# What a kind can be asked that changes nothing and costs nothing.
HARMLESS = {"openai": "models", "anthropic": "models"}

vendors = typer.Typer(
    help="Outside services: who is declared, and whether they answer.",
    no_args_is_help=True,
)


@vendors.command("ls")
def vendors_ls(json: Json = False, header: Header = False) -> None:
    """Vendors and models: kind, host, model, key, limits, fallbacks, who is away."""
    settings = read_settings()
    declared = declared_vendors(settings).vendors
    models = declared_models(settings, declared)
    states = _states(settings) if declared else {}
    rows = [
        _row(settings, spec) | {"breaker": states.get(spec.name)}
        for spec in declared.values()
    ]
    asked = [model_row(spec, declared) for spec in models.values()]
    if json:
        file = {"file": str(settings.vendors_file)}
        terminal.print_json(file | {"vendors": rows, "models": asked})
        return
    if not rows:
        terminal.err.print(f"no vendor is declared: write {settings.vendors_file}")
    columns = ["name", "kind", "host", "model", "key", "limits", "fallbacks"]
    terminal.print_table(
        [*columns, "away"],
        (
            [*(_cell(r[c]) for c in columns), away(r.get("breaker"))]
            for r in (*rows, *asked)
        ),
        header=header,
    )


@vendors.command("show")
def vendors_show(
    name: Annotated[str, typer.Argument(help="Its name.")], json: Json = False
) -> None:
    """One vendor or model, with all that is declared of it, and its defaults."""
    settings = read_settings()
    declared = declared_vendors(settings).vendors
    model = declared_models(settings, declared).get(name)
    if model is not None and name not in declared:
        shown = model_json(model)
    else:
        spec = _find(declared, name)
        shown = spec.model_dump(mode="json") | {
            "limits": _limits(spec.limits),
            "limits_per_tenant": _limits(spec.limits_per_tenant),
            "headers": sorted(spec.headers),  # their values may be keys all the same
            "host": target_of(spec.url).netloc,
            "key_there": key_word(settings, spec),
        }
    if json:
        terminal.print_json(shown)
    else:
        terminal.print_table(
            ["what", "is"], ([key, _cell(value)] for key, value in shown.items())
        )


@vendors.command("test")
def vendors_test(
    name: Annotated[str, typer.Argument(help="Only this one.")] = "",
    json: Json = False,
) -> None:
    """
    Look each up, check its address and its key, and ask it something harmless.

    A model that is named is asked one small question with a schema, and paid for it.
    """
    settings = read_settings()
    declared = declared_vendors(settings).vendors
    model = declared_models(settings, declared).get(name)
    named = model is None or name in declared
    specs = [_find(declared, name)] if name and named else list(declared.values())

    async def main() -> list[dict[str, Any]]:
        if model is not None and name not in declared:
            vendor = declared[model.vendor]
            return [await try_model(settings, model, vendor, TRY_S)]
        return [await _try(settings, spec) for spec in specs]

    found = run_async(main)
    good = all(row["ok"] for row in found)
    if json:
        terminal.print_json({"ok": good, "vendors": found})
    else:
        terminal.print_table(
            ["", "vendor", "address", "key", "found", "do"],
            (
                [
                    "ok" if row["ok"] else "!!",
                    row["name"],
                    " ".join(row["addresses"]),
                    row["key"],
                    row["found"],
                    row["hint"],
                ]
                for row in found
            ),
        )
    if not good:
        raise typer.Exit(StoreUnavailable.exit_code)


def _states(settings: Settings) -> dict[str, dict[str, Any]]:
    """How the breakers stand, where a database is up; none is started for a list."""
    own = settings.database_url.get_secret_value()
    if not own and state_of(settings.home / "postgres") is None:
        return {}

    async def main() -> list[BreakerRow]:
        async with open_store(urls, connections=1) as store:
            return await store.breakers()

    with suppress(StoreUnavailable):
        urls = database(settings, wait_s=ASKED_S)
        rows = run_async(main)
        return {r.vendor: r._asdict() | {"probing": r.probing} for r in rows}
    return {}


def away(breaker: Mapping[str, Any] | None) -> str:
    """What keeps everybody from calling a vendor; "" when nothing does."""
    if breaker is None or breaker["state"] == "closed":
        return ""
    times = breaker["failures"]
    failed = "1 failure" if times == 1 else f"{times} failures in a row"
    if breaker["probing"] or not breaker["left_s"]:
        return f"{failed}; a call tries now"
    return f"{failed}; a call tries in {breaker['left_s']:.0f} s"


def _find(declared: Mapping[str, VendorSpec], name: str) -> VendorSpec:
    if name not in declared:
        raise NotFound(
            f"no vendor is called {name}",
            hint=f"declared: {', '.join(declared) or 'none'}",
        )
    return declared[name]


async def _try(settings: Settings, spec: VendorSpec) -> dict[str, Any]:
    """What one vendor is found to be, in at most `TRY_S`."""
    row: dict[str, Any]
    row = {"name": spec.name, "ok": False, "addresses": [], "key": "", "took_s": None}
    try:
        row["addresses"] = await addresses_of(settings, spec)
        row["key"] = key_word(settings, spec)
        key = service_key(settings, spec)
        path = HARMLESS.get(spec.kind)
        if path is None:
            await reach(spec, row["addresses"])
            said = f"reached, not called: {spec.kind} has nothing harmless to ask"
            return {**row, "ok": True, "found": said, "hint": ""}
        async with open_door(settings, settings.home) as opened:
            request = Request(path, "GET")
            limit_s = min(spec.timeout_s, TRY_S)
            reply = await opened.send(spec, request, key=key, timeout_s=limit_s)
    except WaybillError as error:
        # A tenant's own key is nobody's to try with.
        tenants = error.code == "VENDOR_KEY" and row["key"] != "missing"
        return {**row, "ok": tenants, "found": error.message, "hint": error.hint}
    listed = reply.data.get("data") if isinstance(reply.data, dict) else None
    models = [m.get("id") for m in listed or [] if isinstance(m, dict)]
    said = f"{reply.status} in {reply.took_s:.2f} s, {len(models)} models"
    hint = ""
    if spec.model and models and spec.model not in models:
        hint = f"its model {spec.model} is not among them"
    return {
        **row,
        "ok": True,
        "found": said,
        "hint": hint,
        "took_s": round(reply.took_s, 3),
        "limits": [each._asdict() for each in reply.limits],
    }


def _row(settings: Settings, spec: VendorSpec) -> dict[str, Any]:
    limits = [
        *_limits(spec.limits),
        *(f"{x}/tenant" for x in _limits(spec.limits_per_tenant)),
    ]
    return {
        "name": spec.name,
        "kind": spec.kind,
        "host": target_of(spec.url).netloc,
        "model": spec.model,
        "key": key_word(settings, spec),
        "limits": limits,
        "fallbacks": list(spec.fallbacks),
    }


def key_word(settings: Settings, spec: VendorSpec) -> str:
    """Whose key there is for a vendor; "none needed" or "missing" else."""
    whose = []
    with suppress(Usage):
        if service_key(settings, spec).get_secret_value():
            whose.append("the service's")
    if tenants := tenants_with_key(settings, spec):
        whose.append(f"{len(tenants)} tenants'")
    if not whose:
        return "missing" if spec.key else "none needed"
    return " and ".join(whose)


def _limits(limits: VendorLimits) -> list[str]:
    found = []
    for word, rate in (("requests", limits.requests), ("tokens", limits.tokens)):
        if isinstance(rate, Rate):
            count, _, per = text_of(rate).partition("/")
            found.append(f"{count} {word}/{per}")
    if limits.concurrency is not None:
        found.append(f"{limits.concurrency} at once")
    return found


def _cell(value: Any) -> str:
    """A value as a line of text: what is not set is left out."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Mapping():
            set_ = {key: _cell(each) for key, each in value.items() if each is not None}
            return ", ".join(f"{key} {text}" for key, text in set_.items())
        case Sequence() if not isinstance(value, str):
            return ", ".join(map(_cell, value))
        case _:
            return str(value)
