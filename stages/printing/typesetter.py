"""
The jailed side of `output`: a reply in, a print-ready PDF file out.

Everything here runs jailed.  The reply travels to typst as JSON
data, never as markup, so whatever a letter makes somebody write prints as it
is.  Each character is looked up in the fonts' character maps beforehand: what
no face can draw is reported, not printed as an empty box.  The same arguments
give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import Permanent

PRINT = "print.pdf"
PAPERS_MM = {"a4": (210.0, 297.0), "a5": (148.0, 210.0)}
FONT_DIRS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "~/Library/Fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "/opt/homebrew/share/fonts",
)
FONT_SUFFIXES = frozenset({".ttf", ".otf", ".ttc", ".otc"})
FONT_FILES_MAX = 20_000  # a bound, far above what a desktop has
FACES_IN_COLLECTION_MAX = 64
PACKAGES = {  # Debian and Ubuntu; named in the hint when a face is missing
    "Klee One": "fonts-klee",
    "Comic Neue": "fonts-comic-neue",
    "Dancing Script": "fonts-dancingscript",
    "DejaVu Sans": "fonts-dejavu-core",
    "DejaVu Serif": "fonts-dejavu-core",
    "Noto Sans": "fonts-noto-core",
}
POINTS_PER_MM = 72 / 25.4

# The page.  Lengths arrive as numbers in `letter`; every text is inserted as a
# string value, which typst never parses.  `fallback: false` because the glyph
# check has already promised that the listed faces suffice.
PAGE = rb"""
#let letter = json(bytes(sys.inputs.letter))
#let bleed = letter.bleed_mm * 1mm
#let margin = letter.margin_mm * 1mm
#set document(title: "Letter", date: none)
#set page(
  width: letter.width_mm * 1mm + 2 * bleed,
  height: letter.height_mm * 1mm + 2 * bleed,
  margin: (x: margin + bleed, top: margin + bleed, bottom: margin + bleed),
  footer: context {
    let number = counter(page).get().first()
    if number > 1 { align(center, text(size: 0.8em, str(number))) }
  },
)
#set text(
  font: letter.fonts,
  size: letter.size_pt * 1pt,
  fill: rgb(letter.ink),
  fallback: false,
  hyphenate: false,
)
#set par(leading: 0.8em, spacing: 1.3em, justify: false)
#let lines(value) = value.split("\n").join(linebreak())

#if letter.date != "" { align(right, lines(letter.date)) }
#block(below: 1.4em, sticky: true, lines(letter.greeting))
#for paragraph in letter.paragraphs { par(lines(paragraph)) }
#block(above: 1.8em, breakable: false, lines(letter.closing))
"""

# Marks that steer direction or choose a presentation.  On paper they are
# nothing, and in a letter of ours they have no business.
INVISIBLE = frozenset(
    chr(point)
    for first, last in (
        (0x00AD, 0x00AD),
        (0x061C, 0x061C),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x2069),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
    )
    for point in range(first, last + 1)
)


def typeset(
    *,
    reply: Mapping[str, Any],
    paper: str = "a5",
    font: str = "Klee One",
    fallback: Sequence[str] = ("DejaVu Sans",),
    size_pt: float = 12.0,
    margin_mm: float = 17.0,
    bleed_mm: float = 0.0,
    ink: str = "#1f2a44",
    date: str = "",
    missing: str = "hold",
    pages_max: int = 8,
) -> dict[str, Any]:
    """
    Write `reply` as a PDF, the file `PRINT` in the scratch folder.

    Args:
        reply: `greeting`, `paragraphs` and `closing`, plain text.
        missing: "hold" reports characters no face has and writes nothing;
            "drop" leaves them out.
        bleed_mm: Adds this much paper on each side, outside the trim box.

    Returns:
        `pages`, `size_bytes` and `sha256` of the file; or `missing`, the code
        points no face has; or `too_long`, how many pages it would take.

    Raises:
        Permanent: FONT_MISSING; TYPESET_FAILED when typst refuses the page.
    """
    families = (font, *fallback)
    faces = [face_of(family) for family in families]
    texts = {
        "date": tidy(date),
        "greeting": tidy(str(reply["greeting"])),
        "paragraphs": [tidy(str(each)) for each in reply["paragraphs"]],
        "closing": tidy(str(reply["closing"])),
    }
    maps = [characters(path, index) for path, index in faces]
    lost = unprintable(_every(texts), maps)
    if lost and missing != "drop":
        points = sorted({ord(c) for cluster in lost for c in cluster})
        return {"missing": [f"U+{point:04X}" for point in points[:50]]}
    if lost:
        texts = _without(texts, lost)
    width_mm, height_mm = PAPERS_MM[paper]
    letter = {
        **texts,
        "fonts": list(families),
        "size_pt": size_pt,
        "margin_mm": margin_mm,
        "bleed_mm": bleed_mm,
        "width_mm": width_mm,
        "height_mm": height_mm,
        "ink": ink,
    }
    pdf = _compile(letter, tuple(path for path, _ in faces))
    pages = _page_count(pdf)
    if pages > pages_max:
        return {"too_long": pages}
    if bleed_mm > 0:
        pdf = _with_boxes(pdf, bleed_mm)
    # Plain bytes on disk; the worker makes them durable and names the file.
    Path(os.environ["TMPDIR"], PRINT).write_bytes(pdf)
    return {
        "pages": pages,
        "size_bytes": len(pdf),
        "sha256": hashlib.sha256(pdf).hexdigest(),
    }


# -- text ------------------------------------------------------------------------------


def tidy(text: str) -> str:
    """`text` in composed form, without control, direction and lone surrogate marks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    text = re.sub("[\u2028\u2029\v\f\x85]", "\n", text)
    kept = "".join(
        c
        for c in unicodedata.normalize("NFC", text)
        if c == "\n"
        or (c not in INVISIBLE and unicodedata.category(c) not in ("Cc", "Cs"))
    )
    return kept.strip()


