"""
A simulated world for a scenario: a process of its own, steered and asked from here.

    with playing({"llm": {"latency": 2, "limits": [{"requests": "100/s"}]}}) as world:
        url = world.url("llm")                  # put it into vendors.toml
        world.set("llm", faults={"lost": 0.1})
        world.outage("llm", for_s=60)
        world.counts("llm")["accepted"]
        world.rows("select key, count(*) from taken group by key")

The process ends with the block, by itself after `for_s`, and when this one is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

ASK_S = 30.0


class Steered:
    """A world that runs elsewhere; `shown` is what it said at its start."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self.shown = shown
        self.book = Path(shown["book"])

    def url(self, name: str) -> str:
        """The base URL of a vendor; OpenAI's clients want `/v1` behind it."""
        return f"{self.shown['url']}/{name}"

    def smtp(self, name: str) -> int:
        """The port where a mail vendor takes mails, on 127.0.0.1."""
        port: int = self.shown["vendors"][name]["smtp"]
        return port

    def set(self, name: str, **keys: Any) -> None:
        """Change a vendor; see `settings.Play`."""
        self.change({name: keys})

    def change(self, vendors: Mapping[str, Mapping[str, Any]]) -> None:
        """Change several, all or none of them; a new name is a new vendor."""
        self._ask("", {"vendor": vendors})

    def outage(
        self, name: str, *, for_s: float, in_s: float = 0.0, **more: Any
    ) -> None:
        """Nothing is accepted from `in_s` from now on, for `for_s` seconds."""
        at_s = self._ask("")["clock_s"] + in_s
        self.set(name, outage=[{"at_s": at_s, "for_s": for_s, **more}])

    def counts(self, name: str) -> dict[str, Any]:
        """What a vendor was asked, accepted, billed and did: see `book.Book.counts`."""
        found: dict[str, Any] = self._ask("counts").get(name, {})
        return found

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """A question of the book; its tables stand in `book.SCHEMA`."""
        self._ask("counts")  # everything is in the file
        with closing(sqlite3.connect(f"file:{self.book}?mode=ro", uri=True)) as db:
            return db.execute(sql, values).fetchall()

    def reset(self) -> None:
        """An empty book, no memory, the clock at 0; what is set stays."""
        self._ask("reset", {})

    def _ask(self, what: str, body: Any = None) -> dict[str, Any]:
        path = f"{self.shown['control']}/{what}".rstrip("/")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(path, data)  # noqa: S310  # ours, on loopback
        try:
            with urllib.request.urlopen(request, timeout=ASK_S) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode()) from None
        return found


@contextmanager
def playing(
    vendors: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    seed: int = 1,
    for_s: float = 3600.0,
) -> Iterator[Steered]:
    """
    Start a world, its book in a folder of its own that goes with it.

    Args:
        vendors: By name, what `settings.Play` may hold; names of the default world
            (`settings.WORLD`) need no kind.
    """
    folder = Path(tempfile.mkdtemp(prefix="waybill-vendors-"))
    config = folder / "world.json"
    config.write_text(json.dumps({"seed": seed, "vendor": dict(vendors or {})}))
    command = [sys.executable, "-m", "loadtest.vendors", "--json"]
    command += ["--port", "0", "--config", str(config), "--for", str(for_s)]
    command += ["--book", str(folder / "book.sqlite"), "--parent", str(os.getpid())]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError("the vendors did not start; see stderr")
                yield Steered(json.loads(line))
            finally:
                process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
