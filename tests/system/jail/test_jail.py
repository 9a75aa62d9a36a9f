"""The jail holds: a process of the real pool tries everything, tier by tier."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from pipeline.jail import jail, jailbreak, namespaces, syscalls
from pipeline.jail.jailbreak import ALLOWED, GROUPS, self_test
from pipeline.jail.pool import JailPool
from stages.formats import probe

MODULES = (sys.modules[__name__], jailbreak, probe)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the jail is Linux's")


# -- what runs in the jail --------------------------------------------------------


def read(path: str) -> str:
    return Path(path).read_text()


def listed(path: str) -> list[str]:
    return os.listdir(path)


def work_here() -> str:
    """What honest code does in its scratch folder."""
    Path("folder").mkdir()
    Path("folder", "file").write_text("some text")
    Path("folder", "file").rename("moved")
    os.symlink("moved", "link")
    shutil.rmtree("folder")
    return Path("link").read_text()


def write_and_run() -> str:
    """Drop a program and start it."""
    descriptor = os.open("program", os.O_CREAT | os.O_WRONLY, 0o700)
    os.write(descriptor, b"#!/bin/sh\necho run\n")
    os.close(descriptor)
    ran = subprocess.run(["./program"], capture_output=True, text=True, check=True)
    return ran.stdout


def of_what_it_starts(path: str) -> list[str]:
    """What a program that we start may do: read a file, and open a socket."""
    code = f"""
import socket
for name, attempt in (
    ("read", lambda: open({path!r}).read()),
    ("socket", lambda: socket.socket()),
):
    try:
        attempt()
        print(name, "ALLOWED")
    except OSError as error:
        print(name, error.errno)
"""
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.splitlines()


def libraries() -> list[str]:
    """Load what documents are read with, and use it once on several threads."""
    import cv2
    import numpy
    import pypdfium2  # type: ignore[import-untyped]
    import typst
    from PIL import Image

    page = numpy.full((600, 400), 255, numpy.uint8)
    cv2.setNumThreads(2)
    assert cv2.GaussianBlur(page, (31, 31), 0).shape == page.shape
    Image.fromarray(page).save("page.png")
    pdf = pypdfium2.PdfDocument.new()
    pdf.new_page(100, 100)
    pdf.save("page.pdf")
    assert typst.compile(b"hello", format="pdf").startswith(b"%PDF")
    return sorted(os.listdir("."))


# -- fixtures -----------------------------------------------------------------------


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder like the artifact store, with one artifact."""
    folder = tmp_path / "objects"
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "cdef").write_text("a document")
    return folder


def open_pool(tmp_path: Path, store: Path, **settings: Any) -> JailPool:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    return JailPool(1, allow=MODULES, readable=[store], scratch=scratch, **settings)


@pytest.fixture
async def pool(tmp_path: Path, store: Path) -> AsyncIterator[JailPool]:
    """The best jail there is; a skip where the kernel grants none of tier 2."""
    async with open_pool(tmp_path, store) as pool:
        await pool.run(listed, timeout_s=30, path=".")
        if pool.jail["tier"] < 2:
            pytest.skip(f"this kernel gives no jail: {pool.jail['missing']}")
        yield pool


# -- what is promised -----------------------------------------------------------------


async def test_nothing_that_is_tried_succeeds(pool: JailPool) -> None:
    """No way to the network, to files outside, to other processes, past a limit."""
    found = await self_test(pool)

    assert [name for name, met in found["attempts"].items() if met == ALLOWED] == []
    assert [found[group] for group in GROUPS] == ["blocked"] * len(GROUPS)
    assert found["network_attempts_allowed"] == 0
    assert {name for names in GROUPS.values() for name in names} == set(
        found["attempts"]
    )


