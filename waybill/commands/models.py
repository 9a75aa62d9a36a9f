"""Models as `waybill vendors` shows and tries them, beside their vendors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.agents.declared import ModelSpec
from pipeline.agents.shapes import request_of, said_of
from pipeline.errors import WaybillError
from pipeline.messages import Asked, ModelRequest
from pipeline.vendors.declared import VendorSpec
from waybill.outside import open_door, service_key
from waybill.settings import Settings

QUESTION = ModelRequest(
    system="This is a test of the connection.",
    messages=(Asked(text="Answer that it works: works is true."),),
    output={
        "type": "object",
        "properties": {"works": {"type": "boolean"}},
        "required": ["works"],
    },
    max_tokens=500,  # some think before they answer
)


def model_row(spec: ModelSpec, vendors: Mapping[str, VendorSpec]) -> dict[str, Any]:
    """One model, in the columns of vendors."""
    vendor = vendors[spec.vendor]
    return {
        "name": spec.name,
        "kind": f"model of {spec.vendor}",
        "host": "",
        "model": spec.on_vendor(vendor).model,
        "key": "",
        "limits": [],
        "fallbacks": list(spec.fallbacks),
        "output": spec.output.value,
    }


def model_json(spec: ModelSpec) -> dict[str, Any]:
    """Everything that is declared of it, and its defaults."""
    return spec.model_dump(mode="json") | {"on": sorted(spec.on)}


async def try_model(
    settings: Settings, spec: ModelSpec, vendor: VendorSpec, limit_s: float
) -> dict[str, Any]:
    """Ask it one small question with a schema, which is paid as any other."""
    row = {"name": spec.name, "ok": False, "addresses": [], "key": "", "took_s": None}
    named = spec.on_vendor(vendor)
    asked = spec.asked(QUESTION)
    sent = request_of(vendor.kind, asked, spec.output, spec.max_tokens_field)
    try:
        key = service_key(settings, vendor)
        timeout_s = min(vendor.timeout_s, limit_s)
        async with open_door(settings, settings.home) as opened:
            reply = await opened.send(named, sent, key=key, timeout_s=timeout_s)
        said = said_of(vendor.kind, reply.data, asked, 1)
    except WaybillError as error:
        return {**row, "found": error.message, "hint": error.hint}
    try:
        fits = set(json.loads(said.text)) == {"works"}
    except (ValueError, TypeError):
        fits = False
    found = f"{reply.model or named.model} answered in {reply.took_s:.2f} s"
    if not fits:
        why = said.finish.value if not said.text else "no JSON of the schema"
        hint = f"{spec.output.value} is not what it knows: try another `output`"
        return {**row, "found": f"{found}, but {why}", "hint": hint}
    return {
        **row,
        "ok": True,
        "found": f"{found}, as {spec.output.value}",
        "hint": "",
        "took_s": round(reply.took_s, 3),
    }
