"""The files of a hold: named for people, drawn in the jail, off the desk afterwards."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from pipeline.doubles import MemoryArtifacts
from pipeline.errors import NotFound, Unacceptable
from stages.formats.kinds import EML, PDF, PNG, TIFF, TXT
from stages.reading.sheet import SIDE
from waybill.desk.pieces import (
    PAGES_MAX,
    Laid,
    drawn,
    first_page,
    lay_out,
    pieces,
    put_away,
)

SOURCE, CROP, PICTURE = "a" * 64, "b" * 64, "c" * 64


class Here:
    """Runs what the jail would run, in this process, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def run(
        self, fn: Callable[..., Any], *, timeout_s: float, cpu_s: float, **how: Any
    ) -> Any:
        self.asked.append(fn.__name__)
        return fn(**how)


def desk(tmp_path: Path) -> Any:
    return SimpleNamespace(
        artifacts=MemoryArtifacts(tmp_path / "objects"),
        services=SimpleNamespace(jail=Here(), secrets=None),
        settings=SimpleNamespace(home=tmp_path),
    )


def hold(evidence: Any = None, **state: Any) -> Any:
    shown = {"evidence": evidence, "state": state}
    return SimpleNamespace(id=7, tenant="acme", shown=shown)


def picture(
    wide: int, high: int, gray: int, kind: str = "PNG", frames: int = 1
) -> bytes:
    made = [Image.new("L", (wide, high), gray + n) for n in range(frames)]
    file = BytesIO()
    more = {"save_all": True, "append_images": made[1:]} if frames > 1 else {}
    made[0].save(file, kind, **more)
    return file.getvalue()


def names(app: Any, held: Any) -> list[str]:
    return [piece.name for piece in pieces(app, held)]


# -- what there is ---------------------------------------------------------------------


def test_a_page_and_its_cuttings_have_names_and_endings(tmp_path: Path) -> None:
    """Pages in question first; each crop with the page it was cut out of."""
    crop = {"artifact": CROP, "box": [1, 2, 3, 4]}
    evidence = {"pages": [{"number": 3, "picture": PICTURE, "crops": [crop]}]}

    found = pieces(
        desk(tmp_path),
        hold(evidence, source=SOURCE, media_type=PDF, page_count=4),
    )

    assert [(p.name, p.artifact, p.page, p.crop) for p in found] == [
        ("page-3.jpg", PICTURE, 3, False),
        ("page-3-line-1.png", CROP, 3, True),
        ("original.pdf", SOURCE, 0, False),
    ]


def test_where_no_page_is_in_question_all_are_drawn(tmp_path: Path) -> None:
    """At most so many; none of what came as text, and none of what has no source."""
    app = desk(tmp_path)

    scan = hold({}, source=SOURCE, media_type=TIFF, page_count=2)
    long = hold({}, source=SOURCE, media_type=PDF, page_count=900)
    text = hold({}, source=SOURCE, media_type=TXT, page_count=1)
    digital = [{"number": 1, "source": "text"}, {"number": 2, "source": "ocr"}]
    mail = hold(
        {}, source=SOURCE, media_type="message/rfc822", page_count=2, read=digital
    )

    assert names(app, scan) == ["page-1.png", "page-2.png", "original.tif"]
    assert len(names(app, long)) == PAGES_MAX + 1
    assert names(app, text) == ["original.txt"]
    assert names(app, mail) == ["page-2.png", "original.eml"]
    assert names(app, hold({}, page_count=2)) == []


@pytest.mark.parametrize(
    "evidence",
    [
        None,
        "odd",
        ["odd"],
        {"pages": "odd"},
        {"pages": [{"number": 0}, {"number": "1"}, {"picture": "../../etc/passwd"}]},
        {"pages": [{"number": 1, "picture": 5, "crops": [{"artifact": None}, 3]}]},
    ],
)
def test_evidence_of_any_shape_names_no_file_that_is_none(
    tmp_path: Path, evidence: Any
) -> None:
    """A stage of one's own may lay anything before its hold."""
    held = hold(evidence, source="../secret", media_type=7, page_count="2")

    assert names(desk(tmp_path), held) == []