@linux
async def test_the_self_test_finds_an_open_jail(tmp_path: Path, store: Path) -> None:
    """At tier 1 network and files are open, and the self-test says so."""
    async with open_pool(tmp_path, store, tier=1) as pool:
        found = await self_test(pool)

    assert found["tier"] == 1
    assert (found["network"], found["files"]) == ("open", "open")
    assert found["attempts"]["tcp"] == found["attempts"]["read"] == ALLOWED
    assert found["network_attempts_allowed"] > 0
    limits = ("forks", "file_size", "memory", "processor")
    assert ALLOWED not in [found["attempts"][limit] for limit in limits]
    assert not list(store.glob("jailbreak*"))


async def test_each_tier_can_be_had_alone(pool: JailPool, tmp_path: Path) -> None:
    """Files and network are closed by tier 2 already, without any namespace."""
    async with open_pool(tmp_path, tmp_path / "objects", tier=2) as second:
        found = await self_test(second)

    assert found["tier"] == 2
    assert found["namespaces"] is False
    assert (found["network"], found["files"]) == ("blocked", "blocked")


async def test_an_artifact_is_read_by_name_alone(pool: JailPool, store: Path) -> None:
    """Who knows a name reads the bytes; nobody learns which names there are."""
    text = await pool.run(read, timeout_s=30, path=str(store / "ab" / "cdef"))

    assert text == "a document"
    for folder in (store, store / "ab"):
        with pytest.raises(Exception, match="PermissionError"):
            await pool.run(listed, timeout_s=30, path=str(folder))


