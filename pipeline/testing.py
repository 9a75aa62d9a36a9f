"""
A context for tests of a stage: the worker's own, without a worker.

    ctx = Context(translate, settings={"into": "de"}, door=Answers({"text": "Hallo"}))
    tried = await ctx.run(Document(source="…", text="Hello"))
    assert tried.outcome == Advance(text="Hallo")

What a stage sees here is what a worker hands to it: results of steps are read back
from JSON, products are checked, and `run` checks what the stage returns as a worker
does.  Only what is outside is made up: artifacts lie in memory, jailed functions run
in this process unless a jail is given, and the vendors' door answers what it was told.
"""

from __future__ import annotations

import inspect
import json
import math
import shutil
import tempfile
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

import anyio
import anyio.lowlevel
from pydantic import BaseModel, SecretStr

from pipeline import stage as contract
from pipeline.agents.declared import ModelSpec
from pipeline.bound import BoundStage
from pipeline.calls import Settled
from pipeline.doubles import (
    Answers,
    AnySink,
    Everybody,
    InProcess,
    MemoryArtifacts,
    Script,
    scripted,
)
from pipeline.errors import WaybillError
from pipeline.folder import Pipeline, PipelineFolder
from pipeline.model import Checkpoint, Claim, Item, Kin, Outcome, Progress, Spawn
from pipeline.outbox import Planned, SinkFacts
from pipeline.parts import Part
from pipeline.purse import NOTHING, Draw, Drawn, Most, Purse
from pipeline.run.attempt import Cancelled, Joining, Raised, attempt
from pipeline.run.context import StageContext
from pipeline.run.lots import Lots
from pipeline.run.outcomes import Returned
from pipeline.run.outside import Door, Free, Outside
from pipeline.run.services import Jail, Services
from pipeline.run.stay import Run
from pipeline.signals import Callbacks
from pipeline.stage import Artifacts, Stage
from pipeline.state import Channels, encode
from pipeline.store.rows import KinRow
from pipeline.store.signals import Delivery, SignalRow
from pipeline.vendors.declared import VendorSpec

FIRST_CHILD = 1001  # children's ids begin here
EPOCH = datetime(2026, 12, 1, tzinfo=UTC)
DAY_S = 86400.0
Watch = Callable[[str, str], None]


class Try(NamedTuple):
    """
    How one try of a stage ended.

    Attributes:
        outcome: What it returned; None when it raised, or waits.
        state: The state with the outcome's updates in it.
        error: What it raised, or why what it returned is no outcome.
        frames: Where it raised, outermost first.
        asks: Signals that it waits for.
    """

    outcome: Outcome | None
    state: Any
    error: WaybillError | None = None
    frames: Sequence[str] = ()
    asks: Sequence[str] = ()

    @property
    def joins(self) -> bool:
        """Whether it waits for its children."""
        return self.outcome is None and self.error is None and not self.asks


