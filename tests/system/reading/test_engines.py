"""Pages are read, or it is said that they cannot be: the real engines."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFont

from loadtest.corpora import degrade
from loadtest.corpora.illegible import UNREADABLE
from loadtest.corpora.letters import compose
from loadtest.corpora.noise import A5, TYPED, blank, inked, load
from loadtest.corpora.truth import recall
from pipeline.errors import Permanent, Transient
from pipeline.jail.pool import JailPool
from stages.formats.kinds import JPEG, PDF, PNG
from stages.ocr import page_end
from stages.reading import engines, page, rapid, tesseract
from stages.reading.codes import CODES
from stages.reading.compare import small_picture
from stages.reading.page import first_reading, second_reading
from stages.reading.placing import words_of
from stages.reading.protocol import PageReading, PageRequest, ReaderSettings
from stages.reading.reader import COLUMNS, ONE_BLOCK, Reader
from stages.reading.soft import soften
from stages.reading.words import Word, text_of

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "samples"
TESSERACTS = ["pytesseract", "tesserocr"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the jail."""
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")


def installed(name: str) -> str:
    """The engine's name, or a skip that says how to get it."""
    if not engines.available(name):
        pytest.skip(f"{name} is not installed: pip install 'waybill[{name}]'")
    return name


def letter(seed: int = 1) -> tuple[Image.Image, str]:
    """A clean typed page, gray, and what is on it."""
    rng = random.Random(f"engines:{seed}")
    text = compose(rng, "Ida", words=60)
    return inked(text, TYPED[0], A5, rng).convert("L"), text


def read(tmp_path: Path, picture: Image.Image, **how: Any) -> PageReading:
    """A picture of a page as the product reads it."""
    path = tmp_path / "page.png"
    picture.save(path, dpi=(200, 200), compress_level=1)
    return first_reading(asked(path, PNG, **how))


def asked(path: Path, media_type: str, index: int = 0, **how: Any) -> PageRequest:
    """A page of a file, to be read with these settings."""
    reader = ReaderSettings(**how)
    return PageRequest(
        path=str(path), media_type=media_type, index=index, reader=reader
    )


def words(name: str, picture: Image.Image, **how: Any) -> list[Word]:
    asked: dict[str, Any] = {"dpi": 200, "lang": "eng", "psm": 3}
    return engines.engine(installed(name)).read(picture, **{**asked, **how})


@pytest.mark.parametrize("name", [*TESSERACTS, "rapidocr"])
def test_an_engine_gives_words_and_their_places(name: str) -> None:
    """Nearly every word of a clean page, in order, each box around its ink."""
    picture, truth = letter()

    found = words(name, picture)

    assert recall(text_of(found), truth) > 0.95
    assert found[0].text in truth.split()[0]
    ink = ImageChops.invert(picture).point(lambda v: 255 * (v > 100))
    whole = ink.histogram()[255]
    draw = ImageDraw.Draw(ink)
    for word in found:
        draw.rectangle(word.box, fill=0)
    # The second reader's boxes are where it saw letters: an edge may stick out.
    assert ink.histogram()[255] < (0.2 if name == "rapidocr" else 0.05) * whole


