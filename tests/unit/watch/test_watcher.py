"""The watcher's judgement, without files: what is complete, whose, called what."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ingest.admission import token_of
from ingest.candidates import Look, Seen
from ingest.copying import unreadable
from ingest.watch.folders import (
    Place,
    display_name,
    fit,
    ignored,
    network_filesystem,
    place_of,
    safe_file_name,
)
from ingest.watch.stability import Stability
from ingest.watch.watcher import fair


def look(
    path: str, size: int = 10, mtime_ns: int = 100, inode: int = 1, ctime_ns: int = 100
) -> Look:
    return Look(path, Seen(size, mtime_ns, inode), ctime_ns)


def paths(looks: list[Look]) -> list[str]:
    return [one.relative for one in looks]


# -- rest ------------------------------------------------------------------------------


def test_a_file_is_complete_after_resting() -> None:
    """A file is taken when size and mtime did not change for `settle_s`."""
    stability = Stability(settle_s=2.0)

    assert stability.observe(0.0, [look("a.pdf")]) == []
    assert stability.observe(1.9, [look("a.pdf")]) == []
    assert paths(stability.observe(2.0, [look("a.pdf")])) == ["a.pdf"]


def test_a_growing_file_is_never_complete() -> None:
    """Pauses shorter than `settle_s` do not make a half-copied file complete."""
    stability = Stability(settle_s=2.0)

    for second in range(3600):
        grown = look("a.pdf", size=second // 2, mtime_ns=second // 2)
        assert stability.observe(float(second), [grown]) == []

    last = look("a.pdf", size=1799, mtime_ns=1799)
    assert paths(stability.observe(3601.0, [last])) == ["a.pdf"]


def test_a_rewrite_of_the_same_size_starts_the_rest_anew() -> None:
    """A new mtime is a change even when the size is the same."""
    stability = Stability(settle_s=2.0)
    stability.observe(0.0, [look("a.pdf", mtime_ns=1)])

    assert stability.observe(2.0, [look("a.pdf", mtime_ns=2)]) == []


def test_another_file_of_the_same_name_starts_the_rest_anew() -> None:
    """A new inode is another file, whatever its size and mtime."""
    stability = Stability(settle_s=2.0)
    stability.observe(0.0, [look("a.pdf", inode=1)])

    assert stability.observe(2.0, [look("a.pdf", inode=2)]) == []


def test_an_empty_file_rests_longer() -> None:
    """A program that creates first and writes later is not cut short."""
    stability = Stability(settle_s=2.0, settle_empty_s=30.0)
    stability.observe(0.0, [look("a.pdf", size=0)])

    assert stability.observe(29.0, [look("a.pdf", size=0)]) == []
    assert paths(stability.observe(30.0, [look("a.pdf", size=0)])) == ["a.pdf"]


def test_a_complete_file_is_offered_until_it_leaves() -> None:
    """There is no give-up state: what could not be taken is offered again."""
    stability = Stability(settle_s=2.0)
    stability.observe(0.0, [look("a.pdf")])

    for second in range(2, 100):
        assert paths(stability.observe(second, [look("a.pdf")])) == ["a.pdf"]

    assert stability.observe(100.0, []) == []


def test_the_oldest_comes_first() -> None:
    """Complete files are offered in the order in which they appeared."""
    stability = Stability(settle_s=1.0)
    stability.observe(0.0, [look("z", inode=1)])
    stability.observe(1.0, [look("a", inode=2), look("z", inode=1)])

    ready = stability.observe(2.0, [look("a", inode=2), look("z", inode=1)])

    assert paths(ready) == ["z", "a"]


# -- rename ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".part", ".tmp", ".crdownload", ".PART"])
def test_a_file_renamed_into_place_is_complete_at_once(suffix: str) -> None:
    """`X.part` that becomes `X` is taken by the next scan."""
    stability = Stability(settle_s=2.0)
    assert stability.observe(0.0, [look(f"t/p/a.pdf{suffix}", size=5)]) == []

    ready = stability.observe(0.1, [look("t/p/a.pdf", size=9, mtime_ns=101)])

    assert paths(ready) == ["t/p/a.pdf"]


@pytest.mark.parametrize(
    "other",
    [
        look("b.pdf"),  # another name
        look("a.pdf", inode=2),  # another inode
        look("a.pdf", size=3),  # smaller: the inode was used again
        look("a.pdf", mtime_ns=99),  # older than what was written before
        look("folder/a.pdf"),  # another folder
    ],
)
def test_what_only_resembles_a_rename_must_rest(other: Look) -> None:
    """Name, folder, inode, size and mtime must all fit the partial file."""
    stability = Stability(settle_s=2.0)
    stability.observe(0.0, [look("a.pdf.part")])

    assert stability.observe(0.1, [other]) == []


def test_a_renamed_file_that_is_written_again_must_rest() -> None:
    """What a rename vouched for is void when the file changes afterwards."""
    stability = Stability(settle_s=2.0)
    stability.observe(0.0, [look("a.pdf.part")])
    stability.observe(0.1, [look("a.pdf")])

    assert stability.observe(0.2, [look("a.pdf", size=11, mtime_ns=200)]) == []


def test_partial_files_are_never_complete() -> None:
    """A `.part` file waits for its rename, however long."""
    stability = Stability(settle_s=2.0)
    stability.observe(0.0, [look("a.pdf.part")])

    assert stability.observe(1e6, [look("a.pdf.part")]) == []
    assert [w.code for w in stability.waiting(1e6)] == ["PARTIAL"]


# -- marker ----------------------------------------------------------------------------


def test_a_marker_makes_a_file_complete_at_once() -> None:
    """`X.done` beside `X` says that `X` is complete; the marker is no document."""
    stability = Stability(settle_s=2.0)

    ready = stability.observe(0.0, [look("a.pdf"), look("a.pdf.done", inode=2)])

    assert paths(ready) == ["a.pdf"]


def test_an_old_marker_does_not_vouch_for_a_later_file() -> None:
    """A marker older than the last write is left over from another file."""
    stability = Stability(settle_s=2.0)
    marker = look("a.pdf.done", inode=2, ctime_ns=100)

    assert stability.observe(0.0, [look("a.pdf", mtime_ns=101), marker]) == []
    assert paths(stability.observe(2.0, [look("a.pdf", mtime_ns=101), marker])) == [
        "a.pdf"
    ]


def test_a_marker_without_its_file_is_reported() -> None:
    """A misspelt marker shows in `waiting`, so that somebody can mend it."""
    stability = Stability()
    stability.observe(0.0, [look("b.pdf.done")])

    [waiting] = stability.waiting(5.0)

    assert (waiting.relative, waiting.code, waiting.for_s) == (
        "b.pdf.done",
        "MARKER_ALONE",
        5.0,
    )


# -- bounds and reports ----------------------------------------------------------------


def test_more_files_than_can_be_tracked_get_their_turn() -> None:
    """Those over the bound are counted, and tracked as soon as others leave."""
    stability = Stability(settle_s=1.0, max_tracked=2)
    three = [look("a", inode=1), look("b", inode=2), look("c", inode=3)]
    stability.observe(0.0, three)
    assert stability.overflow == 1

    assert paths(stability.observe(1.0, three)) == ["a", "b"]
    stability.observe(2.0, three[2:])

    assert paths(stability.observe(3.0, three[2:])) == ["c"]
    assert stability.overflow == 0


def test_odd_entries_are_reported_and_never_complete() -> None:
    """A link or a pipe is named with its reason, for as long as it is there."""
    stability = Stability(settle_s=1.0)
    odd = Look("passwd", Seen(1, 1, 1), 1, "it is a symbolic link")
    stability.observe(0.0, [odd])

    assert stability.observe(60.0, [odd]) == []
    [waiting] = stability.waiting(60.0)
    assert (waiting.code, waiting.why) == ("NOT_A_FILE", "it is a symbolic link")
    assert waiting.for_s == 60.0


def test_due_tells_when_to_look_again() -> None:
    """The next scan comes when a file may be complete, not a period later."""
    stability = Stability(settle_s=2.0)
    assert stability.due_s(0.0) is None
    stability.observe(0.0, [look("a.pdf")])

    assert stability.due_s(0.5) == 1.5


def test_places_take_turns() -> None:
    """Many files of one tenant do not hold up the one file of another."""
    many = [look(f"big/letters/{n}.pdf") for n in range(1000)]

    turns = fair([*many, look("small/letters/a.pdf")], 10)

    assert {place.tenant: len(files) for place, files in turns.items()} == {
        "big": 9,
        "small": 1,
    }
    assert paths(turns[Place("big", "letters", "")])[:2] == [
        "big/letters/0.pdf",
        "big/letters/1.pdf",
    ]


# -- layout and names ------------------------------------------------------------------


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


def test_the_token_names_one_delivery() -> None:
    """The same file again is the same token; any difference is another one."""
    seen = Seen(10, 100, 1)
    token = token_of("acme", "acme/letters/a.pdf", seen, "k")

    assert token == token_of("acme", "acme/letters/a.pdf", seen, "k")
    others = {
        token_of("other", "acme/letters/a.pdf", seen, "k"),
        token_of("acme", "acme/letters/b.pdf", seen, "k"),
        token_of("acme", "acme/letters/a.pdf", seen._replace(inode=2), "k"),
        token_of("acme", "acme/letters/a.pdf", seen, "l"),
        token_of("acme", "bad-\udcff", seen, "k"),
    }
    assert len(others) == 5
    assert token not in others


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, "UNREADABLE"),
        (errno.ENOENT, "FILE_GONE"),
        (errno.ELOOP, "NOT_A_FILE"),
        (errno.EIO, "SOURCE_IO"),
    ],
)
def test_what_the_system_says_of_a_file_has_a_code(number: int, code: str) -> None:
    """A file that cannot be opened is left with a stable word, never refused."""
    assert unreadable(OSError(number, "text of the system")).code == code


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
