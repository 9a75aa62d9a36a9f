"""The table of `make proof`: added up from what the parts printed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from loadtest.adding import drawn, read, table

PRINTED = {
    "simulate": {
        "histories": 20_000,
        "violations": 0,
        "crash_points": {"met": 44, "named": 44, "not_met": []},
    },
    "mutants": {"total": 77, "caught": 77, "survived": [], "unclear": []},
    "kill": {"kills": 60, "lost": 0},
    "effects": {"kills": 100},
    "approvals": {"kills": 50, "lost": 0},
    "fallback": {"killed": 5, "failed": 0},
    "zombie": {"zombies_noticed": 50, "late_writes_accepted": 0, "lost": 0},
    "restarts": {"restarts": 20, "acknowledged_lost": 0, "lost": 0},
    "failover": {
        "synchronous": {"failovers": 20, "acknowledged_lost": 0, "ends_lost": 0},
        "asynchronous": {"failovers": 5, "acknowledged_lost": 60, "unfinished": 0},
    },
}


def test_the_table_is_what_was_printed(tmp_path: Path) -> None:
    """Each figure comes from a part's own JSON, its last line."""
    for name, what in PRINTED.items():
        (tmp_path / f"{name}.json").write_text(f"\n{json.dumps(what)}\n")
    rows = {row.what.strip(): row for row in table(read(tmp_path))}

    assert all(row.good for row in rows.values())
    assert rows["workers killed (SIGKILL)"].seen == 215
    assert rows["acknowledged and lost in these, named"].seen == 60
    assert "20,000" in drawn([r._asdict() | {"good": r.good} for r in rows.values()])


def test_what_is_missing_is_not_good() -> None:
    """A part that printed nothing, or too little, or broke something, is seen."""
    assert not any(
        row.good for row in table({}) if row.wanted and row.what != "named crash points"
    )
    survivor = {"mutants": {"total": 77, "caught": 76, "survived": ["one"]}}
    [row] = table(survivor, whole=False)
    assert (row.good, row.broken) == (False, 1)
