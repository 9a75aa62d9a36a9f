"""
Our own trouble: disks, descriptors, connections, a server that is killed.

A real `waybill up` with files in its inbox meets one trouble after the other, each for
a while and each in a home of its own.  It must lose, fail and charge nothing, say what
is wrong, and go on by itself when it is mended.  What became of the items is read with
SQL of this module's own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from loadtest.scenarios.processes import tree
from loadtest.scenarios.troubles import TROUBLES, Struck, Trouble, new_home
from loadtest.trial import Progress, unset
from pipeline.errors import Usage
from pipeline.run.spare import PARENT

PIPELINES = Path(__file__).parent
START_S, END_S, STOP_S = 60.0, 240.0, 90.0
ALMOST_S = 3.0  # before a trouble ends, `status` is asked
SUMS = ("failed", "lost", "attempts_charged", "strikes", "left_behind", "untold")

REPORT = """
select (select count(*) from waybill.items) as items,
       (select count(*) from waybill.outcomes where state = 'done') as done,
       (select count(*) from waybill.outcomes where state = 'failed') as failed,
       (select count(*) from waybill.attempts where charged) as attempts_charged,
       (select count(*) from waybill.audit where event = 'worker_died') as strikes,
       (select string_agg(concat_ws(' ', item_id, stage, code, message, frames), '; ')
          from waybill.attempts where charged) as charged