def test_a_model_is_loaded_once_for_all_ways_to_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A line, a block and a page are read with one: each takes a tenth of a second."""
    tesserocr = pytest.importorskip("tesserocr")
    made: list[object] = []
    load = tesserocr.PyTessBaseAPI
    monkeypatch.setattr(
        tesserocr, "PyTessBaseAPI", lambda **how: made.append(how) or load(**how)
    )
    tesseract.loaded.cache_clear()
    line = Image.new("L", (400, 60), 255)
    font = ImageFont.load_default(size=32)
    ImageDraw.Draw(line).text((20, 10), "Dear Reader", 0, font)

    read = [words("tesserocr", line, psm=psm) for psm in (7, 6, 4)]

    assert [text_of(found) for found in read] == ["Dear Reader"] * 3
    assert len(made) == 1


@pytest.mark.parametrize("name", TESSERACTS)
def test_a_language_that_is_not_installed_is_named(name: str) -> None:
    """OCR_LANGUAGE says which package brings it."""
    picture, _ = letter()

    with pytest.raises(Permanent) as caught:
        words(name, picture, lang="eng+tlh")

    assert caught.value.code == "OCR_LANGUAGE"
    assert "tesseract-ocr-tlh" in caught.value.hint


async def test_a_page_that_burns_too_much_ends(tmp_path: Path) -> None:
    """By processor time, whatever the clock says; the next page is read."""
    noise = tmp_path / "noise.png"
    Image.effect_noise((1654, 2339), 90).save(noise)
    picture, _ = letter()
    picture.save(tmp_path / "letter.png")

    async with JailPool(
        1,
        allow=[page],
        warm=[page.warm],
        codes=CODES,
        readable=[tmp_path],
        scratch=tmp_path,
    ) as pool:

        async def read(file: str, cpu_s: float) -> Any:
            request = asked(tmp_path / file, PNG, engine=installed("tesserocr"))
            return await pool.run(
                page.read_page,
                timeout_s=100,
                cpu_s=cpu_s,
                request=request.model_dump(mode="json"),
            )

        with pytest.raises(Transient) as caught:
            await read("noise.png", 1.0)
        assert (await read("letter.png", 60.0))["status"] == "OK"

    assert page_end(caught.value) == "TIMEOUT"


def test_an_engine_that_is_not_installed_is_named() -> None:
    """ENGINE_MISSING says what to install."""
    with pytest.raises(Permanent) as caught:
        engines.engine("no_such_engine")

    assert caught.value.code == "ENGINE_MISSING"
    assert "pip install" in caught.value.hint


# -- the soft recipe ------------------------------------------------------------------


def test_boxes_lead_back_to_the_page_as_it_came() -> None:
    """On a crooked page of small letters the boxes lie on the ink of the original."""
    picture, _ = letter()
    small = picture.resize(
        (picture.width // 2, picture.height // 2), Image.Resampling.BOX
    )
    crooked = small.rotate(3, Image.Resampling.BICUBIC, expand=True, fillcolor=250)

    soft = soften(crooked, 100)

    assert soft.angle == pytest.approx(-3, abs=0.3)
    assert soft.scale > 1.2
    found = words("tesserocr", soft.image, dpi=soft.dpi)
    ink = ImageChops.invert(crooked).point(lambda v: 255 * (v > 100))
    whole = ink.histogram()[255]
    draw = ImageDraw.Draw(ink)
    for word in found:
        draw.rectangle(soft.back(word.box), fill=0)
    assert ink.histogram()[255] < 0.05 * whole


def test_a_page_that_needs_nothing_is_left_alone() -> None:
    """Level lines, even light, letters of a good size: not a pixel is changed."""
    picture, _ = letter()

    soft = soften(picture, 200)

    assert (soft.scale, soft.angle) == (1.0, 0.0)
    assert soft.image.tobytes() == picture.tobytes()


def test_a_large_sheet_of_small_print_is_not_made_larger() -> None:
    """A receipt on a sheet scanned at 600 dpi: it would be read for many seconds."""
    picture, _ = letter()
    small = picture.resize((picture.width // 2, picture.height // 2))
    sheet = Image.new("L", (4960, 7016), 250)
    sheet.paste(small, (300, 300))

    assert soften(small).scale > 1.2
    assert soften(sheet).scale == 1.0


@pytest.mark.parametrize("once", [True, False])
def test_a_page_of_parts_is_read_again_where_nobody_else_looks(
    monkeypatch: pytest.MonkeyPatch, once: bool
) -> None:
    """As one block, which finds a receipt's prices; a second reader does as well."""
    picture, _, _ = degrade.receipt(random.Random("degraded:1:66"))
    engine = engines.first("auto")
    modes: list[int] = []

    def look(image: Image.Image, *, psm: int, **how: Any) -> list[Word]:
        modes.append(psm)
        return [w for w in Engine.read(engine, image, psm=psm, **how) if w.box[0] < 300]

    Engine = type(engine)
    monkeypatch.setattr(engine, "read", look)
    Reader(ReaderSettings(), once=once).page(picture.convert("L"), 0)

    assert modes[0] == COLUMNS
    assert (ONE_BLOCK in modes) is not once


def test_what_a_shadow_hides_is_read(tmp_path: Path) -> None:
    """Plain tesseract loses what lies in the dark; evened light brings it back."""
    picture, truth = letter()
    dark, _ = degrade.shadow(picture.convert("RGB"), random.Random("shadow"))

    soft = read(tmp_path, dark.convert("L"))
    plain = read(tmp_path, dark.convert("L"), preprocess="off")

    assert soft.status == "OK"
    assert recall(soft.text, truth) > 0.95 > recall(plain.text, truth)


# -- pages ----------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["eng", "auto"])
def test_a_page_is_read_without_naming_its_language(tmp_path: Path, lang: str) -> None:
    """`auto` begins with one language, and needs no other for this page."""
    picture, truth = letter()

    found = read(tmp_path, picture, lang=lang)

    assert (found.status, found.doubtful) == ("OK", False)
    assert recall(found.text, truth) > 0.95


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_page_the_wrong_way_up_is_read(tmp_path: Path, turn: int) -> None:
    """A sheet fed upside down or sideways is turned."""
    picture, truth = letter()

    found = read(tmp_path, picture.rotate(turn, expand=True))

    assert found.status == "OK"
    assert recall(found.text, truth) > 0.95


