"""
Generation: a document's text in, a reply out.

Reads   `text` left by OCR, cleared by moderation.
Writes  `reply`, and in `reply.writer` who wrote it, plainly.
Steps   `ask-<n>` from 1: an answered call is never paid twice.
Limits  the vendor's: each ask has a permit of its own.
Ends    Advance; Hold(LLM_REFUSED); LLM_SCHEMA and LLM_TRUNCATED are buried, the
        vendor's failures do what their class says.

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


@stage(settings=GenerationSettings, timeout_s=240, retry=Retry(attempts=5))
async def generation(document: Document, ctx: Context) -> Outcome:
    """Answer the document: by a model where one is configured, else from templates."""
    settings: GenerationSettings = ctx.settings
    if settings.vendor not in ctx.vendors:
        return Advance(reply=write_offline(document, ctx))
    vendor = writer_of(ctx)
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
        if not complaint:
            written = Written.model_validate_json(said.content)
            return Advance(reply=Reply(writer=vendor.model, **written.model_dump()))
    raise model.unusable(said, complaint)


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
    talk = model.messages(prompt, document.text, ctx.item.id, complaint)
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
    )
    return Reply(writer=OFFLINE_WRITER, **written.model_dump())
