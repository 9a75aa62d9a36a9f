"""
The composition root: the only place where everything meets.

`open_app` makes of settings a store, artifacts, a jail, a door and a catalogue.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from ingest.admission import Admission, Bounds, Found
from ingest.shelf import Shelf
from ingest.watch import folders as way_in
from ingest.watch.folders import Folders
from ingest.watch.watcher import Pace, Route, Watcher
from pipeline.artifacts.files import FileArtifacts
from pipeline.declared import MANIFEST
from pipeline.errors import Usage
from pipeline.folder import Builtin, Catalogue, Pipeline, loads_of, top_levels
from pipeline.jail import jailbreak
from pipeline.jail.pool import JailPool
from pipeline.jail.pools import JailPools
from pipeline.loading import IMPORT_S, Loads
from pipeline.pinned import list_files, version_of
from pipeline.proof import PROOF_S, prove
from pipeline.run.dispatcher import Suspects
from pipeline.run.services import Services, secret_lines
from pipeline.run.session import WorkerSettings
from pipeline.run.slate import Slate
from pipeline.run.worker import Worker
from pipeline.store.database import CONNECTIONS
from pipeline.store.postgres import PostgresStore
from pipeline.threads import in_thread
from pipeline.trouble import Place, trouble_of
from stages.document import Document
from stages.formats import bundle
from stages.formats import probe as probing
from stages.formats.kinds import PASSWORDS
from stages.formats.probe import DocumentBounds, Probed, probe
from stages.generation import generation
from stages.intake import intake
from stages.moderation import moderation
from stages.ocr import ocr
from stages.output import output
from stages.printing import proofs, typesetter
from stages.publishing import making
from stages.reading import page, sheet
from stages.reading.codes import CODES
from stages.searchable import searchable
from waybill.callbacks import open_callbacks, open_lots
from waybill.database import Urls, open_store
from waybill.outside import (
    SECRETS,
    Outsiders,
    check_terms,
    declared_outsiders,
    facts_of,
    keys_of,
    open_door,
    proof_sheets,
    sinks_opener,
)
from waybill.settings import Places, Settings

BUILTIN = Builtin(
    {s.name: s for s in (intake, ocr, moderation, generation, output, searchable)},
    Document,
)
LOADS = loads_of(BUILTIN)  # for commands that look, and run nothing
# What is not pinned yet may do anything: before it is loaded.
PROOFS = Loads(lambda root: prove(top_levels(root)))
PROVEN_S = PROOF_S + 1.0  # it says itself which file takes too long
# Whose functions may run in the jail, and who is imported only then; folders add some.
JAILED = (bundle, page, sheet, probing, typesetter, proofs, making, jailbreak)
JAILED_LATER = (
    *("stages.abstracts.reading", "stages.abstracts.sheet"),
    *("stages.quoting.reading", "stages.quoting.choosing", "stages.quoting.sheet"),
)
# What a second reader may address, and what one has: its nets, and a page's cells.
SECOND_MEMORY_BYTES, SECOND_HAS_BYTES = 4 << 30, 1 << 30
PROBE_CPU_S, PROBE_S = 120.0, 1200.0  # seconds are enough, but on a busy machine


@dataclass(frozen=True)
class App:
    """
    Everything a command may need.

    Attributes:
        fault: Of `vendors.toml`, where it was opened to look: nothing can be run.
    """

    settings: Settings
    store: PostgresStore
    artifacts: FileArtifacts
    jail: JailPools
    catalogue: Catalogue
    services: Services
    fault: Usage | None = None

    def worker(
        self, slate: Slate | None = None, give_up: Callable[[], None] = lambda: None
    ) -> Worker:
        """
        A worker over this app's store; with a `slate`, one of a supervisor's.

        `give_up` ends the process, when a stage keeps it from its own end.
        """
        self._check()
        suspects = Suspects.TOO
        if slate is not None and slate.file >= 0:
            suspects = Suspects.ONLY if slate.alone else Suspects.ELSEWHERE
        bounds = WorkerSettings(
            lease_s=self.settings.lease_s,
            items_max=self.settings.items_max,
            suspects=suspects,
        )
        return Worker(self.store, self.catalogue, self.services, bounds, slate, give_up)

    async def publish(self, name: str) -> tuple[int, Pipeline]:
        """
        Pin the pipeline folder `name` as it stands now.

        Proven by a process of its own first: this one survives its files.

        Raises:
            Usage: there is no such folder, or it is not in order.
        """
        self._check()
        folder = pipeline_folder(self.settings, name)
        try:
            version = await in_thread(lambda: version_of(list_files(folder)))
            await PROOFS.wait(folder, version, PROVEN_S)
            number, pipeline = await self.catalogue.publish(folder, self.store)
        except OSError as error:
            raise trouble_of(error) or Usage(
                f"the pipeline {folder} cannot be read: {error.strerror}"
            ) from None
        check_terms(pipeline, self.services.vendors, self.services.models)
        return number, pipeline

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

    def admission(self, folders: Folders) -> Admission:
        """Admission of files, each probed once, within its pipeline's bounds."""
        settings = self.settings

        async def look(path: Path, name: str, tenant: str, pipeline_id: int) -> Found:
            pipeline = await self.catalogue.get(pipeline_id, self.store, IMPORT_S)
            return await look_into(
                self.services, path, name, tenant, pipeline, settings.max_file_bytes
            )

        return Admission(
            self.store,
            self.artifacts,
            look,
            Shelf(folders.archive, folders.quarantine),
            scratch=folders.scratch,
            codes=CODES,
            bounds=Bounds(
                max_file_bytes=settings.max_file_bytes, at_once=settings.cores
            ),
        )

    def folders(self, inbox: Path | None = None, beside: Path | None = None) -> Folders:
        """The way in: this inbox, and what lies beside it."""
        home = beside or self.settings.home
        return Folders(
            inbox=inbox or self.settings.inbox_dir,
            archive=home / "archive",
            quarantine=home / "quarantine",
            store=self.settings.home / "objects",
            scratch=home / "scratch",
        )

    def watcher(self, folders: Folders, pace: Pace | None = None) -> Watcher:
        """A watcher of `folders.inbox`."""

        async def route(place: way_in.Place) -> Route:
            number, pipeline = await self.publish(
                place.pipeline or self.settings.pipeline
            )
            return Route(number, pipeline.deadline_s)

        pace = pace or Pace(settle_s=self.settings.settle_s)
        return Watcher(folders, self.store, self.admission(folders), route, pace=pace)


