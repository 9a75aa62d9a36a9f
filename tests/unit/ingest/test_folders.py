"""Whose a file is, what it is called, and where the inbox lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.watch.folders import (
    Place,
    display_name,
    fit,
    ignored,
    network_filesystem,
    place_of,
    safe_file_name,
)


@pytest.mark.parametrize(
    ("relative", "place"),
    [
        ("a.pdf", Place("default", "", "")),
        ("acme/a.pdf", Place("acme", "", "")),
        ("acme/letters/a.pdf", Place("acme", "letters", "")),
        ("acme/letters/monday/a.pdf", Place("acme", "letters", "monday")),
        ("acme/letters/monday/am/a.pdf", Place("acme", "letters", "monday/am")),
    ],
)
def test_folders_name_tenant_pipeline_and_batch(relative: str, place: Place) -> None:
    """inbox/<tenant>/<pipeline>/[batch/…]file."""
    assert place_of(relative) == place


@pytest.mark.parametrize(
    "name",
    [".DS_Store", ".hidden", "~$letter.docx", "Thumbs.db", "Desktop.ini", "@eaDir"],
)
def test_noise_is_ignored(name: str) -> None:
    """What systems and editors leave beside documents is never looked at."""
    assert ignored(name)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("letter.pdf", "letter.pdf"),
        ("ein\nzwei.pdf", "ein\\nzwei.pdf"),
        ("\x1b[31mred.pdf", "\\x1b[31mred.pdf"),
        ("cod\u202efdp.exe", "cod\\u202efdp.exe"),
        ("a\u200bb.pdf", "a\\u200bb.pdf"),
        ("bad-\udcff\udc80.pdf", "bad-\\xff\\x80.pdf"),
        ("u\u0308ber.pdf", "\u00fcber.pdf"),
        ("", "unnamed"),
    ],
)
def test_display_names_are_valid_and_visible(raw: str, shown: str) -> None:
    """Bytes that are not text, control and bidi characters become escapes."""
    assert display_name(raw) == shown
    display_name(raw).encode("utf-8")


def test_long_display_names_keep_their_ends() -> None:
    """A name is cut in the middle: the extension stays readable."""
    shown = display_name("ä" * 1000 + "-page-7.pdf")

    assert len(shown) == 200
    assert shown.endswith("-page-7.pdf")


def test_names_of_ours_fit_every_file_system() -> None:
    """A quarantine name has no separator, no control character, 190 bytes at most."""
    name = safe_file_name("../" + "ü/\x1b" * 300 + ".pdf")

    assert len(name.encode()) <= 190
    assert name.endswith(".pdf")
    assert "/" not in name
    assert not name.startswith(".")


def test_a_tag_goes_before_the_extension() -> None:
    """A namesake in the archive keeps its extension and fits 255 bytes."""
    assert fit("a.pdf", 255, "~1234") == "a~1234.pdf"
    assert len(fit("a" * 251 + ".pdf", 255, "~12345678").encode()) == 255


def test_network_file_systems_are_known_by_their_mount() -> None:
    """The longest mount point that holds the folder decides."""
    mounts = [
        "disk / ext4 rw 0 0",
        "nas:/scans /no/such/in\\040box nfs4 rw 0 0",
        "ssh /no/such/fuse fuse.sshfs rw 0 0",
        "broken",
    ]

    assert network_filesystem(Path("/no/such/in box/acme"), mounts) == "nfs4"
    assert network_filesystem(Path("/no/such/fuse"), mounts) == "fuse.sshfs"
    assert network_filesystem(Path("/no/such/else"), mounts) == ""
