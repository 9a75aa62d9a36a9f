"""
Second opinions: a moderation service and models vote on a text, beside the rules.

    [stage.moderation]
    second = ["moderation", "model:reader"]
    when_away = "hold"          # or "wait", "sample"

A vote may only raise what the rules made of a text.  So nobody is asked where nothing
is left to raise, and whatever a text makes a voter say, no held text passes by it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from pipeline.errors import (
    BudgetUsedUp,
    CallsLimit,
    Disposition,
    Transient,
    Usage,
    VendorAway,
    WaybillError,
    code_of,
)
from pipeline.messages import Finish, Model
from pipeline.stage import Answer, Context, Request
from stages.document import Span, Vote
from stages.rules import asking
from stages.rules.asking import Opinion

MODEL = "model:"
VOTERS_MAX = 4
OTHER = "second_opinion"  # the category of what is none of the rules'
VOID = "VOTE_VOID"  # it answered, and its answer is refused
ASKS = 2  # of a model: an answer that does not fit is asked for once more
# Who did not answer is asked so often before it is away; who says "not now", so often.
TRIES, BUSY_TRIES = 3, 20
BUSY = ("THROTTLED", "LIMIT_WAIT", "RETRY_BUDGET")
SOON_S, LATER_S = 2.0, 60.0  # arbitrary: until it is asked again, and while it is away

_NO_WORD = re.compile(r"[^a-z0-9]+")

Voter = Annotated[str, StringConstraints(pattern=r"^(model:)?[a-z][a-z0-9_-]{0,40}$")]


class WhenAway(StrEnum):
    """What becomes of a text that somebody gave no vote on, and that nobody held."""

    HOLD = "hold"  # a person reads it, where the rules are unsure of it
    WAIT = "wait"  # it waits until there is a vote
    SAMPLE = "sample"  # it goes on, and people read a larger share of its like


class Heard(NamedTuple):
    """A vote, and the places in the text that it names."""

    vote: Vote
    spans: Sequence[Span] = ()


async def hear(
    by: str,
    text: str,
    pieces: Sequence[str],
    categories: Collection[str],
    ctx: Context,
    when_away: WhenAway | None,
) -> Heard:
    """
    One voter's vote on a text.

    Args:
        by: A vendor of kind `moderation`, or `model:NAME`.
        pieces: The text again, as a service reads it.
        categories: Those of the rules that hold; votes are spelled as they are.
        when_away: None: the text is held whatever is voted, and waits for nobody.

    Raises:
        Usage: there is no such vendor or model, or it is of another kind.
        WaybillError: the stage is to run again, and ask again.
    """
    call = _Call(ctx, f"vote:{by}")
    try:
        if by.startswith(MODEL):
            return await _of_model(by, text, categories, call)
        return Heard(await _of_service(by, pieces, call))
    except WaybillError as error:
        if (again := _again(by, error, call.rounds(), when_away)) is not None:
            raise again from None
        away = Vote(by=by, says="away", code=code_of(error.code), alarm=call.alarm)
        # What was said before it went away is not taken back by that.
        return _together([*call.heard, Heard(away)])


class _Call:
    """
    The call that is being made, by the name of its step.

    Attributes:
        heard: The votes that came, each on a piece of the text.
        alarm: Any answer so far, whatever its form, asked for a person.
    """

    def __init__(self, ctx: Context, step: str) -> None:
        self.ctx = ctx
        self.step = step
        self.heard: list[Heard] = []
        self.alarm = False

    def rounds(self) -> int:
        """How often it was made in vain, whoever stands behind the vendor with it."""
        rounds = number = 0
        while kept := self.ctx.remembered(f"{self.step}/try-{number + 1}"):
            number += 1
            rounds += bool(kept["over"])
        return rounds


# -- who does not answer ---------------------------------------------------------------


def _again(
    by: str, error: WaybillError, rounds: int, when_away: WhenAway | None
) -> WaybillError | None:
    """What is raised, so that it is asked again; None: there is no vote."""
    what = error.disposition
    if what in (Disposition.ABANDON, Disposition.ASIDE):
        return error  # our own trouble says nothing of a voter
    if when_away is None:
        return None
    if isinstance(error, (Usage, BudgetUsedUp, CallsLimit)):
        return error  # as somebody declared it
    if error.code in BUSY and rounds < BUSY_TRIES:
        return error
    if what is Disposition.RETRY and rounds < TRIES:
        # Not charged: no letter fails because nobody gave an opinion on it.
        return _later(by, error, SOON_S)
    if when_away is WhenAway.WAIT:
        if what is Disposition.WAIT:
            return error
        if what is Disposition.RETRY or error.code == "VENDOR_AUTH":
            return _later(by, error, LATER_S)
    return None


def _later(by: str, error: WaybillError, after_s: float) -> VendorAway:
    return VendorAway(
        f"{by} gave no second opinion",
        code=code_of(error.code),
        hint=error.hint,
        retry_after_s=after_s * random.uniform(1, 2),  # not all at once
    )


# -- a moderation service --------------------------------------------------------------


class _Result(BaseModel):
    """What it says of one piece."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    flagged: bool
    categories: dict[str, bool | None] = {}


class _Results(BaseModel):
    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    results: list[_Result]


