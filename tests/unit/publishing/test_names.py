"""Names of a document's files: as what was dropped, and never another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.publishing.names import Shelf, file_names
from stages.publishing.records import owner

ONE, OTHER = owner(1, "a" * 64), owner(2, "b" * 64)


@pytest.mark.parametrize(
    ("name", "folder", "first"),
    [
        ("March.pdf", "", "March"),
        ("March.pdf", "bills/2026", "bills/2026/March"),
        ("post.zip › letters/anna.png", "in", "in/post.zip/letters/anna"),
        ("stack.pdf › pages 4-6", "", "stack.pdf/pages 4-6"),
        ("Invoice No. 5", "", "Invoice No. 5"),
        ("v1.2", "", "v1.2"),
        (".hidden.pdf", "", "_hidden"),
        ("what?:*.pdf", "", "what___"),
        ("../../etc/passwd.txt", "..", "etc/passwd"),
        ("a\u202efdp.pdf", "", "a_u202efdp"),
        ("é" * 200 + ".pdf", "", "é" * 88),
    ],
)
def test_a_file_is_named_as_what_was_dropped(
    name: str, folder: str, first: str
) -> None:
    """In a tree like it; no name leads out of the folder or hides."""
    assert next(file_names(name, folder, 7)) == first


def test_two_that_differ_in_their_ending_keep_apart(tmp_path: Path) -> None:
    """The second keeps its ending, the third gets its number; nobody's is replaced."""
    files = {"json": tmp_path / "record", "pdf": tmp_path / "made"}
    names = []
    for item, name in ((1, "a.jpg"), (2, "a.png"), (3, "a.png")):
        mine = owner(item, "a" * 64)
        files["json"].write_text(f'{mine}, "pages": []}}')
        files["pdf"].write_text(str(item))
        shelf = Shelf(tmp_path / "out", mine)
        names.append(shelf.put(file_names(name, "", item), files))

    assert names == ["a", "a.png", "a.png-3"]
    kept = {p.name: p.read_text() for p in (tmp_path / "out").glob("*.pdf")}
    assert kept == {"a.pdf": "1", "a.png.pdf": "2", "a.png-3.pdf": "3"}
    assert not list((tmp_path / "out").glob(".*"))


def test_a_second_try_keeps_its_name(tmp_path: Path) -> None:
    """A try that died after its claim, or after it was done, is gone on with."""
    record = tmp_path / "record"
    record.write_text(f'{ONE}, "pages": []}}')
    out = tmp_path / "out"
    out.mkdir()
    (out / ".a.claim").write_text(ONE)

    names = [Shelf(out, ONE).put(file_names("a.pdf", "", 1), {"json": record})]
    names += [Shelf(out, ONE).put(file_names("a.pdf", "", 1), {"json": record})]

    assert names == ["a", "a"]


def test_a_claimed_name_is_left_alone(tmp_path: Path) -> None:
    """Somebody else is writing it now."""
    record = tmp_path / "record"
    record.write_text(f'{OTHER}, "pages": []}}')
    out = tmp_path / "out"
    out.mkdir()
    (out / ".a.claim").write_text(ONE)

    name = Shelf(out, OTHER).put(file_names("a.pdf", "", 2), {"json": record})

    assert name == "a.pdf"


def test_the_record_comes_last(tmp_path: Path) -> None:
    """Who waits for it finds the other files there, whole."""
    order: list[str] = []

    class Watched(Shelf):
        def copy(self, source: Path, file: str) -> None:
            order.append(file)
            super().copy(source, file)

    record = tmp_path / "record"
    record.write_text(ONE)
    files = {"json": record, "txt": record, "pdf": record, "hocr": record}

    Watched(tmp_path / "out", ONE).put(file_names("a.pdf", "", 1), files)

    assert order[-1] == "a.json"
    assert len(order) == 4


def put(folder: Path, item: int, name: str) -> str:
    """The name that an item's files get in an output folder."""
    mine = owner(item, "a" * 64)
    record, made = folder / "record", folder / "made"
    record.write_text(f'{mine}, "pages": []}}')
    made.write_text(str(item))
    shelf = Shelf(folder / "out", mine)
    return shelf.put(file_names(name, "", item), {"json": record, "pdf": made})


@pytest.mark.parametrize("first", [1, 2])
def test_a_bundle_that_is_called_as_a_file_of_ours(tmp_path: Path, first: int) -> None:
    """Its parts lie beside it, or the other takes another name: nothing waits."""
    names = {1: "bill.png", 2: "bill.pdf › a.png"}
    made = {item: put(tmp_path, item, names[item]) for item in (first, 3 - first)}

    expected = {
        1: {1: "bill", 2: "bill.pdf › a.png-2"},
        2: {1: "bill.png", 2: "bill.pdf/a"},
    }
    assert made == expected[first]
    for item, name in made.items():
        assert (tmp_path / "out" / f"{name}.pdf").read_text() == str(item)
    assert not list((tmp_path / "out").rglob(".*"))
