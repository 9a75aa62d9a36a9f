"""OCR reads each page once, keeps their order, and never guesses."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from pipeline.errors import Permanent, Transient, Unacceptable
from pipeline.model import Item
from pipeline.stage import Advance, Hold, Reject
from stages.document import Document, PageStatus, PageText
from stages.layout import Layout
from stages.ocr import OcrSettings, ocr
from tests.steps import Steps

CROP = base64.b64encode(b"a cutting").decode()


class FakeArtifacts:
    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def path(self, name: str) -> Path:
        return Path("/artifacts") / name

    async def put(self, data: bytes) -> str:
        self.kept.append(data)
        return f"artifact-{len(self.kept)}"


class FakeContext(Steps):
    """Answers jailed calls by page number; remembers what ran."""

    def __init__(
        self,
        pages: Mapping[int, dict[str, Any] | Exception],
        *,
        again: dict[int, dict[str, Any] | Exception] | None = None,
        recorded: dict[str, PageText] | None = None,
        takes_s: dict[int, float] | None = None,
        left_s: float = 1000.0,
        **settings: Any,
    ) -> None:
        super().__init__(recorded)
        second = "rapidocr" if again else "off"
        self.settings = OcrSettings(**{"second": second, **settings})
        self.item = Item(1, "t", "b", 1, "letter.pdf", {})
        self.artifacts = FakeArtifacts()
        self.told: list[tuple[int, int]] = []
        self.asked: list[dict[str, Any]] = []
        self.bounds: list[tuple[float, float]] = []
        self.at_once = self.at_once_max = 0
        self._pages = pages
        self._again = again or {}
        self._takes_s = takes_s or {}
        self._left_s = left_s

    def left_s(self) -> float:
        return self._left_s

    def secrets(self, name: str) -> list[str]:
        return [f"{name} of this tenant"]

    def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))

    async def jailed(
        self, fn: Callable[..., Any], /, *, pool: str = "", **kwargs: Any
    ) -> Any:
        assert (fn.__name__, pool) in (("read_page", ""), ("read_again", "second"))
        request = kwargs["request"]
        self.bounds.append((kwargs["timeout_s"], kwargs["cpu_s"]))
        assert json.loads(json.dumps(request)) == request
        self.asked.append(request)
        number = request["index"] + 1
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        await anyio.sleep(self._takes_s.get(number, 1.0))
        self.at_once -= 1
        answer = (self._again if pool else self._pages)[number]
        if isinstance(answer, Exception):
            raise answer
        return answer


def read(
    text: str,
    status: str = "OK",
    confidence: float = 90.0,
    *,
    doubtful: bool = False,
    **more: Any,
) -> dict[str, Any]:
    words = len(text.split())
    return {
        "status": status,
        "text": text,
        "words": words,
        "confidence": confidence,
        "source": "ocr",
        "engine": "pytesseract",
        "doubtful": doubtful or status == "UNREADABLE",
        "crops": [],
        **more,
    }


def letter(count: int, **state: Any) -> Document:
    return Document(source="s", page_count=count, **state)


EMPTY = read("", "EMPTY", 0.0)
SLOW = Transient("too slow", code="JAIL_TIMEOUT")
GREEDY = Permanent("too much", code="MEMORY_LIMIT")
BROKEN = Unacceptable("cannot be decoded", code="CORRUPT")


async def test_ocr_resumes_after_the_last_recorded_page() -> None:
    """A crash repeats at most one page: recorded pages are never read again."""
    one = PageText(number=1, status=PageStatus.OK, text="one", words=1, confidence=80)
    ctx = FakeContext({2: read("two words")}, recorded={"page-1": one})

    outcome = await ocr(letter(2), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "one\ftwo words"
    assert outcome.updates["confidence"] == 86.7  # weighted by words
    assert ctx.ran == ["page-2"]


async def test_ocr_tells_how_many_pages_have_ended() -> None:
    """From none to all of them, recorded and failed ones too, none twice."""
    one = PageText(number=1, status=PageStatus.OK, text="one", words=1, confidence=80)
    pages = {2: read("two"), 3: SLOW, 4: read("four")}
    ctx = FakeContext(pages, recorded={"page-1": one}, parallel_pages=2)

    await ocr(letter(4), ctx)

    assert ctx.told == sorted(ctx.told)
    assert {done for done, _ in ctx.told} == {0, 1, 2, 3, 4}
    assert {total for _, total in ctx.told} == {4}


async def test_pages_stay_in_order() -> None:
    """Pages that finish in another order still make the text in page order."""
    ctx = FakeContext(
        {n: read(name) for n, name in enumerate("abcd", 1)},
        takes_s={1: 9.0, 2: 1.0, 3: 5.0},
        parallel_pages=3,
    )

    outcome = await ocr(letter(4), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "a\fb\fc\fd"
    assert [page.number for page in outcome.updates["read"]] == [1, 2, 3, 4]


async def test_few_pages_of_a_document_are_read_at_once() -> None:
    """A document of 40 pages holds no more than `parallel_pages` jailed processes."""
    ctx = FakeContext({n: read("word") for n in range(1, 41)}, parallel_pages=2)

    await ocr(letter(40), ctx)

    assert ctx.at_once_max == 2


async def test_a_part_of_a_larger_pdf_reads_its_own_pages() -> None:
    """Pages 11 and 12 of the source are pages 1 and 2 of the part."""
    ctx = FakeContext({11: read("eleven"), 12: read("twelve")})

    outcome = await ocr(letter(2, first_page=11, last_page=12), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "eleven\ftwelve"
    assert sorted(ctx.ran) == ["page-1", "page-2"]


async def test_a_blank_document_is_rejected() -> None:
    """Without ink on any page the document ends as BLANK."""
    ctx = FakeContext({1: EMPTY, 2: EMPTY})

    outcome = await ocr(letter(2), ctx)

    assert isinstance(outcome, Reject)
    assert outcome.code == "BLANK"


async def test_a_blank_back_page_is_no_obstacle() -> None:
    """An empty page between others is an empty page of the text."""
    ctx = FakeContext({1: read("front"), 2: EMPTY, 3: read("end")})

    outcome = await ocr(letter(3), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "front\f\fend"
    assert outcome.updates["confidence"] == 90.0


async def test_an_unreadable_letter_is_held_and_never_guessed() -> None:
    """The guess is no text: it is a draft that a person corrects."""
    ctx = FakeContext({1: read("x~ q", "UNREADABLE", 31.0)})

    outcome = await ocr(letter(1), ctx)

    assert isinstance(outcome, Hold)
    assert (outcome.code, outcome.needs) == ("OCR_UNREADABLE", ("text",))
    assert outcome.updates["text"] == ""
    assert "x~ q" not in str(outcome.updates)
    assert [page["draft"] for page in outcome.evidence["pages"]] == ["x~ q"]


async def test_of_a_long_document_a_person_types_the_missing_page_only() -> None:
    """It asks for that page, and puts what was typed between the others."""
    ctx = FakeContext({1: read("one"), 2: read("q~", "UNREADABLE"), 3: read("three")})

    held = await ocr(letter(3), ctx)
    outcome = await ocr(letter(3, typed={"2": "two, by hand"}), ctx)

    assert isinstance(held, Hold)
    assert held.ask == ("typed",)
    assert "page 2 of 3" in held.why
    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "one\ftwo, by hand\fthree"
    assert outcome.updates["read"][1].source == "person"


# -- pages that break their reader ----------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (SLOW, "TIMEOUT", "JAIL_TIMEOUT"),
        (GREEDY, "KILLED_MEMORY", "MEMORY_LIMIT"),
        (Permanent("died", code="JAIL_CRASHED"), "ERROR", "JAIL_CRASHED"),
        (BROKEN, "ERROR", "CORRUPT"),
    ],
)
async def test_a_poison_page_ends_alone(
    error: Exception, status: str, code: str
) -> None:
    """The rest of the document is read; the page has its status, and is held."""
    ctx = FakeContext({1: read("one"), 2: error, 3: read("three")})

    outcome = await ocr(letter(3), ctx)

    assert isinstance(outcome, Hold)
    [page] = outcome.evidence["pages"]
    assert (page["number"], page["status"], page["code"]) == (2, status, code)
    assert sorted(ctx.recorded) == ["page-1", "page-3"]  # 2 has another chance


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (GREEDY, Permanent, "MEMORY_LIMIT"),
        (SLOW, Permanent, "PAGE_TIMEOUT"),
    ],
)
async def test_a_document_without_one_readable_page_fails_by_name(
    error: Exception, kind: type[Exception], code: str
) -> None:
    """A dead letter that a person may retry, and no loop of attempts."""
    ctx = FakeContext({1: error, 2: EMPTY})

    with pytest.raises(kind) as caught:
        await ocr(letter(2), ctx)

    assert caught.value.code == code  # type: ignore[attr-defined]


async def test_a_document_that_cannot_be_decoded_is_rejected_page_by_page() -> None:
    """It is the file's fault; how each page ended is kept."""
    ctx = FakeContext({1: BROKEN, 2: EMPTY})

    outcome = await ocr(letter(2), ctx)

    assert isinstance(outcome, Reject)
    assert outcome.code == "CORRUPT"
    assert [page.status for page in outcome.updates["read"]] == ["ERROR", "EMPTY"]


