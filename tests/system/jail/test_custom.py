"""A stage of one's own runs its functions in the jail, when its pipeline says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Permanent, Usage
from pipeline.jail.custom import FileFunction
from pipeline.jail.pool import JailPool
from pipeline.jail.program import resolve
from tests.system.command import Home, pictures

STAGE = '''
"""Shout what the file is called, in the jail."""

import os
from pathlib import Path

from pipeline.errors import Unacceptable
from pipeline.stage import Advance, stage


def shouted(text):
    return {"text": text.upper(), "pid": os.getpid(), "environment": list(os.environ)}


def left(text):
    Path(os.environ["TMPDIR"], "loud.txt").write_text(text)
    return len(text)


def refused():
    raise Unacceptable("too quiet", code="TOO_QUIET")


@stage(timeout_s=60)
async def shout(letter, ctx):
    said = await ctx.jailed(shouted, text=ctx.item.name)
    length, files = await ctx.jailed_files(left, text=said["text"])
    facts = {
        "jailed": said["pid"] != os.getpid(),
        "environment": said["environment"],
        "length": length,
        "kept": (await ctx.artifacts.get(files["loud.txt"])).decode(),
    }
    try:
        await ctx.jailed(refused)
    except Unacceptable as error:
        facts["code"] = error.code
    return Advance(text=said["text"], facts=facts)
'''
PIPELINE = 'name = "loud"\ndeadline = "1d"\nstages = ["shout"]\n'


def shouting(home: Home, more: str) -> Path:
    """A pipeline folder of one custom stage, and `more` in its manifest."""
    folder = home.pipelines / "loud"
    folder.mkdir(parents=True)
    (folder / "shout.py").write_text(STAGE.lstrip(), encoding="utf-8")
    (folder / "quiet.py").write_text("", encoding="utf-8")
    (folder / "pipeline.toml").write_text(PIPELINE + more, encoding="utf-8")
    return folder


def test_a_custom_stage_runs_its_own_functions_in_the_jail(home: Home, tmp_path: Path):
    """By the real service: result, files and error come back from another process."""
    folder = shouting(home, 'jailed = ["shout"]\n')
    [file] = pictures(tmp_path, ["a.png"])

    home.ok("ingest", file, "--pipeline", folder, "--wait")

    state = home.ok("items", "show", "1")["state"]
    facts = state["facts"]
    assert state["text"] == facts["kept"] == "A.PNG"
    assert facts["jailed"]
    assert facts["length"] == len("A.PNG")
    assert facts["code"] == "TOO_QUIET"
    assert not [name for name in facts["environment"] if "WAYBILL" in name]


@pytest.mark.parametrize("more", ["", 'jailed = ["quiet"]\n'])
def test_a_file_that_is_not_named_stays_outside(home: Home, tmp_path: Path, more: str):
    """The item fails with a code, and why says which key to add."""
    folder = shouting(home, more)
    [file] = pictures(tmp_path, ["a.png"])

    ran = home.run("ingest", file, "--pipeline", folder, "--wait", "--json")

    item = home.ok("items", "show", "1")["item"]
    assert ran.code == 4
    assert item["code"] == "JAIL_NOT_ALLOWED"
    assert "shouted of shout.py may not run in the jail" in item["why"]
    assert "jailed = " in item["why"]


FAULTY = """
import ctypes


def stumble():
    return 1 / 0


def crash():
    ctypes.string_at(0)


def leave():
    raise SystemExit(0)
"""


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("stumble", "JAIL_ERROR", "raised ZeroDivisionError at line 6"),
        ("leave", "JAIL_ERROR", "raised SystemExit at line 14"),
        ("crash", "JAIL_CRASHED", "SIGSEGV"),
    ],
)
async def test_a_fault_of_a_custom_function_is_its_authors(
    tmp_path: Path, name: str, code: str, said: str
):
    """The hint names the function and its file, and blames no document."""
    pinned = tmp_path / "pipelines" / "loud@1"
    pinned.mkdir(parents=True)
    (pinned / "faulty.py").write_text(FAULTY)

    async with JailPool(1, pipelines=tmp_path / "pipelines", scratch=tmp_path) as pool:
        with pytest.raises(Permanent, match=said) as caught:
            await pool.run(FileFunction(pinned / "faulty.py", name), timeout_s=30)

    assert caught.value.code == code
    assert f"look at {name} in faulty.py of the pipeline" in caught.value.hint


async def test_a_file_outside_the_pipelines_is_refused(tmp_path: Path):
    """By the pool, and again in the jail; a link does not lead there either."""
    pinned = tmp_path / "pipelines" / "loud@1"
    pinned.mkdir(parents=True)
    for folder in (pinned, tmp_path):
        (folder / "shout.py").write_text("def shouted():\n    return 'LOUD'\n")
    (pinned / "link.py").symlink_to(tmp_path / "shout.py")
    config = {"allow": [], "pipelines": str((tmp_path / "pipelines").resolve())}

    async with JailPool(1, pipelines=tmp_path / "pipelines", scratch=tmp_path) as pool:
        inside = FileFunction(pinned / "shout.py", "shouted")
        assert await pool.run(inside, timeout_s=30) == "LOUD"
        for file in (tmp_path / "shout.py", pinned / "link.py"):
            with pytest.raises(Usage) as refused:
                await pool.run(FileFunction(file, "shouted"), timeout_s=30)
            assert refused.value.code == "JAIL_NOT_ALLOWED"
            assert "jailed = " in refused.value.hint
            with pytest.raises(Usage) as refused:
                resolve("shout.py:shouted", str(file), config)
            assert refused.value.code == "JAIL_NOT_ALLOWED"
