"""What readers say of a page: put together, weighed, compared, never guessed."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.errors import Transient, Usage
from pipeline.stage import Endpoint
from stages.reading import vision
from stages.reading.compare import agreement, disputed
from stages.reading.engines import Word, text_of, torn, words_of
from stages.reading.judging import judge
from stages.reading.protocol import Line

HEADER = "level\tpage\tblock\tpar\tline\tword\tleft\ttop\twidth\theight\tconf\ttext"


def table(*words: tuple[int, int, int, float, str]) -> str:
    """tesseract's TSV of words: block, paragraph, line, confidence, text."""
    rows = [HEADER, "1\t1\t0\t0\t0\t0\t0\t0\t1000\t1000\t-1\t"]
    for block, par, line, confidence, text in words:
        place = f"5\t1\t{block}\t{par}\t{line}\t1\t10\t10\t100\t20"
        rows.append(f"{place}\t{confidence}\t{text}")
    return "\n".join(rows)


def word(
    text: str,
    confidence: float = 95.0,
    *,
    at: tuple[int, int] = (0, 0),
    block: int = 0,
    line: int = 0,
) -> Word:
    left, top = at
    return Word(text, (left, top, left + 60, top + 20), confidence, block, line)


def test_text_keeps_lines_and_paragraphs() -> None:
    """Lines end in a newline, paragraphs and blocks in a blank line."""
    words = words_of(
        table(
            (1, 1, 1, 90, "Dear"),
            (1, 1, 1, 90, "friend,"),
            (1, 1, 2, 90, "thank"),
            (1, 2, 1, 90, "you."),
            (2, 1, 1, 90, "Bye"),
            (2, 1, 1, -1, "ruled-line"),
            (2, 1, 1, 95, "  "),
        )
    )

    assert text_of(words) == "Dear friend,\nthank\n\nyou.\n\nBye"
    assert words[0].box == (10, 10, 110, 30)


# -- how far a reading is believed ----------------------------------------------------


@pytest.mark.parametrize("engine", ["pytesseract", "tesserocr", "rapidocr"])
def test_a_surer_engine_never_lowers_the_confidence(engine: str) -> None:
    """The scale is monotone, and stays within 0 and 100."""
    scale = [judge(engine, [word("letter", sure)] * 50, 1.0) for sure in range(101)]

    assert all(low <= high for low, high in pairwise(scale))
    assert 0.0 <= scale[0] < 50.0 < 90.0 < scale[-1] <= 100.0


def test_ink_in_no_word_takes_from_the_confidence() -> None:
    """A letterhead that is read well says nothing of what is written below it."""
    words = [word("letter")] * 50

    [whole, half, little] = [judge("tesserocr", words, c) for c in (0.9, 0.5, 0.1)]

    assert whole > half > little


def test_letters_in_no_word_take_from_the_confidence() -> None:
    """A column that was left out is missed."""
    words = [word("letter")] * 50

    assert judge("tesserocr", words, 0.9, 0.3) < judge("tesserocr", words, 0.9, 0.0)


def test_few_words_are_no_reading() -> None:
    """tesseract says 95 of an empty page: under three words, only sure ones count."""
    assert judge("tesserocr", [], 0.0) == 0.0
    assert judge("tesserocr", [word("a", 60.0)], 1.0) == 0.0
    assert judge("tesserocr", [word("7", 95.0)], 0.3) == 0.0
    assert judge("tesserocr", [word("7", 95.0)], 1.0) > 90.0


def test_a_torn_receipt_is_noticed() -> None:
    """Prices read as a block of their own stand beside the things they belong to."""
    goods = [word("Tea", at=(0, y * 30), block=0, line=y) for y in range(9)]
    prices = [word("2.50", at=(400, y * 30), block=1, line=9 + y) for y in range(9)]
    rows = [word(w.text, at=w.box[:2], line=w.line % 9) for w in goods + prices]

    assert torn(goods + prices) == 1.0
    assert torn(rows) == 0.0


def test_columns_of_text_are_not_torn() -> None:
    """Lines of more than a few words, side by side, are how a newspaper is set."""
    columns = [
        word("w", at=(70 * n + 500 * col, 30 * y), block=col, line=100 * col + y)
        for col in (0, 1)
        for y in range(9)
        for n in range(6)
    ]

    assert torn(columns) == 0.0


