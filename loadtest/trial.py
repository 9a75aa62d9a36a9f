"""
A trial: the real command, in a home of its own, and what became of every item.

A home with its own embedded database and pipelines lives as long as the trial;
`waybill` runs as a process of its own, as a person would start it.  What is
checked afterwards is read with SQL of this module's own, and shares no code with
what it checks.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import asyncpg

from pipeline.run.spare import PARENT
from pipeline.store import embedded

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "samples"
RUN_MAX_S = 3600.0

Progress = Callable[[str], None]


def unset() -> dict[str, str]:
    """This process's environment without anybody's settings of Waybill."""
    return {k: v for k, v in os.environ.items() if not k.startswith("WAYBILL_")}


@dataclass(frozen=True)
class Ended:
    """What became of one item, and what is known of its document."""

    id: int
    name: str
    parent: int | None
    state: str  # of the item; "nowhere" when it stands in no table
    stage: str
    code: str
    values: dict[str, Any] = field(repr=False)  # its state: channels by name


class Trial:
    """One home and the processes in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.pipelines = folder / "pipelines"
        self.pipelines.mkdir()

    def __repr__(self) -> str:
        return f"<Trial in {self.folder}>"

    @property
    def env(self) -> dict[str, str]:
        """The environment of every process of this trial."""
        own = {
            PARENT: str(os.getpid()),
            "WAYBILL_HOME": str(self.home),
            "WAYBILL_PIPELINES": str(self.pipelines),
        }
        return {**unset(), **own}

    def pipeline(
        self, name: str, stages: Sequence[str], *, like: str = "letters", more: str = ""
    ) -> None:
        """
        A pipeline of these stages, its files from the example `like`.

        `more` is TOML: `[stage.NAME]` tables with settings of their own.
        """
        root = self.pipelines / name
        shutil.copytree(EXAMPLES / like, root)
        listed = ", ".join(f'"{stage}"' for stage in stages)
        text = f'name = "{name}"\ndeadline = "1d"\nstages = [{listed}]\n{more}\n'
        (root / "pipeline.toml").write_text(text, encoding="utf-8")

    def start(
        self, *command: str, report: bool = False, **env: str
    ) -> subprocess.Popen[bytes]:
        """A `waybill` process in a session of its own; `report` opens its stdout."""
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "waybill", *command],
                env={**self.env, **env},
                stdout=subprocess.PIPE if report else log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, *command: str) -> dict[str, Any]:
        """Run `waybill … --json` to its end; what it printed."""
        with self.start(*command, "--json", report=True) as process:
            try:
                printed, _ = process.communicate(timeout=RUN_MAX_S)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        if not printed.strip():
            tail = (self.folder / "log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"`waybill {command[0]}` printed nothing: {tail}")
        found: dict[str, Any] = json.loads(printed)
        return found

    def ingest(self, files: Path, pipeline: str) -> dict[str, Any]:
        """Everything in `files`, until it has ended or is held; the report."""
        return self.run("ingest", str(files), "--pipeline", pipeline, "--wait")

    def ended(self) -> list[Ended]:
        """Every item of this home."""
        server = embedded.start(self.home / "postgres")

        async def read() -> list[asyncpg.Record]:
            con = await asyncpg.connect(server.owner_url)
            try:
                return list(await con.fetch(ENDED))
            finally:
                await con.close()

        return [
            Ended(
                row["id"],
                row["name"],
                row["parent_id"],
                row["state"] or "nowhere",
                row["stage"] or "",
                row["code"] or "",
                self._values(row["input"], row["updates"]),
            )
            for row in anyio.run(read)
        ]

    def _values(self, given: str, updates: str) -> dict[str, Any]:
        """The item's input, and the updates of its stages over it in turn."""
        values: dict[str, Any] = dict(json.loads(given))
        for update, ref in json.loads(updates):
            values.update(self._artifact(ref) if ref else update or {})
        return values

    def _artifact(self, name: str) -> dict[str, Any]:
        path = self.home / "objects" / name[:2] / name[2:]
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found


ENDED = """
select i.id, i.name, i.parent_id, i.input::text as input,
       coalesce(o.state, case when h.item_id is not null then 'held'
                              when w.item_id is not null then 'waiting'
                              when j.item_id is not null then 'waiting'
                              when r.item_id is not null then 'ready'
                              when u.item_id is not null then 'running' end) as state,
       coalesce(o.stage, h.stage, w.stage, j.stage, r.stage, u.stage) as stage,
       coalesce(o.code, h.code, '') as code,
       coalesce((select json_agg(json_build_array(c.update, c.ref) order by c.seq)
                   from waybill.checkpoints c
                  where c.item_id = i.id and c.step is null), '[]')::text
       as updates
  from waybill.items i
  left join waybill.outcomes o on o.item_id = i.id
  left join waybill.holds h on h.item_id = i.id and h.open
  left join waybill.waiting w on w.item_id = i.id
  left join waybill.joining j on j.item_id = i.id
  left join waybill.ready r on r.item_id = i.id
  left join waybill.running u on u.item_id = i.id
 order by i.id
"""


@contextmanager
def trial() -> Iterator[Trial]:
    """A home that is removed afterwards; its server ends with this process."""
    with tempfile.TemporaryDirectory(prefix="waybill-trial-") as place:
        folder = Path(place)
        it = Trial(folder)
        try:
            yield it
        finally:
            embedded.end(it.home / "postgres")