"""


def run(
    say: Progress, *, items: int, for_s: float, only: Sequence[str] = ()
) -> dict[str, Any]:
    """Every trouble, or `only` these; figures of each, and of all."""
    for name in only:
        if name not in TROUBLES:
            raise Usage(f"no trouble {name!r}", hint=f"one of {', '.join(TROUBLES)}")
    each: dict[str, dict[str, Any]] = {}
    skipped: list[str] = []
    for name in only or TROUBLES:
        trouble = TROUBLES[name]()
        if trouble.root and os.geteuid() != 0:
            skipped.append(name)
            say(f"{name}: skipped, it takes root")
            continue
        each[name] = _one(name, trouble, items, for_s, say)
        say(f"{name}: {each[name]}")
    return {
        **{word: sum(found[word] for found in each.values()) for word in SUMS},
        "resumed_within_s": max(
            (found["resumed_within_s"] for found in each.values()), default=0.0
        ),
        "troubles": each,
        "skipped": skipped,
    }


def _one(
    name: str, trouble: Trouble, items: int, for_s: float, say: Progress
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="waybill-trouble-") as place:
        folder = Path(place)
        it = Struck(folder / "home")
        new_home(it.home)
        trouble.prepare(it)
        try:
            return anyio.run(_Service(it, folder, items, say).meets, trouble, for_s)
        except TimeoutError:
            tail = (folder / "log").read_text(errors="replace")[-4000:]
            say(f"{name}: the log ends with:\n{tail}")
            raise
        finally:
            it.clear()


class _Service:
    """`waybill up` in one home, and what is known of its items."""

    def __init__(self, it: Struck, folder: Path, items: int, say: Progress) -> None:
        self._it = it
        self._folder = folder
        self._items = items
        self._say = say
        self._env = {
            **unset(),
            PARENT: str(os.getpid()),
            "WAYBILL_HOME": str(it.home),
            "WAYBILL_PIPELINES": str(PIPELINES),
            "WAYBILL_PIPELINE": "trouble_pipeline",
            "WAYBILL_SETTLE_S": "0.3",
            "WAYBILL_CORES": "2",
        }

    async def meets(self, trouble: Trouble, for_s: float) -> dict[str, Any]:
        """The whole run of one trouble."""
        self._drop()
        process = self._start("up")
        self._it.service = process.pid
        try:
            await self._until(self._items // 10, START_S)
            said = await self._struck(trouble, for_s)
            mended = time.monotonic()
            before = await self._report()
            if before["done"] < self._items:
                await self._until(before["done"] + 1, END_S)
            resumed_s = time.monotonic() - mended
            await self._until(self._items, END_S)
            lives = process.poll() is None
            after = await self._report()
        finally:
            children = [p.pid for p in tree(process.pid)]
            left = await anyio.to_thread.run_sync(self._end, process, children)
        if after["charged"]:
            self._say(f"charged: {after['charged']}")
        return {
            "failed": after["failed"],
            "lost": self._items - after["done"] - after["failed"] + (not lives),
            "attempts_charged": after["attempts_charged"],
            "strikes": after["strikes"],
            "resumed_within_s": round(resumed_s, 2),
            "left_behind": left,
            "untold": int(not said),
            "done_meanwhile": before["done"] - self._items // 10,
        }

    def _drop(self) -> None:
        inbox = self._it.home / "inbox"
        inbox.mkdir(exist_ok=True)
        for number in range(self._items):
            text = f"parcel {number} of {self._items}\n" * 20
            (inbox / f"parcel-{number}.txt").write_text(text, encoding="utf-8")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "waybill", *command],
                env=self._env,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    async def _struck(self, trouble: Trouble, for_s: float) -> bool:
        """Trouble for a while; whether `status` said so before it ended."""
        until = time.monotonic() + for_s
        said = bool(trouble.again_s)  # comes and goes: nothing to be seen for sure
        try:
            while (left_s := until - time.monotonic()) > 0:
                await trouble.strike(self._it)
                nap_s = min(trouble.again_s or left_s, left_s)
                asks = not said and nap_s > ALMOST_S
                await anyio.sleep(nap_s - ALMOST_S if asks else nap_s)
                if asks:
                    said = await self._says()
                    await anyio.sleep(max(0.0, until - time.monotonic()))
                if not trouble.again_s:
                    break
        finally:
            await trouble.mend(self._it)
        return said

    async def _says(self) -> bool:
        """Whether `waybill status --json` tells of trouble, or why it cannot tell."""
        command = [sys.executable, "-m", "waybill", "status", "--json"]
        ran = await anyio.run_process(command, env=self._env, check=False)
        try:
            found = json.loads(ran.stdout)
        except ValueError:
            self._say(f"status said no JSON: {ran.stderr.decode()[-500:]}")
            return False
        self._say(f"status: {found.get('error') or found.get('troubles')}")
        return bool(found.get("error") or found.get("troubles"))

    async def _report(self) -> dict[str, Any]:
        """What stands in the database, as soon as it answers."""
        until = time.monotonic() + END_S
        while True:
            try:
                con = await asyncpg.connect(self._it.url(), timeout=5)
                try:
                    return dict(await con.fetchrow(REPORT) or {})
                finally:
                    await con.close()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                if time.monotonic() > until:
                    raise
                await anyio.sleep(0.1)

    async def _until(self, done: int, limit_s: float) -> None:
        until = time.monotonic() + limit_s
        while (found := await self._report())["done"] < done:
            if time.monotonic() > until or found["done"] + found["failed"] >= (
                self._items
            ):
                self._say(f"waited for {done} done, and found {found}")
                if time.monotonic() > until:
                    raise TimeoutError(f"waited {limit_s:.0f} s for {done} items")
                return
            await anyio.sleep(0.1)

    def _end(self, process: subprocess.Popen[bytes], children: list[int]) -> int:
        """Stop the service; how much of it is left: processes, parts, scratch."""
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        home = self._it.home
        left = [path for path in home.rglob("*.part") if path.is_file()]
        left += [*(home / "tmp").iterdir(), *(home / "scratch").iterdir()]
        still = [pid for pid in children if Path(f"/proc/{pid}").exists()]
        server = [p for p in _postgres(home) if p]
        if left or still or server:
            self._say(f"left behind: {left[:5]} {still} {server}")
        return len(left) + len(still) + len(server)


def _postgres(home: Path) -> list[int]:
    """Processes of the home's server that still run."""
    word = os.fsencode(home / "postgres")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if word in command.split(b"\0"):
                found.append(int(entry.name))
    return found