class Context(StageContext):
    """
    The context of one stage and one document.

    Hand it to the stage (`await shout(letter, ctx)`), or let it run the stage as a
    worker does (`await ctx.run(letter)`).

    Args:
        stage: The stage to be tested, or one as a pipeline binds it.
        settings: Its keys of `pipeline.toml`.
        recorded: Results of steps that ran before a crash, by name.
        kin: Its children, all final; None: some are open, and `join` parks.
        signals: Answers that came, by name; None: its time is over.  For what is not
            in it the stage waits, unless its `poll` says something.
        branches: Names that `spawn(at=…)` may use.
        jail: Runs jailed functions; None: they run in this process.
        door: Answers calls, such as `Answers`; None: nobody may be called.
        vendors: Whom it may call; None: whoever it asks for is there.
        models: Whom it may ask, by name: declared on a vendor, or a function that
            answers a `ModelRequest` with what is `Said`, or raises.
        grants: Lines of `[grant]`.
        purse: Of the item's family: what it may take, and has taken.
        took: Tokens and cost of each ask of a model that is a function.
        sinks: Where its effects may go; None: wherever it says.
        keys: Of vendors whose key is no secret, by name.
        secrets: Lines by name; or the folder of `<tenant>/<name>.txt`.
        folder: The pipeline folder; None: where the stage was written.
        pipeline: The whole pipeline; None: one of this stage alone.
        left_s: What `left_s()` says when the stage is called directly.
        watch: Called with a word and what happened, as it happens.

    Attributes:
        ran: Steps that ran, in order; those that were recorded did not.
        recorded: The result of every step as plain data: for another context.
        spawned: Parts by the name of their `spawn`.
        progressed: What `progress` was called with.
    """

    def __init__(
        self,
        stage: Stage | BoundStage,
        *,
        settings: Mapping[str, Any] | None = None,
        item: Item | None = None,
        recorded: Mapping[str, Any] | None = None,
        kin: Sequence[Kin] | None = (),
        signals: Mapping[str, Any] | None = None,
        branches: Sequence[str] = (),
        artifacts: Artifacts | None = None,
        jail: Jail | None = None,
        door: Door | None = None,
        vendors: Mapping[str, VendorSpec] | None = None,
        models: Mapping[str, ModelSpec | Script] | None = None,
        grants: Mapping[str, Sequence[str]] | None = None,
        purse: Purse | None = None,
        took: tuple[int, Decimal] = (0, Decimal(0)),
        sinks: Mapping[str, SinkFacts] | None = None,
        keys: Mapping[str, SecretStr] | None = None,
        secrets: Mapping[str, Sequence[str]] | Path | None = None,
        out: Path | None = None,
        folder: Path | None = None,
        pipeline: Pipeline | None = None,
        left_s: float = 300.0,
        watch: Watch = lambda word, what: None,
    ) -> None:
        if isinstance(stage, Stage):
            stage = BoundStage(stage, stage.settings(**(settings or {})), "", 0)
        models = models or {}
        item = item or Item(1, "default", "test", 1, "document", {})
        scratch = Path(tempfile.mkdtemp(prefix="waybill-testing-"))
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        services = Services(
            artifacts or MemoryArtifacts(scratch / "objects"),
            jail or InProcess(scratch / "jail"),
            door or Answers(),
            out or scratch / "out",
            secrets if isinstance(secrets, Path) else scratch / "secrets",
            Everybody() if vendors is None else vendors,
            keys or {},
            callbacks=Callbacks(b"testing", "http://waybill.test"),
            lots=Lots(b"testing"),
            sinks=AnySink() if sinks is None else sinks,
            models={n: m for n, m in models.items() if isinstance(m, ModelSpec)},
            scripts={
                n: scripted(n, m, *took) for n, m in models.items() if callable(m)
            },
        )
        if secrets and not isinstance(secrets, Path):
            _write_secrets(scratch / "secrets" / item.tenant, secrets)
        store = _Store(stage.name, kin, signals or {})
        self._recorder = _Recorder(services, store, watch)
        claim = Claim(item, stage.name, 0, 0, math.inf, False)
        # Nobody else is there to share a limit with.
        stage = replace(stage, stage=replace(stage.stage, limit=None))
        if pipeline is None:
            pipeline = _alone(stage, folder, branches)
        pipeline = replace(pipeline, grants=grants or pipeline.grants)
        self._recorder.purse = purse or Purse()
        run = Run(claim, pipeline, stage.name, 0, 0, None, math.inf)
        for name, result in (recorded or {}).items():
            run.memo[stage.name, name] = encode(result)
        self.seconds_left = left_s
        super().__init__(self._recorder, run, stage, math.inf)

    def left_s(self) -> float:
        return self.seconds_left

    @property
    def most(self) -> Most:
        return self._recorder.purse.most

    async def run(self, state: BaseModel) -> Try:
        """Try the stage once on `state`: its time, its outcome and its errors count."""
        run = self._run
        if type(state) is not run.pipeline.channels.model:
            run.pipeline = replace(run.pipeline, channels=Channels(type(state)))
        run.state = state
        now = anyio.current_time()
        end = await attempt(self._recorder, run, self._stage, Free(), now)
        asks, run.asks = tuple(run.asks), {}
        match end:
            case Returned():
                return Try(end.outcome, end.state)
            case Raised():
                return Try(None, state, end.error, end.frames.splitlines())
            case Joining():
                return Try(None, state, asks=asks)
            case Cancelled():
                return Try(None, state)
            case _:
                assert_never(end)

    @property
    def door(self) -> Door:
        """What answered its calls, as it was given."""
        return self._recorder.services.door

    @property
    def ran(self) -> list[str]:
        """Steps that ran, in order."""
        return self._recorder.ran

    @property
    def recorded(self) -> dict[str, Any]:
        """The result of every step of this stage, as plain data."""
        mine = self._run.memo.items()
        return {n: json.loads(t) for (s, n), t in mine if s == self._stage.name}

    @property
    def effects(self) -> dict[str, Planned]:
        """What the stage planned to have done outside, by sink and name."""
        return dict(self._run.effects)

    @property
    def products(self) -> dict[str, dict[str, Any]]:
        """What the stage made, by name: its facts, and `artifact`."""
        made = self._run.products.values()
        return {p.name: {**json.loads(p.facts), "artifact": p.artifact} for p in made}

    @property
    def spawned(self) -> dict[str, list[Part]]:
        """Parts by the name of their `spawn`."""
        return self._recorder.spawned

    @property
    def progressed(self) -> list[tuple[int, int]]:
        """What `progress` was called with."""
        return self._recorder.progressed


