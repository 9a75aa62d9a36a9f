"""The embedded server belongs to its users: up while one lives, gone after the last."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest
from anyio import to_thread

from pipeline.errors import StoreUnavailable
from pipeline.store import embedded, keeper
from tests.system.command import alive, eventually, with_pid

USER = """
import sys, time
from pathlib import Path
from pipeline.store import embedded

embedded.start(Path(sys.argv[1]))
print("up", flush=True)
time.sleep(600)
"""
# Characters that a shell, a URL, a setting or a pattern would take for its own.
NAMES = ('a (b) $c %41#1 it\'s "so" über', "x" * 120)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Of a server that is not there yet."""
    with TemporaryDirectory(prefix="waybill-") as home:
        data = Path(home) / "postgres"
        yield data
        embedded.end(data)


def user(folder: Path) -> subprocess.Popen[str]:
    """Another process that uses the server, and has it when this returns."""
    process = begun(folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def begun(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)], stdout=subprocess.PIPE, text=True
    )


def forked() -> int:
    """A copy of this process, which only waits."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(0)
    return pid


def reap(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def end(process: subprocess.Popen[str], how: signal.Signals) -> None:
    with process:
        process.send_signal(how)


def asleep(user: int) -> subprocess.Popen[str]:
    """A process of a user's that does nothing."""
    return subprocess.Popen(["sleep", "60"], user=user, text=True)


def server(folder: Path) -> int:
    """The process id of the server."""
    state = keeper.state_of(folder)
    assert state is not None
    return state[0]


def keeper_of(folder: Path) -> int:
    return int(keeper.beside(folder, "keeper").read_text())


async def answers(url: str) -> bool:
    """Whether a statement gets its answer."""
    try:
        con = await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError):
        return False
    try:
        return bool(await con.fetchval("select 1"))
    finally:
        await con.close()


@pytest.mark.parametrize("name", NAMES)
async def test_a_home_may_have_any_name(folder: Path, name: str):
    """Spaces, quotes, brackets, per cent signs, umlauts, a hundred characters."""
    data = folder.parent / name / "postgres"

    urls = await start(data)

    assert await answers(urls.app_url)
    embedded.stop(data)


async def start(folder: Path) -> embedded.Embedded:
    """`embedded.start`, which wants no event loop of ours."""
    return await to_thread.run_sync(embedded.start, folder)


