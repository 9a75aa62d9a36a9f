"""Stages that do nothing, wait, or call: what is left is the engine."""

from __future__ import annotations

from pathlib import Path

import anyio
from pydantic import BaseModel

from pipeline.folder import Builtin
from pipeline.model import Advance, Outcome
from pipeline.stage import Context, Request, Stage, stage

# What a stage's result typically weighs: some 200 bytes of JSON.
TEXT = "x" * 170


class Note(BaseModel):
    """State of a benchmark item."""

    text: str = ""
    n: int = 0


async def _noop(note: Note, ctx: Context) -> Outcome:
    return Advance(text=TEXT, n=1)


async def _pause(note: Note, ctx: Context) -> Outcome:
    await anyio.sleep(2.0)
    return Advance(n=1)


SAID = {"role": "user", "content": "Dear Santa"}
ASK = Request(
    "/v1/chat/completions", json={"messages": [SAID]}, tokens=10, max_tokens=10
)


def _calls(vendor: str) -> object:
    async def call(note: Note, ctx: Context) -> Outcome:
        answer = await ctx.vendor(vendor).call("ask", ASK)
        return Advance(n=answer.usage.total)

    return call


def _named(name: str, run: object) -> Stage:
    made = stage(timeout_s=120, window=10_000)(run)  # type: ignore[arg-type]
    return Stage(name, made.run, made.settings, 120, made.retry, 10_000, None)


NOOP = tuple(_named(f"noop{n}", _noop) for n in range(1, 6))
PAUSE = _named("pause", _pause)
CALL = _named("call", _calls("llm"))
# Of the vendor of their name.
BY_MINUTE, BY_SECOND = (_named(name, _calls(name)) for name in ("minute", "second"))
STAGES = (*NOOP, PAUSE, CALL, BY_MINUTE, BY_SECOND)
BUILTIN = Builtin({s.name: s for s in STAGES}, Note)


def write_pipeline(folder: Path, name: str, stages: list[str]) -> Path:
    """A pipeline folder of these stages."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = ", ".join(f'"{s}"' for s in stages)
    text = f'name = "{name}"\ndeadline = "1d"\nstages = [{listed}]\n'
    (folder / "pipeline.toml").write_text(text, encoding="utf-8")
    return folder
