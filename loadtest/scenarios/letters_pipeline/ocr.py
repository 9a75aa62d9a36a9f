"""
OCR of the load test: a vendor reads photos, our own reader what is printed.

Reads   `source`, `media_type`, `page_count`, `typed`.
Writes  `text`, `confidence`; of a printed page what the built-in stage writes.
Steps   `read`: the vendor's answer, so that it is paid once.
Limits  the vendor's.
Ends    Advance; Hold OCR_UNREADABLE, which needs the text.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import Transient
from pipeline.stage import Advance, Context, Hold, Outcome, Request, Retry, stage
from stages.document import Document
from stages.ocr import OcrSettings
from stages.ocr import ocr as by_machine

SURE = 0.75


class VendorSettings(OcrSettings):
    """Those of the built-in stage, and who reads what."""

    vendor: str = "ocr"
    photos: tuple[str, ...] = ("image/jpeg",)


@stage(
    settings=VendorSettings,
    timeout_s=900,
    window=5000,
    retry=Retry(attempts=6, base_s=1, cap_s=20),
)
async def ocr(document: Document, ctx: Context) -> Outcome:
    """Have it read by whoever reads such a thing."""
    settings: VendorSettings = ctx.settings
    if document.media_type not in settings.photos or settings.vendor not in ctx.vendors:
        return await by_machine(document, ctx)
    data = await ctx.artifacts.get(document.source)
    request = Request("/v1/read", content=data)
    answer = await ctx.vendor(settings.vendor).call("read", request)
    pages: list[dict[str, Any]] = answer.data.get("pages") or []
    if not pages:
        raise Transient("the vendor read no page", code="VENDOR_GARBAGE")
    text = "\f".join(str(page["text"]) for page in pages)
    sure = min(float(page["confidence"]) for page in pages)
    updates: dict[str, Any] = {"text": text, "confidence": round(100 * sure, 1)}
    if sure < SURE:
        return Hold(
            "OCR_UNREADABLE",
            "the vendor is not sure of what it read",
            evidence={"pages": [{"number": 1, "draft": text}]},
            needs=("text",),
            **updates,
        )
    return Advance(**updates)
