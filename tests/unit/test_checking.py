"""Every fault of a folder is known, and what stages say of their own files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.checking import file_faults
from pipeline.errors import Usage
from pipeline.faults import faults_of
from pipeline.folder import Builtin, load
from pipeline.model import Advance
from pipeline.stage import Folder, Settings, stage
from tests.unit.engine import Letter


class ListSettings(Settings):
    """What `[stage.count]` may say."""

    lists: str = "*.txt"


def looked(folder: Folder, settings: ListSettings) -> Iterator[Usage]:
    for path in folder.files(settings.lists):
        if not folder.text(path.name):
            yield Usage(f"{path.name}: it is empty")
        if path.name == "bug.txt":
            raise KeyError(path.name)


@stage(settings=ListSettings, check=looked)
async def count(letter: Letter, ctx: Any) -> Advance:
    return Advance()


BUILTIN = Builtin({"count": count}, Letter)


def folder(root: Path, manifest: str, **files: bytes) -> Path:
    (root / "pipeline.toml").write_text(manifest)
    for name, data in files.items():
        (root / f"{name}.txt").write_bytes(data)
    return root


def test_loading_goes_on_after_a_fault(tmp_path: Path) -> None:
    """The first is raised, as ever, and the others are beside it."""
    folder(
        tmp_path,
        """
        name = "letters"
        deadline = "soon"
        stages = ["count", "gone", "lost"]
        jailed = ["nowhere"]
        [stage.count]
        window = 0
        limit = "llm"
        list = "*.md"
        [stage.other]
        """,
    )

    with pytest.raises(Usage, match="other") as raised:
        load(tmp_path, BUILTIN)

    messages = [fault.message for fault in faults_of(raised.value)]
    expected = [
        *("[stage.other]", "window must be", "[limit.llm]", "list: there is no such"),
        *("no stage 'gone'", "no stage 'lost'", "deadline: 'soon'", "'nowhere.py'"),
    ]
    assert len(messages) == len(expected)
    for message, word in zip(messages, expected, strict=True):
        assert word in message
        assert str(tmp_path) in message


def test_every_key_that_does_not_fit_is_said(tmp_path: Path) -> None:
    folder(tmp_path, 'name = "letters"\nstage = []\nlimits = {}')

    with pytest.raises(Usage) as raised:
        load(tmp_path, BUILTIN)

    said = [fault.message.split(": ")[1] for fault in faults_of(raised.value)]
    assert sorted(said) == ["limits", "stage", "stages"]


def test_stages_look_at_their_own_files(tmp_path: Path) -> None:
    """One that raises has said what it yielded; no worker's load asks it."""
    manifest = 'name = "letters"\nstages = ["count"]'
    folder(tmp_path, manifest, a=b"", b=b"", bug=b"x", c=b"")

    faults = file_faults(load(tmp_path, BUILTIN))

    assert [fault.message for fault in faults] == [
        *("a.txt: it is empty", "b.txt: it is empty"),
        "the check of the stage count raised KeyError: 'bug.txt'",
    ]


def test_a_file_that_is_no_text_is_a_fault(tmp_path: Path) -> None:
    folder(tmp_path, 'name = "letters"\nstages = ["count"]', a=b"\xff")

    [fault] = file_faults(load(tmp_path, BUILTIN))

    assert "'a.txt' of the pipeline letters is no UTF-8" in fault.message
