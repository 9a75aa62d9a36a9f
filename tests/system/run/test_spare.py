"""Worker processes that are replaced: spares, and what keeps a process from its end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from pipeline.run import supervisor
from pipeline.run.supervisor import GRACE_S
from tests.system.command import Home, alive, children_of, eventually, pictures

SHIELDS = """
with anyio.CancelScope(shield=True):
    await anyio.sleep_forever()
"""
THREAD = """
await anyio.to_thread.run_sync(signal.pause)
"""
IGNORES = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
return Advance()
"""
STOPS = """
os.kill(os.getppid(), signal.SIGSTOP)
if ctx.item.name == "dies.png":
    os._exit(3)
return Advance()
"""


def workers(home: Home, process: subprocess.Popen[bytes]) -> list[int]:
    """Worker processes of a started service that have a session."""
    rows = home.sql("select pid from workers where lease_until > now()")
    return alive([row["pid"] for row in rows if row["pid"] in children_of(process.pid)])


def test_who_is_killed_has_its_successor_at_once(home: Home) -> None:
    """It waited already; and nothing is left of those in waiting at the end."""
    with home.started("worker") as service:
        assert eventually(lambda: workers(home, service), within_s=60)
        # Itself, and two in waiting; each has a shepherd.
        assert eventually(lambda: len(children_of(service.pid)) == 6, within_s=60)
        waiting = set(children_of(service.pid)) - set(workers(home, service))
        time.sleep(2)  # for their imports
        [first] = workers(home, service)

        os.kill(first, signal.SIGKILL)
        successor = eventually(
            lambda: set(workers(home, service)) - {first}, within_s=60
        )
        everyone = list(children_of(service.pid))
        service.terminate()
        service.wait(60)

    assert successor <= waiting
    assert eventually(lambda: not alive(everyone), within_s=10)


# A copy in the worker's group, one that left it, and one whose parent is gone.
COPIES = """
import time
def copy(leave, daemon):
    pid = os.fork()
    if pid == 0:
        if leave:
            os.setsid()
        if daemon and os.fork():
            os._exit(0)
        with open(os.environ["WAYBILL_HOME"] + "/copies", "a") as told:
            told.write(f"{os.getpid()}\\n")
        time.sleep(300)
        os._exit(0)
for leave, daemon in ((False, False), (True, False), (True, True)):
    copy(leave, daemon)
if ctx.item.name == "stays.png":
    await anyio.sleep(50)
return Advance()
"""


def copies(home: Home, times: int = 1) -> list[int]:
    """Those that the stage made the last of so many times; all of them live."""
    noted = home.folder / "copies"

    def made() -> list[int]:
        pids = [int(x) for x in noted.read_text().split()] if noted.exists() else []
        return pids[-3:] if len(pids) == 3 * times else []

    pids = eventually(made, within_s=60)
    assert pids
    assert alive(pids) == pids
    return pids


@pytest.mark.proof
def test_what_a_stage_forked_ends_with_its_worker(home: Home, tmp_path: Path) -> None:
    """Killed or stopped, and wherever it went: nothing stays, with its locks."""
    folder = home.pipeline("forks", forks=COPIES)
    home.ok("ingest", *pictures(tmp_path, ["a.png"]), "--pipeline", folder)

    with home.started("worker") as service:
        killed = copies(home)
        assert eventually(lambda: home.ends() == {"done": 1}, within_s=60)
        for pid in workers(home, service):
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: not alive(killed), within_s=10)

        files = pictures(tmp_path / "more", ["x.png", "b.png"])[1:]
        home.ok("ingest", *files, "--pipeline", folder)
        stopped = copies(home, 2)
        service.terminate()
        service.wait(60)

    assert alive(stopped) == []


@pytest.mark.proof
def test_what_a_stage_forked_ends_with_a_command(home: Home, tmp_path: Path) -> None:
    """A worker in the foreground has no shepherd, and leaves as little."""
    folder = home.pipeline("forks", forks=COPIES)

    with home.started(
        "ingest",
        *map(str, pictures(tmp_path, ["a.png"])),
        "--pipeline",
        str(folder),
        "--wait",
    ) as command:
        assert command.wait(60) == 0

    noted = (home.folder / "copies").read_text().split()
    assert noted
    assert alive([int(pid) for pid in noted]) == []


@pytest.mark.proof
def test_a_command_that_is_told_to_end_says_so_and_leaves_nothing(
    home: Home, tmp_path: Path
) -> None:
    """By SIGTERM as by Ctrl-C: what it had in hand is back in line."""
    folder = home.pipeline("forks", forks=COPIES)
    files = map(str, pictures(tmp_path, ["stays.png"]))

    with home.started("ingest", *files, "--pipeline", str(folder), "--wait") as command:
        left = copies(home)
        command.terminate()
        code = command.wait(60)

    assert code == 130
    assert "interrupted" in (home.folder / "stderr.log").read_text()
    assert alive(left) == []
    strikes = [row["strikes"] for row in home.sql("select strikes from ready")]
    assert strikes == [0], home.ok("items", "ls")


