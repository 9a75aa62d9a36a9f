"""
Whom stages may call, by these settings.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from pipeline.vendors.declared import Declared, VendorSpec, read_vendors
from pipeline.vendors.door import Door
from waybill.settings import Settings


def open_door(settings: Settings, home: Path) -> Door:
    """The vendors' door; downloads lie beside the artifacts until they are one."""
    return Door(allow_hosts=settings.vendor_hosts, scratch=home / "tmp")


def declared_vendors(settings: Settings) -> Declared:
    """
    Whom stages may call: those of the file, and the models of WAYBILL_LLM_URL and
    WAYBILL_VISION_URL, which go before.

    Raises:
        Usage: VENDORS_FILE.
    """
    declared = read_vendors(settings.vendors_file)
    named = {
        "llm": (settings.llm_url, settings.llm_model),
        "vision": (settings.vision_url, settings.vision_model),
    }
    # Whoever set the variable meant to call this host, wherever it stands.
    shortest = {
        name: VendorSpec(name=name, kind="openai", url=url, model=model, inside=True)
        for name, (url, model) in named.items()
        if url
    }
    return declared._replace(vendors={**declared.vendors, **shortest})


def keys_of(settings: Settings) -> dict[str, SecretStr]:
    """The keys of the models that variables name."""
    found = {"llm": (settings.llm_url, settings.llm_key)}
    found["vision"] = (settings.vision_url, settings.vision_key)
    return {name: key for name, (url, key) in found.items() if url}