def pipeline_folder(settings: Settings, name: str) -> Path:
    """
    The folder of a pipeline: a path, or a name among WAYBILL_PIPELINES.

    Raises:
        Usage: NO_SUCH_PIPELINE.
    """
    for folder in (Path(name), settings.pipelines / name):
        if (folder / MANIFEST).is_file():
            return folder
    known = [folder.name for folder in settings.pipeline_folders]
    raise Usage(
        f"there is no pipeline {name!r} in {settings.pipelines}",
        code="NO_SUCH_PIPELINE",
        hint=f"known: {', '.join(known) or 'none'}; WAYBILL_PIPELINES names "
        "the folder of pipelines",
    )


async def look_into(
    services: Services,
    path: Path,
    name: str,
    tenant: str,
    pipeline: Pipeline,
    max_file_bytes: int,
) -> Found:
    """
    Probe a file's bytes, within its pipeline's bounds and with its tenant's passwords.

    Raises:
        Unacceptable: it would be quarantined.
    """
    bounds = bounds_of(pipeline)
    copied = min(bounds.max_bytes, max_file_bytes)
    answer = await services.jail.run(
        probe,
        timeout_s=PROBE_S,
        cpu_s=PROBE_CPU_S,
        path=str(path),
        name=name,
        bounds=bounds.model_copy(update={"max_bytes": copied}).model_dump(),
        passwords=secret_lines(services.secrets, tenant, PASSWORDS),
    )
    facts = Probed.model_validate(answer).model_dump(mode="json", exclude_defaults=True)
    return Found(facts.pop("media_type"), facts)


def bounds_of(pipeline: Pipeline) -> DocumentBounds:
    """How large a document of this pipeline may be: as its intake says."""
    known = [stage.settings for stage in pipeline.stages.values()]
    found = (one.bounds() for one in known if isinstance(one, DocumentBounds))
    return next(found, DocumentBounds())


@asynccontextmanager
async def open_app(
    settings: Settings,
    urls: Urls,
    connections: int = CONNECTIONS,
    *,
    to_look: bool = False,
) -> AsyncIterator[App]:
    """
    Everything, opened; closed in the opposite order.

    Args:
        to_look: It need not be able to work: a fault of `vendors.toml` is raised only
            by what would call somebody.
    """
    home = settings.home.resolve()
    there = {"inbox": settings.inbox_dir.resolve(), "out": settings.out_dir.resolve()}
    settings = settings.model_copy(update={"home": home, **there})
    artifacts = FileArtifacts(home / "objects")
    places = Places.of(settings)
    catalogue = Catalogue(artifacts, home / "pipelines", BUILTIN)
    for folder in ("tmp", "pipelines"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    fault: Usage | None = None
    try:
        outside = declared_outsiders(settings)
    except Usage as error:
        if not to_look:
            raise
        outside, fault = Outsiders(), error
    door = open_door(settings, home)
    async with open_store(urls, connections) as store, door:
        await catalogue.adopt(store)
        jail = open_jail(settings, home, artifacts, places.scratch)
        try:
            services = Services(
                artifacts,
                jail,
                door,
                settings.out_dir,
                home / SECRETS,
                outside.vendors,
                keys_of(settings),
                outside.budget,
                places,
                callbacks=open_callbacks(settings),
                sinks=facts_of(outside.sinks),
                models=outside.models,
                open_sinks=sinks_opener(
                    settings, outside.sinks, artifacts, proof_sheets(jail, artifacts)
                ),
                trials=home / "evals" / "out",
                lots=open_lots(settings),
            )
            yield App(settings, store, artifacts, jail, catalogue, services, fault)
        finally:
            with anyio.CancelScope(shield=True):
                await jail.aclose()


def open_jail(
    settings: Settings, home: Path, artifacts: FileArtifacts, scratch: Place
) -> JailPools:
    """The pools of jailed processes, over one store of artifacts."""
    pool = partial(
        JailPool,
        allow=JAILED,
        later=JAILED_LATER,
        codes=CODES,
        pipelines=home / "pipelines",
        # By name, beside the program itself and the files of pipelines.
        readable=[artifacts.root],
        scratch=home / "tmp",
    )
    return JailPools(
        {
            "": pool(settings.cores, warm=[page.warm]),
            "second": pool(
                second_readers(settings.cores),
                memory_bytes=SECOND_MEMORY_BYTES,
                **page.second_warmth(),
            ),
            "print": pool(
                settings.cores,
                warm=[typesetter.warm, making.warm],
                threadless=[typesetter.warm_compiler],
            ),
        },
        scratch=scratch,
    )


def second_readers(cores: int) -> int:
    """How many at once: as many as cores, in a quarter of the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cores, memory // 4 // SECOND_HAS_BYTES))
