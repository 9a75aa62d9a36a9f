"""
The pipeline of a run: a copy of its own, so that a run may change it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from loadtest.driver.declare import tables
from loadtest.driver.scenario import Scenario
from loadtest.trial import EXAMPLES
from pipeline.declared import MANIFEST
from pipeline.errors import Usage

DEADLINE = re.compile(r"(?m)^deadline\s*=.*$")
NAME = re.compile(r"(?m)^name\s*=\s*[\"']([^\"']+)[\"']")


def lay_pipeline(scenario: Scenario, beside: Path, pipelines: Path) -> str:
    """
    Copy the scenario's pipeline into `pipelines`, its overlay over it; its name.

    Args:
        beside: The folder of the scenario's file.

    Raises:
        Usage: there is no such folder.
    """
    source = _found(scenario.pipeline, beside)
    text = (source / MANIFEST).read_text(encoding="utf-8")
    found = NAME.search(text)
    name = found[1] if found else source.name
    target = pipelines / name
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, target, ignore=ignored)
    if scenario.overlay:
        over = beside / scenario.overlay
        if not over.is_dir():
            raise Usage(f"there is no folder {over} to lay over the pipeline")
        shutil.copytree(over, target, dirs_exist_ok=True, ignore=ignored)
    manifest = target / MANIFEST
    text = manifest.read_text(encoding="utf-8")
    line = f'deadline = "{max(1, round(scenario.scaled(scenario.deadline_s)))}s"'
    text, many = DEADLINE.subn(line, text, count=1)
    text = text if many else f"{line}\n{text}"
    if scenario.stage:
        text += "\n" + tables({"stage": scenario.stage})
    manifest.write_text(text, encoding="utf-8")
    return name


def _found(name: str, beside: Path) -> Path:
    """The folder that a scenario means."""
    for folder in (Path(name), beside / name, EXAMPLES / name):
        if (folder / MANIFEST).is_file():
            return folder
    raise Usage(
        f"there is no pipeline {name!r}",
        hint=f"a folder with a {MANIFEST}, beside the scenario's file, as a path, or "
        f"one of {', '.join(sorted(p.name for p in EXAMPLES.iterdir() if p.is_dir()))}",
    )


def upgrade(pipelines: Path, name: str, number: int) -> None:
    """Change the pipeline's folder: what comes from then on runs by another version."""
    note = pipelines / name / "CHANGED.md"
    note.write_text(f"Change {number}.\n", encoding="utf-8")
