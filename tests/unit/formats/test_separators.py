"""Separator sheets, and the runs of pages between them."""

from __future__ import annotations

from pathlib import Path

import pikepdf
import pytest
import zxingcpp
from PIL import Image

from pipeline.errors import Usage
from stages.formats import bundle, separators


def bars(text: str, kind: str) -> Image.Image:
    code = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind))
    image = Image.fromarray(code.to_image(scale=2))
    return image.resize((image.width, 160 if kind != "QRCode" else image.height))


def stack(path: Path, *sheets: Image.Image | None) -> Path:
    """A PDF with one picture a page, A4 at 100 dpi; None is an empty page."""
    with pikepdf.new() as pdf:
        for picture in sheets:
            leaf = pdf.add_blank_page(page_size=(595, 842))
            if picture is None:
                continue
            page = Image.new("L", (827, 1169), 255)
            page.paste(picture, (150, 300))
            drawn = pdf.make_stream(
                page.tobytes(),
                Type=pikepdf.Name.XObject,
                Subtype=pikepdf.Name.Image,
                Width=827,
                Height=1169,
                ColorSpace=pikepdf.Name.DeviceGray,
                BitsPerComponent=8,
            )
            leaf.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(P=drawn))
            leaf.Contents = pdf.make_stream(b"q 595 0 0 842 0 0 cm /P Do Q")
        pdf.save(path)
    return path


def scrawl() -> Image.Image:
    return Image.effect_noise((500, 300), 120)


@pytest.mark.parametrize("kind", ["Code128", "Code39", "QRCode"])
@pytest.mark.parametrize("text", ["PATCHT", "WAYBILL-SEPARATOR-7"])
def test_sheets_are_known_by_their_barcode(
    kind: str, text: str, tmp_path: Path
) -> None:
    """Other pages are not, nor are other barcodes."""
    pages = (scrawl(), bars(text, kind), scrawl(), bars("4006381333931", kind), None)
    path = stack(tmp_path / "stack.pdf", *pages)

    found = bundle.separators(str(path), 1, 5, ["barcode"])

    assert found == [2]


def test_empty_pages_separate_where_a_pipeline_says_so(tmp_path: Path) -> None:
    """And only there: an empty page is the back of a letter."""
    path = stack(tmp_path / "stack.pdf", scrawl(), None, bars("PATCHT", "Code128"))

    found = {
        kinds: bundle.separators(str(path), 1, 3, kinds)
        for kinds in [("barcode",), ("blank",), ("barcode", "blank")]
    }

    assert found == {("barcode",): [3], ("blank",): [2], ("barcode", "blank"): [2, 3]}


def test_the_printed_sheet_is_a_separator(tmp_path: Path) -> None:
    """What `waybill separator` prints is what intake looks for."""
    path = tmp_path / "sheet.pdf"
    path.write_bytes(separators.sheet())

    found = bundle.separators(str(path), 1, 1, ["barcode"])

    assert found == [1]


def test_a_paper_nobody_makes_is_a_usage_error() -> None:
    """The typesetter's own words do not reach a person."""
    with pytest.raises(Usage) as caught:
        separators.sheet("papyrus")

    assert caught.value.code == "NO_SUCH_PAPER"


@pytest.mark.parametrize("first", [1, 3])
def test_the_empty_back_of_a_sheet_belongs_to_it(first: int, tmp_path: Path) -> None:
    """Scanned on both sides, also where a range of pages begins with the back."""
    sheet = bars("PATCHT", "Code128")
    path = stack(tmp_path / "stack.pdf", scrawl(), sheet, None, scrawl(), None)

    found = bundle.separators(str(path), first, 5, ["barcode"])

    assert found == [page for page in (2, 3) if page >= first]


def test_a_page_with_one_word_is_not_empty(tmp_path: Path) -> None:
    """Nothing that somebody wrote is taken for a separator; dust is nothing."""
    word, dust = Image.new("L", (60, 20), 255), Image.new("L", (60, 20), 255)
    word.paste(0, (5, 3, 8, 17))
    dust.paste(0, (5, 3, 8, 5))
    path = stack(tmp_path / "stack.pdf", word, dust)

    found = bundle.separators(str(path), 1, 2, ["blank"])

    assert found == [2]


@pytest.mark.parametrize(
    ("between", "count", "runs"),
    [
        ([3], 5, [(1, 2), (4, 5)]),
        ([1, 2, 4, 5], 6, [(3, 3), (6, 6)]),
        ([1], 3, [(2, 3)]),
        ([3], 3, [(1, 2)]),
        ([1, 2], 2, []),
        ([], 2, [(1, 2)]),
    ],
)
def test_runs_lie_between_separators(
    between: list[int], count: int, runs: list[tuple[int, int]]
) -> None:
    """Two in a row and those at the ends make no empty document."""
    assert separators.groups(between, count) == runs
