"""Questions to a buyer, and to a clerk: how they are put, and what an answer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from stages.quoting.forms import Customer, Enquiry, Open

ANSWERS = "answers"  # the signal by which they come
WORDS_MAX = 500
QUESTION_CHARS_MAX = 250  # of what a form says; the mail has all of it
Words = Annotated[str, StringConstraints(max_length=WORDS_MAX)]
NAMES = {
    "lines": "what is asked for",
    "count": "how many",
    "size": "the bore of the hose",
    "length_mm": "the length",
    "ends": "the two ends",
    "parts": "the parts that are named",
    "medium": "what flows through it",
    "celsius": "how hot it becomes",
    "bar": "the working pressure",
    "place": "where it is sent to",
    "by": "the day on which it must be there",
    "customer": "who asks",
    "quote": "which quote it is about",
}


class Answers(BaseModel):
    """What comes back: words for each question, by its key."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    answers: dict[str, Words] = Field(max_length=1000)


def answers_to(open_: Sequence[Open]) -> type[Answers]:
    """`Answers`, whose schema names each question, so that a page can ask it."""
    named: dict[str, Any] = {
        one.key: {
            "type": "string",
            "maxLength": WORDS_MAX,
            "title": asked(one)[:QUESTION_CHARS_MAX],
        }
        for one in open_
    }
    field = Field(max_length=1000, json_schema_extra={"properties": named})
    return create_model("Answers", __base__=Answers, answers=(dict[str, Words], field))


def mail_of(enquiry: Enquiry, customer: Customer, link: str) -> dict[str, Any]:
    """The one mail with all questions of a request."""
    example = ", ".join(f'"{one.key}": "…"' for one in enquiry.open[:2])
    said = "\n".join(f"  {one.key}: {asked(one)}" for one in enquiry.open)
    text = (
        f"Dear {customer.name},\n\nthank you for your request. Before we can quote we "
        f"need to know:\n\n{said}\n\nPlease answer by your browser at\n{link}\n"
        f'or send there, by POST, JSON such as {{"answers": {{{example}}}}}\n\n'
        "Nothing is assumed meanwhile.\n"
    )
    return {"to": customer.mail, "subject": "A question on your request", "text": text}


def asked(one: Open) -> str:
    """A question in a sentence, with the words in question and what they may mean."""
    name = NAMES.get(one.about, one.about)
    where = f"line {one.line}, " * bool(one.line)
    words = f" (“{' '.join(one.spot.text.split())}”)" if one.spot else ""
    choices = f" One of: {'; '.join(one.choices)}." if one.choices else ""
    return f"{where}{name}{words}: {one.why}.{choices}"


def evidence(open_: Sequence[Open], text: str) -> dict[str, Any]:
    """What a clerk is shown: each question, its words among their neighbours."""
    return {
        "questions": [
            {
                "key": one.key,
                "asked": asked(one),
                "choices": list(one.choices),
                "words": _around(one, text),
            }
            for one in open_
        ],
        "answer": {f"answers.{one.key}": "…" for one in open_},
    }


def sentence(open_: Sequence[Open]) -> str:
    """One sentence for the list of holds."""
    more = f", and {len(open_) - 1} more" if len(open_) > 1 else ""
    return f"{asked(open_[0])}{more}"


def plain(answers: Mapping[str, Any]) -> dict[str, str]:
    """Answers as words, whatever a person set."""
    return {key: str(said) for key, said in answers.items() if str(said).strip()}


def _around(one: Open, text: str) -> str:
    if one.spot is None:
        return ""
    return " ".join(text[max(0, one.spot.start - 60) : one.spot.end + 60].split())
