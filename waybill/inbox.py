"""
What lies in the inbox, for commands: the way in's survey, with our pipelines.
"""

from __future__ import annotations

from ingest.watch.folders import Place
from ingest.watch.survey import Survey, survey
from pipeline.errors import WaybillError
from pipeline.folder import glance
from waybill.compose import LOADS, pipeline_folder
from waybill.settings import Settings


def survey_of(settings: Settings) -> Survey:
    """What lies in the inbox, and why; blocking."""
    broken: dict[str, WaybillError | None] = {}

    def route(place: Place) -> None:
        name = place.pipeline or settings.pipeline
        if name not in broken:
            broken[name] = None
            try:
                glance(pipeline_folder(settings, name), LOADS)
            except WaybillError as error:
                broken[name] = error
        if (wrong := broken[name]) is not None:
            raise wrong

    return survey(settings.inbox_dir, route, settle_s=settings.settle_s)
