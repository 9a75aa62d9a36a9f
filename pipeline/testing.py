"""
A context for tests of a stage: the worker's own, without a worker.

    ctx = Context(translate, settings={"into": "de"}, vendor=Answers({"text": "Hallo"}))
    tried = await ctx.run(Document(source="…", text="Hello"))
    assert tried.outcome == Advance(text="Hallo")

What a stage sees here is what a worker hands to it: results of steps are read back
from JSON, products are checked, and `run` checks what the stage returns as a worker
does.  Only what is outside is made up: artifacts lie in memory, jailed functions run
in this process unless a jail is given, and the vendors' door answers what it was told.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

import anyio
import anyio.lowlevel
from pydantic import BaseModel

from pipeline import stage as contract
from pipeline.doubles import Outside
from pipeline.errors import NotFound, WaybillError
from pipeline.folder import BoundStage, Pipeline, PipelineFolder
from pipeline.jail.custom import FileFunction
from pipeline.model import Claim, Item, Kin, Outcome, Part, Progress, Spawn
from pipeline.run.attempt import Cancelled, Joining, Raised, attempt
from pipeline.run.context import StageContext
from pipeline.run.outcomes import Returned
from pipeline.run.services import Jail, Services
from pipeline.run.stay import Run
from pipeline.signals import Callbacks
from pipeline.stage import Artifacts, Endpoint, Stage, VendorDoor
from pipeline.state import Channels, encode
from pipeline.vendors.limits import Limits

FIRST_CHILD = 1001  # children's ids begin here
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
        vendor: Answers calls, such as `Answers`; None: nobody may be called.
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
        vendor: VendorDoor | None = None,
        endpoints: Mapping[str, Endpoint] | None = None,
        secrets: Mapping[str, Sequence[str]] | Path | None = None,
        out: Path | None = None,
        folder: Path | None = None,
        pipeline: Pipeline | None = None,
        left_s: float = 300.0,
        watch: Watch = lambda word, what: None,
    ) -> None:
        if isinstance(stage, Stage):
            stage = BoundStage(stage, stage.settings(**(settings or {})), "", 0)
        item = item or Item(1, "default", "test", 1, "document", {})
        scratch = Path(tempfile.mkdtemp(prefix="waybill-testing-"))
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        services = Services(
            artifacts or MemoryArtifacts(scratch / "objects"),
            jail or InProcess(scratch / "jail"),
            vendor or Answers(),
            out or scratch / "out",
            secrets if isinstance(secrets, Path) else scratch / "secrets",
            endpoints or {name: Endpoint() for name in ("llm", "vision")},
            callbacks=Callbacks(b"testing", "http://waybill.test"),
        )
        if secrets and not isinstance(secrets, Path):
            _write_secrets(scratch / "secrets" / item.tenant, secrets)
        store = Outside(stage.name, kin, signals or {})
        self._recorder = _Recorder(services, store, watch)
        claim = Claim(item, stage.name, 0, 0, math.inf, False)
        if pipeline is None:
            # Nobody else is there to share a limit with.
            stage = replace(stage, stage=replace(stage.stage, limit=None))
            pipeline = _alone(stage, folder, branches)
        run = Run(claim, pipeline, stage.name, 0, 0, None, math.inf)
        for name, result in (recorded or {}).items():
            run.memo[stage.name, name] = encode(result)
        self.seconds_left = left_s
        super().__init__(self._recorder, run, stage, math.inf)

    def left_s(self) -> float:
        return self.seconds_left

    async def run(self, state: BaseModel) -> Try:
        """Try the stage once on `state`: its time, its outcome and its errors count."""
        run = self._run
        if type(state) is not run.pipeline.channels.model:
            run.pipeline = replace(run.pipeline, channels=Channels(type(state)))
        run.state = state
        limits = Limits(run.pipeline.limits)
        now = anyio.current_time()
        end = await attempt(self._recorder, run, self._stage, limits, now)
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
    def ran(self) -> list[str]:
        """Steps that ran, in order."""
        return self._recorder.ran

    @property
    def recorded(self) -> dict[str, Any]:
        """The result of every step of this stage, as plain data."""
        mine = self._run.memo.items()
        return {n: json.loads(t) for (s, n), t in mine if s == self._stage.name}

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


class MemoryArtifacts:
    """Bytes by their sha256, in a dictionary; as files only for who asks for a path."""

    def __init__(self, folder: Path = Path("objects")) -> None:
        self.kept: dict[str, bytes] = {}
        self._folder = folder

    async def put(self, data: bytes) -> str:
        """Keep bytes; returns their name."""
        await anyio.lowlevel.checkpoint()
        name = hashlib.sha256(data).hexdigest()
        self.kept[name] = data
        return name

    async def put_file(self, path: Path) -> str:
        """Keep a file's bytes."""
        return await self.put(path.read_bytes())

    async def get(self, name: str) -> bytes:
        """The bytes; raises NotFound."""
        await anyio.lowlevel.checkpoint()
        if name not in self.kept:
            raise NotFound(f"no artifact {name[:12]}")
        return self.kept[name]

    def path(self, name: str) -> Path:
        """A file with these bytes."""
        path = self._folder / name
        if name in self.kept and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.kept[name])
        return path


