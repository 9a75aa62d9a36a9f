"""What passes is drawn by lot, what is grave has its own way, replies take care."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.model import Item
from pipeline.stage import Advance, Hold
from pipeline.testing import Context
from stages.document import Document, PageStatus, PageText, Reply, Verdict
from stages.generation import generation
from stages.moderation import ModerationSettings, moderation
from stages.rules.sampling import odds, share
from stages.writing.care import careless
from stages.writing.reply import Written
from tests.unit.stages.test_generation import GOOD, bodies, chat, context, online

LETTERS = Path(__file__).parents[3] / "examples" / "letters"
FINE = "Dear Santa, I would like a red bike. I was kind to my cat. Love, Tom"
GRIEF = "Dear Santa, my grandma died in May and I miss her so much. Love, Tom"
GRAVE = "Dear Santa, my dad always hits me with a belt and I am scared. Love, Tom"


async def run(text: str, item: int = 1, *, trial: bool = False, **keys: Any) -> Any:
    about = Item(item, "acme", "b1", 1, "letter.txt", {}, trial)
    there = Context(moderation, folder=LETTERS, settings=keys, item=about)
    return await moderation(Document(source="f" * 64, text=text), there)


# -- the lot ---------------------------------------------------------------------------


async def test_a_share_of_what_passes_is_read_by_people() -> None:
    """Held for the role, at odds that the hold names, and it goes on by itself."""
    outcome = await run(FINE, sample="100%", sample_within_s=60.0)

    assert isinstance(outcome, Hold)
    assert (outcome.code, outcome.role) == ("QUALITY_SAMPLE", "quality")
    assert outcome.evidence == {"odds": 1.0, "because": []}
    assert outcome.lapse is not None
    assert outcome.lapse.after_s == 60
    assert outcome.lapse.updates["verdict"].action == "allow"
    assert FINE not in outcome.why


async def test_the_draw_is_of_the_item_and_not_of_its_text() -> None:
    """The same items are drawn at every try and of any text, as many as is said."""
    first = [isinstance(await run("hi", n, sample="30%"), Hold) for n in range(300)]
    again = [isinstance(await run("ho", n, sample="30%"), Hold) for n in range(300)]

    assert first == again
    assert abs(sum(first) - 90) < 4 * (300 * 0.3 * 0.7) ** 0.5


async def test_nothing_is_drawn_where_nobody_would_read() -> None:
    """Without a share, of a trial, and of what is held anyway."""
    assert isinstance(await run(FINE), Advance)
    assert isinstance(await run(FINE, sample="100%", trial=True), Advance)
    assert (await run(GRAVE, sample="100%")).code == "DISCLOSURE"


def test_more_is_drawn_where_rules_see_worst() -> None:
    """Of what is long, doubtfully read, or near a rule; never more than all."""
    page = PageText(number=1, status=PageStatus.OK, source="ocr", confidence=60.0)
    plain = Document(source="f" * 64, text="hi")
    worst = Document(source="f" * 64, text="hi" * 2_000, read=[page])

    assert odds(plain, 0.05, noted=False) == (0.05, [])
    assert odds(plain, 0.05, noted=True)[0] == pytest.approx(0.15)
    chance, why = odds(worst, 0.05, noted=True)
    assert chance == pytest.approx(0.6)
    assert why == ["long", "doubtfully read", "near a rule"]
    assert odds(worst, 0.5, noted=True)[0] == 1.0


def test_a_share_is_one() -> None:
    """What is none is refused when the pipeline is read."""
    assert (share("5%"), share("0.5 %"), share("100%")) == (0.05, 0.005, 1.0)
    for bad in ("5", "101%", "-1%", "lots", ""):
        with pytest.raises(ValueError, match=r"share|match"):
            ModerationSettings(sample=bad)


# -- what is grave ---------------------------------------------------------------------


async def test_a_disclosure_leaves_the_common_line() -> None:
    """Its own role and clock, and nobody approves it without saying who answers."""
    outcome = await run(GRAVE)

    assert outcome.code == "DISCLOSURE"
    assert (outcome.role, outcome.within_s) == ("safeguarding", 4 * 3600)
    assert outcome.needs == ("answer_by",)
    assert outcome.updates["verdict"].grave
    other = await run(GRAVE, grave_from=6)
    assert (other.role, other.within_s, other.needs) == ("", None, ())


GRAVELY = Verdict(action="hold", categories=["disclosure"], grave=True)


@pytest.mark.parametrize(
    "given",
    [
        {"verdict": GRAVELY},
        {"verdict": GRAVELY, "answer_by": "person"},
        {"missed": "disclosure"},
    ],
)
async def test_no_machine_answers_what_is_grave(given: dict[str, Any]) -> None:
    """Neither templates nor a model: a person writes, or nothing is sent."""
    document = Document(source="f" * 64, text=GRAVE, **given)

    for there in (context(), online(chat(GOOD))):
        outcome = await generation(document, there)

        assert isinstance(outcome, Hold)
        assert (outcome.code, outcome.needs) == ("REPLY_BY_PERSON", ("reply",))
        assert (outcome.role, outcome.within_s) == ("safeguarding", 4 * 3600)


async def test_a_persons_word_stands() -> None:
    """Where somebody said that a machine may answer, it does; their reply is kept."""
    cleared = Document(source="f" * 64, text=FINE, verdict=GRAVELY, answer_by="machine")
    reply = Reply(greeting="Dear Tom,", paragraphs=["Hi."], closing="S", writer="ann")
    written = cleared.model_copy(update={"answer_by": "person", "reply": reply})

    assert "reply" in (await generation(cleared, context())).updates
    assert (await generation(written, online())).updates == {}


# -- care ------------------------------------------------------------------------------


async def test_the_note_reaches_whoever_writes() -> None:
    """Of a grief the rules' names, in the verdict and in what the model is told."""
    verdict = (await run(GRIEF)).updates["verdict"]
    there = online(chat(GOOD))
    document = Document(source="f" * 64, text=GRIEF, verdict=verdict)
    await generation(document, there)
    plain = online(chat(GOOD))
    await generation(Document(source="f" * 64, text=GRIEF), plain)

    system = [bodies(c)[0]["messages"][0]["content"] for c in (there, plain)]
    assert "bereaved" in verdict.care
    assert "bereaved" in system[0]
    assert "No joke" in system[0]
    assert "No joke" not in system[1]


