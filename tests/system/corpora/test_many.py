"""Letters by the ten thousand: each its own file, and still a picture."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from loadtest.corpora.many import Letters, write_labels
from loadtest.driver.drops import again


@pytest.fixture(scope="module")
def letters() -> Letters:
    return Letters(7, machine=0.2, odd=0.2, unsure=0.2)


def test_no_two_are_the_same_bytes_and_all_are_pictures(letters: Letters) -> None:
    made = [letters.letter(number) for number in range(40)]

    assert len({one.sha256 for one in made}) == 40
    assert {one.kind for one in made} == {"photo", "printed", "disclosing", "unsure"}
    for one in made:
        with Image.open(BytesIO(one.data)) as picture:
            picture.load()
            assert picture.format == ("PNG" if one.kind == "printed" else "JPEG")
    assert letters.letter(3) == made[3]


def test_a_vendor_is_told_what_stands_on_photos_alone(
    letters: Letters, tmp_path: Path
) -> None:
    made = [letters.letter(number) for number in range(20)]

    write_labels(tmp_path / "labels.jsonl", made)

    lines = (tmp_path / "labels.jsonl").read_text().splitlines()
    told = {one["sha256"]: one for one in map(json.loads, lines)}
    assert set(told) == {one.sha256 for one in made if one.kind != "printed"}
    assert all(one["text"] for one in told.values())


def test_a_file_goes_twice_where_somebody_knows_how() -> None:
    assert again(".txt", b"hello", 1) != again(".txt", b"hello", 2)
    assert again(".pdf", b"%PDF", 3) == b"%PDF\n%copy 3\n"
    assert again(".docx", b"PK", 1) is None
