"""What was dropped beside what is there, and what stands in a run's folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from loadtest.driver.folder import RunFolder, Submitted
from loadtest.driver.outcome import Ended, compared, printed_twice
from pipeline.errors import Usage


def test_a_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """The checker would call gone what an earlier run had."""
    RunFolder(tmp_path / "run", tmp_path).close()

    with pytest.raises(Usage, match="not empty") as caught:
        RunFolder(tmp_path / "run", tmp_path)

    assert "--out" in caught.value.hint


def line(sha: str, *, urgent: bool = False, expect: str = "done") -> Submitted:
    return Submitted(0, "north", "b", "p", f"{sha}.jpg", sha, 100.0, urgent, expect)


def test_everything_is_accounted_for() -> None:
    found = compared(
        [
            line("fine"),
            line("gone"),
            line("late"),
            line("late-urgent", urgent=True),
            line("under-way"),
            line("twice"),
            line("refused", expect="any"),
            line("failed"),
        ],
        {
            ("north", "fine"): Ended("done", 99.0, 1, ""),
            ("south", "gone"): Ended("done", 99.0, 1, ""),
            ("north", "late"): Ended("done", 101.0, 1, ""),
            ("north", "late-urgent"): Ended("failed", 90.0, 1, "DEADLINE_PASSED"),
            ("north", "under-way"): Ended("unfinished", 0.0, 1, ""),
            ("north", "twice"): Ended("done", 50.0, 2, ""),
            ("north", "refused"): Ended("quarantined", 0.0, 1, ""),
            ("north", "failed"): Ended("failed", 50.0, 1, "BROKEN"),
        },
    )

    assert not found["conserved"]
    assert found["lost"] == 1
    assert found["unfinished"] == 1
    assert found["deadlines_missed"] == 2
    assert found["urgent_missed"] == 1
    assert found["unexpected"] == 2
    assert found["amiss"]["lost"] == ["north/b/gone.jpg"]
    assert found["amiss"]["astray"] == ["north/b/twice.jpg stands in 2 places"]


def test_a_print_in_two_manifests_is_found(tmp_path: Path) -> None:
    for number, files in (("0001", ["a.pdf", "b.pdf"]), ("0002", ["b.pdf"])):
        folder = tmp_path / "north" / "week" / number
        folder.mkdir(parents=True)
        (folder / "manifest.csv").write_text("\n".join(["file", *files]) + "\n")

    assert printed_twice(tmp_path) == 1


def test_a_line_is_there_before_its_file_is_dropped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", tmp_path)

    run.submit([line("one")])

    [written] = (tmp_path / "run" / "submitted.jsonl").read_text().splitlines()
    assert json.loads(written)["sha256"] == "one"
    run.close()


def test_recovery_is_counted_from_a_faults_end(tmp_path: Path) -> None:
    """Ten a second before, nothing for a while, and ten again three seconds after."""
    run = RunFolder(tmp_path / "run", tmp_path)
    with run.fault("kill", "worker") as fault:
        pass
    fault.t, fault.until = 20.0, 25.0
    finished = [(float(t), 10.0 * min(t, 20)) for t in range(28)]
    finished += [(float(t), 200 + 10.0 * (t - 28)) for t in range(28, 40)]

    run.recovered(finished)

    run.close()
    rows = (tmp_path / "run" / "faults.csv").read_text().splitlines()
    [row] = list(csv.DictReader(rows))
    assert (row["kind"], row["what"], row["until"]) == ("kill", "worker", "25.0")
    assert 2.0 <= float(row["recovered_s"]) <= 3.0
    assert run.fired == {"kill": 1}