def test_prices_stay_with_what_they_are_for(tmp_path: Path) -> None:
    """A till receipt is read row by row, not column by column."""
    picture, truth, _ = degrade.receipt(random.Random("degraded:1:66"))

    found = read(tmp_path, picture.convert("L"))

    rows = {" ".join(row.split()) for row in found.text.splitlines()}
    prices = [row for row in truth.splitlines() if row[0].isdigit() and row[-3] == "."]
    assert len(prices) >= 8
    assert sum(row in rows for row in prices) >= 0.8 * len(prices)


def test_text_in_two_columns_is_read_column_by_column(tmp_path: Path) -> None:
    """Lines of prose side by side are not run together."""
    left, first = letter(1)
    right, second = letter(2)
    sheet = Image.new("L", (2 * A5.width, A5.height), 250)
    sheet.paste(left, (0, 0))
    sheet.paste(right, (A5.width, 0))

    found = read(tmp_path, sheet)

    said = " ".join(found.text.split())
    for text in (first, second):
        [longest] = sorted(text.split("\n\n"), key=len)[-1:]
        start = " ".join(longest.split()[:25])
        assert start in said


@pytest.mark.parametrize(
    "number",
    [0, *(pytest.param(n, marks=pytest.mark.proof) for n in range(1, 7))],
)
def test_what_nobody_can_read_is_never_read(tmp_path: Path, number: int) -> None:
    """Soaked, blurred, tiny, struck out, scribbled: unreadable, with a picture."""
    draw = UNREADABLE[number % len(UNREADABLE)]
    rng = random.Random(f"nobody:{number}")

    found = read(tmp_path, draw(compose(rng, "Ida", words=60), rng).convert("L"))

    assert found.status == "UNREADABLE"
    assert found.doubtful
    assert found.picture


def test_a_blank_page_is_empty(tmp_path: Path) -> None:
    """Shade and grain are no ink, and no letters are made of them."""
    found = read(tmp_path, blank(A5, random.Random("blank")).convert("L"))

    assert (found.status, found.text, found.doubtful) == ("EMPTY", "", False)


def again(path: Path, media_type: str, index: int = 0) -> PageReading:
    """A page by both readers, as the product asks them."""
    installed(rapid.NAME)
    request = asked(path, media_type, index)
    first = first_reading(request).layout
    assert first is not None
    told = {"first": words_of(first), "turned": first.turned}
    return second_reading(request.model_copy(update=told))


@pytest.mark.parametrize("turn", [0, pytest.param(180, marks=pytest.mark.proof)])
def test_both_readers_make_one_text(tmp_path: Path, turn: int) -> None:
    """In its order, whichever way up it came, each word where it stands."""
    picture, truth = letter()
    path = tmp_path / "page.png"
    picture.rotate(turn).save(path, dpi=(200, 200))

    found = again(path, PNG)

    assert (found.engine, found.status) == ("rapidocr", "OK")
    assert found.confidence > 97
    assert " ".join(truth.split()[:20]) in " ".join(found.text.split())
    assert found.layout is not None
    assert found.layout.turned == turn
    top = found.layout.lines[0].box[1]
    assert (top < picture.height / 2) == (turn == 0)


def test_the_nets_start_no_thread_and_tell_nobody() -> None:
    """Or no process could be forked that has them; and no maker need know of us."""
    installed(rapid.NAME)
    if rapid.threaded():
        pytest.skip("onnxruntime starts a thread where it may")
    program = (
        "import os, sys; from stages.reading import page, rapid; "
        "page.warm_libraries(); rapid.warm(); "
        "print(len(os.listdir('/proc/self/task')), sys.modules['openvino_telemetry'])"
    )

    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
        text=True,
    )

    assert said.stdout.split() == ["1", "None"]


@pytest.mark.parametrize("turn", [90, pytest.param(270, marks=pytest.mark.proof)])
def test_a_page_on_its_side_is_read_in_its_order(tmp_path: Path, turn: int) -> None:
    """tesseract reads such lines, and would begin with the last one."""
    picture, truth = letter()
    path = tmp_path / "page.png"
    picture.rotate(turn, expand=True).save(path, dpi=(200, 200))

    found = first_reading(asked(path, PNG))

    assert " ".join(truth.split()[:20]) in " ".join(found.text.split())
    assert found.layout is not None
    assert found.layout.turned == turn


