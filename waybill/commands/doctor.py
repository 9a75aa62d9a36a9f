"""`waybill doctor`: is everything here that a document will need?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from ingest.watch.folders import network_filesystem
from pipeline.artifacts.files import free_bytes
from pipeline.effects.declared import SinkSpec
from pipeline.errors import StoreUnavailable, Usage, WaybillError
from pipeline.folder import Pipeline
from pipeline.jail.jailbreak import GROUPS, self_test
from pipeline.jail.pool import JailPool
from pipeline.outbox import SinkClass
from pipeline.store.embedded import START_S
from pipeline.store.migrate import APP_ROLE
from pipeline.store.rows import TroubleRow, WorkerRow
from pipeline.vendors.declared import VendorSpec
from stages.reading import engines, rapid, tesseract
from stages.reading.protocol import ReaderSettings
from waybill import terminal
from waybill.commands.options import Json
from waybill.commands.run import run_async
from waybill.commands.vendors import key_word
from waybill.compose import JAILED, pipeline_folder
from waybill.database import database, open_store
from waybill.foreground import up_in
from waybill.health import ASKED_S, seen_here, troubles, why_weak
from waybill.inbox import glance, survey_of
from waybill.outside import (
    addresses_of,
    check_terms,
    declared_models,
    declared_sinks,
    declared_vendors,
    place_of,
    service_key,
    sink_secret,
)
from waybill.settings import Settings, read_settings

FREE_MIN_BYTES = 1 << 30  # arbitrary: some thousand letters


class Check(NamedTuple):
    """
    One line of the report; `hint` says what to do when it is not ok.

    `details` are for `--json`.
    """

    name: str
    ok: bool
    found: str
    hint: str = ""
    details: dict[str, Any] | None = None

    @property
    def mark(self) -> str:
        """Before the line: a fault, something to do that is none, or all is well."""
        if not self.ok:
            return "!!"
        return "--" if self.hint else "ok"


def doctor(json: Json = False) -> None:
    """Check the database, tools, jail, folders, pipelines, vendors, models, sinks."""
    settings = read_settings()
    new = not settings.database_url and not (settings.home / "postgres").exists()
    checks = [_tesseract(), _readers(), *_pipelines(settings), *_default(settings)]
    checks += _folders(settings)
    checks += _vendors(settings)
    checks.append(_jail(settings))
    checks += _database(settings, new=new)
    if json:
        terminal.print_json(
            {"ok": all(c.ok for c in checks), "checks": [c._asdict() for c in checks]}
        )
    else:
        terminal.print_table(
            ["", "check", "found", "do"],
            ([c.mark, c.name, c.found, c.hint] for c in checks),
        )
    if not all(c.ok for c in checks):
        raise typer.Exit(StoreUnavailable.exit_code)


def _tesseract() -> Check:
    hint = "apt-get install tesseract-ocr (macOS: brew install tesseract)"
    path = shutil.which("tesseract")
    if path is None:
        return Check("tesseract", False, "not on PATH", hint)
    ran = subprocess.run(
        [path, "--list-langs"], capture_output=True, text=True, timeout=20, check=False
    )
    languages = ran.stdout.split()[-1:] and sorted(ran.stdout.split("\n")[1:])
    listed = " ".join(x for x in languages if x)
    reads = "eng" in listed.split()
    return Check("tesseract", reads, f"{path}: {listed}", "" if reads else hint)


def _readers() -> Check:
    """Which engines `[stage.ocr]` may name here, and who reads doubtful pages."""
    first = [n for n in ("pytesseract", "tesserocr") if engines.available(n)]
    second, hint = "none", "pip install 'waybill[openvino]' reads more"
    if engines.available(rapid.NAME):
        second, hint = f"{rapid.NAME} ({rapid.runtime()})", ""
    return Check("readers", True, f"{', '.join(first)}; second: {second}", hint)


def _pipelines(settings: Settings) -> list[Check]:
    found = []
    for folder in settings.pipeline_folders:
        name = f"pipeline {folder.name}"
        try:
            pipeline = glance(folder)
            if pipeline.vendors or "second" in _settings_of(pipeline):
                vendors = declared_vendors(settings).vendors
                check_terms(pipeline, vendors, declared_models(settings, vendors))
            stages = " → ".join(pipeline.stages)
            found.append(Check(name, True, f"{stages} @{pipeline.folder.version}"))
            found += _languages(name, pipeline)
        except WaybillError as error:
            found.append(Check(name, False, error.message, error.hint))
    if not found:
        where = str(settings.pipelines)
        found.append(
            Check("pipelines", False, where, "set WAYBILL_PIPELINES to their folder")
        )
    return found


def _settings_of(pipeline: Pipeline) -> set[str]:
    """The keys of settings that its stages are given."""
    given = (stage.settings.model_fields_set for stage in pipeline.stages.values())
    return set().union(*given)


def _default(settings: Settings) -> list[Check]:
    """The pipeline of files that name none: without it none of them is taken."""
    try:
        pipeline_folder(settings, settings.pipeline)
    except WaybillError as error:
        hint = f"set WAYBILL_PIPELINE to a pipeline; {error.hint}"
        # Nobody asked for it: who names a pipeline each time does not miss it.
        asked = "pipeline" in settings.model_fields_set
        none = f"{error.message}: files that name none are not taken"
        return [Check("default pipeline", not asked, none, hint)]
    return []


def _languages(name: str, pipeline: Pipeline) -> list[Check]:
    """What a pipeline's pages are to be read in, and tesseract has no data for."""
    there = {*tesseract.installed_languages(), "auto", "osd", "equ"}
    missing = {
        lang
        for stage in pipeline.stages.values()
        if isinstance(stage.settings, ReaderSettings)
        for lang in stage.settings.lang.split("+")
        if lang not in there
    }
    return [
        Check(f"languages of {name}", False, f"no {lang}", tesseract.package_of(lang))
        for lang in sorted(missing)
    ]


