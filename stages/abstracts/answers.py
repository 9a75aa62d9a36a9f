"""
A person's answers: what a lawyer makes of a contract's clauses, and what is refused.

    accept   what was found stands, or the failed check is taken as it is
    correct  another quote, or another value
    absent   it is not in the contract
    missed   it is, where nobody found it

A quote that a person gives must stand in the document as a reader's must.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationError,
)

from stages.abstracts.forms import PERSON, Action, Check, Cited, Clause, Decision, Said
from stages.abstracts.places import QUOTE_CHARS_MAX, cited, place_of
from stages.abstracts.readers import value_in
from stages.clauses.values import Kind, form_of, value_of
from stages.printing.typesetter import tidy

NOWHERE = "its quote stands nowhere in the document"
TOO_SHORT = "its quote is too short to say anything: three signs are the least"
REASON_CHARS_MAX = 4_000
QUOTE_SIGNS_MIN = 3  # of a quote, without its blanks
VALUES = {
    "date": "a date, as 2026-05-17",
    "duration": "a duration, as 5 years",
    "money": "an amount with its currency, as 1,000 USD",
    "percent": "a share, as 12.5 %",
}


# What a person says is printed, and told to a CRM: without marks that turn what stands
# after it, or steer a terminal.
Tidy = AfterValidator(tidy)
# A blank value stays one, and is refused as what it is.
TidyValue = AfterValidator(lambda text: tidy(text) or " " * bool(text))


class Answer(BaseModel):
    """
    A person's word on one type of clause, or on one check.

    Attributes:
        quote: Of `correct` and `missed`: words of the document.
        value: In the place of what the quote says.
        by, at: Who, and when (ISO 8601).
        reason: Why, in that person's words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    action: Action
    quote: Annotated[str, StringConstraints(max_length=QUOTE_CHARS_MAX)] = ""
    value: Annotated[str, StringConstraints(max_length=400), TidyValue] = ""
    by: Annotated[str, StringConstraints(max_length=200), Tidy] = ""
    at: Annotated[str, StringConstraints(max_length=40), Tidy] = ""
    reason: Annotated[str, StringConstraints(max_length=REASON_CHARS_MAX), Tidy] = ""


def read(answers: Mapping[str, object]) -> tuple[dict[str, Answer], dict[str, str]]:
    """Answers by what they are about, and of those that fit no schema, why."""
    found: dict[str, Answer] = {}
    refused: dict[str, str] = {}
    for name, given in answers.items():
        try:
            found[name] = Answer.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "it"
            refused[name] = f"{place}: {first['msg']}"
    return found, refused


def fault(
    name: str,
    answer: Answer,
    clauses: Mapping[str, Clause],
    checks: Collection[str],
    kind: Kind,
    text: str,
) -> str:
    """What is wrong with an answer; "" where nothing is.  No word of it is repeated."""
    if name in checks and name not in clauses:
        return "" if answer.action == "accept" else "a check is accepted, or mended"
    if name not in clauses:
        return "there is no such type of clause, and no such check"
    if answer.action in ("accept", "absent"):
        return "" if not (answer.quote or answer.value) else "it takes no quote"
    if not answer.quote and (answer.action == "missed" or not answer.value):
        return "it needs a quote"
    if not answer.quote and not clauses[name].quotes:
        return "it needs a quote: none was found"
    if answer.quote and (why := quote_fault(answer.quote, text)):
        return why
    if answer.value and not answer.value.strip():
        return "its value is blank"
    form = form_of(kind)
    if answer.value and form in VALUES and value_of(form, answer.value) is None:
        return f"its value is not {VALUES[form]}"
    return ""


def quote_fault(quote: str, text: str) -> str:
    """Why words that a person typed are no quote of `text`; "" where they are one."""
    if len("".join(quote.split())) < QUOTE_SIGNS_MIN:
        return TOO_SHORT
    return NOWHERE if place_of(text, quote) is None else ""


def answered(clause: Clause, answer: Answer, kind: Kind, text: str) -> Clause:
    """The clause as a person has it; `answer` has no fault."""
    decision = Decision(
        action=answer.action,
        by=answer.by,
        at=answer.at,
        was=clause.verdict,
        reason=answer.reason,
    )
    quotes: tuple[Cited, ...] = clause.quotes
    value = clause.value
    if answer.action == "absent":
        quotes, value = (), None
    if answer.quote:
        near = quotes[0].start if quotes else 0
        place = place_of(text, answer.quote, near)
        assert place is not None, NOWHERE
        quotes = (cited(text, *place, (PERSON,)),)
        value = value_in(quotes, kind)
    if answer.value:
        form = form_of(kind)
        read_as = value_of(form, answer.value) if form in VALUES else None
        said = answer.value if read_as is None else read_as.text
        value = Said(
            kind="text" if form == "none" else form,
            text=said,
            amount=str(read_as.amount) if read_as and read_as.amount else None,
            currency=read_as.currency if read_as else None,
            per=read_as.per if read_as else None,
        )
    return Clause(
        type=clause.type,
        verdict="present" if quotes else "absent",
        confidence=1.0,
        quotes=quotes,
        value=value,
        opinions={**clause.opinions, PERSON: "present" if quotes else "absent"},
        decision=decision,
    )


def accepted(checks: Sequence[Check], answers: Mapping[str, Answer]) -> list[Check]:
    """Checks with the names of those who took a failed one as it is."""
    return [
        check.model_copy(
            update={
                "accepted": answers[check.name].by or "a reviewer",
                "at": answers[check.name].at,
                "reason": answers[check.name].reason,
            }
        )
        if check.ok is False and check.name in answers
        else check
        for check in checks
    ]
