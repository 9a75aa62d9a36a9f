"""A vendor answers later: by the URL that it was given, while the service runs."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

from tests.system.command import Home, eventually, pictures

# The vendor is this file: it is told once where to answer.
SUBMITS = """
async def submit() -> str:
    with open(f"{os.environ['WAYBILL_HOME']}/told-{ctx.item.name}", "a") as file:
        file.write(await ctx.signal_url("ocr") + "\\n")
    return "job"
async def poll() -> str | None:
    done = os.path.exists(f"{os.environ['WAYBILL_HOME']}/ready-{ctx.item.name}")
    return "polled" if done else None
await ctx.step("submit", submit)
said = await ctx.signal("ocr", str, poll=poll, every_s=1, within_s=600)
return Advance(text=said)
"""


def bound(home: Home) -> int | None:
    """The port at which the service says that it takes callbacks."""
    log = home.folder / "stderr.log"
    said = re.search(r"callbacks to 127\.0\.0\.1:(\d+)", log.read_text())
    return int(said[1]) if said and int(said[1]) else None


def post(url: str, said: Any) -> tuple[int, dict[str, Any]]:
    """Status and answer."""
    body = json.dumps(said).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def told(home: Home, name: str) -> list[str]:
    path = home.folder / f"told-{name}"
    return path.read_text().split() if path.exists() else []


def asked(home: Home) -> int:
    """How many signals a stage has asked for and parked with."""
    return int(home.one("select count(*) from signals where asked_at is not null"))


def test_a_vendor_answers_by_callback_or_when_it_is_asked(home: Home) -> None:
    """Submitted once each; one calls back, one is polled.  The service is told nothing
    by strangers, and its logs hold no token."""
    folder = home.pipeline("letters", read=SUBMITS)
    files = pictures(home.folder / "made", ["one.png", "two.png"])
    settings = {"HTTP": "127.0.0.1:0", "SETTLE_S": "0.2"}  # whichever is free
    with home.started("up", **settings):
        assert eventually(lambda: bound(home) is not None, within_s=120)
        port = bound(home)
        home.ok("ingest", *files, "--pipeline", folder, **settings)
        # An answer that comes before it is asked for is checked when it is: not here.
        assert eventually(lambda: asked(home) == 2, within_s=120)
        [url] = told(home, "one.png")
        forged = post(f"{url[:-2]}xx", "x")
        bad = post(url, {"secret": "document text"})
        first = post(url, "called back")
        again = post(url, "called back")
        other = post(url, "another")
        (home.folder / "ready-two.png").touch()
        assert eventually(lambda: home.ends() == {"done": 2}, within_s=120)
        health = urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
        taken = home.run("up", **settings | {"HTTP": f"127.0.0.1:{port}"})

    texts = {
        name: home.ok("items", "show", name)["state"]["text"]
        for name in ("one.png", "two.png")
    }
    log = (home.folder / "stderr.log").read_text()
    key = home.folder / "keys" / "callbacks"
    assert url.startswith(f"http://127.0.0.1:{port}/signals/")
    assert forged == (404, {"error": "SIGNAL_FOREIGN"})
    assert (bad[0], bad[1]["error"]) == (422, "SIGNAL_SCHEMA")
    assert first == (200, {"taken": "now"})
    assert again == (200, {"taken": "again"})
    assert (other[0], other[1]["error"]) == (409, "SIGNAL_ANSWERED")
    assert health.status == 200
    assert (taken.code, "WAYBILL_HTTP names a free address" in taken.err) == (2, True)
    assert texts == {"one.png": "called back", "two.png": "polled"}
    assert told(home, "one.png") == [url]
    assert url.rpartition("/")[2] not in log
    assert "document text" not in log
    assert '"event": "signal_taken"' in log
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    assert {p.name for p in key.parent.iterdir()} == {"callbacks", "lots"}