def _folders(settings: Settings) -> list[Check]:
    home = settings.home
    try:
        home.mkdir(parents=True, exist_ok=True)
        free = free_bytes(home)
    except OSError as error:
        return [Check("home", False, str(home), error.strerror or "not usable")]
    inbox = settings.inbox_dir
    network = network_filesystem(inbox if inbox.exists() else Path.cwd())
    how = f"polling ({network})" if network else "events and a rescan"
    writable = os.access(home, os.W_OK)
    return [
        Check(
            "home", writable, str(home.resolve()), "" if writable else "not writable"
        ),
        Check(
            "free space",
            free > FREE_MIN_BYTES,
            f"{free >> 20} MiB",
            "" if free > FREE_MIN_BYTES else "make room: intake needs it",
        ),
        Check("inbox", True, f"{inbox.resolve()}: {how}"),
        *_left_in_the_inbox(settings),
        Check(
            "limits",
            True,
            f"{settings.cores} jailed processes, {settings.items_max} items a worker, "
            f"files up to {settings.max_file_bytes >> 20} MiB",
        ),
    ]


def _left_in_the_inbox(settings: Settings) -> list[Check]:
    """A word for whoever wonders; what people leave there is no fault of this."""
    found = survey_of(settings)
    if not found.left:
        return []
    said = "; ".join(f"{x.name}: {x.why} ({x.code})" for x in found.left[:5])
    more = found.more + len(found.left[5:])
    said += f"; and {more} more" * bool(more)
    hint = "`waybill status` names them; each is taken when that is mended"
    return [Check("left in the inbox", True, said, hint, found._asdict())]


def _vendors(settings: Settings) -> list[Check]:
    """Each declared vendor's name, address and key; none of them is called."""
    try:
        declared = declared_vendors(settings).vendors
    except WaybillError as error:
        return [Check("vendors", False, error.message, error.hint)]

    async def main() -> list[Check]:
        return [await _vendor(settings, spec) for spec in declared.values()]

    checks = run_async(main) if declared else []
    return [*checks, *_models(settings, declared), *_sinks(settings, declared)]


def _models(settings: Settings, vendors: Mapping[str, VendorSpec]) -> list[Check]:
    """Each declared model, and where it stands; none of them is asked."""
    try:
        models = declared_models(settings, vendors)
    except WaybillError as error:
        return [Check("models", False, error.message, error.hint)]
    return [
        Check(
            f"model {spec.name}",
            True,
            f"{spec.on_vendor(vendors[spec.vendor]).model} of {spec.vendor}, "
            f"as {spec.output}"
            + f", else {', '.join(spec.fallbacks)}"
            * bool(spec.fallbacks),
        )
        for spec in models.values()
    ]


def _sinks(settings: Settings, vendors: Mapping[str, VendorSpec]) -> list[Check]:
    """Each declared sink: where it is, and its secret; nothing is sent."""
    try:
        sinks = declared_sinks(settings, vendors)
    except WaybillError as error:
        return [Check("sinks", False, error.message, error.hint)]
    return [_sink(settings, spec) for spec in sinks.values()]


def _sink(settings: Settings, spec: SinkSpec) -> Check:
    name, where = f"sink {spec.name}", f"{spec.kind}, {place_of(settings, spec)}"
    try:
        sink_secret(settings, spec)
    except Usage as error:
        return Check(name, False, error.message, error.hint)
    held = "; a person releases each" * spec.irreversible
    doubt = "; in doubt when an answer is lost" * (spec.sink_class is SinkClass.C)
    return Check(name, True, f"{where}{held}{doubt}")