def clusters(text: str) -> Iterator[str]:
    """What a font must draw in one piece: a character and the marks upon it."""
    held = ""
    for char in text:
        if held and unicodedata.category(char) in ("Mn", "Me", "Mc"):
            held += char
            continue
        if held:
            yield held
        held = char
    if held:
        yield held


def unprintable(text: str, maps: Sequence[frozenset[int]]) -> set[str]:
    """The clusters of `text` that no single face can draw whole."""
    return {
        cluster
        for cluster in set(clusters(text))
        if cluster != "\n"
        and not any(all(ord(c) in known for c in cluster) for known in maps)
    }


def _every(texts: Mapping[str, Any]) -> str:
    return "\n".join(
        (texts["date"], texts["greeting"], *texts["paragraphs"], texts["closing"])
    )


def _without(texts: Mapping[str, Any], lost: set[str]) -> dict[str, Any]:
    def thin(text: str) -> str:
        kept = "".join(each for each in clusters(text) if each not in lost)
        return re.sub(" {2,}", " ", kept).strip()

    return {
        "date": thin(texts["date"]),
        "greeting": thin(texts["greeting"]),
        "paragraphs": [p for p in map(thin, texts["paragraphs"]) if p],
        "closing": thin(texts["closing"]),
    }


# -- fonts -----------------------------------------------------------------------------


@lru_cache(maxsize=64)
def face_of(family: str) -> tuple[str, int]:
    """
    The file of a family's regular face, and its place in it (collections).

    Cached for the life of the process: fonts are not installed under a run.

    Raises:
        Permanent: FONT_MISSING; the hint names the package where we know it.
    """
    best: tuple[int, str, int] | None = None
    for path in _nearest_first(family):
        for index, weight in _matching(path, family):
            # Regular is 400; a bold file of the same family must not win just
            # because it was found first.
            if best is None or abs(weight - 400) < best[0]:
                best = (abs(weight - 400), path, index)
        if best is not None and best[0] == 0:
            break
    if best is not None:
        return best[1], best[2]
    package = PACKAGES.get(family)
    raise Permanent(
        f"the font {family!r} is not installed on this machine",
        code="FONT_MISSING",
        hint=(
            f"install it (Debian, Ubuntu: apt-get install {package})"
            if package
            else "install it, or name another face in [stage.output]"
        ),
    )


@lru_cache(maxsize=64)
def characters(path: str, index: int) -> frozenset[int]:
    """Every code point a face has a glyph for."""
    from fontTools.ttLib import TTFont

    with TTFont(path, fontNumber=index, lazy=True) as face:
        return frozenset(face.getBestCmap() or ())


@lru_cache(maxsize=1)
def _font_files() -> tuple[str, ...]:
    # The user's own fonts count, but a jailed process's HOME is a scratch folder.
    home = os.environ.get("FONTS_HOME") or os.path.expanduser("~")
    found: list[str] = []
    for place in FONT_DIRS:
        for folder, _, names in os.walk(place.replace("~", home, 1)):
            found += [
                os.path.join(folder, name)
                for name in names
                if os.path.splitext(name)[1].lower() in FONT_SUFFIXES
            ]
            if len(found) >= FONT_FILES_MAX:
                return tuple(sorted(found[:FONT_FILES_MAX]))
    return tuple(sorted(found))