async def test_the_home_of_data_is_out_of_sight(pool: JailPool, tmp_path: Path) -> None:
    """Neither secrets, nor another process's scratch folder, nor /root can be read."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "pdf-passwords.txt").write_text("hush")
    mine = await pool.run(of_whom, timeout_s=30)

    for path in ("/etc/shadow", str(tmp_path / "secrets" / "pdf-passwords.txt")):
        with pytest.raises(Exception, match="PermissionError"):
            await pool.run(read, timeout_s=30, path=path)
    for path in (str(Path(mine).parent), os.path.expanduser("~"), "/tmp"):
        with pytest.raises(Exception, match="PermissionError"):
            await pool.run(listed, timeout_s=30, path=path)


def of_whom() -> str:
    return os.environ["TMPDIR"]


async def test_honest_work_is_not_hindered(pool: JailPool) -> None:
    """Files in the scratch folder, libraries, threads and programs work as ever."""
    assert await pool.run(work_here, timeout_s=30) == "some text"
    assert await pool.run(libraries, timeout_s=60) == ["page.pdf", "page.png"]
    runs = (await self_test(pool, ["echo", "tesseract"]))["runs"]
    assert runs == {"echo": True, "tesseract": shutil.which("tesseract") is not None}


async def test_what_a_jailed_process_starts_is_jailed_too(
    pool: JailPool, tmp_path: Path
) -> None:
    """A program started in the jail reads nothing outside, and reaches nobody."""
    (tmp_path / "canary").write_text("hush")

    lines = await pool.run(
        of_what_it_starts, timeout_s=30, path=str(tmp_path / "canary")
    )

    assert lines == ["read 13", "socket 1"]


async def test_a_dropped_program_does_not_run(pool: JailPool) -> None:
    """What is written into the scratch folder cannot be executed."""
    with pytest.raises(Exception, match="PermissionError"):
        await pool.run(write_and_run, timeout_s=30)


async def test_a_jailed_process_that_lost_its_worker_ends(tmp_path: Path) -> None:
    """A process whose parent is not the worker it was started by does not stay."""
    code = (
        "import json, os, sys; sys.path.insert(0, sys.argv[1]);"
        "from pipeline.jail import jail; jail.die_with(1); print('alive')"
    )
    ran = await anyio.run_process(
        [sys.executable, "-c", code, str(Path(jail.__file__).parents[2])], check=False
    )

    assert ran.stdout == b""
    assert ran.returncode == 1


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_lands_inside_it(machine: str) -> None:
    """The kernel's verifier accepts a filter of either architecture."""
    for write in (syscalls.program, syscalls.threadless):
        lines = list(write(machine))

        assert len(lines) <= 4096
        assert lines[-1] == (syscalls.RETURN, 0, 0, syscalls.ALLOW)
        for at, (code, yes, no, _) in enumerate(lines):
            if code & 0x07 == 0x05:  # a jump
                assert at + 1 + max(yes, no) < len(lines)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_decides_as_it_says(machine: str) -> None:
    """Sockets, foreign limits and namespaces are refused; threads and files are not."""
    column = 0 if machine == "x86_64" else 1
    eperm, enosys = syscalls.ERROR | 1, syscalls.ERROR | 38

    def verdict(number: int, first: int = 0, arch: str = machine) -> int:
        return filtered(machine, number, first, syscalls.AUDIT_ARCH[arch])

    for name, numbers in syscalls.REFUSED.items():
        number = numbers[column]
        if number is not None:
            assert verdict(number) == eperm, name
    assert verdict(syscalls.CLONE[column], 0x3D0F00) == syscalls.ALLOW  # a thread
    assert verdict(syscalls.CLONE[column], namespaces.CLONE_NEWUSER) == eperm
    assert verdict(syscalls.CLONE3[column]) == enosys
    assert verdict(syscalls.PRLIMIT64[column], 0) == syscalls.ALLOW
    assert verdict(syscalls.PRLIMIT64[column], 1234) == eperm
    assert verdict((0, 63)[column]) == syscalls.ALLOW  # read
    other = "aarch64" if machine == "x86_64" else "x86_64"
    assert verdict(0, arch=other) == syscalls.KILL
    if machine == "x86_64":
        assert verdict(syscalls.X32 + 1) == eperm


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_against_threads_refuses_nothing_else(machine: str) -> None:
    """A library that asks for a thread hears that there are none; programs start."""
    column = 0 if machine == "x86_64" else 1
    enosys = syscalls.ERROR | 38

    def verdict(number: int, first: int = 0) -> int:
        arch = syscalls.AUDIT_ARCH[machine]
        return filtered(machine, number, first, arch, syscalls.threadless)

    assert verdict(syscalls.CLONE[column], 0x3D0F00) == enosys  # a thread
    assert verdict(syscalls.CLONE3[column]) == enosys
    assert verdict(syscalls.CLONE[column], 0x4111) == syscalls.ALLOW  # vfork
    assert verdict((0, 63)[column]) == syscalls.ALLOW  # read


def filtered(
    machine: str,
    number: int,
    first: int,
    arch: int,
    write: Callable[[str], Iterator[syscalls.Instruction]] = syscalls.program,
) -> int:
    """The filter's answer to one call: a small machine like the kernel's."""
    words = {syscalls.AT_NUMBER: number, syscalls.AT_ARCH: arch}
    words[syscalls.AT_FIRST] = first
    lines = list(write(machine))
    at = held = 0
    while True:
        code, yes, no, value = lines[at]
        at += 1
        match code:
            case syscalls.LOAD:
                held = words[value]
            case syscalls.JUMP_EQUAL:
                at += yes if held == value else no
            case syscalls.JUMP_FROM:
                at += yes if held >= value else no
            case syscalls.JUMP_SET:
                at += yes if held & value else no
            case syscalls.RETURN:
                return value


@linux
@pytest.mark.skipif(
    platform.machine() not in syscalls.AUDIT_ARCH, reason="no filter is written"
)
def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """A restriction that the kernel refuses is in the report with its reason."""
    missing: dict[str, str] = {}
    had = jail.Attempts(missing)

    def refused() -> None:
        raise PermissionError(1, "Operation not permitted")

    assert had.attempt("namespaces", refused) is False
    assert had.attempt("files", lambda: 7) is True
    assert missing == {"namespaces": "Operation not permitted"}