async def _of_service(by: str, pieces: Sequence[str], call: _Call) -> Vote:
    vendor = call.ctx.vendor(by)
    if vendor.kind != "moderation":
        raise no_voter(by, vendor.kind)
    request = Request("/moderations", json={"input": list(pieces)})
    check = partial(_check, len(pieces))
    answer = await vendor.call(call.step, request, check=check)
    named: dict[str, None] = {}
    for result in _results_in(answer, len(pieces)):
        found = [name for name, said in result.categories.items() if said]
        if result.flagged and not found:
            found = [OTHER]
        named |= dict.fromkeys(map(_spelled, found))
    says: Literal["hold", "pass"] = "hold" if named else "pass"
    return Vote(by=by, says=says, categories=[*named], model=answer.model)


def no_voter(by: str, kind: str, where: str = "") -> Usage:
    """The fault of asking a vendor of another kind for a second opinion."""
    return Usage(
        f"{where}the vendor {by} is of kind {kind}, and gives no second opinion",
        code="SECOND_KIND",
        hint=f'declare kind = "moderation" in [vendor.{by}]; a model is "{MODEL}NAME"',
    )


def _check(many: int, answer: Answer) -> None:
    _results_in(answer, many)


def _results_in(answer: Answer, many: int) -> list[_Result]:
    """
    A result for each piece.

    Raises:
        Transient: VENDOR_GARBAGE; of a piece without one nobody said that it passes.
    """
    try:
        found = _Results.model_validate(answer.data).results
    except ValidationError:
        found = []
    if len(found) != many:
        raise Transient(
            "the moderation service sent no answer for each text",
            code="VENDOR_GARBAGE",
            hint="check that its url is the base of an OpenAI-compatible service",
        )
    return found


def _spelled(name: str) -> str:
    """`self-harm/intent` as rule files spell it: `self_harm`."""
    plain = _NO_WORD.sub("_", name.partition("/")[0].lower())[:40].strip("_")
    return plain or OTHER


# -- a model ---------------------------------------------------------------------------


async def _of_model(
    by: str, text: str, categories: Collection[str], call: _Call
) -> Heard:
    """The vote of a model that reads the text piece by piece."""
    model = call.ctx.model(by.removeprefix(MODEL))
    for number, start in enumerate(asking.starts_of(text), 1):
        piece = text[start : start + asking.PIECE_CHARS]
        named = f"vote:{by}/{number}"
        one = await _on_piece(by, model, piece, named, categories, call)
        spans = [
            span.model_copy(
                update={"start": span.start + start, "end": span.end + start}
            )
            for span in one.spans
        ]
        call.heard.append(one._replace(spans=spans))
    return _together(call.heard)


async def _on_piece(
    by: str,
    model: Model,
    piece: str,
    named: str,
    categories: Collection[str],
    call: _Call,
) -> Heard:
    """Its vote on one piece; after two answers that do not fit there is none."""
    alarm, fault, answered = False, "", ""
    for ask in range(1, ASKS + 1):
        call.step = f"{named}-{ask}"
        request = asking.question_on(piece, named, categories, fault)
        answer = await model.ask(call.step, request)
        answered = answer.model
        finish = answer.said.finish
        if finish in (Finish.FILTER, Finish.REFUSAL):
            # What a model does not want to read, a person must.
            void = Vote(by=by, says="away", code=f"MODEL_{finish.upper()}", alarm=True)
            return Heard(void.model_copy(update={"model": answered}))
        opinion, fault = asking.read(answer.said.text)
        if finish is not Finish.STOP:
            fault = "it was cut off"
        elif opinion is not None:
            fault = asking.fault_in(opinion, piece)
            # Whatever is said the second time does not take back what was said first.
            alarm = alarm or opinion.alarms
            call.alarm = call.alarm or alarm
            if not fault and (opinion.alarms or not alarm):
                return _voted(by, opinion, piece, answered, categories)
    void = Vote(by=by, says="away", code=VOID, model=answered, alarm=alarm)
    return Heard(void)


def _voted(
    by: str, opinion: Opinion, piece: str, model: str, categories: Collection[str]
) -> Heard:
    if not opinion.alarms:
        return Heard(Vote(by=by, says="pass", model=model))
    kinds = dict.fromkeys(k if k in categories else OTHER for k in opinion.kinds)
    named = [*kinds] or [OTHER]
    why = " ".join(opinion.why.split())[: asking.WHY_CHARS_MAX]
    vote = Vote(by=by, says="hold", categories=named, why=why, model=model)
    spans = [
        Span(start=start, end=end, category=named[0], rule=by)
        for start, end in asking.places_in(opinion, piece)
    ]
    return Heard(vote, spans)


def _together(heard: Sequence[Heard]) -> Heard:
    """One vote of those on the pieces: hold, else there is none, else pass."""
    votes = [one.vote for one in heard]
    holds = [vote for vote in votes if vote.says == "hold"]
    if not holds:
        alarms = [v for v in votes if v.alarm] or [v for v in votes if v.code]
        return Heard((alarms or votes)[0])
    named = dict.fromkeys(name for vote in holds for name in vote.categories)
    first = holds[0].model_copy(update={"categories": [*named]})
    return Heard(first, [span for one in heard for span in one.spans])