if TYPE_CHECKING:
    # What stages are written against is what they are tested with.
    _FITS: Callable[..., contract.Context] = Context


class _Recorder:
    """What a worker does with steps, children and progress, in memory."""

    def __init__(self, services: Services, store: _Store, watch: Watch) -> None:
        self.services = services
        free = Free()
        self.outside = Outside(services.door, free, free, free)
        self.store: Any = store
        self.ran: list[str] = []
        self.spawned: dict[str, list[Part]] = {}
        self.progressed: list[tuple[int, int]] = []
        self.purse = Purse()
        self._ids: dict[str, int] = {}
        self._watch = watch

    def check_lease(self) -> None:
        """Nobody replaces a test."""

    async def record_step(
        self,
        run: Run,
        key: tuple[str, str],
        text: str,
        began: float,
        settled: Settled | None = None,
    ) -> None:
        await anyio.lowlevel.checkpoint()
        self.ran.append(key[1])
        run.memo[key] = text
        self._watch("step", f"{key[1]} ({anyio.current_time() - began:.2f} s)")

    async def record_decided(
        self, run: Run, key: tuple[str, str], what: Spawn | Draw, began: float
    ) -> str:
        if isinstance(what, Draw):
            drew = [
                Drawn.model_validate_json(text)
                for (stage, step), text in run.memo.items()
                if stage == key[0] and step.startswith(f"{what.talk}/purse-")
            ]
            holds = drew[-1].held if drew else NOTHING
            text = self.purse.draw(what, holds).model_dump_json()
            await self.record_step(run, key, text, began)
            return text
        await anyio.lowlevel.checkpoint()
        spawn = what
        ids: list[int | None] = []
        for place, part in enumerate(spawn.parts):
            born = part.key or spawn.token_of(place)
            fresh = self._ids.setdefault(born, FIRST_CHILD + len(self._ids))
            ids.append(None if part.refused_code else fresh)
        self.ran.append(key[1])
        self.spawned[key[1].removeprefix("spawn:")] = list(spawn.parts)
        run.memo[key] = json.dumps(ids)
        self._watch("spawn", f"{len(ids)} parts, to begin at {spawn.stage}")
        return run.memo[key]

    def note_progress(self, run: Run, progress: Progress) -> None:
        self.progressed.append((progress.done, progress.total))
        self._watch("progress", f"{progress.done} of {progress.total}")


class _Store:
    """The part of a store that a waiting stage asks."""

    def __init__(
        self, stage: str, kin: Sequence[Kin] | None, signals: Mapping[str, Any]
    ) -> None:
        self._stage = stage
        self._kin = kin
        self._answers = {
            name: encode(a) for name, a in signals.items() if a is not None
        }
        self._over = {name for name, a in signals.items() if a is None}

    async def signals(self, item: int, name: str) -> list[SignalRow]:
        text = self._answers.get(name)
        late, came = name in self._over, None if text is None else "testing"
        facts = (self._stage, EPOCH, 0.0, None, 0.0, None, late, came, text, None)
        return [SignalRow(name, *facts, "testing" if came else "", None)]

    async def answer(self, item: int, name: str, answer: Delivery) -> None:
        artifact = answer.payload is None
        assert not artifact, "an answer of more than 8 kB is none for a test"
        self._answers[name] = answer.payload or ""

    async def callback_until(self, item: int, within_s: float | None) -> int:
        return math.ceil(EPOCH.timestamp() + (within_s or DAY_S))

    async def open_children(self, parent: int) -> int:
        return 1 if self._kin is None else 0

    async def kin(self, parent: int, only: Sequence[int] | None = None) -> list[KinRow]:
        return [
            KinRow(k.item_id, k.name, k.values, k.state.value, k.stage, k.code)
            for k in self._kin or ()
            if only is None or k.item_id in only
        ]

    async def history(self, items: Sequence[int]) -> dict[int, list[Checkpoint]]:
        return {item: [] for item in items}


def _alone(stage: BoundStage, root: Path | None, branches: Sequence[str]) -> Pipeline:
    """A pipeline of one stage."""
    run: Callable[..., Awaitable[Any]] = stage.stage.run
    root = root or Path(inspect.getfile(inspect.unwrap(run))).parent
    return Pipeline(
        PipelineFolder(root, "testing", "0"),
        {stage.name: stage},
        Channels(BaseModel),
        math.inf,
        {},
        dict.fromkeys(branches, stage.name),
    )


def _write_secrets(folder: Path, secrets: Mapping[str, Sequence[str]]) -> None:
    folder.mkdir(parents=True)
    for name, lines in secrets.items():
        (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
