"""
What lies in the inbox, for commands: the way in's survey, with our pipelines.
"""

from __future__ import annotations

from pathlib import Path

from ingest.watch.folders import Place
from ingest.watch.survey import Survey, survey
from pipeline.errors import WaybillError
from pipeline.folder import Pipeline
from pipeline.loading import IMPORT_S
from pipeline.pinned import list_files, version_of
from waybill.compose import LOADS, PROOFS, PROVEN_S, pipeline_folder
from waybill.settings import Settings


def survey_of(settings: Settings) -> Survey:
    """What lies in the inbox, and why; blocking."""
    broken: dict[str, WaybillError | None] = {}

    def route(place: Place) -> None:
        name = place.pipeline or settings.pipeline
        if name not in broken:
            broken[name] = None
            try:
                glance(pipeline_folder(settings, name))
            except WaybillError as error:
                broken[name] = error
        if (wrong := broken[name]) is not None:
            raise wrong

    return survey(settings.inbox_dir, route, settle_s=settings.settle_s)


def glance(folder: Path) -> Pipeline:
    """
    What a pipeline's folder is now, for who runs nothing of it; blocking.

    Raises:
        Usage: as `Catalogue.publish` does.
    """
    version = version_of(list_files(folder))
    PROOFS.get(folder, version, PROVEN_S)
    return LOADS.get(folder, version, IMPORT_S)
