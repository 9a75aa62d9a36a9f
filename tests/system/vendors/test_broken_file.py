"""A `vendors.toml` that somebody is mending: who only looks, or brakes, still can."""

from __future__ import annotations

from tests.system.command import Home


def test_a_typo_blinds_nobody(home: Home) -> None:
    """What asks the database alone goes on, and says so; what would call stops."""
    note = home.folder / "a.txt"
    note.write_text("One note.")
    folder = home.pipeline("notes", work='return Hold("LOOK")')
    into = ("--pipeline", folder)
    home.run("ingest", note, *into, "--wait")
    (home.folder / "vendors.toml").write_text(
        '[vendor.crm]\nurl = "https://crm.example"\nfalbacks = []\n'
    )

    looks = [
        home.run(*call, "--json")
        for call in (
            ("status",),
            ("items", "ls"),
            ("items", "why", "1"),
            ("effects", "ls"),
            ("limits", "ls"),
            ("budgets", "ls"),
            ("review", "ls"),
            ("items", "cancel", "1"),
        )
    ]
    taken = home.run("ingest", note, *into, "--json")
    listed = home.run("vendors", "ls", "--json")

    assert [ran.code for ran in looks] == [0] * len(looks), looks
    assert all("falbacks" in ran.err for ran in looks)
    assert taken.error() == listed.error() == (2, "VENDORS_FILE")
