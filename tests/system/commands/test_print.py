"""What a stage prints stands on stderr, and never in what a command says."""

from __future__ import annotations

from tests.system.command import Home, pictures

PRINTING = """
import subprocess
import threading

print("printed by the stage")
thread = threading.Thread(target=print, args=("printed by its thread",))
thread.start()
thread.join()
subprocess.run(["echo", "printed by its program"], check=True)
os.write(1, b"printed past Python\\n")
return Advance()
"""


def test_what_a_stage_prints_goes_to_stderr(home: Home) -> None:
    """Also from a thread, from a program that it starts, and while it is imported."""
    folder = home.pipeline("loud", talk=PRINTING)
    source = (folder / "talk.py").read_text()
    (folder / "talk.py").write_text(source + 'print("printed at import")\n')
    [file] = pictures(home.folder / "made", ["a.png"])

    ran = home.run("ingest", file, "--pipeline", folder, "--wait", "--json")

    assert ran.code == 0, ran
    assert ran.json()["done"] == 1
    for what in ("the stage", "its thread", "its program", "import", "past Python"):
        assert f"{what}\n" in ran.err
    text = home.run("items", "show", "1")
    assert "printed" not in text.out


def test_help_and_version_are_data(home: Home) -> None:
    """They are asked for, and can be piped."""
    assert home.run("--version").out.startswith("waybill ")
    assert "--wait" in home.run("ingest", "--help").out
