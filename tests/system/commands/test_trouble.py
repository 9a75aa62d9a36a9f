"""Our own trouble as a person at the terminal meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.command import Home, eventually, pictures

WRITE = """
folder = ctx.out_dir
{first}
(folder / "x").write_text("x")
return Advance(text="written")
"""
MAKE = "folder.mkdir(parents=True, exist_ok=True)"
PATIENT = "attempts = 1\n"


def writing(home: Home, first: str = MAKE) -> str:
    """A pipeline of one stage that writes a file, in one try."""
    folder = home.pipeline("write", write=WRITE.format(first=first))
    with (folder / "pipeline.toml").open("a", encoding="utf-8") as file:
        file.write(f"[stage.write]\n{PATIENT}")
    return str(folder)


def test_status_and_doctor_say_what_is_wrong_and_where(home: Home):
    """One sentence, the place, and a list for scripts; nothing when all is well."""
    well = home.ok("status")["troubles"]
    (home.folder / "out").rmdir() if (home.folder / "out").exists() else None
    (home.folder / "out").write_text("in the way")

    [found] = home.ok("status")["troubles"]
    said = home.run("status").err
    checks = home.run("doctor", "--json").json()["checks"]

    assert well == []
    assert set(found) == {"what", "where", "since"}
    assert found["where"] == str(home.folder / "out")
    assert "the output folder is no folder" in found["what"]
    assert "the output folder is no folder" in said
    assert [c["ok"] for c in checks if c["name"] == "trouble"] == [False]


def test_a_doctor_is_the_first_to_come(home: Home):
    """In a home that nothing was stored in, nothing is missing."""
    checks = home.run("doctor", "--json").json()["checks"]

    assert not (home.folder / "objects" / "fresh").exists()
    assert [c["found"] for c in checks if c["name"] == "trouble"] == ["none"]


def test_status_tells_what_it_sees_without_a_database(home: Home):
    """Exit 3, the database's sentence, and what is wrong with the folders."""
    home.ok("status")
    (home.folder / "out").write_text("in the way")
    elsewhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}

    ran = home.run("status", "--json", **elsewhere)

    assert ran.code == 3
    assert ran.json()["error"]["code"] == "DATABASE_UNAVAILABLE"
    assert [t["where"] for t in ran.json()["troubles"]] == [str(home.folder / "out")]


def test_ingest_waits_for_what_is_mended(home: Home):
    """It says what it waits for, charges nothing, and ends well."""
    [made] = pictures(home.folder / "made" / "w", ["w.png"])
    out = home.folder / "out"
    home.ok("status")
    out.write_text("in the way")
    log = home.folder / "stderr.log"

    with home.started("ingest", str(made), "--wait", "--pipeline", writing(home)) as it:
        assert eventually(lambda: "waits:" in log.read_text(), within_s=30)
        running = it.poll()
        out.unlink()
        code = it.wait(30)

    assert running is None
    assert code == 0, log.read_text()
    assert "is no folder" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert home.one("select count(*) from attempts") == 0


def test_a_file_that_a_stage_made_up_is_its_own_bug(home: Home):
    """Where the output folder is in order, a missing file is nobody's trouble."""
    [made] = pictures(home.folder / "made" / "b", ["b.png"])
    pipeline = writing(home, f'{MAKE}; folder = folder / "never-made"')

    ran = home.run("ingest", made, "--wait", "--json", "--pipeline", pipeline)

    assert ran.code == 4
    assert home.one("select code from outcomes") == "STAGE_RAISED"


def test_what_tenants_sent_is_nobody_elses_to_read(home: Home):
    """Folders and files of the service: for its user and its group."""
    [made] = pictures(home.folder / "made" / "m", ["m.png"])
    home.folder.chmod(0o755)
    before = set(home.folder.rglob("*"))

    home.ok("ingest", made, "--wait", "--pipeline", writing(home))

    new = [p for p in home.folder.rglob("*") if p not in before]
    ours = [p for p in new if "made" not in p.parts]
    opened = [str(p) for p in ours if not p.is_symlink() and p.stat().st_mode & 0o007]
    assert len(ours) > 5
    assert opened == []


def test_a_log_that_cannot_be_written_ends_no_service(home: Home):
    """A full disk under the log: the lines are lost, and nothing else."""
    log = home.folder / "logs" / "waybill.log"
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    log.symlink_to("/dev/full")

    assert home.ok("status")["received"] == 0


@pytest.mark.parametrize("name", ["objects", "tmp"])
def test_a_home_with_a_file_in_a_folders_place_is_a_sentence(home: Home, name: str):
    """Exit 3, no traceback."""
    (home.folder / name).write_text("in the way")

    ran = home.run("items", "ls", "--json")

    assert ran.code == 3
    assert ran.json()["error"]["code"] == "NO_FOLDER"


def test_the_service_survives_a_store_that_is_gone(home: Home):
    """A publish, an admission and a stage meet it; nothing ends, all goes on."""
    settings = {
        "PIPELINES": str(Path(writing(home)).parent),
        "PIPELINE": "write",
        "SETTLE_S": "0.2",
    }
    fresh, away = home.folder / "objects" / "fresh", home.folder / "objects" / "away"
    one, two = pictures(home.folder / "made" / "s", ["one.png", "two.png"])
    with home.started("up", **settings) as service:
        assert eventually(lambda: home.logged("worker_joined"), within_s=30)
        fresh.rename(away)
        fresh.write_text("in the way")
        one.rename(home.inbox / one.name)
        assert eventually(lambda: home.logged("ingest_paused"), within_s=20)
        two.rename(home.inbox / two.name)
        running = service.poll()
        fresh.unlink()
        away.rename(fresh)

        assert eventually(lambda: home.ends() == {"done": 2}, within_s=30)
        assert running is service.poll() is None
    assert home.one("select count(*) from attempts") == 0
