"""A document that kills its worker costs itself, and nobody else."""

from __future__ import annotations

from tests.system.command import Home, eventually, pictures

# Dies like a crash in a C library would: no exception, no clean-up, no goodbye.
POISON = """
await anyio.sleep(0.05)
if ctx.item.name.startswith("poison"):
    os.kill(os.getpid(), signal.SIGKILL)
return Advance(text=ctx.item.name)
"""
ITEMS = 20


def test_a_poison_item_ends_alone(home: Home):
    """One death in company, one alone, then WORKER_KILLED; nobody else is charged."""
    folder = home.pipeline("poison", first="return Advance()", second=POISON)
    names = ["poison.png", *(f"good-{n}.png" for n in range(ITEMS - 1))]
    pictures(home.folder / "made" / "p", names)
    home.ok("ingest", home.folder / "made" / "p", "--pipeline", str(folder))

    with home.started("up", "--processes", "1") as service:
        ended = eventually(lambda: sum(home.ends().values()) == ITEMS, within_s=60)
        still_up = service.poll() is None

    assert ended, (home.ends(), home.sql("select * from audit order by id"))
    assert still_up
    assert home.ends() == {"done": ITEMS - 1, "failed": 1}
    [failed] = home.sql(
        """
        select i.name, o.code, o.stage from outcomes o
          join items i on i.id = o.item_id where o.state = 'failed'
        """
    )
    assert tuple(failed) == ("poison.png", "WORKER_KILLED", "second")
    deaths = """
        select i.name, count(*) from audit a join items i on i.id = a.item_id
         where event = 'worker_died' group by i.name
    """
    died = {row["name"]: row["count"] for row in home.sql(deaths)}
    # For those beside it nobody died: they were put back.
    assert died == {"poison.png": 2}
    assert home.logged("worker_died") == 2
    assert home.one("select count(*) from attempts where charged") == 0
    assert home.ok("batches", "reconcile")["conserved"]


def test_finished_stages_of_a_killed_worker_are_not_run_again(home: Home):
    """What was checkpointed before the crash stands: one row a stage, for each."""
    notes = home.folder / "ran"
    folder = home.pipeline(
        "once",
        first=f'open("{notes}", "a").write(ctx.item.name + "\\n")\nreturn Advance()',
        second="""
mark = os.environ["WAYBILL_HOME"] + "/died"
await anyio.sleep(0.5)
if not os.path.exists(mark):
    open(mark, "x").close()
    os.kill(os.getpid(), signal.SIGKILL)
return Advance(text="x")
""",
    )
    pictures(home.folder / "made" / "o", [f"o-{n}.png" for n in range(ITEMS)])
    home.ok("ingest", home.folder / "made" / "o", "--pipeline", str(folder))

    with home.started("worker"):
        ended = eventually(lambda: home.ends() == {"done": ITEMS}, within_s=60)

    assert ended, home.ends()
    ran = notes.read_text(encoding="utf-8").split()
    assert sorted(ran) == sorted(set(ran))
    assert len(ran) == ITEMS
    twice = "select item_id from checkpoints group by item_id having count(*) <> 2"
    assert home.sql(twice) == []
    assert home.logged("worker_died") == 1
