"""Candidates: what may be opened, what is left where it lies, and what it is called."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from ingest.candidates import Candidate, named
from pipeline.errors import NotFound
from tests.system.ingest.world import House, codes, files, scan


async def test_odd_entries_are_reported_once_and_never_opened(house: House) -> None:
    """Links, pipes, sockets and folders named x.pdf stay; their neighbour is taken."""
    inbox = house.folders.inbox
    (inbox / "passwd.pdf").symlink_to("/etc/passwd")
    (inbox / "etc").symlink_to("/etc")
    os.mkfifo(inbox / "pipe.pdf")
    (inbox / "folder.pdf").mkdir()
    address = str(inbox / "s.pdf")
    house.drop("good.pdf")
    watcher = house.watcher()

    with socket.socket(socket.AF_UNIX) as listener:
        # The limit for socket paths is 107 bytes; tmp_path may be longer.
        here = os.open(inbox, os.O_RDONLY)
        listener.bind(address if len(address) < 100 else f"/proc/self/fd/{here}/s.pdf")
        os.close(here)
        with structlog.testing.capture_logs() as logs:
            await scan(watcher)
            await scan(watcher)

    odd = ["etc", "folder.pdf", "passwd.pdf", "pipe.pdf", "s.pdf"]
    ignored = [log for log in logs if log["event"] == "ingest_ignored"]
    assert sorted(log["name"] for log in ignored) == odd
    assert {log["code"] for log in ignored} == {"NOT_A_FILE"}
    assert sorted(codes(watcher)) == odd
    assert house.archive() == ["good.pdf"]
    assert [s.name for s in house.store.submitted.values()] == ["good.pdf"]


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_link_swapped_in_after_the_scan_is_not_followed(
    house: House, what: str
) -> None:
    """A file or folder that becomes a link before it is opened is left alone."""
    secret = house.folders.scratch / "secret"
    secret.mkdir()
    (secret / "a.pdf").write_bytes(b"secret")
    folder = house.folders.inbox / "acme"
    if what == "file":
        folder.mkdir()
        (folder / "a.pdf").symlink_to(secret / "a.pdf")
    else:
        folder.symlink_to(secret)
    candidate = Candidate(house.folders.inbox, "acme/a.pdf", "acme/a.pdf")
    batch = await house.store.open_batch("t", "b", deadline_s=1)

    [taken] = await house.admission().take([candidate], batch, 7)

    assert taken.code == "NOT_A_FILE"
    assert house.store.submitted == {}
    assert files(house.folders.store) == []


async def test_a_hard_link_is_left_and_reported(house: House) -> None:
    """A file with a second name may be somebody else's: it is not taken."""
    outside = house.folders.scratch / "theirs"
    outside.write_bytes(b"%PDF")
    os.link(outside, house.folders.inbox / "a.pdf")
    watcher = house.watcher()

    await scan(watcher)

    assert codes(watcher) == {"a.pdf": "LINKED"}
    assert house.inbox() == ["a.pdf"]


async def test_an_unreadable_file_waits_and_others_are_taken(house: House) -> None:
    """A file without the right to read is left, and taken once it has it."""
    path = house.drop("a.pdf", b"%PDF secret")
    path.chmod(0)
    house.drop("b.pdf")
    watcher = house.watcher()
    with without_override():
        await scan(watcher)
        assert codes(watcher) == {"a.pdf": "UNREADABLE"}
        assert house.archive() == ["b.pdf"]
    path.chmod(0o600)

    # Its own retry comes after two seconds; a new process looks at once.
    await scan(house.watcher())

    assert house.archive() == ["a.pdf", "b.pdf"]


async def test_odd_names_are_taken_and_shown_safely(house: House) -> None:
    """Any bytes are a name: archived as they are, shown escaped."""
    raw = [
        b"n" * 251 + b".pdf",
        b"bad-\xff\xfe.pdf",
        b"two\nlines.pdf",
        b"\x1b[31mred.pdf",
        "cod\u202efdp.exe".encode(),
        "u\u0308ber.pdf".encode(),
        b"-rf *.pdf",
    ]
    for number, name in enumerate(raw):
        house.drop(b"acme/letters/" + name, b"%%PDF %d" % number)
    house.drop(b"acme/letters/again/" + b"n" * 251 + b".pdf", b"bad")

    await scan(house.watcher())

    assert house.inbox() == []
    archived = os.listdir(os.fsencode(house.folders.archive / "acme/letters"))
    assert sorted(archived) == sorted(raw)
    names = {submission.name for submission in house.store.submitted.values()}
    for shown in names:
        assert shown.isprintable()
        assert len(shown.encode("utf-8").decode()) <= 200
    assert "bad-\\xff\\xfe.pdf" in names
    assert "cod\\u202efdp.exe" in names
    assert "\u00fcber.pdf" in names
    assert len(house.quarantine()) == 2  # the file and its reason


async def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """A mistyped path is told before anything is taken."""
    with pytest.raises(NotFound) as caught:
        named([tmp_path / "nothing.pdf"], pipeline="p")

    assert caught.value.code == "NO_SUCH_FILE"


@contextmanager
def without_override() -> Iterator[None]:
    """
    For root, who may read everything: give that capability up for a while.

    Capabilities belong to a thread and are inherited by those it starts; the
    event loop of a test starts its own.
    """
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    full = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, full) == 0
    less = (ctypes.c_uint32 * 6)(*full)
    less[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, full) == 0
