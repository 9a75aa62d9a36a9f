"""Bytes offered again: which item they are, and what became of it."""

from __future__ import annotations

from pathlib import Path

import pikepdf
import pytest

from tests.system.command import Home, pictures

DONE = "return Advance()"


def test_known_bytes_say_what_became_of_them(home: Home) -> None:
    """In whatever batch, by the same path and by another, in text and as JSON."""
    folder = home.pipeline("notes", note=DONE)
    [file] = pictures(home.folder / "made", ["one.png"])
    copy = file.with_name("two.png")
    copy.write_bytes(file.read_bytes())
    call = ("ingest", "--pipeline", folder, "--batch")

    first = home.run(*call, "may", file, "--wait", "--json").json()
    [same] = home.ok(*call, "june", file)["files"]
    [other] = home.ok(*call, "june", copy)["files"]
    said = [home.run(*call, "july", path).err for path in (file, copy)]

    assert first["files"][0]["known"] is False
    for line in (same, other):
        assert (line["item"], line["state"], line["batch"]) == (
            1,
            "done",
            "default/may",
        )
        assert line["known"] is True
    assert [line["disposal"] for line in (same, other)] == ["item", "duplicate"]
    for text in said:
        assert "is item 1, done, in default/may" in text


def test_a_new_file_is_not_known(home: Home) -> None:
    """Twice in one call it is: the second is told of the first."""
    folder = home.pipeline("notes", note=DONE)
    [file] = pictures(home.folder / "made" / "them", ["one.png"])
    file.with_name("two.png").write_bytes(file.read_bytes())

    files = home.ok("ingest", file.parent, "--pipeline", folder)["files"]

    assert sorted((f["known"], f["state"]) for f in files) == [
        (False, ""),
        (True, "ready"),
    ]


def locked(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pikepdf.new() as pdf:
        pdf.add_blank_page()
        pdf.save(path, encryption=pikepdf.Encryption(owner="o", user="sesame"))
    return path


@pytest.mark.parametrize(
    "batch", ["may", pytest.param("june", marks=pytest.mark.proof)]
)
def test_a_quarantined_file_is_looked_at_again(home: Home, batch: str) -> None:
    """
    Still locked, it is told where it was offered.  The password was added: it is an
    item, and nothing is left to be done.
    """
    folder = home.pipeline("notes", note=DONE)
    file = locked(home.folder / "made" / "locked.pdf")
    call = ("ingest", file, "--pipeline", folder, "--json", "--batch")

    [refused] = home.run(*call, "may").json()["files"]
    [still] = home.run(*call, batch).json()["files"]
    [told] = home.ok("quarantine", "ls", "--batch", batch)
    secrets = home.folder / "secrets" / "default"
    secrets.mkdir(parents=True)
    (secrets / "pdf-passwords.txt").write_text("sesame\n")
    [taken] = home.run(*call, batch).json()["files"]
    [again] = home.run(*call, batch).json()["files"]

    assert (refused["disposal"], still["disposal"]) == ("quarantined", "quarantined")
    assert (taken["disposal"], taken["known"]) == ("item", False)
    assert (again["item"], again["known"]) == (taken["item"], True)
    assert home.run("batches", "reconcile").code == 0
    assert home.ok("quarantine", "ls") == []
    assert "nothing of this batch" in home.run("quarantine", "ls", "--batch", batch).err
    kept = home.ok("quarantine", "ls", "--all", "--batch", batch)
    assert [(k["code"], k["item"]) for k in kept] == [("PDF_ENCRYPTED", taken["item"])]
    assert told["kept_at"] == kept[0]["kept_at"]
    assert Path(told["kept_at"]).is_file()