async def test_a_document_of_poison_is_given_up() -> None:
    """After five failed pages the rest is skipped, and every page has an end."""
    ctx = FakeContext(
        {1: read("one"), **dict.fromkeys(range(2, 41), SLOW)}, parallel_pages=1
    )

    outcome = await ocr(letter(40), ctx)

    assert isinstance(outcome, Hold)
    ends = [page["status"] for page in outcome.evidence["pages"]]
    assert ends == ["TIMEOUT"] * 5 + ["SKIPPED_LIMIT"] * 34
    assert len(ctx.asked) == 6


async def test_trouble_of_ours_is_no_pages_fault() -> None:
    """A missing engine is raised as it is; pages read meanwhile are kept."""
    pages: dict[int, dict[str, Any] | Exception] = {
        1: read("one"),
        2: Transient("no jailed process came up", code="JAIL_START"),
        3: read("three"),
    }
    ctx = FakeContext(pages, takes_s={1: 5.0, 2: 1.0})

    with pytest.raises(Transient) as caught:
        await ocr(letter(3), ctx)

    assert caught.value.code == "JAIL_START"
    assert list(ctx.recorded) == ["page-1"]
    pages[2] = read("two")
    ctx.ran.clear()
    outcome = await ocr(letter(3), ctx)
    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "one\ftwo\fthree"
    assert ctx.ran == ["page-2", "page-3"]