BAD = [
    "Ho ho ho! That is a funny one.",
    "I will bring you the doll.",
    "I promise that it gets better.",
    "You will get all of it.",
    "Everything will be all right.",
    "Tell me where you live.",
    "Please write me your address.",
    "The elves will bring a new doll.",
    "There is a doll in your stocking, I think.",
    "Your bike is already packed.",
    "Daddy will be home soon.",
    "You will feel better before long.",
    "What is your postcode?",
    "Where are you living now?",
]
FIT = [
    "I cannot bring anybody back, and I will not say that I can.",
    "You do not have to be brave all the time.",
    "Tell a grown-up whom you trust what you told me.",
    "I hope that somebody holds you for a while today.",
    "It will not always be easy, and I think of you.",
]


@pytest.mark.parametrize("said", FIT)
def test_a_gentle_word_is_no_careless_one(said: str) -> None:
    """What a good reply to a grief says is not asked for anew."""
    written = Written.model_validate({**GOOD, "paragraphs": [said]})

    assert careless(written) == ""


@pytest.mark.parametrize("said", BAD)
async def test_a_careless_answer_is_asked_for_anew_and_never_sent(said: str) -> None:
    """Twice more, and then a person writes; of a letter without a note it goes."""
    bad = {**GOOD, "paragraphs": [said]}
    noted = Verdict(action="allow", categories=["care"], care=["want"])
    document = Document(source="f" * 64, text="We are poor.", verdict=noted)

    mended = await generation(document, online(chat(bad), chat(GOOD)))
    never = await generation(document, online(*[chat(bad)] * 3))
    free = await generation(Document(source="f" * 64, text="hi"), online(chat(bad)))

    assert mended.updates["reply"].paragraphs == GOOD["paragraphs"]
    assert (never.code, never.needs) == ("REPLY_CARELESS", ("reply",))
    assert said not in json.dumps(never.evidence) + never.why
    assert free.updates["reply"].paragraphs == [said]


async def test_templates_take_care_of_every_note() -> None:
    """No joke, promise or address in 40 replies to a need that no word of it says."""
    noted = Verdict(action="allow", categories=["care"], care=["want"])
    text = "Dear Santa, mum has no work. I want a bike and a doll. Love, Tom"
    for number in range(40):
        document = Document(source=f"{number:064x}", text=text, verdict=noted)
        reply = (await generation(document, context(item_id=number))).updates["reply"]
        written = Written.model_validate(reply.model_dump(exclude={"writer"}))

        assert careless(written) == ""
        assert "bike" not in " ".join(written.paragraphs)
        assert "Until the bells" not in written.closing
