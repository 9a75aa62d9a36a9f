"""The database goes away under load and comes back: nothing is charged or lost."""

from __future__ import annotations

import signal
import time

import pytest

from tests.system.command import Cluster, Home, eventually, pictures, with_pid

ITEMS = 36
STAGES = ("one", "two", "three")
SLOW = "await anyio.sleep(0.2)\nreturn Advance(text=ctx.item.name)"


@pytest.fixture
def busy(own: tuple[Cluster, Home]) -> tuple[Cluster, Home]:
    """A server and a home with items in line for slow stages."""
    cluster, home = own
    folder = home.pipeline("slow", **dict.fromkeys(STAGES, SLOW))
    with (folder / "pipeline.toml").open("a", encoding="utf-8") as file:
        # A few at a time, so that the work spans the outage.
        file.writelines(f"[stage.{stage}]\nwindow = 2\n" for stage in STAGES)
    pictures(home.folder / "made" / "s", [f"s-{n}.png" for n in range(ITEMS)])
    home.ok("ingest", home.folder / "made" / "s", "--pipeline", str(folder))
    return cluster, home


@pytest.mark.proof
@pytest.mark.parametrize(
    ("lease_s", "away_s", "sessions"),
    [
        pytest.param(20, 2, 1, id="shorter than the lease"),
        pytest.param(2, 4, 2, id="longer than the lease"),
    ],
)
def test_an_outage_costs_time_and_nothing_else(busy, lease_s, away_s, sessions):
    """As after a power cut: the same process goes on, in a new session if need be."""
    cluster, home = busy

    with home.started("worker", LEASE_S=str(lease_s)) as service:
        assert eventually(lambda: home.ends().get("done", 0) >= 5, within_s=30)
        cluster.stop()
        time.sleep(away_s)  # the outage itself
        alive = service.poll() is None
        cluster.database("away")
        between = home.ends()["done"]
        ended = eventually(lambda: home.ends() == {"done": ITEMS}, within_s=60)

    assert alive
    assert between < ITEMS, "everything was done before the outage"
    assert ended, home.ends()
    assert home.sql("select * from attempts") == []
    assert home.logged("worker_died") == 0
    assert home.logged("worker_joined") == sessions
    once = "select item_id, stage from checkpoints group by 1, 2 having count(*) <> 1"
    assert home.sql(once) == []
    assert home.one("select count(*) from checkpoints") == ITEMS * len(STAGES)
    told = home.ok("batches", "reconcile")
    assert (told["conserved"], told["done"], told["astray"]) == (True, ITEMS, [])


@pytest.mark.proof
def test_without_a_database_workers_begin_more_and_more_slowly(busy):
    """Who dies before it has a session was ended by no item."""
    cluster, home = busy

    with home.started("worker", "--processes", "1"):
        assert eventually(lambda: home.ends().get("done", 0) >= 1, within_s=30)
        worker = home.one("select pid from workers")
        cluster.stop()
        with_pid(worker, signal.SIGKILL)
        log = home.folder / "stderr.log"
        slower = eventually(
            lambda: '"restart_in_s": 0.75' in log.read_text(), within_s=30
        )

    assert slower


def test_what_was_acknowledged_survives_a_power_cut(busy):
    """Receipts given just before the server was cut off are all there afterwards."""
    cluster, home = busy
    [more] = pictures(home.folder / "made" / "t", ["late.png"])
    more.write_bytes(more.read_bytes() + b"late")

    receipt = home.ok("ingest", more, "--batch", "late")["files"][0]
    cluster.stop()
    refused = home.run("status", "--json")
    cluster.database("away")

    assert refused.error() == (3, "DATABASE_UNAVAILABLE")
    assert receipt["disposal"] == "item"
    told = home.ok("batches", "reconcile")
    assert (told["received"], told["live"], told["conserved"]) == (
        ITEMS + 1,
        ITEMS + 1,
        True,
    )
