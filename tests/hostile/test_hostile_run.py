"""The hostile corpus is what it says, and a slice of it harms nobody."""

from __future__ import annotations

import hashlib
from collections import Counter
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any
from zipfile import ZipFile

import pypdfium2
import pytest
from PIL import Image

from loadtest.corpora import pdf_writer, slips
from loadtest.hostile import listener
from loadtest.hostile.entry import SPARSE_BYTES, Hostile, plant
from loadtest.hostile.files import HONEST, chosen, flipped, hostile_files
from loadtest.scenarios import hostile
from loadtest.scenarios.processes import Jailed, Sizes
from loadtest.trial import Ended

URL = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def corpus() -> list[Hostile]:
    """All of it; the address is nobody's."""
    return hostile_files(1, URL)


@pytest.mark.proof
def test_a_seed_decides_every_byte(corpus: list[Hostile]) -> None:
    """The same seed and address are the same files; another seed is not."""
    slips.letter.cache_clear()
    slips.blank.cache_clear()

    again = hostile_files(1, URL)
    mutants = [dict(flipped(Random(seed))) for seed in (1, 2)]

    assert [f.name for f, g in zip(again, corpus, strict=True) if f != g] == []
    assert [name for name in mutants[0] if mutants[0][name] == mutants[1][name]] == []


def test_the_corpus_has_every_kind_of_trouble(corpus: list[Hostile]) -> None:
    """More than 200 files, of every group, no two of them a duplicate by mistake."""
    names = [file.name for file in corpus]
    same = Counter(file.data for file in corpus if file.entry == "file" and file.data)

    assert len(names) == len(set(names)) > 200
    groups = {name.partition("-")[0].partition(".")[0] for name in names}
    wanted = "bomb cut docx dpi eml exif flipped good is odd pdf really size txt zip"
    assert groups >= set(wanted.split())
    # An empty ZIP is nothing but its end record: that pair is one file by nature.
    assert [hashlib.sha256(d).hexdigest() for d, n in same.items() if n > 2] == []
    assert sum(URL.encode() in file.data for file in corpus) > 40


def test_what_is_meant_to_be_good_is_good() -> None:
    """Honest files open in readers of others: the corpus does not only refuse."""
    seen = pypdfium2.PdfDocument(pdf_writer.plain(3))
    locked = pypdfium2.PdfDocument(pdf_writer.locked("secret", "o"), password="secret")
    with ZipFile(BytesIO(HONEST["docx"](1))) as docx:
        damaged = docx.testzip()

    assert damaged is None
    assert "TWO HENS" in seen[0].get_textpage().get_text_range()
    assert "A KITE" in locked[0].get_textpage().get_text_range()
    for kind in ("png", "jpg", "tif", "webp", "bmp", "gif"):
        Image.open(BytesIO(HONEST[kind](1))).load()


def test_a_slice_has_some_of_every_group(corpus: list[Hostile]) -> None:
    """A small run meets every group before it meets any twice."""
    few = chosen(corpus, 30, 1)

    groups = Counter(file.name.partition("-")[0] for file in few)
    assert len(few) == 30
    assert set(groups.values()) <= {1, 2}


def test_odd_entries_are_made(corpus: list[Hostile], tmp_path: Path) -> None:
    """Links, pipes and sockets are really there, not files that stand for them."""
    odd = {file.name: file for file in corpus if file.name.startswith("odd-")}

    for file in odd.values():
        plant(tmp_path, file)

    assert (tmp_path / "odd-pipe.pdf").is_fifo()
    assert (tmp_path / "odd-socket.pdf").is_socket()
    assert (tmp_path / "odd-link.pdf").is_symlink()
    assert (tmp_path / "odd-folder.pdf").is_dir()
    assert (tmp_path / "odd-second-name.png").stat().st_nlink == 2
    assert (tmp_path / "odd-sparse.tif").stat().st_size == SPARSE_BYTES


def test_the_listener_hears() -> None:
    """Its silence means something: it counts a call by TCP and one by UDP."""
    with listener.Listener() as door:
        tcp = listener.attempts(door.port, only="tcp")
        udp = listener.attempts(door.port, only="udp")

        assert tcp["allowed"] == ["tcp"]
        assert udp["allowed"] == ["udp"]
        assert door.heard_within(2.0, 2)


@pytest.mark.parametrize(
    ("state", "code", "bad"),
    [
        ("done", "", False),
        ("held", "OCR_UNREADABLE", False),
        ("rejected", "PDF_CORRUPT", False),
        ("failed", "MEMORY_LIMIT", False),
        ("failed", "JAIL_ERROR", True),
        ("failed", "INTERNAL", True),
        ("held", "", True),
        ("nowhere", "", True),
        ("ready", "", True),
        ("running", "", True),
    ],
)
def test_an_end_without_a_name_is_found_out(state: str, code: str, bad: bool) -> None:
    """A word that says only "wrong" is no name; nor is being still on the way."""
    item = Ended(1, "a.pdf", None, state, "ocr", code, {})

    assert hostile.nameless(item) is bad


def figures(**amiss: Any) -> dict[str, Any]:
    """The figures of a good round, but for what is amiss."""
    jailed = amiss.pop("jailed", Jailed(peak=1 << 20, limit=1 << 30, looks=9))
    sizes = Sizes(jailed={1: jailed} if jailed else {})
    good = hostile.Round(ends={"a.pdf": "done"}, conserved=True, sizes=sizes)
    bad = hostile.Round(ends={"a.pdf": "done"}, conserved=True, sizes=sizes)
    network = {"tried": ["tcp"], "allowed": amiss.pop("allowed", [])}
    for name, value in amiss.items():
        setattr(bad, name, value)
    return hostile.figures([], [good, bad], 0, len(network["allowed"]), network)


def test_a_good_run_is_good() -> None:
    """Nothing amiss in two rounds alike: not bad."""
    assert figures()["bad"] == []
    assert figures()["same_twice"] is True


@pytest.mark.parametrize(
    ("amiss", "word"),
    [
        ({"deaths": 1}, "worker_deaths"),
        ({"unnamed": ["item 1"]}, "unnamed"),
        ({"lost": ["a.pdf"]}, "lost"),
        ({"pages_amiss": ["a.pdf"]}, "pages_amiss"),
        ({"hidden_read": ["a.pdf"]}, "hidden_read"),
        ({"conserved": False}, "conserved"),
        ({"ends": {"a.pdf": "TIMEOUT"}}, "same_twice"),
        ({"ends": {}}, "same_twice"),
        ({"allowed": ["tcp"]}, "network_attempts_allowed"),
        ({"jailed": Jailed(peak=2 << 30, limit=1 << 30)}, "rss"),
        ({"jailed": Jailed(peak=1 << 20, looks=1000)}, "rss"),
        ({"jailed": None}, "rss"),
    ],
)
def test_whatever_is_amiss_in_one_round_is_said(
    amiss: dict[str, Any], word: str
) -> None:
    """Each promise of the run, broken alone, makes it bad by its own word."""
    assert figures(**amiss)["bad"] == [word]


@pytest.mark.parametrize("most", [8, pytest.param(36, marks=pytest.mark.proof)])
def test_a_slice_of_the_corpus_harms_nobody(most: int) -> None:
    """A real service takes hostile files of each kind and nothing of it is amiss."""
    told: list[str] = []

    result = hostile.run(told.append, most=most, once=True)

    assert result["bad"] == [], result
    assert result["files"] == most
    assert sum(result["outcomes"].values()) >= most
    assert result["outcomes"]["done"] >= most // 8
    assert result["network_attempts_tried"] >= most // 4