class Call(NamedTuple):
    """What a vendor was asked."""

    url: str
    body: Any
    key: str
    timeout_s: float


class Answers:
    """
    The vendors' door, which gives these answers in turn.

    An answer is plain data; or an error, which is raised; or a function of url and
    body.  Asked more often than that is a fault of the test, or of the stage.

    Attributes:
        calls: What it was asked.
    """

    def __init__(self, *answers: Any) -> None:
        self.calls: list[Call] = []
        self._answers = list(answers)

    async def post_json(
        self, url: str, body: Any, *, key: str = "", timeout_s: float
    ) -> Any:
        """The next answer."""
        await anyio.lowlevel.checkpoint()
        sent = json.loads(encode(body))
        self.calls.append(Call(url, sent, key, timeout_s))
        assert self._answers, f"call {len(self.calls)} has no answer: {url}"
        answer = self._answers.pop(0)
        if callable(answer):
            answer = answer(url, sent)
        if isinstance(answer, BaseException):
            raise answer
        return json.loads(encode(answer))


class InProcess:
    """Runs jailed functions here: no jail, but JSON goes in and JSON comes out."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    async def run(self, fn: Callable[..., Any] | FileFunction, /, **kwargs: Any) -> Any:
        """Call `fn`; see `pipeline.run.services.Jail`."""
        await anyio.lowlevel.checkpoint()
        assert callable(fn), "a function of a pipeline's file needs a real jail"
        for policy in ("timeout_s", "pool", "owner"):
            kwargs.pop(policy, None)
        return json.loads(encode(fn(**json.loads(encode(kwargs)))))

    async def run_files(
        self, fn: Callable[..., Any] | FileFunction, /, *, keep: Artifacts, **kw: Any
    ) -> tuple[Any, dict[str, str]]:
        """Call `fn`, and keep the files it left in TMPDIR."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(folder)
        try:
            answer = await self.run(fn, **kw)
        finally:
            os.environ.pop("TMPDIR")
            if before is not None:
                os.environ["TMPDIR"] = before
        left = sorted(path for path in folder.iterdir() if path.is_file())
        return answer, {path.name: await keep.put_file(path) for path in left}


class _Recorder:
    """What a worker does with steps, children and progress, in memory."""

    def __init__(self, services: Services, store: Outside, watch: Watch) -> None:
        self.services = services
        self.store: Any = store
        self.ran: list[str] = []
        self.spawned: dict[str, list[Part]] = {}
        self.progressed: list[tuple[int, int]] = []
        self._ids: dict[str, int] = {}
        self._watch = watch

    def check_lease(self) -> None:
        """Nobody replaces a test."""

    async def record_step(
        self, run: Run, key: tuple[str, str], text: str, began: float
    ) -> None:
        await anyio.lowlevel.checkpoint()
        self.ran.append(key[1])
        run.memo[key] = text
        self._watch("step", f"{key[1]} ({anyio.current_time() - began:.2f} s)")

    async def record_spawn(
        self, run: Run, key: tuple[str, str], spawn: Spawn, began: float
    ) -> str:
        await anyio.lowlevel.checkpoint()
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
