"""The service as a service manager sees it: signals, deaths, and what is left over."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from loadtest.corpora.letters import pages
from tests.system.command import (
    Home,
    alive,
    children_of,
    eventually,
    pictures,
    with_pid,
)

QUICK = {"SETTLE_S": "0.2"}
DOZE = """
open(os.environ["WAYBILL_HOME"] + "/begun", "a").write("x")
await anyio.sleep({sleep_s})
return Advance(text=ctx.item.name)
"""


def workers(home: Home) -> set[int]:
    """Process ids of the workers that hold a lease."""
    return {row["pid"] for row in home.sql("select pid from workers")}


def ready_to_run(home: Home, count: int, sleep_s: float, window: int = 100) -> None:
    """`count` items in line whose one stage takes `sleep_s` seconds."""
    folder = home.pipeline("doze", doze=DOZE.format(sleep_s=sleep_s))
    with (folder / "pipeline.toml").open("a", encoding="utf-8") as file:
        file.write(f"[stage.doze]\nwindow = {window}\n")
    made = home.folder / "made" / "d"
    pictures(made, [f"d-{n}.png" for n in range(count)])
    home.ok("ingest", made, "--pipeline", str(folder))


def begun(home: Home) -> int:
    """How many stages have begun."""
    path = home.folder / "begun"
    return path.stat().st_size if path.exists() else 0


def test_items_of_an_earlier_version_go_on(home: Home):
    """It made no notes of what it published; they are made at the first start."""
    ready_to_run(home, 2, 0.1)
    shutil.rmtree(home.folder / "objects" / "published")

    with home.started("up", **QUICK):
        assert eventually(lambda: home.ends() == {"done": 2}, within_s=30)


def test_files_in_the_inbox_are_done_and_sigterm_drains(home: Home):
    """Two workers share the inbox; SIGTERM ends it all with exit 0 and no rest."""
    home.pipeline("doze", doze=DOZE.format(sleep_s=0.5))
    settings = {"PIPELINES": str(home.pipelines), "PIPELINE": "doze", **QUICK}

    with home.started("up", "--processes", "2", **settings) as service:
        assert eventually(lambda: len(workers(home)) == 2, within_s=30)
        made = pictures(home.folder / "made" / "i", [f"i-{n}.png" for n in range(6)])
        for path in made:
            path.rename(home.inbox / path.name)
        done = eventually(lambda: home.ends() == {"done": 6}, within_s=30)
        leased, status = workers(home), home.ok("status")
        service.send_signal(signal.SIGTERM)
        code = service.wait(20)

    assert done, home.ends()
    assert {worker["pid"] for worker in status["workers"]} == leased
    assert len(leased) == 2
    assert code == 0
    assert list(home.inbox.rglob("*.png")) == []
    assert len(list((home.folder / "archive").rglob("*.png"))) == 6
    assert workers(home) == set()
    assert home.processes() == {}


def test_sigterm_lets_stages_finish_and_leaves_the_rest_in_line(home: Home):
    """What is begun is finished and recorded; what is not begun is not touched."""
    ready_to_run(home, 30, sleep_s=3, window=2)

    with home.started("worker") as service:
        assert eventually(lambda: begun(home) >= 2, within_s=30)
        service.send_signal(signal.SIGTERM)
        code = service.wait(20)

    assert code == 0
    assert 2 <= begun(home) < 30
    assert home.ends() == {"done": begun(home)}
    assert home.one("select count(*) from ready") == 30 - begun(home)
    assert home.sql("select * from attempts") == []
    assert workers(home) == set()
    assert home.processes() == {}


def test_a_second_sigterm_puts_everything_back_at_once(home: Home):
    """
    No stage is waited for; its items go back in line, uncharged, no suspects.

    Also where the worker was slow, and both are there before it hears of the first.
    """
    ready_to_run(home, 3, sleep_s=55)

    with home.started("worker") as service:
        assert eventually(lambda: begun(home) == 3, within_s=30)
        [worker] = workers(home)
        with_pid(worker, signal.SIGSTOP)
        for told in (1, 2):
            service.send_signal(signal.SIGTERM)
            assert eventually(lambda n=told: home.logged("stopping") == n, within_s=10)
        with_pid(worker, signal.SIGCONT)
        began = time.monotonic()
        code = service.wait(20)
        took_s = time.monotonic() - began

    assert code == 0
    assert took_s < 10
    back = home.sql("select attempt, strikes, seq from ready")
    assert [tuple(row) for row in back] == [(0, 0, 0)] * 3
    assert workers(home) == set()
    assert home.processes() == {}


def test_a_killed_worker_is_replaced_and_leaves_no_tesseract(
    home: Home, tmp_path: Path
):
    """kill -9 while pages are read: what it began dies with it, the items are done."""
    made = pages(tmp_path, count=4, seed=7, kinds=("scan",))
    folder = home.pipeline("read")
    (folder / "pipeline.toml").write_text(
        'name = "read"\ndeadline = "1d"\nstages = ["intake", "ocr"]\n'
        '[stage.ocr]\nengine = "pytesseract"\n'
    )
    home.ok("ingest", *made, "--pipeline", folder)

    with home.started("up", "--processes", "1", **QUICK) as service:
        # Stopped, they would outlive anything but being killed with their group.
        stopped = eventually(lambda: stop_tesseract(service.pid), within_s=40)
        [worker] = workers(home)
        family = [worker, *children_of(worker)]
        os.kill(worker, signal.SIGKILL)
        left = eventually(lambda: not alive(family), within_s=5)
        done = eventually(lambda: sum(home.ends().values()) == 4, within_s=60)
        [second] = workers(home)
        service.send_signal(signal.SIGTERM)
        code = service.wait(30)

    assert set(stopped) <= set(family)
    assert stopped
    assert left, alive(family)
    assert done, home.ends()
    assert second != worker
    assert home.ends() == {"done": 4}
    assert home.one("select count(*) from attempts where charged") == 0
    assert code == 0
    assert home.processes() == {}


@pytest.mark.parametrize(
    "what", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.proof)]
)
def test_workers_do_not_outlive_their_supervisor(home: Home, what: signal.Signals):
    """However it ends: the stages in hand are finished, then everybody is gone."""
    ready_to_run(home, 4, sleep_s=3)

    with home.started("worker", "--processes", "2") as service:
        assert eventually(lambda: begun(home) == 4, within_s=30)
        family = list(children_of(service.pid))
        with_pid(service.pid, what)
        service.wait(20)
        ended = eventually(lambda: not home.processes(), within_s=20)

    assert len(family) >= 2
    assert ended, home.processes()
    assert home.ends() == {"done": 4}
    assert begun(home) == 4
    assert workers(home) == set()


@pytest.mark.proof
def test_a_killed_service_leaves_its_workers_the_server(embedded_home: Home):
    """The embedded one: what they finish is committed, and then it is shut down."""
    home = embedded_home
    ready_to_run(home, 2, sleep_s=3)

    with home.started("worker") as service:
        assert eventually(lambda: begun(home) == 2, within_s=40)
        with_pid(service.pid, signal.SIGKILL)
        service.wait(20)
        ended = eventually(lambda: not home.processes(), within_s=30)
    found = [item["state"] for item in home.ok("items", "ls")]

    assert ended, home.processes()
    assert found == ["done", "done"]
    assert begun(home) == 2


def test_a_running_item_is_cancelled_in_seconds(home: Home):
    """A person's word reaches the stage in hand; the neighbours go on."""
    ready_to_run(home, 3, sleep_s=8)

    with home.started("worker", LEASE_S="5"):
        assert eventually(lambda: begun(home) == 3, within_s=30)
        asked = home.ok("items", "cancel", "1", REVIEWER="alma")
        cancelled = eventually(lambda: home.ends() == {"cancelled": 1}, within_s=5)
        done = eventually(lambda: sum(home.ends().values()) == 3, within_s=20)

    assert asked == {"1": "cancelling"}
    assert cancelled, home.ends()
    assert done
    assert home.ends() == {"cancelled": 1, "done": 2}


