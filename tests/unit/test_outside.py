"""Who is declared: by the file, by variables, and what a pipeline may say of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from pipeline.agents.declared import ModelSpec
from pipeline.errors import Usage
from pipeline.faults import Faults
from pipeline.run.services import find_key
from pipeline.vendors.declared import VendorSpec, VendorTerms
from stages.moderation import ModerationSettings
from stages.rules.voting import WhenAway
from waybill.commands.doctor import _vendors
from waybill.outside import check_terms, declared_models, declared_vendors
from waybill.settings import Settings

CRM = '[vendor.crm]\nurl = "https://crm.example/api"\nkey = "secret:crm"\n'


def home(tmp_path: Path, text: str = CRM, **more: Any) -> Settings:
    (tmp_path / "vendors.toml").write_text(text)
    return Settings(home=tmp_path, **more)


def keep(folder: Path, text: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text(text)


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("", {"llm_url": "b.example/v1"}, "WAYBILL_LLM_URL"),
        ("", {"vision_url": "https://u:sk-1@b"}, "WAYBILL_VISION_URL"),
        ("", {"vendors": Path("/nowhere/vendors.toml")}, "WAYBILL_VENDORS"),
        ("[vendor", {}, "vendors.toml"),
    ],
)  # fmt: skip
def test_what_is_declared_wrongly_is_named(
    tmp_path: Path, text: str, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(Usage, match=says) as refused:
        declared_vendors(home(tmp_path, text, **more))

    assert "sk-1" not in f"{refused.value} {refused.value.hint}"


def test_a_variables_model_stands_in_for_one_of_the_file(tmp_path: Path) -> None:
    """By its name, `llm`; without the variable it is nobody's."""
    text = '[vendor.big]\nkind = "openai"\nurl = "https://big.example/v1"\nmodel = "m"'
    text += '\n[model.reader]\nvendor = "big"\nfallbacks = ["llm"]'
    given = home(tmp_path, text, llm_url="https://b.example/v1", llm_model="small")
    without = home(tmp_path, text)

    found = declared_models(given, declared_vendors(given).vendors)
    with pytest.raises(Usage, match="no other model 'llm'"):
        declared_models(without, declared_vendors(without).vendors)

    assert found["reader"].fallbacks == ("llm",)
    assert found["llm"].vendor == "llm"


def test_a_tenants_key_goes_before_the_services(tmp_path: Path) -> None:
    crm = VendorSpec(name="crm", url="https://crm.example", key="secret:crm")

    def found(tenant: str) -> str:
        return find_key(tmp_path, {}, crm, tenant).get_secret_value()

    with pytest.raises(Usage, match="is not there") as missing:
        found("acme")
    keep(tmp_path / "crm.txt", "of-the-service\n")
    keep(tmp_path / "acme" / "crm.txt", " of-acme \nanother line\n")
    (tmp_path / "b" / "crm.txt").mkdir(parents=True)

    assert missing.value.code == "VENDOR_KEY"
    assert "secrets/crm.txt" in missing.value.hint
    assert (found("acme"), found("b")) == ("of-acme", "of-the-service")


def test_a_pipeline_calls_whom_somebody_declared() -> None:
    crm = VendorSpec(name="crm", url="https://crm.example", timeout_s=10)

    def check(name: str, timeout_s: float) -> None:
        terms = {name: VendorTerms(timeout_s=timeout_s)}
        pipeline: Any = SimpleNamespace(name="letters", vendors=terms, stages={})
        check_terms(pipeline, {"crm": crm}, {})

    check("crm", 5)
    with pytest.raises(Usage, match="looser"):
        check("crm", 11)
    with pytest.raises(Usage, match="no such vendor"):
        check("erp", 5)


@pytest.mark.parametrize(
    ("by", "code"),
    [
        ("watch", ""),
        ("model:reader", ""),
        ("other", "VENDOR_UNKNOWN"),
        ("crm", "SECOND_KIND"),
        ("model:other", "MODEL_UNKNOWN"),
    ],
)
def test_whoever_gives_a_second_opinion_is_declared(by: str, code: str) -> None:
    """Before anything is submitted; the fault names the setting and what to declare."""
    watch = VendorSpec(name="watch", kind="moderation", url="https://watch.example")
    crm = VendorSpec(name="crm", url="https://crm.example")
    settings = ModerationSettings(second=(by,), when_away=WhenAway.HOLD)
    bound = SimpleNamespace(settings=settings, degraded=None)
    pipeline: Any = SimpleNamespace(vendors={}, stages={"moderation": bound})
    faults = Faults()

    with faults.gathered():
        models = {"reader": ModelSpec(vendor="llm")}
        check_terms(pipeline, {"watch": watch, "crm": crm}, models)

    assert [fault.code for fault in faults.found] == [code] * bool(code)
    assert all("[stage.moderation] second: " in f.message for f in faults.found)


def test_the_doctor_names_what_keeps_a_vendor_from_being_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is nowhere, an address inside a network, and the line for it."""
    # A command's own loop keeps this process's stdout for itself.
    monkeypatch.setattr("waybill.commands.doctor.run_async", anyio.run)
    text = (
        '[vendor.a]\nurl = "http://127.0.0.1:1"\n'
        '[vendor.b]\nurl = "http://127.0.0.1:1"\ninside = true\nkey = "secret:b"\n'
        '[vendor.c]\nurl = "http://127.0.0.1:1"\ninside = true\n'
        '[vendor.d]\nurl = "http://169.254.169.254/latest"\ninside = true\n'
    )

    checks = _vendors(home(tmp_path, text))
    found = {c.name: c for c in checks if c.name.startswith("vendor")}

    assert [check.ok for check in found.values()] == [False, False, True, False]
    assert "inside = true below [vendor.a]" in found["vendor a"].hint
    assert "secrets/b.txt" in found["vendor b"].hint
    assert "nobody may call such an address" in found["vendor d"].hint
    allowed = _vendors(home(tmp_path, text, vendor_hosts=["127.0.0.1"]))
    assert allowed[0].ok