async def test_files_of_a_stage_of_ones_own_are_called_by_their_key(
    tmp_path: Path,
) -> None:
    """With the ending of what they are; no two alike, each once."""
    app = desk(tmp_path)
    scan = await app.artifacts.put(picture(4, 4, 9))
    other = await app.artifacts.put(picture(5, 5, 9))
    notes = await app.artifacts.put(b"some words")
    evidence = {"left/../scan": [scan, other, scan], "notes": {"kept": notes}}
    gone = {"lost": "d" * 64}

    assert names(app, hold(evidence)) == [
        "left_scan.png",
        "left_scan-2.png",
        "kept.txt",
    ]
    assert [p.artifact for p in pieces(app, hold(gone))] == ["d" * 64]


# -- on the desk -----------------------------------------------------------------------


async def test_everything_is_laid_out_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """Pages that nobody kept are drawn in the jail; what cannot be had is named."""
    app = desk(tmp_path)
    source = await app.artifacts.put(picture(40, 60, 200, "TIFF", frames=2))
    evidence = {"pages": [{"number": 2, "crops": [{"artifact": CROP}]}]}
    held = hold(evidence, source=source, media_type=TIFF, page_count=2)

    laid = await lay_out(app, held, "what was read")
    folder = tmp_path / "desk" / "h7"

    assert [(one.name, one.path) for one in laid] == [
        ("page-2.png", str(folder / "page-2.png")),
        ("page-2-line-1.png", None),
        ("original.tif", str(folder / "original.tif")),
        ("text.txt", str(folder / "text.txt")),
    ]
    assert "bbbb" in laid[1].why
    assert app.services.jail.asked == ["sheet"]
    with Image.open(folder / "page-2.png") as page:
        assert (page.format, page.size, page.getpixel((5, 5))) == ("PNG", (40, 60), 201)

    put_away(app, held)
    assert not folder.exists()


async def test_a_text_that_somebody_mends_is_left_alone(tmp_path: Path) -> None:
    """Opened again, the reviewer's words are still there."""
    app = desk(tmp_path)
    [first] = await lay_out(app, hold(), "machine", tmp_path / "mine")
    assert first.path is not None
    Path(first.path).write_text("person")

    again = await lay_out(app, hold(), "machine", tmp_path / "mine")

    assert again == [Laid("text.txt", str(tmp_path / "mine" / "h7" / "text.txt"), 0)]
    assert Path(first.path).read_text() == "person"


async def test_a_part_of_a_larger_pdf_is_drawn_from_its_own_pages(
    tmp_path: Path,
) -> None:
    """Page 1 of a part that begins on page 2 is the second of the file."""
    app = desk(tmp_path)
    source = await app.artifacts.put(picture(40, 60, 100, "TIFF", frames=3))
    part = hold({}, source=source, media_type=TIFF, page_count=2, first_page=2)

    with Image.open(BytesIO(await drawn(app, part, 1))) as page:
        assert page.getpixel((0, 0)) == 101


async def test_one_picture_has_the_page_and_its_cuttings(tmp_path: Path) -> None:
    """Small enough for a screen; beneath the page stands each line in dispute."""
    app = desk(tmp_path)
    source = await app.artifacts.put(picture(SIDE * 2, SIDE, 200))
    crop = await app.artifacts.put(picture(300, 40, 10))
    evidence = {"pages": [{"number": 1, "crops": [{"artifact": crop}]}]}
    held = hold(evidence, source=source, media_type=PNG, page_count=1)

    data = await drawn(app, held, first_page(app, held), with_crops=True)

    with Image.open(BytesIO(data)) as sheet:
        assert sheet.width == SIDE
        assert sheet.height > SIDE // 2 + 40
        dark = sheet.crop((0, SIDE // 2 + 3, SIDE, sheet.height)).getcolors()
    assert dark is not None
    assert (300 * 40, 10) in dark


async def test_a_page_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    """No such page, and one that is text."""
    app = desk(tmp_path)
    source = await app.artifacts.put(b"From: a@b.c\nSubject: x\n\nwords\n")
    mail = hold({}, source=source, media_type=EML, page_count=1)
    broken = hold({}, source=source, media_type=PNG, page_count=1)

    for page in (1, 2):
        with pytest.raises(NotFound) as none:
            await drawn(app, mail, page)
        assert none.value.code == "NO_PICTURE"
    with pytest.raises(Unacceptable):
        await drawn(app, broken, 1)
    [failed, *_] = await lay_out(app, broken, "")
    assert failed.path is None
    assert failed.why
