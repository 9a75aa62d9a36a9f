"""
Generation: a document's text in, a reply out.

Reads   `text` left by OCR, cleared by moderation; of its `verdict` the notes for the
        writer, and `answer_by`, `missed` and `reply` where a person has given them.
Writes  `reply`, and in `reply.writer` who wrote it, plainly.
Steps   `ask-<n>` from 1: an answered call is never paid twice.
Limits  the vendor's: each ask has a permit of its own.
Ends    Advance; Hold(LLM_REFUSED); Hold(REPLY_BY_PERSON), what is grave, and of which
        nobody said that a machine may answer; Hold(REPLY_CARELESS), no answer of the
        model's was fit for a grief or a need; LLM_SCHEMA and LLM_TRUNCATED are
        buried, the vendor's failures do what their class says.

Where a model is declared, it writes.  Without one a writer that needs no network fills
the folder's templates with the few facts it is sure of; it says so in `reply.writer`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.errors import Usage
from pipeline.stage import (
    Advance,
    Context,
    Hold,
    Outcome,
    Request,
    Retry,
    Settings,
    Vendor,
    stage,
)
from stages.document import Document, Reply
from stages.writing import model, templates
from stages.writing.care import careless
from stages.writing.reply import Written

OFFLINE_WRITER = "offline-template"


class GenerationSettings(Settings):
    """
    Who writes, and how.

    `vendor` is one of `vendors.toml`, or the model of WAYBILL_LLM_URL; where none is
    declared the templates are used.
    """

    vendor: str = "llm"
    prompt: str = "prompts/reply.md"
    template: str = "templates/reply.toml"
    max_reasks: Annotated[int, Field(ge=0, le=5)] = 2
    max_tokens: Annotated[int, Field(ge=64, le=16_384)] = 900
    # Newer OpenAI models want the longer name, nearly everybody else the old one.
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.7
    # Whose what is grave is, also what was missed and found later; within that time.
    grave_role: str = Field(default="safeguarding", pattern=r"^[a-z][a-z-]{0,39}$")
    grave_within_s: float = Field(default=4 * 3600.0, gt=0)


@stage(settings=GenerationSettings, timeout_s=240, retry=Retry(attempts=5))
async def generation(document: Document, ctx: Context) -> Outcome:
    """Answer the document: by a model where one is configured, else from templates."""
    settings: GenerationSettings = ctx.settings
    if document.reply is not None:
        return Advance()  # a person's: nobody writes over it
    if _by_person(document):
        return Hold(
            "REPLY_BY_PERSON",
            "What this letter tells is grave: write the answer yourself, or reject it "
            "and nothing is sent.",
            evidence={"categories": _categories(document)},
            needs=("reply",),
            role=settings.grave_role,
            within_s=settings.grave_within_s,
        )
    if settings.vendor not in ctx.vendors:
        return Advance(reply=write_offline(document, ctx))
    vendor, notes = writer_of(ctx), _notes(document)
    complaint = ""
    asks = settings.max_reasks + 1
    for number in range(1, asks + 1):
        request = request_of(document, ctx, complaint)
        said = await model.ask(vendor, f"ask-{number}", request, number == asks)
        if said.finish in ("content_filter", "refusal"):
            # What the model will not answer, a person must.
            return Hold(
                "LLM_REFUSED",
                "The model declined to answer this letter.",
                evidence={"finish_reason": said.finish, "model": vendor.model},
                needs=("reply",),
            )
        complaint = model.fault_of(said)
        if not complaint and notes and (complaint := careless(written_in(said))):
            if number == asks:
                return Hold(
                    "REPLY_CARELESS",
                    f"The model's answer is not fit for what the letter tells: "
                    f"{complaint}.",
                    evidence={"care": notes, "model": vendor.model},
                    needs=("reply",),
                )
            continue
        if not complaint:
            written = written_in(said).model_dump()
            return Advance(reply=Reply(writer=vendor.model, **written))
    raise model.unusable(said, complaint)


def written_in(said: model.Said) -> Written:
    """The reply that an answer without a fault is."""
    return Written.model_validate_json(said.content)


def _by_person(document: Document) -> bool:
    grave = document.verdict is not None and document.verdict.grave
    return (grave or bool(document.missed)) and document.answer_by != "machine"


def _categories(document: Document) -> list[str]:
    found = document.verdict.categories if document.verdict else []
    return [*found, document.missed] if document.missed else list(found)


def _notes(document: Document) -> list[str]:
    """What moderation noted for the writer: rules of care that matched."""
    return document.verdict.care if document.verdict else []


def writer_of(ctx: Context) -> Vendor:
    """
    The declared model.

    Raises:
        Usage: LLM_MODEL, it has no model, or speaks another shape.
    """
    vendor = ctx.vendor(ctx.settings.vendor)
    if vendor.kind != "openai" or not vendor.model:
        raise Usage(
            f"the vendor {vendor.name} is no OpenAI-compatible service with a model",
            code="LLM_MODEL",
            hint=f'declare kind = "openai" and model in [vendor.{vendor.name}], or set '
            "WAYBILL_LLM_MODEL",
        )
    return vendor


def request_of(document: Document, ctx: Context, complaint: str) -> Request:
    """The next call: the folder's prompt, the document, and what was wrong before."""
    settings: GenerationSettings = ctx.settings
    prompt = ctx.folder.text(settings.prompt)
    options: dict[str, float] = {settings.max_tokens_field: settings.max_tokens}
    if settings.temperature is not None:
        options["temperature"] = settings.temperature
    notes = _notes(document)
    talk = model.messages(prompt, document.text, ctx.item.id, complaint, notes)
    return Request(
        "/chat/completions",
        json=model.body_of(talk, options),
        max_tokens=settings.max_tokens,
    )


def write_offline(document: Document, ctx: Context) -> Reply:
    """
    A reply from the folder's templates; the same item always gets the same.

    Raises:
        Usage: TEMPLATE_INVALID.
    """
    settings: GenerationSettings = ctx.settings
    where = settings.template
    written = templates.write(
        templates.read_templates(ctx.folder.text(where), where),
        document.text,
        f"{ctx.item.id}:{document.source}",
        where,
        hard=bool(_notes(document)),
    )
    return Reply(writer=OFFLINE_WRITER, **written.model_dump())
