"""What a pipeline's file does at its top level is its own doing, and nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from pipeline import loading
from pipeline.artifacts.files import FileArtifacts
from pipeline.errors import Usage
from pipeline.folder import Builtin, Catalogue, Pipeline, load, loads_of
from pipeline.loading import Loads, _Load
from pipeline.pinned import list_files, version_of
from pipeline.proc import EXCUSED
from pipeline.store.memory import MemoryStore
from tests.unit.engine import Letter

BUILTIN = Builtin({}, Letter)
STAGE = """
from pipeline.stage import Advance, stage

@stage()
async def stamp(letter, ctx):
    return Advance()
"""


def folder(root: Path, top: str) -> Path:
    """A pipeline of one stage, with this at the top of its file."""
    root.mkdir()
    (root / "pipeline.toml").write_text('name = "x"\nstages = ["stamp"]\n')
    (root / "stamp.py").write_text(top + "\n" + STAGE)
    return root


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What a file of `GATE` waits for."""
    held = threading.Event()
    monkeypatch.setattr(threading, "gate_of_test", held, raising=False)
    yield held
    held.set()


WAITS = "import threading\nthreading.gate_of_test.wait()"


@pytest.mark.parametrize(
    "top",
    [
        "import sys; sys.exit('no licence key')",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "import asyncio; raise asyncio.CancelledError",
        "class Own(BaseException): pass\nraise Own('quotes a document')",
    ],
)
def test_a_file_that_would_end_the_process_is_named(tmp_path: Path, top: str) -> None:
    """Whatever its top level raises, the pipeline is not in order, and no more."""
    root = folder(tmp_path / "p", top)

    with pytest.raises(Usage) as refused:
        load(root, BUILTIN)

    assert f"{root / 'stamp.py'} cannot be imported: " in refused.value.message
    assert "licence" not in refused.value.message
    assert "quotes" not in refused.value.message


@pytest.mark.parametrize(
    ("top", "line"),
    [("import json\n\njson.loads('{')", 3), ("import json\nx = = 1", 2)],
)
def test_a_file_that_cannot_be_imported_says_its_line(
    tmp_path: Path, top: str, line: int
) -> None:
    """Its own, and not that of a library that it calls."""
    root = folder(tmp_path / "p", top)

    with pytest.raises(Usage) as refused:
        load(root, BUILTIN)

    assert refused.value.hint == f"line {line} of it"


def test_an_import_that_hangs_is_named(tmp_path: Path, gate: threading.Event) -> None:
    """Whoever asks waits once; and once it has ended after all, it is there."""
    root = folder(tmp_path / "p", WAITS)
    loads = loads_of(BUILTIN)

    with pytest.raises(Usage) as refused:
        loads.get(root, "1", 0.0)
    gate.set()

    assert refused.value.code == "PIPELINE_HANGS"
    assert "takes longer than 0 s to import" in refused.value.message
    assert loads.get(root, "1", 60).name == "x"


def test_a_thread_that_imports_keeps_no_process(
    tmp_path: Path, gate: threading.Event
) -> None:
    """It cannot be stopped: so it does not count."""
    loads = loads_of(BUILTIN)
    with pytest.raises(Usage):
        loads.get(folder(tmp_path / "p", WAITS), "1", 0.0)

    assert all(t.daemon for t in threading.enumerate() if t.name == "import")


def test_a_version_is_imported_once_and_a_mended_one_anew(tmp_path: Path) -> None:
    """Also by those who ask again; a failure is looked at again."""
    root = folder(tmp_path / "p", "raise OSError")
    asked: list[str] = []

    def counted(root: Path) -> Pipeline:
        asked.append(root.name)
        return load(root, BUILTIN)

    loads = Loads(counted)
    for _ in range(2):
        with pytest.raises(Usage):
            loads.get(root, version_of(list_files(root)), 60)
    (root / "stamp.py").write_text(STAGE)
    found = [loads.get(root, version_of(list_files(root)), 60) for _ in range(3)]

    assert len(asked) == 3
    assert found[0] is found[1] is found[2]


async def test_the_loop_turns_while_a_pipeline_is_imported(
    tmp_path: Path, gate: threading.Event
) -> None:
    """An import that waits for the loop would wait for ever, were it on it; all who
    wait have the same one."""
    root = folder(tmp_path / "live", STAGE)
    store = MemoryStore()
    first = Catalogue(FileArtifacts(tmp_path / "objects"), tmp_path / "one", BUILTIN)
    (root / "stamp.py").write_text(WAITS + "\n" + STAGE)
    gate.set()
    number, _ = await first.publish(root, store)
    gate.clear()
    found = []

    async def get() -> None:
        found.append(await first.get(number, store))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(get)
        await anyio.sleep(1)
        gate.set()

    assert found[0] is found[1] is found[2]


async def test_who_cannot_wait_longer_is_told(
    tmp_path: Path, gate: threading.Event
) -> None:
    """A worker's patience ends too: its item fails by a name that says the file."""
    loads = loads_of(BUILTIN)

    with pytest.raises(Usage) as refused:
        await loads.wait(folder(tmp_path / "p", WAITS), "1", 0.05)

    assert refused.value.code == "PIPELINE_HANGS"


def test_time_in_line_for_a_core_is_not_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A busy machine is no fault of a pipeline's; and nobody waits for ever."""
    load = _Load(lambda _: None, Path(), "v")
    line_s = {"now": 0.0}
    monkeypatch.setattr(loading, "thread_queued_s", lambda _: line_s["now"])

    alone = load.left_s(100)
    line_s["now"] = 30.0
    busy = load.left_s(100)
    line_s["now"] = 1e6
    starved = load.left_s(100)

    assert alone == pytest.approx(100, abs=5)
    assert busy == pytest.approx(130, abs=5)
    assert starved == pytest.approx(100 + EXCUSED * 100, abs=5)
