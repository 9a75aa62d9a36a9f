"""What readers say of a page: put together, weighed, compared, never guessed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image

from pipeline.doubles import Answers
from pipeline.errors import Transient, Usage
from pipeline.stage import stage
from pipeline.testing import Context
from pipeline.vendors.declared import VendorSpec
from stages.reading import vision
from stages.reading.compare import agreement, cuttings
from stages.reading.judging import judge, sure_of
from stages.reading.placing import Weighed, layout_of
from stages.reading.tesseract import refused, words_of
from stages.reading.words import Word, text_of

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


@pytest.mark.parametrize(
    ("status", "code"),
    [(-signal.SIGXCPU, "OCR_TIMEOUT"), (-signal.SIGKILL, "OCR_CRASHED")],
)
def test_a_tesseract_that_was_ended_says_by_what(status: int, code: str) -> None:
    """By the processor time that it may take, or for want of memory."""
    assert refused(status, "", "eng").code == code


# -- how far a reading is believed ----------------------------------------------------


@pytest.mark.parametrize(
    "sure",
    [
        lambda sure: judge([word("letter", sure)] * 50, 1.0),
        lambda sure: sure_of(sure, same=True),
        lambda sure: sure_of(sure, same=False),
    ],
    ids=["tesseract", "both", "the second alone"],
)
def test_a_surer_reader_never_lowers_the_confidence(
    sure: Callable[[float], float],
) -> None:
    """The scale is monotone, and stays within 0 and 100."""
    scale = [sure(tenth / 10) for tenth in range(1001)]

    assert all(low <= high for low, high in pairwise(scale))
    assert 0.0 <= scale[0] < 50.0 < 90.0 < scale[-1] <= 100.0


def test_what_both_read_is_surer_than_what_one_read() -> None:
    """At any score of the second reader."""
    for score in range(101):
        assert sure_of(score, same=True) >= sure_of(score, same=False)


def test_ink_in_no_word_takes_from_the_confidence() -> None:
    """A letterhead that is read well says nothing of what is written below it."""
    words = [word("letter")] * 50

    [whole, half, little] = [judge(words, c) for c in (0.9, 0.5, 0.1)]

    assert whole > half > little


def test_letters_in_no_word_take_from_the_confidence() -> None:
    """A column that was left out is missed."""
    words = [word("letter")] * 50

    assert judge(words, 0.9, 0.3) < judge(words, 0.9, 0.0)


def test_few_words_are_no_reading() -> None:
    """tesseract says 95 of an empty page: under three words, only sure ones count."""
    assert judge([], 0.0) == 0.0
    assert judge([word("a", 60.0)], 1.0) == 0.0
    assert judge([word("7", 95.0)], 0.3) == 0.0
    assert judge([word("7", 95.0)], 1.0) > 90.0


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


def test_a_person_is_shown_the_lines_in_doubt() -> None:
    """Both readings of each, the worst first, and no line twice."""
    sure, paid = (
        Weighed(word("sure", at=(0, 0)), 99.0, False),
        word("1,200", at=(0, 40)),
    )
    laid = layout_of(
        [
            sure,
            Weighed(paid._replace(line=1), 80.0, True, "1,700"),
            Weighed(word("euro", at=(70, 40), line=1), 99.0, False),
            Weighed(word("qx~", at=(0, 80), line=2), 20.0, True),
        ],
        "rapidocr",
        (200, 120),
        72,
    )

    found = cuttings(Image.new("L", (200, 120), 255), laid)

    assert [(cut.line, cut.readings) for cut in found] == [
        (2, ("qx~",)),
        (1, ("1,700 euro", "1,200 euro")),
    ]


# -- a model that looks ---------------------------------------------------------------


LOOKER = VendorSpec(
    name="vision", kind="openai", url="https://models.example/v1", model="looker"
)


@stage()
async def looks(state: Any, ctx: Any) -> Any:
    """Whatever calls `vision.read`."""


def context(*answers: Any, vendors: tuple[VendorSpec, ...] = (LOOKER,)) -> Context:
    declared = {each.name: each for each in vendors}
    return Context(looks, door=Answers(*answers), vendors=declared, left_s=30)


def completion(content: str, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"choices": [{"message": message, "finish_reason": "stop", **more}]}


async def test_a_model_is_shown_the_page_through_the_vendors_door() -> None:
    """One call, within the item's time; what it transcribed is a reading."""
    ctx = context(completion('{"text": "Dear [?] Ida", "unreadable": false}'))

    found = await vision.read("SlBFRw==", ctx, 3)

    assert (found.status, found.text, found.words) == ("OK", "Dear [?] Ida", 2)
    assert found.engine == vision.NAME
    assert isinstance(ctx.door, Answers)
    [call] = ctx.door.calls
    assert (call.vendor, call.path) == ("vision", "/chat/completions")
    assert (call.body["model"], call.timeout_s) == ("looker", 30.0)
    assert "data:image/jpeg;base64,SlBFRw==" in json.dumps(call.body)
    assert list(ctx.recorded) == ["page-3:vision"]


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
    ctx = context(answer)

    found = await vision.read("SlBFRw==", ctx, 1)

    assert found.status == "UNREADABLE"
    assert found.confidence == 0.0


async def test_what_is_no_completion_is_the_vendors_fault() -> None:
    """An answer of another service is retried, and says where to look."""
    ctx = context({"detail": "not found"})

    with pytest.raises(Transient) as caught:
        await vision.read("SlBFRw==", ctx, 1)

    assert caught.value.code == "VENDOR_GARBAGE"
    assert "WAYBILL_VISION_URL" in caught.value.hint


async def test_a_model_must_be_configured() -> None:
    """`vision = true` without a service says which variables are missing."""
    ctx = context(vendors=())

    with pytest.raises(Usage) as caught:
        await vision.read("SlBFRw==", ctx, 1)

    assert caught.value.code == "VISION_URL"
    assert "WAYBILL_VISION_URL and WAYBILL_VISION_MODEL" in caught.value.hint
    assert isinstance(ctx.door, Answers)
    assert ctx.door.calls == []
