"""The demo's documents: what they are, and that a seed decides every byte."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pikepdf
import pytesseract
import pytest
from PIL import Image, ImageChops, ImageOps, ImageSequence

from loadtest.corpora import noise
from loadtest.corpora.letters import DemoFile, demo_files, letter, main, pages
from loadtest.corpora.troubles import DISCLOSURE, TROUBLES
from pipeline.errors import Usage


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> list[DemoFile]:
    """The demo as a user sees it, made once for this module."""
    return demo_files(tmp_path_factory.mktemp("demo"))


def only(files: list[DemoFile], kind: str) -> DemoFile:
    """The one file of `kind`."""
    [file] = [file for file in files if file.kind == kind]
    return file


def ink(path: Path) -> float:
    """The share of pixels clearly darker than the paper around them, 0-1."""
    with Image.open(path) as opened:
        grey = opened.convert("L").reduce(2)
    paper = grey.resize((grey.width // 32, grey.height // 32)).resize(grey.size)
    dark = ImageChops.subtract(paper, grey).histogram()
    return sum(dark[40:]) / sum(dark)


def test_the_demo_ends_34_2_1_1_2(demo: list[DemoFile]) -> None:
    """Forty files: 34 done, 2 held, 1 rejected, 1 duplicate, 2 quarantined."""
    tally = Counter(file.expect for file in demo)

    assert tally == {
        "done": 34,
        "held": 2,
        "rejected": 1,
        "duplicate": 1,
        "quarantined": 2,
    }
    assert len({file.path.name for file in demo}) == 40


def test_some_letters_of_the_demo_tell_a_trouble(demo: list[DemoFile]) -> None:
    """A grief, a need, a fear and an illness; all of them are answered."""
    there = {
        trouble: file.expect
        for file in demo
        for trouble in TROUBLES
        if trouble in " ".join(file.truth.split())
    }

    assert there == dict.fromkeys(TROUBLES, "done")


def test_the_demo_is_small(demo: list[DemoFile]) -> None:
    """The whole set is under 25 MB."""
    assert sum(file.path.stat().st_size for file in demo) < 25_000_000


@pytest.mark.proof
def test_a_seed_decides_every_byte(demo: list[DemoFile], tmp_path: Path) -> None:
    """The same seed writes the same bytes; only the locked PDF salts itself."""
    again = demo_files(tmp_path / "again")

    assert [(f.path.name, f.expect, f.truth) for f in again] == [
        (f.path.name, f.expect, f.truth) for f in demo
    ]
    assert [
        old.path.name
        for old, new in zip(demo, again, strict=True)
        if old.path.read_bytes() != new.path.read_bytes()
    ] == [only(demo, "locked-pdf").path.name]


def test_another_seed_writes_other_letters() -> None:
    """Letters follow from their seed alone, and differ between seeds."""
    letters = [letter(seed) for seed in range(200)]

    assert letters == [letter(seed) for seed in range(200)]
    assert len(set(letters)) == 200
    assert all(90 <= len(text.split()) <= 130 for text in letters)
    assert all(text.isascii() for text in letters)


def test_the_cut_jpeg_does_not_decode(demo: list[DemoFile]) -> None:
    """A JPEG cut off at 60 % says so when its pixels are asked for."""
    cut = only(demo, "cut-jpg").path

    with Image.open(cut) as image, pytest.raises(OSError, match="truncated"):
        image.load()


def test_the_locked_pdf_needs_its_password(demo: list[DemoFile]) -> None:
    """Nobody opens the locked PDF without its password."""
    with pytest.raises(pikepdf.PasswordError):
        pikepdf.open(only(demo, "locked-pdf").path)


def test_the_duplicate_repeats_an_earlier_file(demo: list[DemoFile]) -> None:
    """The duplicate has the exact bytes of one good letter before it."""
    [again] = [file for file in demo if file.expect == "duplicate"]
    before = demo[: demo.index(again)]

    same = [f for f in before if f.path.read_bytes() == again.path.read_bytes()]

    assert [file.expect for file in same] == ["done"]


def test_only_one_letter_discloses_harm(demo: list[DemoFile]) -> None:
    """The disclosure is in the held letter, and in no letter that is done."""
    telling = [f.kind for f in demo if any(said in f.truth for said in DISCLOSURE)]

    assert telling == ["disclosure-jpg"]


def test_a_smudge_has_ink_and_an_empty_sheet_has_none(demo: list[DemoFile]) -> None:
    """Blank and unreadable are told apart by ink, not by what was read."""
    assert ink(only(demo, "blank-jpg").path) < 0.001
    assert ink(only(demo, "smudged-jpg").path) > 0.05


def test_turned_photos_are_upright_after_their_exif(demo: list[DemoFile]) -> None:
    """EXIF orientations 3, 6 and 8 occur; each turns into a portrait page."""
    turned = {}
    for file in demo:
        if "-exif" in file.kind:
            with Image.open(file.path) as image:
                upright = ImageOps.exif_transpose(image)
                turned[image.getexif()[0x0112]] = upright.height > upright.width

    assert turned == {3: True, 6: True, 8: True}


def test_each_page_of_the_truth_is_a_page_of_the_file(demo: list[DemoFile]) -> None:
    """PDF pages and TIFF frames are as many as the truth has, none empty."""
    good = [file for file in demo if file.expect == "done"]

    assert len(good) > 30
    for file in good:
        texts = file.truth.split("\f")
        if file.path.suffix == ".pdf":
            with pikepdf.open(file.path) as pdf:
                count = len(pdf.pages)
        else:
            with Image.open(file.path) as image:
                count = len(list(ImageSequence.Iterator(image)))
        assert count == len(texts), file.path.name
        assert all(text.strip() for text in texts), file.path.name


@pytest.mark.parametrize(
    "kind", ["hand-photo-jpg", "hand-clean-png", "typed-photo-jpg", "disclosure-jpg"]
)
def test_tesseract_reads_the_letters(
    demo: list[DemoFile], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain tesseract reads a letter at confidence 85, and 9 in 10 of its words."""
    if not shutil.which("tesseract"):
        pytest.skip("tesseract is not on PATH; apt-get install tesseract-ocr")
    monkeypatch.setitem(os.environ, "OMP_THREAD_LIMIT", "1")
    file = next(file for file in demo if file.kind == kind)

    read = pytesseract.image_to_data(
        str(file.path), config="--psm 3", output_type=pytesseract.Output.DICT
    )

    words = {
        word: float(conf)
        for word, conf in zip(read["text"], read["conf"], strict=True)
        if word.strip()
    }
    length = sum(len(word) for word in words)
    assert sum(len(word) * conf for word, conf in words.items()) / length > 85
    truth = file.truth.split()
    assert sum(word in words for word in truth) / len(truth) > 0.9


def test_pages_are_for_measuring(tmp_path: Path) -> None:
    """Benchmark pages come in the kinds asked for, at 200 dpi, the same each time."""
    first = pages(tmp_path / "a", count=4, seed=7, kinds=("clean", "photo"))
    second = pages(tmp_path / "b", count=4, seed=7, kinds=("clean", "photo"))

    assert [path.suffix for path in first] == [".png", ".jpg", ".png", ".jpg"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    for path in first:
        with Image.open(path) as image:
            assert round(image.info["dpi"][0]) == 200


def test_a_missing_font_names_its_package() -> None:
    """Without a font the message says which package to install."""
    with pytest.raises(Usage) as caught:
        noise.font_file("NoSuchFace.ttf", "fonts-no-such")

    assert caught.value.code == "FONT_MISSING"
    assert caught.value.hint == "apt-get install fonts-no-such"


def test_too_small_a_demo_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer than twelve files cannot hold the six odd ones: usage, exit code 2."""
    code = main([str(tmp_path), "--count", "5"])

    assert code == 2
    assert "at least 12" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
