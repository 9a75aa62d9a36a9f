"""`waybill pipelines run`: a stage of a folder, run once before one's eyes."""

from __future__ import annotations

import json as jsonlib
import shutil
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, assert_never

import anyio
import typer
from pydantic import BaseModel

from pipeline.artifacts.files import FileArtifacts
from pipeline.bound import BoundStage
from pipeline.errors import Usage
from pipeline.folder import Pipeline, loads_of
from pipeline.loading import WORK_S
from pipeline.model import Advance, Done, Hold, Item, Outcome, Reject, Wait
from pipeline.outbox import Planned
from pipeline.run.frames import ENGINE
from pipeline.run.services import Services
from pipeline.run.stay import Parked
from pipeline.testing import Context, Try
from pipeline.trouble import Place
from waybill import terminal
from waybill.commands.counts import WITH_FAILED, WITH_HELD
from waybill.commands.folders import lay_copy, pipelines_check, pipelines_ls
from waybill.commands.options import Json
from waybill.commands.run import log_to_home, run_async
from waybill.compose import BUILTIN, look_into, open_jail, pipeline_folder
from waybill.foreground import twice, watched
from waybill.outside import (
    SECRETS,
    declared_outsiders,
    facts_of,
    keys_of,
    open_door,
)
from waybill.settings import Settings, read_settings

pipelines = typer.Typer(
    help="Pipeline folders: check them, try a stage.", no_args_is_help=True
)
pipelines.command("ls")(pipelines_ls)
pipelines.command("check")(pipelines_check)

BESIDE = ("frames", "raised", "state_in", "state")  # the outcome on a terminal
SHOWN_CHARS = 4000  # of a state on a terminal; `--json` has all of it