# -- two readers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("Dear friend, thank you", "thank you DEAR friend!", 1.0),
        ("Dear friend, thank you", "Dear fricnd thank you", 1.0),
        ("one two three four", "one two", 0.5),
        ("one two", "three four", 0.0),
        ("", "", 0.0),
        ("word", "word " * 4, 0.25),
    ],
)
def test_readers_agree_by_their_words(one: str, other: str, share: float) -> None:
    """Order, case, punctuation and a slip do not count; what is missing does."""
    assert agreement(one, other) == agreement(other, one) == pytest.approx(share)


def line(text: str, top: int, confidence: float = 90.0) -> Line:
    return Line(text=text, box=(100, top, 600, top + 20), confidence=confidence)


def test_a_person_is_shown_where_the_readers_differ() -> None:
    """Both readings of each line that they read differently, the worst first."""
    first = [line("to be paid", 0), line("in march", 40), line("1,200 euro", 80)]
    second = [line("To be paid", 2), line("in March 1905", 41), line("zoo euro", 79)]

    found = disputed(first, second)

    assert [cut.readings for cut in found] == [
        ("1,200 euro", "zoo euro"),
        ("in march", "in March 1905"),
    ]


def test_one_reader_shows_where_it_doubts_itself() -> None:
    """Without a second reader the least sure lines are shown."""
    found = disputed([line("sure", 0), line("qx~", 40, 21.0), line("rn", 80, 40.0)], [])

    assert [cut.readings for cut in found] == [("qx~",), ("rn",)]


# -- a model that looks ---------------------------------------------------------------


SERVICE = Endpoint("https://models.example/v1/", "looker", SecretStr("k"))


class FakeVendor:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    async def post_json(
        self, url: str, body: Any, *, key: str = "", timeout_s: float
    ) -> Any:
        self.asked.append({"url": url, "body": body, "key": key, "timeout": timeout_s})
        return self.answer


class FakeContext:
    def __init__(self, answer: Any, service: Endpoint = SERVICE) -> None:
        self.vendor = FakeVendor(answer)
        self.service = service

    def endpoint(self, name: str) -> Endpoint:
        assert name == "vision"
        return self.service

    def left_s(self) -> float:
        return 30.0


def completion(content: str, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"choices": [{"message": message, "finish_reason": "stop", **more}]}


async def test_a_model_is_shown_the_page_through_the_vendors_door() -> None:
    """One call, within the item's time; what it transcribed is a reading."""
    ctx: Any = FakeContext(completion('{"text": "Dear [?] Ida", "unreadable": false}'))

    found = await vision.read("SlBFRw==", ctx)

    assert (found.status, found.text, found.words) == ("OK", "Dear [?] Ida", 2)
    assert found.engine == vision.NAME
    [call] = ctx.vendor.asked
    assert call["url"] == "https://models.example/v1/chat/completions"
    assert (call["key"], call["timeout"]) == ("k", 30.0)
    assert "data:image/jpeg;base64,SlBFRw==" in json.dumps(call["body"])


@pytest.mark.parametrize(
    "answer",
    [
        completion('{"text": "", "unreadable": true}'),
        completion('{"text": "perhaps a letter", "unreadable": true}'),
        completion('{"text": "half a let', finish_reason="length"),
        completion('{"text": "whole", "unreadable": false}', finish_reason="length"),
        completion("It says: Dear Ida"),
        completion('{"text": "Dear Ida"}'),
        completion('{"text": "[?] [?]", "unreadable": false}'),
        {"choices": [{"message": {"content": None, "refusal": "no"}}]},
    ],
)
async def test_what_is_no_transcription_is_not_text(answer: Any) -> None:
    """A refusal, half an answer or a remark leaves the page to a person."""
    ctx: Any = FakeContext(answer)

    found = await vision.read("SlBFRw==", ctx)

    assert found.status == "UNREADABLE"
    assert found.confidence == 0.0


async def test_what_is_no_completion_is_the_vendors_fault() -> None:
    """An answer of another service is retried, and says where to look."""
    ctx: Any = FakeContext({"detail": "not found"})

    with pytest.raises(Transient) as caught:
        await vision.read("SlBFRw==", ctx)

    assert caught.value.code == "VENDOR_GARBAGE"
    assert "WAYBILL_VISION_URL" in caught.value.hint


async def test_a_model_must_be_configured() -> None:
    """`vision = true` without a service says which variables are missing."""
    ctx: Any = FakeContext(None, Endpoint())

    with pytest.raises(Usage) as caught:
        await vision.read("SlBFRw==", ctx)

    assert caught.value.code == "VISION_URL"
    assert "WAYBILL_VISION_URL and WAYBILL_VISION_MODEL" in caught.value.hint
    assert ctx.vendor.asked == []
