"""What is complete, without files: by rest, by rename, by marker."""

from __future__ import annotations

import pytest

from ingest.candidates import Look, Seen
from ingest.watch.stability import Stability
from tests.unit.ingest.looks import look, paths


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