async def test_a_page_cut_short_by_the_stages_end_is_not_to_blame() -> None:
    """With no time left a timeout is the stage's, and the page is read again."""
    ctx = FakeContext({1: SLOW}, left_s=0.5)

    with pytest.raises(Transient) as caught:
        await ocr(letter(1), ctx)

    assert caught.value.code == "JAIL_TIMEOUT"


async def test_a_page_is_bounded_by_the_processor_it_takes() -> None:
    """A busy machine reads the same: the clock bounds what hangs, and the stage."""
    ctx = FakeContext({1: read("word")}, left_s=3000.0, page_timeout_s=120.0)

    await ocr(letter(1), ctx)

    assert ctx.bounds == [(1200.0, 120.0)]
    short = FakeContext({1: read("word")}, left_s=30.0, page_timeout_s=120.0)
    await ocr(letter(1), short)
    assert short.bounds == [(30.0, 120.0)]


# -- the second reader ----------------------------------------------------------------

BOX = (10, 10, 60, 30)


def placed(text: str, confidence: float, **more: Any) -> dict[str, Any]:
    return {"text": text, "box": BOX, "confidence": confidence, **more}


PLACED = {
    "width": 100,
    "height": 200,
    "dpi": 200,
    "turned": 180,
    "source": "ocr",
    "reader": "tesserocr",
    "language": "eng",
    "blocks": [
        {
            "box": BOX,
            "lines": [
                {
                    "box": BOX,
                    "words": [{"text": "one", "box": BOX, "confidence": 99.0}],
                },
                {
                    "box": BOX,
                    "words": [
                        {
                            "text": "tw0",
                            "box": BOX,
                            "confidence": 50.0,
                            "doubtful": True,
                        }
                    ],
                },
            ],
        }
    ],
}
DOUBTED = read("one tw0", confidence=71.0, doubtful=True, layout=PLACED)
BOTH = read("one two", confidence=98.0, engine="rapidocr", layout=PLACED)