def stop_tesseract(pid: int) -> list[int]:
    """Stop every tesseract below this process; those that did not end meanwhile."""
    found = [p for p, line in children_of(pid).items() if "tesseract" in line]
    for reader in found:
        with_pid(reader, signal.SIGSTOP)
    return alive(found)


@pytest.mark.proof
def test_up_and_whoever_looks_survive_a_file_that_ends_its_process(home: Home):
    """The others go on; what lies there for that one stays, with a sentence."""
    good = home.pipeline("doze", doze=DOZE.format(sleep_s=0))
    bad = home.pipeline("bad", act="return Advance()")
    (bad / "act.py").write_text("import os\nos._exit(0)\n")
    settings = {"PIPELINES": str(good.parent), "PIPELINE": "doze", **QUICK}
    for place, name in ((home.inbox, "a.png"), (home.inbox / "acme" / "bad", "b.png")):
        pictures(place, [name])

    with home.started("up", **settings) as service:
        done = eventually(lambda: home.ends() == {"done": 1}, within_s=40)
        [left] = home.ok("status", **settings)["inbox"]["left"]
        doctor = home.run("doctor", "--json", **settings).json()
        lives = service.poll() is None
        offered = home.run(
            "ingest", bad / "act.py", "--pipeline", "bad", "--json", **settings
        )

    assert done
    assert lives
    assert offered.code == 2
    assert "it ends the process" in offered.json()["error"]["message"]
    assert "act.py cannot be imported: it ends the process" in left["why"]
    [seen] = [c for c in doctor["checks"] if c["name"] == "pipeline bad"]
    assert "it ends the process" in seen["found"]
