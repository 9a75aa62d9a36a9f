"""
Checking: what stages find wrong with the files of their folder, before an item does.

Loading a folder says what is wrong with its manifest and its stages.  What they will
read of it, rules or templates, they alone know; they look at it here, for an author.
"""

from __future__ import annotations

from pipeline.bound import BoundStage
from pipeline.errors import Usage, WaybillError
from pipeline.faults import faults_of
from pipeline.folder import Pipeline
from pipeline.stage import Settings


def file_faults(pipeline: Pipeline) -> list[Usage]:
    """All that its stages say, each once; blocking, and it may take seconds."""
    found: dict[str, Usage] = {}
    for bound in pipeline.stages.values():
        less = [] if bound.degraded is None else [bound.degraded.settings]
        for settings in (bound.settings, *less):
            for fault in _faults(pipeline, bound, settings):
                found.setdefault(fault.message, fault)
    return list(found.values())


def _faults(pipeline: Pipeline, bound: BoundStage, settings: Settings) -> list[Usage]:
    found: list[Usage] = []
    if bound.stage.check is None:
        return found
    try:
        for fault in bound.stage.check(pipeline.folder, settings):
            found += faults_of(fault)
    except WaybillError as error:
        found += faults_of(error)
    except Exception as error:
        said = f"the check of the stage {bound.name} raised {type(error).__name__}"
        hint = "mend it: it yields a Usage for each fault"
        found.append(Usage(f"{said}: {error}", hint=hint))
    return found
