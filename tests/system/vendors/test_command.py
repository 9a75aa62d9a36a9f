"""`waybill vendors`: what is declared is shown, and really asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.store.outside import BreakerRow, BreakerState
from tests.system.vendors.wires import saying, whole
from waybill.cli import app
from waybill.commands.vendors import _try, away
from waybill.outside import declared_vendors
from waybill.settings import Settings

KEY = "sk-secret-0123456789"
MODELS = whole(b'{"data": [{"id": "small"}]}')


def declare(home: Path, port: int) -> Settings:
    """Two vendors: a model's service with its key, and one that is not inside."""
    (home / "vendors.toml").write_text(
        f'[vendor.llm]\nkind = "openai"\nurl = "http://127.0.0.1:{port}/v1"\n'
        'inside = true\nkey = "secret:llm"\nmodel = "small"\n'
        '[vendor.llm.limits]\nrequests = "600/min"\n'
        '[vendor.crm]\nurl = "http://127.0.0.1:1"\n'
        f'headers = {{x-team = "{KEY}"}}\n'
    )
    (home / "secrets").mkdir()
    (home / "secrets" / "llm.txt").write_text(f"{KEY}\n")
    return Settings(home=home)


def test_what_is_declared_is_listed_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, also where one stands in a header."""
    declare(tmp_path, 5)
    monkeypatch.setattr("os.environ", {"WAYBILL_HOME": str(tmp_path)})

    listed = CliRunner().invoke(app, ["vendors", "ls", "--json"])
    shown = [
        CliRunner().invoke(app, ["vendors", "show", n, "--json"])
        for n in ("llm", "crm")
    ]

    assert json.loads(listed.stdout)["vendors"][0] == {
        "name": "llm",
        "kind": "openai",
        "host": "127.0.0.1:5",
        "model": "small",
        "key": "the service's",
        "limits": ["600 requests/min"],
        "fallbacks": [],
        "breaker": None,  # no database is up
    }
    llm = json.loads(shown[0].stdout)
    assert (llm["timeout_s"], llm["key"]) == (60, "secret:llm")
    assert json.loads(shown[1].stdout)["headers"] == ["x-team"]
    assert KEY not in listed.output + shown[0].output + shown[1].output


@pytest.mark.parametrize(
    ("state", "left_s", "said"),
    [
        ("closed", 0.0, ""),
        ("open", 12.3, "5 failures in a row; a call tries in 12 s"),
        ("open", 0.0, "5 failures in a row; a call tries now"),
        ("half-open", 60.0, "5 failures in a row; a call tries now"),
    ],
)
def test_who_is_away_is_said_with_when_somebody_tries(
    state: BreakerState, left_s: float, said: str
) -> None:
    """So that nobody has to look it up."""
    row = BreakerRow("llm", state, 1, 5, None, None, left_s, None, 10.0)

    assert away(row._asdict() | {"probing": row.probing}) == said


async def test_a_vendor_is_really_asked(tmp_path: Path) -> None:
    """With its key, for what changes nothing; what is refused says how to mend it."""
    async with saying(MODELS, whole(b"", status="401 No")) as wires:
        settings = declare(tmp_path, wires.port)
        llm, crm = declared_vendors(settings).vendors.values()
        good, refused = [await _try(settings, llm) for _ in range(2)]
        forbidden = await _try(settings, crm)
        own = crm.model_copy(update={"inside": True})
        there = {"url": f"http://127.0.0.1:{wires.port}"}
        reached = await _try(settings, own.model_copy(update=there))
        gone = await _try(settings, own)

    assert wires.asked[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert f"Bearer {KEY}".encode() in wires.asked[0]
    assert (good["ok"], good["addresses"], good["hint"]) == (True, ["127.0.0.1"], "")
    assert good["found"].endswith("1 models")
    assert (refused["ok"], refused["found"]) == (
        False,
        "llm does not accept our key (401)",
    )
    assert "secret:llm" in refused["hint"]
    assert (reached["ok"], gone["ok"]) == (True, False)
    assert reached["found"].startswith("reached, not called")
    assert "does not answer at port" in gone["found"]
    assert len(wires.asked) == 2
    assert not forbidden["ok"]
    assert "inside = true below [vendor.crm]" in forbidden["hint"]
