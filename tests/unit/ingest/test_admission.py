"""One delivery, one token; and a word for what the system says of a file."""

from __future__ import annotations

import errno

import pytest

from ingest.answers import token_of
from ingest.candidates import Seen
from ingest.copying import unreadable


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
