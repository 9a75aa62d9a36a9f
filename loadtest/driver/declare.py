"""
What the service is told of a scenario's vendors: `vendors.toml` of its home.

A simulated vendor is declared by itself, as its kind wants it; `declare` of its table
goes on top.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from loadtest.driver.scenario import Scenario
from loadtest.vendors.settings import WORLD

MODELS = ("chat", "reader")
_RATE = re.compile(r"([\d_]+)(\s*/.*)")


def plays(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """The simulated vendors, as `playing` takes them, at the scenario's speed."""
    found = {}
    for name, table in scenario.vendor.items():
        play = {key: value for key, value in table.items() if key != "declare"}
        if scenario.speed != 1:
            play = _faster(play, scenario.speed)
        found[name] = play
    return found


def _faster(play: dict[str, Any], speed: float) -> dict[str, Any]:
    """Latencies and outages divided, rates multiplied."""
    found = dict(play)
    latency = found.get("latency")
    if isinstance(latency, Mapping):
        found["latency"] = _shorter(latency, speed)
    elif latency is not None:
        found["latency"] = latency / speed
    if "done_after_s" in found:
        found["done_after_s"] /= speed
    if "limits" in found:
        found["limits"] = [
            {key: _rate(value, speed) for key, value in limit.items()}
            for limit in found["limits"]
        ]
    return found


def _rate(value: Any, speed: float) -> Any:
    """`"40/s"` as `"80/s"`; what is no rate stays."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    many = max(1, round(int(found[1].replace("_", "")) * speed))
    return f"{many}{found[2]}"


def vendors_toml(scenario: Scenario, url: Callable[[str], str]) -> str:
    """
    The file of the home.

    Args:
        url: The base URL of a vendor, by its name.
    """
    vendor: dict[str, Any] = {}
    for name, table in scenario.vendor.items():
        kind = table.get("kind") or WORLD.get(name, {}).get("kind", "")
        declared = _shorter(table.get("declare", {}), scenario.speed)
        if "limits" in declared:
            declared["limits"] = {
                key: _rate(value, scenario.speed)
                for key, value in declared["limits"].items()
            }
        base: dict[str, Any] = {"url": url(name), "inside": True}
        if kind in MODELS:
            base |= {"kind": "openai", "url": f"{url(name)}/v1", "model": "simulated"}
        elif kind == "moderation":
            base |= {"kind": "moderation", "url": f"{url(name)}/v1"}
        vendor[name] = base | declared
    return tables({"vendor": vendor, "sink": dict(scenario.sink)})


def _shorter(table: Mapping[str, Any], speed: float) -> dict[str, Any]:
    """Durations (`…_s`) in the time of the run, those of tables in it too."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found[key] = _shorter(value, speed)
        elif key.endswith("_s"):
            found[key] = value / speed
        else:
            found[key] = value
    return found


def tables(named: Mapping[str, Mapping[str, Any]]) -> str:
    """`{"vendor": {"llm": {…}}}` as TOML."""
    lines: list[str] = []
    for table, entries in named.items():
        for name, keys in entries.items():
            lines += _table(f"{table}.{json.dumps(name)}", keys)
    return "\n".join(lines) + "\n"


def _table(name: str, keys: Mapping[str, Any]) -> list[str]:
    """A table with the tables in it behind its own keys."""
    own = [(k, v) for k, v in keys.items() if not isinstance(v, Mapping)]
    inner = [(k, v) for k, v in keys.items() if isinstance(v, Mapping)]
    lines = [f"[{name}]", *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in own), ""]
    for key, value in inner:
        lines += _table(f"{name}.{json.dumps(key)}", value)
    return lines