@pytest.mark.proof
def test_a_long_strip_is_read_to_its_end(tmp_path: Path) -> None:
    """On one small copy of it the second reader would find no line."""
    installed(rapid.NAME)
    font = load(TYPED[0], 9)
    strip = Image.new("L", (300, 11000), 250)
    lines = [f"Item {number} of many" for number in range(110)]
    for number, text in enumerate(lines):
        ImageDraw.Draw(strip).text((20, 40 + 99 * number), text, font=font, fill=0)

    found = engines.engine(rapid.NAME).read(strip, dpi=0, lang="", psm=0)

    assert recall(text_of(found), " ".join(lines)) > 0.98
    assert len(found) <= 4 * len(lines) + 2


# -- real pages -----------------------------------------------------------------------


def sample(relative: str) -> Path:
    """A sample, or a skip that names the folder it should be in."""
    path = SAMPLES / relative
    if not path.exists():
        pytest.skip(f"the folder of samples {SAMPLES} has no {relative}")
    return path


CURSIVE = [
    ("letters_stanford1905/Lettre251.jpg", JPEG, 0),
    ("letters_stanford1905/Lettre252.jpg", JPEG, 0),
    ("letters_stanford1905/SC0033B_s4_b01_f14_i082.jpg", JPEG, 0),
    ("scanned_multipage_pdfs/poilus_AD78_0020.pdf", PDF, 0),
    ("scanned_multipage_pdfs/poilus_AD78_0020.pdf", PDF, 1),
]


@pytest.mark.parametrize(
    ("name", "relative", "media_type", "index"),
    [
        ("tesserocr", *CURSIVE[0]),
        *(
            pytest.param("tesserocr", *page, marks=pytest.mark.proof)
            for page in CURSIVE[1:]
        ),
        # It says what that says.
        *(
            pytest.param("pytesseract", *page, marks=pytest.mark.proof)
            for page in CURSIVE[1:3]
        ),
    ],
)
def test_old_handwriting_is_never_guessed(
    name: str, relative: str, media_type: str, index: int
) -> None:
    """What tesseract makes of cursive of 1905-1918 is unreadable, and says so."""
    path = sample(relative)

    found = first_reading(
        asked(path, media_type, index, engine=installed(name), lang="eng")
    )

    assert found.status == "UNREADABLE"
    assert found.confidence < 75


def test_a_clear_hand_is_a_draft_and_never_passed_on() -> None:
    """The second reader reads most of it, and it is held all the same."""
    path = sample("letters_stanford1905/Lettre251.jpg")
    truth = path.with_suffix(".gt.txt").read_text(encoding="utf-8")

    found = again(path, JPEG)

    assert found.status == "UNREADABLE"
    assert recall(found.text, truth) > 0.6
    assert found.crops


@pytest.mark.proof
def test_an_ornate_letterhead_holds_no_page() -> None:
    """What is in doubt is a few lines; the letter below is read."""
    path = sample("field/letterhead-stanford-i086-2000px.jpg")

    found = again(path, JPEG)

    assert found.status == "OK"
    boxes = [cut.box for cut in found.crops]
    assert len(set(boxes)) == len(boxes) > 0


@pytest.mark.parametrize(
    "stem", ["Lettre244", pytest.param("Lettre246", marks=pytest.mark.proof)]
)
def test_old_typewriting_is_read(stem: str) -> None:
    """Typed letters of 1905, one with an ink blot."""
    path = sample(f"letters_stanford1905/{stem}.jpg")
    truth = path.with_suffix(".gt.txt").read_text(encoding="utf-8")

    found = first_reading(asked(path, JPEG))

    assert found.status == "OK"
    assert recall(found.text, truth) > 0.9


def test_a_picture_for_a_person_is_small() -> None:
    """Even of noise, which no JPEG packs well: a fraction of an answer's 16 MB."""
    noise = Image.effect_noise((4000, 5000), 90)

    data = b64decode(small_picture(noise))

    assert len(data) < 1 << 20
    with Image.open(BytesIO(data)) as picture:
        assert max(picture.size) <= 1400


def test_a_page_starts_tesseract_once_where_all_is_warm() -> None:
    """What pytesseract asks tesseract of itself was asked before any page came."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from stages.reading import page; page.warm();"
        "import pytesseract; pytesseract.pytesseract.tesseract_cmd = '/nowhere';"
        "print(pytesseract.get_tesseract_version(cached=True))"
    )
    root = str(Path(engines.__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, check=False
    )

    assert ran.stdout[:1].isdigit(), ran.stderr
