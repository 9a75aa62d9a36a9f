"""Names from outside: what may be a folder, what is shown, where one is cut."""

from __future__ import annotations

import os

import pytest

from pipeline.names import cut, is_component, is_text, number_in, visible


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "../a"])
def test_a_name_that_leads_elsewhere_is_no_component(name: str) -> None:
    """It would be another folder, or no folder at all."""
    assert not is_component(name)


@pytest.mark.parametrize("name", ["a", "...", ".hidden", "a b", "ä", "a\\b"])
def test_any_other_name_is_a_component(name: str) -> None:
    """A file system takes it as one name."""
    assert is_component(name)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("0", 0), ("12", 12), ("9" * 18, 10**18 - 1), ("9" * 19, None)),
        *((text, None) for text in ("", "-1", "+1", "1.0", " 1", "1_0", "²", "٣")),
    ],
)
def test_a_number_is_as_we_print_it(text: str, number: int | None) -> None:
    """Other digits of Unicode, and what is longer than any, mean nothing of ours."""
    assert number_in(text) == number


@pytest.mark.parametrize("name", ["\0", "a\nb", "\x1b[31m", "a\udcff"])
def test_controls_and_undecoded_bytes_are_no_text(name: str) -> None:
    """Nor could the database store them."""
    assert not is_text(name)
    assert is_text("Grüße, 你好 (2).pdf")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\udcff.pdf", "a\\xff.pdf"),
        ("a\x1b[2J", "a\\x1b[2J"),
        ("gpj.\u202efdp", "gpj.\\u202efdp"),
        ("a\u2028b", "a\\u2028b"),
        ("Grüße 你好", "Grüße 你好"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_an_escape(name: str, shown: str) -> None:
    """Everything else is shown as it is."""
    assert visible(name) == shown


@pytest.mark.parametrize("name", ["abc", "äöü", "你好", "a\udcffb", "😀x"])
def test_a_name_is_cut_between_characters(name: str) -> None:
    """At every length the longest beginning that fits, and never half a character."""
    for max_bytes in range(-1, 12):
        kept = cut(name, max_bytes)
        longer = name[: len(kept) + 1]

        assert name.startswith(kept)
        assert len(os.fsencode(kept)) <= max(max_bytes, 0)
        assert kept == name or len(os.fsencode(longer)) > max_bytes
