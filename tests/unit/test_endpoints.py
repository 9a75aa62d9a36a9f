"""Models' services are read in one place, and their keys are shown in none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from pipeline.stage import Advance, Endpoint
from tests.unit.engine import Engine, Letter, Tape
from waybill.settings import read_settings

KEY = "sk-test-123"


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LLM", "VISION"):
        monkeypatch.setenv(f"WAYBILL_{name}_URL", f"https://{name.lower()}.test/v1")
        monkeypatch.setenv(f"WAYBILL_{name}_MODEL", f"{name.lower()}-1")
        monkeypatch.setenv(f"WAYBILL_{name}_KEY", KEY)


async def asked(*names: str) -> Any:
    """The services that a stage is given, or the code that it failed with."""
    given: list[Endpoint] = []

    async def run(document: Letter, ctx: Any) -> Any:
        given.extend(ctx.endpoint(name) for name in names)
        return Advance()

    engine = Engine([Tape().station("write", run)])
    engine.services = replace(engine.services, endpoints=read_settings().endpoints)
    [item] = await engine.submit()
    async with engine.session():
        await engine.finish([item])
    return given or await engine.code(item)


@pytest.mark.usefixtures("configured")
async def test_the_variables_become_the_services_that_stages_ask_for() -> None:
    """One reading of the environment, handed on by the composition root."""
    llm, vision = await asked("llm", "vision")

    assert (llm.url, llm.model) == ("https://llm.test/v1", "llm-1")
    assert (vision.url, vision.model) == ("https://vision.test/v1", "vision-1")
    assert llm.key.get_secret_value() == vision.key.get_secret_value() == KEY


@pytest.mark.usefixtures("configured")
def test_keys_are_in_nothing_that_is_written_down() -> None:
    """Neither the settings nor a service shows its key, as text or as JSON."""
    settings = read_settings()

    shown = [
        repr(settings),
        str(settings),
        json.dumps(settings.model_dump(mode="json")),
        repr(settings.endpoints),
    ]

    assert KEY not in " ".join(shown)


async def test_a_service_of_no_known_name_fails_by_name() -> None:
    """A stage of a user's own cannot ask for a variable that nobody declared."""
    assert await asked("crm") == "BAD_NAME"


async def test_without_variables_a_service_is_empty() -> None:
    """The stage decides what that means: templates, or an error that names them."""
    assert await asked("llm") == [Endpoint()]
