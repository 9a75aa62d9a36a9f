"""Pages drawn for a test: a picture with a black corner, a PDF of given content."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pikepdf
from pikepdf import Dictionary, Name, Pdf, Stream
from PIL import Image, ImageDraw

from stages.formats.kinds import PDF
from stages.reading.picture import SourcePage, open_page
from stages.reading.protocol import PageRequest, ReaderSettings

Font = Callable[[Pdf], Dictionary]


def corner(size: tuple[int, int] = (300, 200)) -> Image.Image:
    """A page with a black corner, top left."""
    page = Image.new("L", size, 255)
    ImageDraw.Draw(page).rectangle((0, 0, size[0] // 4, size[1] // 4), fill=0)
    return page


def asked(path: Path, kind: str, index: int = 0, **how: Any) -> PageRequest:
    """A page, to be read with these passwords and settings."""
    passwords = how.pop("passwords", ())
    return PageRequest(
        path=str(path),
        media_type=kind,
        index=index,
        reader=ReaderSettings(**how),
        passwords=passwords,
    )


def seen(path: Path, kind: str, index: int = 0, **limits: Any) -> tuple[Any, int]:
    with open_page(asked(path, kind, index, **limits)) as page:
        assert page.text() is None
        return page.picture()


def is_corner(picture: Image.Image) -> bool:
    """Whether the black corner, and it alone, is where it was drawn."""
    width, height = picture.size
    dark = [
        (x, y)
        for x in (0.1, 0.9)
        for y in (0.1, 0.9)
        if picture.getpixel((int(x * width), int(y * height))) < 60  # type: ignore[operator]
    ]
    return picture.mode == "L" and dark == [(0.1, 0.1)]


def text_at(x: float, y: float, text: str, size: float = 12, more: str = "") -> str:
    return f"q {more} BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET Q\n"


def helvetica(_pdf: Pdf) -> Dictionary:
    return Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)


def one_page(
    folder: Path,
    content: str,
    *,
    size: tuple[float, float] = (595, 842),
    images: dict[str, Image.Image] | None = None,
    font: Font | None = None,
    **keys: Any,
) -> Path:
    """A PDF of one page; its pictures are drawn by `/NAME Do`."""
    pdf = Pdf.new()
    drawn = {
        f"/{name}": pdf.make_indirect(
            Stream(
                pdf,
                image.convert("L").tobytes(),
                Type=Name.XObject,
                Subtype=Name.Image,
                Width=image.width,
                Height=image.height,
                BitsPerComponent=8,
                ColorSpace=Name.DeviceGray,
            )
        )
        for name, image in (images or {}).items()
    }
    page = Dictionary(
        Type=Name.Page,
        MediaBox=[0, 0, *size],
        Contents=pdf.make_stream(content.encode("latin-1")),
        Resources=Dictionary(
            Font=Dictionary(F1=pdf.make_indirect((font or helvetica)(pdf))),
            XObject=Dictionary(drawn),
        ),
        **keys,
    )
    pdf.pages.append(pikepdf.Page(pdf.make_indirect(page)))
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".pdf", delete=False) as file:
        pdf.save(file)
    return Path(file.name)


@contextmanager
def first(path: Path, **limits: Any) -> Iterator[SourcePage]:
    with open_page(asked(path, PDF, **limits)) as page:
        yield page