def _nearest_first(family: str) -> list[str]:
    # Opening every font of a desktop takes seconds; the file is nearly always
    # named like the family, and its regular face like `-Regular`.
    squeezed = re.sub(r"[^a-z0-9]", "", family.lower())

    def distance(path: str) -> tuple[bool, bool, int, str]:
        stem = re.sub(r"[^a-z0-9]", "", Path(path).stem.lower())
        plain = stem in (squeezed, squeezed + "regular")
        return (not plain, squeezed not in stem, len(stem), path)

    return sorted(_font_files(), key=distance)


@lru_cache(maxsize=4096)
def _names(path: str) -> tuple[tuple[frozenset[str], int], ...]:
    """Per face of a file: its family names and weight; upright faces only."""
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    rows: list[tuple[frozenset[str], int]] = []
    try:
        if path.lower().endswith((".ttc", ".otc")):
            with TTCollection(path, lazy=True) as collection:
                count = min(len(collection.fonts), FACES_IN_COLLECTION_MAX)
        else:
            count = 1
        for index in range(count):
            with TTFont(path, fontNumber=index, lazy=True) as face:
                families = frozenset(
                    str(record)
                    for record in face["name"].names
                    if record.nameID in (1, 16)
                )
                slanted = bool(face["OS/2"].fsSelection & 1)
                weight = int(face["OS/2"].usWeightClass)
                rows.append((frozenset() if slanted else families, weight))
    except (TTLibError, OSError, KeyError, ValueError, AssertionError, AttributeError):
        return ()  # a broken font file on the machine is not the letter's fault
    return tuple(rows)


def _matching(path: str, family: str) -> list[tuple[int, int]]:
    wanted = family.casefold()
    return [
        (index, weight)
        for index, (families, weight) in enumerate(_names(path))
        if wanted in {name.casefold() for name in families}
    ]


@lru_cache(maxsize=8)
def _loaded(paths: tuple[str, ...]) -> Any:
    # typst takes folders, and a folder of fonts may hold a thousand: a folder of
    # links holds just ours; typst resolves the links as it scans.  Its own fonts
    # stay out, so that nothing but the configured faces can ever be on a page.
    import typst

    with tempfile.TemporaryDirectory(prefix="waybill-fonts-") as folder:
        for number, path in enumerate(paths):
            os.symlink(path, os.path.join(folder, f"{number}-{Path(path).name}"))
        return typst.Fonts(
            include_system_fonts=False,
            include_embedded_fonts=False,
            font_paths=[folder],
        )


# -- pages -----------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _compiler(paths: tuple[str, ...]) -> Any:
    # Shared by all letters of this process: 3 ms a letter instead of 40.
    import typst

    return typst.Compiler(PAGE, font_paths=_loaded(paths))


def _compile(letter: Mapping[str, Any], paths: tuple[str, ...]) -> bytes:
    import typst

    data = json.dumps(letter, sort_keys=True)
    try:
        pdf, warnings = _compiler(paths).compile_with_warnings(
            PAGE, format="pdf", sys_inputs={"letter": data}
        )
    except typst.TypstError as error:
        # The diagnostic may quote the letter; its first words never do.
        raise Permanent(
            "typst refused the page",
            code="TYPESET_FAILED",
            hint="check paper, size_pt, margin_mm and ink in [stage.output]",
        ) from error
    if any("unknown font family" in warning.message for warning in warnings):
        raise Permanent(
            "typst cannot read one of the configured fonts",
            code="FONT_MISSING",
            hint="name other faces in [stage.output]",
        )
    return bytes(pdf)


def _page_count(pdf: bytes) -> int:
    # A second reader: a file that PDFium cannot open must not reach a printer.
    import pypdfium2

    document = pypdfium2.PdfDocument(pdf)
    try:
        return len(document)
    finally:
        document.close()


def _with_boxes(pdf: bytes, bleed_mm: float) -> bytes:
    """Mark where the sheet is cut: TrimBox inside, BleedBox as the media box."""
    import io

    import pikepdf

    edge = bleed_mm * POINTS_PER_MM
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as document:
        for page in document.pages:
            left, bottom, right, top = (float(side) for side in page.mediabox)
            trim = [left + edge, bottom + edge, right - edge, top - edge]
            page.obj.TrimBox = pikepdf.Array([round(side, 3) for side in trim])
            page.obj.BleedBox = page.obj.MediaBox
        document.save(out, deterministic_id=True)
    return out.getvalue()