async def test_what_both_readings_come_to_is_the_text() -> None:
    """The second reader is told what the first found, and how the page was turned."""
    ctx = FakeContext({1: DOUBTED}, again={1: BOTH})

    outcome = await ocr(letter(1), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "one two"
    assert outcome.updates["read"][0].engine == "rapidocr"
    _, asked = ctx.asked
    assert [word[0] for word in asked["first"]] == ["one", "tw0"]
    assert asked["turned"] == 180


async def test_a_page_that_both_cannot_read_is_held_with_the_better_draft() -> None:
    """Its picture, the lines in doubt cut out, and no word in the text."""
    crops = [{"line": 1, "box": BOX, "readings": ["tw0", "two"], "png": CROP}]
    held = {**BOTH, "status": "UNREADABLE", "picture": CROP, "crops": crops}
    ctx = FakeContext({1: DOUBTED}, again={1: held})

    outcome = await ocr(letter(1), ctx)

    assert isinstance(outcome, Hold)
    [page] = outcome.evidence["pages"]
    assert page["status"] == "UNREADABLE"
    assert page["draft"] == "one two"
    assert [crop["readings"] for crop in page["crops"]] == [["tw0", "two"]]
    assert page["picture"] in ("artifact-1", "artifact-2", "artifact-3")
    assert outcome.updates["text"] == ""


async def test_the_layout_leads_to_the_pictures_of_its_lines() -> None:
    """Of a page that was read as well: a word in doubt is looked at by somebody."""
    crops = [{"line": 1, "box": BOX, "readings": ["tw0"], "png": CROP}]
    ctx = FakeContext({1: {**DOUBTED, "crops": crops}})

    outcome = await ocr(letter(1), ctx)

    assert isinstance(outcome, Advance)
    [page] = outcome.updates["read"]
    assert (page.layout, page.language, page.doubtful) == ("artifact-2", "eng", 1)
    kept = Layout.model_validate_json(ctx.artifacts.kept[1])
    assert kept.text == "one\ntw0"
    assert [line.crop for line in kept.lines] == ["", "artifact-1"]


SURE = read("sure", confidence=98.0)
NUMBERS = {**SURE, "numbers": True, "layout": PLACED}
UNREAD = {**read("tn3e d", confidence=40.0), "status": "UNREADABLE", "doubtful": True}
LESS_SURE = read("less sure", confidence=95.0)


@pytest.mark.parametrize(
    ("reading", "twice"),
    [
        ("fast", [UNREAD]),
        ("balanced", [UNREAD, DOUBTED, LESS_SURE, NUMBERS]),
        ("careful", [UNREAD, DOUBTED, LESS_SURE, NUMBERS, SURE]),
    ],
)
async def test_three_readings_to_choose_from(
    reading: str, twice: list[dict[str, Any]]
) -> None:
    """Which pages are read a second time; blank ones and layers never are."""
    layer = read("layer", confidence=100.0, source="layer")
    pages = [UNREAD, DOUBTED, LESS_SURE, NUMBERS, SURE, EMPTY, layer]
    numbered = dict(enumerate(pages, 1))
    ctx = FakeContext(numbered, again=dict.fromkeys(numbered, BOTH), reading=reading)

    await ocr(letter(len(pages)), ctx)

    asked = [one["index"] for one in ctx.asked]
    assert [page for n, page in enumerate(pages) if asked.count(n) == 2] == twice
    assert {one["reader"]["strict"] for one in ctx.asked} == {reading == "careful"}
    assert all(one["once"] for one in ctx.asked)


async def test_of_a_certain_page_the_numbers_alone_are_asked_for() -> None:
    """They take their place in the page, which stays what the first reader made it."""
    line = {"box": BOX, "words": [placed("11.00", 99.0)]}
    blocks = [{"box": BOX, "lines": [line]}]
    numbers = read("11.00", layout={**PLACED, "reader": "", "blocks": blocks})
    ctx = FakeContext({1: NUMBERS}, again={1: {**numbers, "engine": ""}})

    outcome = await ocr(letter(1), ctx)

    assert [one["numbers_alone"] for one in ctx.asked] == [False, True]
    assert isinstance(outcome, Advance)
    [page] = outcome.updates["read"]
    assert (page.confidence, page.engine) == (98.0, "pytesseract")
    assert outcome.updates["text"] == "11.00"
    kept = Layout.model_validate_json(ctx.artifacts.kept[0])
    assert kept == Layout.model_validate({**PLACED, "blocks": blocks})


async def test_of_too_many_words_the_whole_page_is_asked_for() -> None:
    """The second reader is told no more of them, and would leave out the others."""
    ctx = FakeContext({1: {**NUMBERS, "words": 9_000}}, again={1: BOTH})

    await ocr(letter(1), ctx)

    assert [one["numbers_alone"] for one in ctx.asked] == [False, False]


@pytest.mark.parametrize("error", [SLOW, GREEDY, BROKEN])
async def test_a_second_reader_that_fails_leaves_the_doubt(error: Exception) -> None:
    """The page is what the first made of it: its document does not fail."""
    ctx = FakeContext({1: DOUBTED}, again={1: error})

    outcome = await ocr(letter(1), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["text"] == "one tw0"
    assert outcome.updates["read"][0].confidence == 71.0


async def test_a_second_reader_that_finds_nothing_changes_nothing() -> None:
    """A page whose characters are not drawn is held for it, and is not blank."""
    undrawn = read("", "UNREADABLE", 0.0, code="LAYER_UNDRAWN")
    ctx = FakeContext({1: undrawn}, again={1: read("", "EMPTY", 0.0)})

    outcome = await ocr(letter(1), ctx)

    assert isinstance(outcome, Hold)
    assert "not drawn" in outcome.why


async def test_trouble_with_the_second_reader_is_raised() -> None:
    """A process that does not come up is no page's fault, and no doubt of it."""
    trouble = Transient("no jailed process came up", code="JAIL_START")
    ctx = FakeContext({1: DOUBTED}, again={1: trouble})

    with pytest.raises(Transient) as caught:
        await ocr(letter(1), ctx)

    assert caught.value.code == "JAIL_START"


async def test_hidden_text_is_counted_and_stays_out() -> None:
    """The item says how many characters a reader of the page does not see."""
    ctx = FakeContext({1: read("visible", source="layer", hidden=40)})

    outcome = await ocr(letter(1), ctx)

    assert isinstance(outcome, Advance)
    assert outcome.updates["facts"] == {"hidden_characters": 40}


async def test_what_a_page_tells_of_its_fonts_serves_the_pages_after_it() -> None:
    """Each is read in a process of its own: it would look at every font again."""
    fonts = [{"a": True}, {"a": True, "b": False}, {}]
    pages = {n: read("word", fonts=known) for n, known in enumerate(fonts, 1)}
    ctx = FakeContext(pages, parallel_pages=1)

    await ocr(letter(3), ctx)

    assert [asked["fonts"] for asked in ctx.asked] == [{}, *fonts[:2]]


async def test_fonts_are_remembered_up_to_a_bound() -> None:
    """Of a document that has a thousand a page those of the last page are."""
    many = [{f"{page}-{n}": True for n in range(600)} for page in (1, 2)]
    pages = {n: read("word", fonts=known) for n, known in enumerate([*many, {}], 1)}
    ctx = FakeContext(pages, parallel_pages=1)

    await ocr(letter(3), ctx)

    assert [asked["fonts"] for asked in ctx.asked] == [{}, *many]


async def test_passwords_of_the_tenant_open_its_pages() -> None:
    """The reader gets the tenant's PDF passwords, and no other's."""
    ctx = FakeContext({1: read("word")})

    await ocr(letter(1), ctx)

    assert ctx.asked[0]["passwords"] == ["pdf-passwords of this tenant"]
