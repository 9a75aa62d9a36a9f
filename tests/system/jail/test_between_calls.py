"""Between calls: nothing of one is there in the next, and each has its share."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from loadtest.hostile import breakouts
from loadtest.scenarios.jail import staying
from pipeline.errors import Permanent, Transient
from pipeline.jail.pool import JailPool
from pipeline.jail.scratch import remove

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the jail is Linux's")

MIB = 1 << 20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "mine").write_text("mine")
    (folder / "ab" / "theirs").write_text("theirs")
    return folder


@pytest.fixture(params=[3, 2], ids=["tier3", "tier2"])
async def pool(
    tmp_path: Path, store: Path, request: pytest.FixtureRequest
) -> AsyncIterator[JailPool]:
    """A pool with small shares, in namespaces of its own and without."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    shares: dict[str, Any] = {"scratch_bytes": 64 * MIB, "scratch_files": 2000}
    async with JailPool(
        2,
        allow=[breakouts],
        readable=[store],
        scratch=scratch,
        memory_bytes=512 * MIB,
        tier=request.param,
        **shares,
    ) as pool:
        yield pool
        assert list(scratch.glob("waybill-*/jailed-*")) == []
    assert list(scratch.iterdir()) == []
    assert staying(tmp_path) == []


def coded(path: Path) -> list[int]:
    """A path that is no argument's: one that is may be read."""
    return list(os.fspath(path).encode())


async def test_nothing_stays_after_its_call(
    pool: JailPool, store: Path, tmp_path: Path
) -> None:
    """However a process leaves its parent, it is dead before the next call begins."""
    page = str(store / "ab" / "mine")

    for _ in range(2):
        await pool.run(breakouts.stay, timeout_s=30)
        assert staying(tmp_path) == []
        answer = await pool.run(breakouts.look_around, timeout_s=30, page=page)
        assert answer == {"page": "mine", "found": []}


async def test_the_next_call_meets_a_clean_process(pool: JailPool, store: Path) -> None:
    """What a taken over process changed in itself ends with it."""
    page = str(store / "ab" / "mine")
    await pool.run(breakouts.poison, timeout_s=30)

    answer = await pool.run(breakouts.look_around, timeout_s=30, page=page)

    assert answer == {"page": "mine", "found": []}


async def test_others_files_are_neither_named_nor_read(
    pool: JailPool, store: Path
) -> None:
    """What others put into the store meanwhile is not seen; a known name is refused."""
    heard: list[str] = []

    async def spy() -> None:
        root = coded(store)
        heard.extend(
            await pool.run(breakouts.spy, timeout_s=30, store=root, wait_s=0.5)
        )

    async with anyio.create_task_group() as group:
        group.start_soon(spy)
        await pool.run(breakouts.look_around, timeout_s=30, page=str(store / "ab/mine"))
        (store / "ab" / "new").write_text("new")
    theirs = coded(store / "ab" / "theirs")

    assert heard == []
    assert await pool.run(breakouts.read_hidden, timeout_s=30, path=theirs) == ""


async def test_a_link_among_the_arguments_leads_nowhere_else(
    pool: JailPool, store: Path, tmp_path: Path
) -> None:
    """An argument that lies in the store and leads out of it opens nothing."""
    (tmp_path / "outside").write_text("hush")
    (store / "ab" / "link").symlink_to(tmp_path / "outside")
    page = str(store / "ab" / "link")

    with pytest.raises(Permanent, match="PermissionError"):
        await pool.run(breakouts.look_around, timeout_s=30, page=page)


@pytest.mark.parametrize("unlinked", [False, True])
async def test_scratch_is_bounded(pool: JailPool, unlinked: bool) -> None:
    """Bytes in files, with a name or without, end the call at its share."""
    with pytest.raises(Permanent) as caught:
        await pool.run(breakouts.fill, timeout_s=30, gigabytes=3, unlinked=unlinked)

    assert caught.value.code == "JAIL_SCRATCH"


async def test_the_number_of_files_is_bounded(pool: JailPool) -> None:
    """200,000 files are not made."""
    with pytest.raises(Permanent) as caught:
        await pool.run(breakouts.scatter, timeout_s=60, files=200_000)

    assert caught.value.code == "JAIL_SCRATCH"


async def test_folders_deeper_than_any_path_are_removed(pool: JailPool) -> None:
    """1,500 folders in each other end neither the call nor who cleans up."""
    assert await pool.run(breakouts.nest, timeout_s=30) == breakouts.NEST


async def test_memory_of_many_processes_counts_together(
    pool: JailPool, tmp_path: Path
) -> None:
    """Six processes within their limits are over it together."""
    with pytest.raises(Permanent) as caught:
        await pool.run(breakouts.hoard, timeout_s=30, gigabytes=2)

    assert caught.value.code == "MEMORY_LIMIT"
    assert staying(tmp_path) == []


async def test_a_forged_code_is_bounded(pool: JailPool) -> None:
    """Half a megabyte of code does not reach a row or a log."""
    with pytest.raises(Permanent) as caught:
        await pool.run(breakouts.lie, timeout_s=30)

    assert caught.value.code == "PERMANENT"


async def test_a_timeout_leaves_nothing(pool: JailPool, tmp_path: Path) -> None:
    """Neither the process nor what it started."""
    with pytest.raises(Transient):
        await pool.run(breakouts.linger, timeout_s=1)

    assert staying(tmp_path) == []


def test_a_folder_is_removed_however_deep_and_odd(tmp_path: Path) -> None:
    """Folders nobody may enter, links, pipes, and depth without end."""
    top = tmp_path / "top"
    top.mkdir()
    here = os.getcwd()
    os.chdir(top)
    for _ in range(1500):
        os.mkdir("a-folder-in-a-folder")
        os.chdir("a-folder-in-a-folder")
    os.mkfifo("pipe")
    os.symlink("/etc", "link")
    os.mkdir("closed", 0)
    os.chdir(here)

    remove(top)

    assert list(tmp_path.iterdir()) == []