async def _vendor(settings: Settings, spec: VendorSpec) -> Check:
    name, key = f"vendor {spec.name}", key_word(settings, spec)
    faults: list[WaybillError] = []
    found: list[str] = []
    try:
        found = await addresses_of(settings, spec)
    except WaybillError as error:
        faults.append(error)
    if key == "missing":
        try:
            service_key(settings, spec)
        except WaybillError as error:
            faults.append(error)
    if faults:
        said = "; ".join(fault.message for fault in faults)
        return Check(name, False, said, "; ".join(f.hint for f in faults if f.hint))
    return Check(name, True, f"{spec.kind} at {' '.join(found)}, key: {key}")


def _jail(settings: Settings) -> Check:
    """What a jailed process is kept from, found by trying it."""
    objects, scratch = settings.home / "objects", settings.home / "tmp"
    programs = ["tesseract"] if shutil.which("tesseract") else []

    async def main() -> dict[str, Any]:
        for folder in (objects, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        pool = JailPool(
            1, allow=JAILED, readable=[objects.resolve()], scratch=scratch.resolve()
        )
        async with pool:
            return await self_test(pool, programs)

    try:
        found = run_async(main)
    except WaybillError as error:
        return Check("jail", False, error.message, error.hint)
    except OSError as error:
        return Check("jail", False, f"it cannot be tried: {error.strerror}")
    open_to = [group for group in GROUPS if found[group] != "blocked"]
    lame = [program for program, runs in found["runs"].items() if not runs]
    stands, hint = f"tier {found['tier']}: {_stands(found)}", ""
    if lame:
        hint = f"{lame[0]} does not start inside: install it beneath /usr, or report it"
    elif found["tier"] < 2:
        stands = f"tier 1: limits alone; open: {', '.join(open_to)}"
        hint = why_weak(found["missing"])
    elif open_to:
        hint = f"it stands, yet {', '.join(open_to)} is open: report this"
    # Elsewhere than on Linux there is no better one to be had.
    ok = not hint or (found["tier"] == 1 and sys.platform != "linux")
    return Check("jail", ok, stands, hint, found)


def _stands(found: dict[str, Any]) -> str:
    """The restrictions of a jail, in words."""
    parts = ["no network"]
    parts.append(f"files by Landlock ABI {found['landlock']}")
    parts.append("seccomp")
    parts += ["namespaces"] * found["namespaces"]
    missing = ", ".join(sorted(found["missing"]))
    return ", ".join(parts) + (f"; without: {missing}" if missing else "")


def _database(settings: Settings, *, new: bool) -> list[Check]:
    """Of a `new` home no database has said yet that nothing was stored."""
    try:
        # Where it is set up for the first time there is nothing else to ask.
        urls = database(settings, wait_s=START_S if new else ASKED_S)

        async def main() -> tuple[dict[str, Any], list[WorkerRow], bool]:
            # The store alone: what is declared beside it may be what is wrong.
            async with open_store(urls, connections=1) as store:
                unused = not await store.pipelines()
                return await store.health(), await up_in(store), unused

        found, workers, unused = run_async(main)
    except WaybillError as error:
        away = Check("database", False, error.message, error.hint)
        return [away, *_troubles(seen_here(settings, unused=new))]
    kind = "embedded" if urls.embedded else "yours"
    safe = found["fsync"] == "on" and found["synchronous_commit"] != "off"
    skew_s = abs(time.time() - found["now_s"])
    return [
        Check("database", True, f"PostgreSQL {found['server']} ({kind})"),
        Check(
            "durability",
            safe,
            f"fsync {found['fsync']}, synchronous_commit {found['synchronous_commit']}",
            "" if safe else "turn both on: an acknowledged item must survive a crash",
        ),
        Check(
            "role",
            not (found["bypasses"] or found["owns"]),
            found["role"] + ", which owns the tables" * found["owns"],
            f"connect as {APP_ROLE}, or a role with its rights alone"
            * (found["bypasses"] or found["owns"]),
        ),
        Check("workers", True, f"{found['workers']} up"),
        Check(
            "clocks",
            skew_s < 60,
            f"{skew_s:.1f} s apart",
            "" if skew_s < 60 else "ownership uses the database's; displays differ",
        ),
        *_troubles(troubles(settings, workers, unused=unused)),
    ]


def _troubles(found: Sequence[TroubleRow]) -> list[Check]:
    """What keeps a worker from working, or will, each on its line."""
    lines = [f"{row.what} ({row.where})" for row in found]
    hint = "mend it; no item is charged for it, and work goes on by itself"
    return [Check("trouble", False, line, hint) for line in lines] or [
        Check("trouble", True, "none")
    ]