async def test_a_first_start_is_no_recovery(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Whoever waits for long is told which of the two it is."""
    monkeypatch.setattr(embedded, "TELL_AFTER_S", 0.0)

    said = []
    for _ in range(2):
        await start(folder)
        embedded.stop(folder)
        said.append(capsys.readouterr().err)

    assert "which is set up here for the first time" in said[0]
    assert "which may have to recover" in said[1]


async def test_nobody_else_reaches_the_socket(folder: Path):
    """`trust` lets in whoever reaches it: it lies in a folder that is ours alone."""
    for data in (folder, folder.parent / ("y" * 120) / "postgres"):
        await start(data)
        state = keeper.state_of(data)

        assert state is not None
        found = state[1].stat()
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid == os.geteuid()
        assert stat.S_IMODE((state[1] / keeper.SOCKET).stat().st_mode) == 0o700
        embedded.stop(data)


@pytest.mark.proof
async def test_folders_above_stay_closed(folder: Path):
    """A private home is as private as before, also for root."""
    folder.parent.chmod(0o700)

    await start(folder)

    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_killed_server_is_up_again_in_seconds(folder: Path):
    """Nobody has to notice, and nothing that was committed is gone."""
    urls = await start(folder)
    con = await asyncpg.connect(urls.owner_url)
    await con.execute("create table kept (n int); insert into kept values (7)")
    first = server(folder)

    with_pid(first, signal.SIGKILL)
    eventually(lambda: not alive([first]), within_s=5)

    assert eventually(
        lambda: (
            (state := keeper.state_of(folder)) is not None
            and state[0] != first
            and state[2] == "ready"
        ),
        within_s=10,
    )
    con.terminate()
    again = await asyncpg.connect(urls.owner_url)
    assert await again.fetchval("select n from kept") == 7
    await again.close()


async def test_what_outlives_a_killed_server_is_ended(folder: Path):
    """One of its processes waits for a lock of another that is gone: it never looks
    whether its server lives, and no other could start beside it."""
    urls = await start(folder)
    con = await asyncpg.connect(urls.owner_url)
    stuck = await con.fetchval(
        "select pid from pg_stat_activity where backend_type = 'walwriter'"
    )
    os.kill(stuck, signal.SIGSTOP)

    with_pid(server(folder), signal.SIGKILL)

    con.terminate()
    assert eventually(lambda: not alive([stuck]), within_s=5)
    assert await answers((await start(folder)).app_url)


async def test_a_killed_keeper_takes_its_server_along(folder: Path):
    """No server that nobody watches; the next user starts another."""
    await start(folder)
    pids = [keeper_of(folder), server(folder)]

    with_pid(pids[0], signal.SIGKILL)

    assert eventually(lambda: not alive(pids), within_s=10)
    assert await answers((await start(folder)).app_url)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_none_is_left_behind_by_the_last_user(folder: Path, how: signal.Signals):
    """However its users end, the server ends after the last of them."""
    one, other = user(folder), user(folder)
    pids = [keeper_of(folder), server(folder)]

    end(one, how)
    still = alive(pids)
    end(other, how)

    assert still == pids
    assert eventually(lambda: not alive(pids), within_s=10)


async def test_its_file_tells_the_keeper_that_lives(folder: Path):
    """A keeper after another writes its own number, not behind the other's."""
    for _ in range(2):
        process = user(folder)
        told = keeper_of(folder)

        assert alive([told]) == [told]
        end(process, signal.SIGKILL)
        assert eventually(lambda told=told: not alive([told]), within_s=10)


async def test_after_a_power_cut_it_recovers(folder: Path):
    """Everything is killed at once; a pid file tells of a server that is gone."""
    process = user(folder)
    pids = [keeper_of(folder), server(folder), process.pid]
    for pid in pids[:2]:
        with_pid(pid, signal.SIGKILL)
    end(process, signal.SIGKILL)
    assert eventually(lambda: not alive(pids), within_s=10)
    assert (folder / "postmaster.pid").exists()

    assert await answers((await start(folder)).app_url)


async def test_a_number_that_is_anothers_now_keeps_no_server_down(folder: Path):
    """After a power cut, or in a new container, the pid file tells of somebody else."""
    await start(folder)
    embedded.stop(folder)
    who = folder.stat().st_uid  # of another user PostgreSQL believes that it is not it
    other = asleep(who)
    try:
        lock = keeper._socket_folder(folder) / f"{keeper.SOCKET}.lock"
        for file in (folder / "postmaster.pid", lock):
            file.write_text(f"{other.pid}\n{folder}\n")

        assert await answers((await start(folder)).app_url)
        assert other.poll() is None
    finally:
        end(other, signal.SIGKILL)


async def test_several_at_once_start_one(folder: Path):
    """Who comes second finds the server of the first."""
    processes = [begun(folder) for _ in range(4)]

    said = [p.stdout.readline() for p in processes if p.stdout is not None]

    assert said == ["up\n"] * 4
    for process in processes:
        end(process, signal.SIGKILL)


async def test_a_server_that_cannot_run_says_why(folder: Path):
    """One sentence with the server's own last word, and where its log is."""
    await start(folder)
    embedded.stop(folder)
    with (folder / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("max_connections = many\n")

    with pytest.raises(StoreUnavailable, match=r"postgresql\.conf") as refused:
        await start(folder)

    assert ".postgres.log" in refused.value.hint


@pytest.mark.proof
async def test_a_killed_keeper_is_replaced_by_who_watches(folder: Path):
    """Within seconds, as often as it is killed, while its user goes on."""
    url = (await start(folder)).app_url
    embedded.watch(folder)

    for _ in range(2):
        pid = keeper_of(folder)
        with_pid(pid, signal.SIGKILL)
        note = keeper.beside(folder, "keeper")
        assert eventually(
            lambda pid=pid, note=note: note.read_text() not in ("", str(pid)),
            within_s=10,
        )

        def ready() -> bool:
            state = keeper.state_of(folder)
            return state is not None and state[2] == "ready" and bool(alive([state[0]]))

        assert eventually(ready, within_s=20)
    assert await answers(url)


async def test_a_forked_copy_of_a_user_is_none(folder: Path):
    """A stage may fork: what it leaves keeps neither the server nor the next user."""
    await start(folder)
    pids = [keeper_of(folder), server(folder)]
    copy = forked()
    try:
        await to_thread.run_sync(embedded.stop, folder)

        assert eventually(lambda: not alive(pids), within_s=10)
        assert await answers((await start(folder)).app_url)
    finally:
        reap(copy)


def test_one_that_is_still_starting_has_not_failed(folder: Path):
    """Whoever waits no longer says so, and not what the log happens to end with."""
    with pytest.raises(StoreUnavailable, match="still starting after 0 s") as late:
        embedded.start(folder, wait_s=0.0)

    assert "waybill up" in late.value.hint
    assert str(keeper.beside(folder, "log")) in late.value.hint


def test_who_finds_it_locked_waits_not_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It says what it waits for, and then which file it is about."""
    path = keeper.beside(folder, "users")
    monkeypatch.setattr(embedded, "TELL_AFTER_S", 0.0)

    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailable, match="locked") as refused:
            embedded.start(folder, wait_s=0.1)

    assert str(path) in refused.value.hint
    assert "waiting for PostgreSQL" in capsys.readouterr().err
