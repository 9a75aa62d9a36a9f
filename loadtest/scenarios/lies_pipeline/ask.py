"""The stage of the lies run: two questions to one vendor, and no second thought."""

from __future__ import annotations

from typing import Any

import anyio

from pipeline.errors import Transient
from pipeline.model import Advance, Outcome
from pipeline.stage import Answer, Context, Request, Retry, stage
from stages.writing.model import ask as ask_model
from stages.writing.model import body_of

BETWEEN_S = 0.1  # so long an answer that nobody asked for may lie there


@stage(timeout_s=30, retry=Retry(attempts=1))
async def ask(said: object, ctx: Context) -> Outcome:
    """Each question bears a mark, which a true answer brings back."""
    name = ctx.item.name.rpartition(".")[0]
    vendor = ctx.vendor(name)
    heard: list[dict[str, Any]] = []
    for step in ("ask-1", "ask-2"):
        mark = f"{ctx.item.name}/{step}"
        if vendor.kind == "openai":
            request = Request(
                "chat/completions",
                json=body_of([{"role": "user", "content": mark}], {"max_tokens": 100}),
            )
            reply = await ask_model(vendor, step, request, True)
            if reply.finish != "stop":
                raise Transient(
                    f"the model ended with {reply.finish}", code="MODEL_ENDED"
                )
            heard.append({"mark": mark, "answer": reply.content})
        else:
            request = Request(json={"mark": mark})
            answer = await vendor.call(step, request, check=_is_echo)
            heard.append({"mark": mark, "answer": answer.data["json"].get("mark")})
        await anyio.sleep(BETWEEN_S)
    return Advance(heard=heard)


def _is_echo(answer: Answer) -> None:
    """Of its shape alone: a stage cannot know what a vendor ought to say."""
    match answer.data:
        case {"json": dict()}:
            return
        case _:
            raise Transient("that is another service's answer", code="VENDOR_GARBAGE")