@pipelines.command("run")
def pipelines_run(
    stage: Annotated[str, typer.Argument(help="The stage to run.")],
    file: Annotated[Path, typer.Argument(help="The document.")],
    pipeline: Annotated[str, typer.Option(help="Name or folder.")] = "",
    state: Annotated[
        Path | None,
        typer.Option(help="JSON: what earlier stages would have put into the state."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose it is.")] = "default",
    out: Annotated[
        Path | None, typer.Option(help="Put what it made into this folder.")
    ] = None,
    json: Json = False,
) -> None:
    """Run one stage on one file, here, and show everything; nothing is recorded."""
    settings = read_settings()
    log_to_home(settings)
    folder = pipeline_folder(settings, pipeline or settings.pipeline)
    given = None if state is None else _read(state)
    if not file.is_file():
        raise Usage(f"there is no file {file}", hint="name one document")

    async def main() -> dict[str, Any]:
        with TemporaryDirectory(prefix="waybill-run-") as home:
            trial = _Trial(settings, folder, Path(home), tenant, quiet=json)
            return await trial.run(stage, file, given, out)

    report = run_async(main)
    if json:
        terminal.print_json(report)
    else:
        _print(report)
    raise typer.Exit(_exit_code(report))


class _Trial:
    """One run, in a home of its own that nobody keeps."""

    def __init__(
        self, settings: Settings, folder: Path, home: Path, tenant: str, *, quiet: bool
    ) -> None:
        self._settings = settings
        self._home = home
        self._tenant = tenant
        self._quiet = quiet
        self._folder = folder.resolve()
        self._raised = ""  # as Python tells it, of the stage that ran last
        # As it would be pinned: what is not part of it is not found in it.
        self._root = home / "pipelines" / folder.resolve().name
        lay_copy(folder, self._root)

    async def run(
        self, name: str, file: Path, given: dict[str, Any] | None, out: Path | None
    ) -> dict[str, Any]:
        """Run the stages before it, where no state is given, and then the stage."""
        pipeline = await loads_of(BUILTIN).wait(self._root, "", WORK_S)
        line = _line(pipeline, name)
        async with (
            open_trial(self._settings, self._home) as services,
            watched(self._settings),
        ):
            item = await twice(partial(self._item, services, pipeline, file))
            facts = {**item.input, **(given or {})}
            state = pipeline.channels.initial(facts)
            for bound in line[-1:] if given is not None else line:
                self._say(f"stage {bound.name}", _plain(state))
                ctx = self._context(services, pipeline, bound, item)
                began = anyio.current_time()
                tried = await ctx.run(state)
                took_s = anyio.current_time() - began
                if bound.name != name and not isinstance(tried.outcome, Advance):
                    break  # it would not come to the stage
                before, state = state, tried.state
            left = await self._left(services, ctx, out)
        return _report(bound, before if bound.name == name else state, tried) | {
            "took_s": round(took_s, 3),
            "steps": ctx.recorded,
            "progress": ctx.progressed,
            "effects": {n: _effect(planned) for n, planned in ctx.effects.items()},
            "spawned": {n: [p.name for p in parts] for n, parts in ctx.spawned.items()},
            "products": ctx.products,
            "files": left,
            "raised": self._raised.splitlines(),
        }

    async def _item(self, services: Services, pipeline: Pipeline, file: Path) -> Item:
        """What admission would make of the file."""
        source = await services.artifacts.put_file(file.resolve())
        path = services.artifacts.path(source)
        most = self._settings.max_file_bytes
        found = await look_into(services, path, file.name, self._tenant, pipeline, most)
        facts = {"name": file.name, **found.facts}
        begins = {"source": source, "media_type": found.media_type, "facts": facts}
        return Item(1, self._tenant, "run", 0, file.name, begins)

    def _context(
        self, services: Services, pipeline: Pipeline, bound: BoundStage, item: Item
    ) -> Context:
        return Context(
            replace(bound, stage=replace(bound.stage, run=self._listened(bound))),
            item=item,
            kin=None,
            artifacts=services.artifacts,
            jail=services.jail,
            door=services.door,
            vendors=services.vendors,
            models=services.models,
            sinks=services.sinks,
            keys=services.keys,
            secrets=services.secrets,
            out=services.out,
            pipeline=pipeline,
            watch=self._say,
        )

    def _listened(self, bound: BoundStage) -> Callable[..., Awaitable[Any]]:
        """The stage's function; what it raises is kept, for its author alone."""
        run = bound.stage.run

        async def listened(state: Any, ctx: Any) -> Any:
            self._raised = ""
            try:
                return await run(state, ctx)
            except (anyio.get_cancelled_exc_class(), Parked):
                raise
            except BaseException as error:
                # Now: its files are thrown away with the trial.
                with suppress(BaseException):
                    self._raised = self._python_says(error)
                raise

        return listened

    def _python_says(self, error: BaseException) -> str:
        shown = traceback.TracebackException.from_exception(error)
        _leave_engine_out(shown)
        return "".join(shown.format()).replace(str(self._root), str(self._folder))

    async def _left(
        self, services: Services, ctx: Context, out: Path | None
    ) -> dict[str, int]:
        """The files it published, and their sizes; in `out` with its products."""
        root = ctx.out_dir
        found = {
            path.relative_to(root).as_posix(): path
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for relative, path in found.items():
                target = out / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            for name, made in ctx.products.items():
                (out / name).write_bytes(await services.artifacts.get(made["artifact"]))
        return {relative: path.stat().st_size for relative, path in found.items()}

    def _say(self, word: str, what: str) -> None:
        """On stderr, as it happens; what a stage prints stands between."""
        if not self._quiet:
            shown = what[:SHOWN_CHARS]
            terminal.err.print(
                f"[bold]{terminal.safe(word)}[/bold] {terminal.safe(shown, lines=True)}"
            )


def _leave_engine_out(shown: traceback.TracebackException) -> None:
    """Of an error, and of those it came from, the frames of the author's code."""
    ours = (ENGINE, __file__)
    shown.stack[:] = [f for f in shown.stack if not f.filename.startswith(ours)]
    for one in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if one is not None:
            _leave_engine_out(one)


@asynccontextmanager
async def open_trial(settings: Settings, home: Path) -> AsyncIterator[Services]:
    """
    What stages may reach, without a database, in a folder that is thrown away.

    Vendors, models and secrets are those of `settings`: they are really called.
    """
    artifacts = FileArtifacts(home / "objects")
    for folder in ("tmp", "pipelines"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    outside = declared_outsiders(settings)
    async with open_door(settings, home) as door:
        scratch = Place("the scratch folder", home / "tmp")
        jail = open_jail(settings, home, artifacts, scratch)
        try:
            secrets = settings.home.resolve() / SECRETS
            out = home / "out"
            yield Services(
                artifacts,
                jail,
                door,
                out,
                secrets,
                outside.vendors,
                keys_of(settings),
                models=outside.models,
                sinks=facts_of(outside.sinks),
            )
        finally:
            with anyio.CancelScope(shield=True):
                await jail.aclose()


def _line(pipeline: Pipeline, name: str) -> list[BoundStage]:
    """The stages that lead to this one, in its line, and it."""
    for first in (pipeline.first, *pipeline.branches.values()):
        line = []
        at = first
        while at:
            line.append(pipeline.stages[at])
            if at == name:
                return line
            at = pipeline.stages[at].next
    raise Usage(
        f"the pipeline {pipeline.name} has no stage {name!r}",
        hint=f"its stages: {', '.join(pipeline.stages)}",
    )


def _report(bound: BoundStage, before: Any, tried: Try) -> dict[str, Any]:
    outcome, error = tried.outcome, tried.error
    failed = {} if error is None else {"code": error.code, "message": error.message}
    return {
        "stage": bound.name,
        "state_in": before.model_dump(mode="json"),
        "outcome": _outcome(tried),
        "asks": list(tried.asks),
        **(_said(outcome) if outcome is not None else {}),
        "state": tried.state.model_dump(mode="json"),
        "error": failed and {**failed, "hint": error.hint if error else ""},
        "disposition": error.disposition if error else "",
        # Who listens stands between the engine and the stage.
        "frames": [f for f in tried.frames if "._listened." not in f],
    }


def _effect(planned: Planned) -> dict[str, Any]:
    """What would be done outside; nothing is."""
    text = planned.payload
    return {
        "sink": planned.sink,
        "key": planned.key,
        "released": planned.released,
        "files": jsonlib.loads(planned.artifacts),
        "payload": None if text is None else jsonlib.loads(text),
        **({"payload_ref": planned.payload_ref} if planned.payload_ref else {}),
    }


def _outcome(tried: Try) -> str | None:
    if tried.joins or tried.asks:
        return "Joining" if tried.joins else "Asking"
    return None if tried.outcome is None else type(tried.outcome).__name__


def _said(outcome: Outcome) -> dict[str, Any]:
    """What an outcome carries, as plain data."""
    match outcome:
        case Advance() | Done():
            return {"updates": _data(outcome.updates)}
        case Hold():
            return {
                "code": outcome.code,
                "why": outcome.why,
                "evidence": _data(outcome.evidence),
                "needs": [*outcome.needs, *outcome.ask],
                "updates": _data(outcome.updates),
            }
        case Reject():
            updates = _data(outcome.updates)
            return {"code": outcome.code, "why": outcome.why, "updates": updates}
        case Wait():
            return {"for_s": outcome.for_s, "why": outcome.why}
        case _:
            assert_never(outcome)


def _print(report: Mapping[str, Any]) -> None:
    """Outcome as JSON on stdout; what went wrong, and where, beside it."""
    shown = {k: v for k, v in report.items() if k not in BESIDE}
    text = jsonlib.dumps({k: v for k, v in shown.items() if v}, indent=2)
    terminal.out.print(terminal.safe(text, lines=True))
    if report["error"]:
        error = report["error"]
        head = f"{error['code']}: {error['message']} → {report['disposition']}"
        terminal.err.print(f"[red]{terminal.safe(head)}[/red]")
    for line in report["raised"] or report["frames"]:
        terminal.err.print(terminal.safe(f"  {line}"))


def _exit_code(report: Mapping[str, Any]) -> int:
    """As of a finished batch: failed, held, or well."""
    if report["error"] or report["outcome"] == "Reject":
        return WITH_FAILED
    return WITH_HELD if report["outcome"] == "Hold" else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        found = jsonlib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Usage(f"{path} is no JSON file: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise Usage(f"{path} holds no object", hint='write {"channel": value, …}')
    return found


def _plain(state: BaseModel) -> str:
    shown = state.model_dump(mode="json", exclude_defaults=True)
    return jsonlib.dumps(shown, ensure_ascii=False, indent=2)


def _data(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(k): _data(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_data(v) for v in value]
    return value