def test_nothing_outlives_a_supervisor_that_is_killed(
    home: Home, tmp_path: Path
) -> None:
    """Its workers put back what they have, and take along what stages started."""
    folder = home.pipeline("forks", forks=COPIES)
    home.ok("ingest", *pictures(tmp_path, ["stays.png"]), "--pipeline", folder)

    with home.started("worker") as service:
        left = copies(home)
        everyone = list(children_of(service.pid))
        service.kill()

        assert eventually(lambda: not alive([*everyone, *left]), within_s=20)
    assert home.one("select count(*) from ready where strikes = 0") == 1


def test_spares_end_with_a_supervisor_that_is_killed(home: Home) -> None:
    """However it dies."""
    with home.started("worker") as service:
        assert eventually(lambda: workers(home, service), within_s=60)
        assert eventually(lambda: len(children_of(service.pid)) == 6, within_s=60)
        everyone = list(children_of(service.pid))

        service.kill()

        assert eventually(lambda: not alive(everyone), within_s=60)


@pytest.mark.proof
def test_a_service_ends_though_a_stage_does_not(home: Home, tmp_path: Path) -> None:
    """Its time to drain passes, and it is left behind."""
    files = pictures(tmp_path, ["a.png"])
    home.ok("ingest", *files, "--pipeline", home.pipeline("evil", act=SHIELDS))

    with home.started("worker") as service:
        begun = "select count(*) from running"
        assert eventually(lambda: home.one(begun) == 1, within_s=60)
        everyone = list(children_of(service.pid))
        service.terminate()
        service.wait(GRACE_S + 20)

    assert home.logged("stages_hang") == 1
    assert home.logged("workers_killed") == 0
    assert home.one("select count(*) from ready where strikes = 0") == 1
    assert eventually(lambda: not alive(everyone), within_s=10)


@pytest.mark.proof
def test_a_stage_cannot_stop_its_shepherd(home: Home, tmp_path: Path) -> None:
    """Its worker is replaced all the same, and the service ends when it is told to."""
    files = pictures(tmp_path, ["dies.png", "lives.png"])
    home.ok("ingest", *files, "--pipeline", home.pipeline("evil", act=STOPS))

    with home.started("worker") as service:
        ends = {"done": 1, "failed": 1}
        assert eventually(lambda: home.ends() == ends, within_s=60)
        for pid, line in children_of(service.pid).items():
            if "shepherd" in line:
                os.kill(pid, signal.SIGSTOP)
        service.terminate()
        service.wait(20)

    assert home.one("select code from outcomes where code <> ''") == "WORKER_KILLED"


@pytest.mark.proof
def test_a_stage_cannot_have_sigterm_ignored(home: Home, tmp_path: Path) -> None:
    """Its worker hears it all the same."""
    files = pictures(tmp_path, ["a.png"])
    home.ok("ingest", *files, "--pipeline", home.pipeline("evil", act=IGNORES))

    with home.started("worker") as service:
        assert eventually(lambda: home.ends() == {"done": 1}, within_s=60)
        assert eventually(lambda: home.logged("signal_handler_mended"), within_s=10)
        service.terminate()
        service.wait(15)

    assert home.logged("workers_killed") == 0


@pytest.mark.proof
def test_a_command_ends_though_a_stage_does_not(home: Home, tmp_path: Path) -> None:
    """`ingest --wait` says what became of its item, and exits as for any that fails."""
    folder = home.pipeline("evil", act=THREAD)
    act = folder / "act.py"
    quick = act.read_text().replace("timeout_s=60", "timeout_s=1")
    act.write_text(quick.replace("Retry(", "Retry(attempts=1, "))
    files = pictures(tmp_path, ["a.png"])

    ran = home.run("ingest", *files, "--pipeline", folder, "--wait", "--json")

    [item] = home.ok("items", "ls")
    assert (item["state"], item["code"]) == ("failed", "STAGE_TIMEOUT")
    assert ran.json()["failed"] == 1
    assert ran.code == 4


async def test_a_shepherd_that_hears_nothing_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stage may have stopped it for good."""
    monkeypatch.setattr(supervisor, "ENDS_S", 0.2)
    deaf = ["sh", "-c", "trap '' USR2; echo up; sleep 60"]
    process = await anyio.open_process(deaf, start_new_session=True)
    assert process.stdout is not None
    await process.stdout.receive()

    with anyio.fail_after(10):
        await supervisor.end(process)

    assert process.returncode  # by nothing else: it would sleep for a minute
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its sleep
    await process.aclose()
