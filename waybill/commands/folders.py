"""`waybill pipelines ls` and `check`: which folders there are, and what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from pipeline.agents.grants import agents_of, ungranted
from pipeline.checking import file_faults
from pipeline.errors import Usage, WaybillError
from pipeline.faults import Faults
from pipeline.folder import Pipeline, loads_of
from pipeline.loading import WORK_S
from pipeline.pinned import list_files, version_of
from pipeline.store.postgres.reports import UnderWay
from waybill import terminal
from waybill.commands.options import Header, Json
from waybill.commands.run import run_app
from waybill.compose import BUILTIN, PROOFS, PROVEN_S, App, pipeline_folder
from waybill.inbox import glance
from waybill.outside import (
    Outsiders,
    check_terms,
    declared_outsiders,
)
from waybill.settings import Settings, read_settings

COLUMNS = ["pipeline", "version", "stages", "under way", "note"]
Named = Annotated[
    list[str] | None,
    typer.Argument(help="Names, or folders; without one all.", metavar="[NAME|PATH]…"),
]


# -- ls --------------------------------------------------------------------------------


def pipelines_ls(header: Header = False, json: Json = False) -> None:
    """The pipelines there are: version, stages, how many items are under way."""
    settings = read_settings()
    terminal.keep_stdout()

    async def main(opened: App) -> list[UnderWay]:
        return await opened.store.under_way()

    rows = _listed(settings, run_app(main))
    if json:
        terminal.print_json(rows)
        return
    terminal.print_table(
        COLUMNS,
        (
            [r["name"], r["version"], " ".join(r["stages"]), r["under_way"], _note(r)]
            for r in rows
        ),
        header=header,
    )


def _listed(settings: Settings, found: Sequence[UnderWay]) -> list[dict[str, Any]]:
    """A row each folder, and one each pipeline that has items and no folder here."""
    rows: list[dict[str, Any]] = []
    for folder in settings.pipeline_folders:
        name, version, fault = folder.name, "", ""
        stages: list[str] = []
        try:
            pipeline = glance(folder)
            name, version = pipeline.name, pipeline.folder.version
            stages = list(pipeline.stages)
        except WaybillError as error:
            fault = error.message
        rows.append(_row(name, str(folder), version, stages, fault, found))
    known = {row["name"] for row in rows}
    gone = sorted({one.pipeline for one in found} - known)
    return [*rows, *(_row(name, "", "", [], "", found) for name in gone)]


def _row(
    name: str,
    folder: str,
    version: str,
    stages: Sequence[str],
    fault: str,
    found: Sequence[UnderWay],
) -> dict[str, Any]:
    own = [one for one in found if one.pipeline == name]
    return {
        "name": name,
        "folder": folder,
        "version": version,
        "stages": stages,
        "under_way": sum(one.items for one in own),
        # Those finish on the version that they began with.
        "of_other_versions": sum(o.items for o in own if o.version != version),
        "fault": fault,
    }


def _note(row: Mapping[str, Any]) -> str:
    if row["fault"]:
        return f"broken: waybill pipelines check {row['folder']}"
    if not row["folder"]:
        return "no folder here"
    others = row["of_other_versions"]
    return f"{others} of other versions" if others else ""


# -- check -----------------------------------------------------------------------------


def pipelines_check(names: Named = None, json: Json = False) -> None:
    """Load each as a worker would, and say all that is wrong; then exit 2."""
    settings = read_settings()
    terminal.keep_stdout()
    folders = _folders(settings, names or ())
    broken = Faults()
    outside: Outsiders | None = None
    with broken.gathered():
        outside = declared_outsiders(settings)
    found = [checked(folder, outside, broken) for folder in folders]
    ok = not any(each["faults"] for each in found)
    if json:
        terminal.print_json({"ok": ok, "pipelines": found})
    else:
        lines = (line for each in found for line in _lines(each))
        terminal.print_table(["", "pipeline", "found", "do"], lines)
    raise typer.Exit(0 if ok else Usage.exit_code)


def checked(folder: Path, outside: Outsiders | None, broken: Faults) -> dict[str, Any]:
    """
    What a worker would make of a folder, and each fault; blocking.

    Args:
        outside: None where `vendors.toml` is `broken`: no worker runs it then.
    """
    faults = Faults()
    notes: list[str] = []
    stages: list[str] = []
    version = ""
    with TemporaryDirectory(prefix="waybill-check-") as home:
        root = Path(home) / folder.resolve().name
        with faults.gathered():
            lay_copy(folder, root)
            version = version_of(list_files(root))
            PROOFS.get(root, version, PROVEN_S)
            pipeline = loads_of(BUILTIN).get(root, version, WORK_S)
            stages = list(pipeline.stages)
            faults.found += file_faults(pipeline)
            if outside is not None:
                notes += _undeclared(pipeline, outside)
                check_terms(pipeline, outside.vendors, outside.models)
        there = (str(root), str(folder))
        said = [
            {
                "code": fault.code,
                "message": fault.message.replace(*there),
                "hint": fault.hint.replace(*there),
            }
            for fault in (*faults.found, *broken.found)
        ]
    return {
        "name": folder.resolve().name,
        "folder": str(folder),
        "version": version,
        "stages": stages,
        "faults": said,
        "notes": notes,
    }


def lay_copy(folder: Path, root: Path) -> None:
    """
    The folder as it would be pinned, at `root`: what is not part of it is not there.

    Raises:
        Usage: it cannot be pinned.
    """
    for relative, path in list_files(folder).items():
        target = root / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _folders(settings: Settings, names: Sequence[str]) -> list[Path]:
    found = [pipeline_folder(settings, name) for name in names]
    if not names:
        found = settings.pipeline_folders
    if not found:
        raise Usage(
            f"there is no pipeline in {settings.pipelines}",
            code="NO_SUCH_PIPELINE",
            hint="WAYBILL_PIPELINES names the folder of pipelines",
        )
    return found


def _undeclared(pipeline: Pipeline, outside: Outsiders) -> Iterator[str]:
    """
    Whom it names and nobody declared, a budget that pays nobody, and tools that nobody
    was given: no fault, for stages may do without.

    Of settings those that `pipeline.toml` gives.
    """
    declared: dict[str, Collection[str]] = {
        "vendor": outside.vendors,
        "sink": outside.sinks,
    }
    bound_in = pipeline.budget.item or pipeline.budget.batch
    priced = {v.price.currency for v in outside.vendors.values() if v.price.costs}
    if bound_in and priced and bound_in.currency not in priced:
        yield (
            f"[budget] is in {bound_in.currency}, and vendors' prices are in "
            f"{' and '.join(sorted(priced))}: it would end every call that costs"
        )
    for name, bound in pipeline.stages.items():
        for key in sorted(bound.settings.model_fields_set & set(declared)):
            value = getattr(bound.settings, key)
            if value and value not in declared[key]:
                yield f"[stage.{name}] {key}: vendors.toml has no [{key}.{value}]"
        for agent in agents_of(bound.stage.run):
            for model in sorted(set(agent.models) - set(outside.models)):
                yield f"agent {agent.name}: vendors.toml has no [model.{model}]"
            written = {tool.sink for tool in agent.tools} - {"", *outside.sinks}
            for sink in sorted(written):
                yield f"agent {agent.name}: vendors.toml has no [sink.{sink}]"
            if idle := ungranted(pipeline.grants, name, agent):
                yield f"agent {agent.name}: no line of [grant] gives {', '.join(idle)}"


def _lines(found: Mapping[str, Any]) -> list[list[str]]:
    """One of a sound folder; of another one each fault."""
    name = found["name"]
    if found["faults"]:
        return [["!!", name, f["message"], f["hint"]] for f in found["faults"]]
    stages = f"{' → '.join(found['stages'])} @{found['version']}"
    return [["--" if found["notes"] else "ok", name, stages, "; ".join(found["notes"])]]
