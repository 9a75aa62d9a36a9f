"""
Generation: a document's text in, a reply out.

Reads   `text` left by OCR, cleared by moderation.
Writes  `reply`, and in `reply.writer` who wrote it, plainly.
Steps   `ask-<n>` from 1: an answered call is never paid twice.
Limits  that of the stage's `limit`: one permit a try, its asks included.
Ends    Advance; Hold(LLM_REFUSED); LLM_SCHEMA and LLM_TRUNCATED are buried, the
        vendor's failures do what their class says.

With a url, a model writes.  Without one a writer that needs no network fills the
folder's templates with the few facts it is sure of; it says so in `reply.writer`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from pipeline.errors import Usage
from pipeline.stage import (
    Advance,
    Context,
    Endpoint,
    Hold,
    Outcome,
    Retry,
    Settings,
    stage,
)
from stages.document import Document, Reply
from stages.writing import model, templates
from stages.writing.reply import Written

OFFLINE_WRITER = "offline-template"


class GenerationSettings(Settings):
    """
    Who writes, and how long it may take.

    `url` (the base of an OpenAI-compatible service) and `model` override those of
    WAYBILL_LLM_URL and WAYBILL_LLM_MODEL; the key is WAYBILL_LLM_KEY, never here.
    """

    url: str = ""
    model: str = ""
    prompt: str = "prompts/reply.md"
    template: str = "templates/reply.toml"
    max_reasks: Annotated[int, Field(ge=0, le=5)] = 2
    max_tokens: Annotated[int, Field(ge=64, le=16_384)] = 900
    # Newer OpenAI models want the longer name, nearly everybody else the old one.
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 0.7
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0


@stage(settings=GenerationSettings, timeout_s=240, retry=Retry(attempts=5))
async def generation(document: Document, ctx: Context) -> Outcome:
    """Answer the document: by a model where one is configured, else from templates."""
    settings: GenerationSettings = ctx.settings
    service = service_of(ctx)
    if not service.url:
        return Advance(reply=write_offline(document, ctx))
    if not service.model:
        raise Usage(
            "a url is configured, but no model",
            code="LLM_MODEL",
            hint="set WAYBILL_LLM_MODEL, or model in [stage.generation]",
        )
    complaint = ""
    asks = settings.max_reasks + 1
    for number in range(1, asks + 1):
        request = request_of(document, ctx, service, complaint)
        last = number == asks
        answer = await ctx.step(f"ask-{number}", model.ask, ctx, request, last)
        if answer.finish in ("content_filter", "refusal"):
            # What the model will not answer, a person must.
            return Hold(
                "LLM_REFUSED",
                "The model declined to answer this letter.",
                evidence={"finish_reason": answer.finish, "model": service.model},
                needs=("reply",),
            )
        complaint = model.fault_of(answer)
        if not complaint:
            written = Written.model_validate_json(answer.content)
            return Advance(reply=Reply(writer=service.model, **written.model_dump()))
    raise model.unusable(answer, complaint)


def service_of(ctx: Context) -> Endpoint:
    """The configured model, where the pipeline names no other."""
    settings: GenerationSettings = ctx.settings
    service = ctx.endpoint("llm")
    return replace(
        service,
        url=settings.url or service.url,
        model=settings.model or service.model,
    )


def request_of(
    document: Document, ctx: Context, service: Endpoint, complaint: str
) -> model.ModelRequest:
    """The next call: the folder's prompt, the document, and what was wrong before."""
    settings: GenerationSettings = ctx.settings
    prompt = ctx.folder.text(settings.prompt)
    options: dict[str, float] = {settings.max_tokens_field: settings.max_tokens}
    if settings.temperature is not None:
        options["temperature"] = settings.temperature
    return model.ModelRequest(
        service,
        model.messages(prompt, document.text, ctx.item.id, complaint),
        options,
        settings.timeout_s,
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
