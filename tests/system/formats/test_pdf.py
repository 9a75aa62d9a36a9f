"""PDFs and their pages: drawn as sharp as they are, bounded, opened with passwords."""

from __future__ import annotations

from pathlib import Path

import pikepdf
import pytest
from pikepdf import Name, Pdf
from PIL import Image

from pipeline.errors import Unacceptable
from stages.formats.kinds import PDF
from stages.formats.probe import look
from tests.system.drawn import corner, first, is_corner, one_page, seen, text_at


def test_a_page_is_drawn_at_the_resolution_asked_for(tmp_path: Path) -> None:
    """A4 at 200 dpi; and no page has more pixels than allowed."""
    path = one_page(tmp_path, text_at(50, 800, "Dear all"))

    with first(path, dpi=200) as page:
        picture, dpi = page.picture()
    with first(path, max_pixels=1_000_000) as page:
        small, small_dpi = page.picture()

    assert (dpi, picture.size) == (200, (1653, 2339))
    assert 950_000 < small.width * small.height <= 1_000_000
    assert small_dpi == pytest.approx(small.height / 842 * 72, abs=1)


@pytest.mark.parametrize("size", [(14_400, 14_400), (1, 1), (3, 14_400)])
def test_pages_of_any_size_can_be_drawn(
    size: tuple[float, float], tmp_path: Path
) -> None:
    """Five metres square, or one point: a picture within the cap."""
    path = one_page(tmp_path, "0 g 0 0 1 1 re f", size=size)

    with first(path, max_pixels=2_000_000) as page:
        picture, dpi = page.picture()

    assert 1 <= picture.width * picture.height <= 2_000_000
    assert dpi >= 70


@pytest.mark.parametrize(("pixels", "dpi"), [(827, 100), (1654, 200), (4960, 300)])
def test_a_scan_is_drawn_at_its_own_resolution(
    pixels: int, dpi: int, tmp_path: Path
) -> None:
    """No pixels are invented, none above 300 dpi are kept; a layer changes nothing."""
    scan = corner((pixels, round(pixels * 1.414)))
    path = one_page(
        tmp_path,
        "q 595 0 0 842 0 0 cm /Im Do Q " + text_at(50, 800, "read", more="3 Tr"),
        images={"Im": scan},
    )

    with first(path) as page:
        picture, found = page.picture()

    assert found == pytest.approx(dpi, abs=1)
    assert picture.width == pytest.approx(595 * dpi / 72, abs=3)
    assert is_corner(picture)


def test_a_drawn_page_with_a_picture_is_no_scan(tmp_path: Path) -> None:
    """Letters over a coarse background are drawn as sharp as ever."""
    path = one_page(
        tmp_path,
        "q 595 0 0 842 0 0 cm /Im Do Q " + text_at(50, 800, "Dear all"),
        images={"Im": Image.new("L", (100, 141), 250)},
    )

    with first(path) as page:
        _, dpi = page.picture()

    assert dpi == 300


def locked(folder: Path, user: str, owner: str) -> Path:
    source = one_page(folder, text_at(50, 800, "Dear all"))
    made = folder / "locked.pdf"
    with Pdf.open(source) as pdf:
        pdf.save(made, encryption=pikepdf.Encryption(user=user, owner=owner))
    return made


def test_passwords_are_tried_in_turn(tmp_path: Path) -> None:
    """A PDF opens with the one that fits, and is refused without it."""
    path = locked(tmp_path, "sesame", "owner")

    with pytest.raises(Unacceptable) as caught:
        look(str(path), passwords=["wrong"])
    found = look(str(path), passwords=["wrong", "sesame"])
    with first(path, passwords=["wrong", "sesame"]) as page:
        picture, _ = page.picture()

    assert caught.value.code == "PDF_ENCRYPTED"
    assert "sesame" not in f"{caught.value}{caught.value.hint}"
    assert found.pages == 1
    assert picture.getextrema()[0] < 100


def test_an_owners_password_does_not_lock(tmp_path: Path) -> None:
    """Restrictions on printing and copying are no reason to refuse."""
    path = locked(tmp_path, "", "owner")

    assert look(str(path)).pages == 1


def test_form_fields_are_drawn_and_attachments_listed(tmp_path: Path) -> None:
    """What a person typed into a field is on the page; files inside stay closed."""
    path = one_page(tmp_path, text_at(50, 800, "Dear all"))
    with Pdf.open(path, allow_overwriting_input=True) as pdf:
        pdf.attachments["a list.csv"] = b"1,2"
        pdf.save()

    assert look(str(path)).attachments == ("a list.csv",)


def test_a_broken_page_does_not_cost_the_others(tmp_path: Path) -> None:
    """The document is taken, the note names the page, and it alone is refused."""
    path = tmp_path / "three.pdf"
    with Pdf.new() as pdf:
        for _ in range(3):
            pdf.add_blank_page()
        pdf.pages[1].obj.Type = Name.Wrong
        pdf.save(path)

    found = look(str(path))

    assert found.pages == 3
    assert "page 2 of 3 cannot be read" in found.note
    assert seen(path, PDF, 2)[0].mode == "L"
    with pytest.raises(Unacceptable) as caught:
        seen(path, PDF, 1)
    assert caught.value.code == "PDF_CORRUPT"
