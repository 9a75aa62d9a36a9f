"""
Codes: what our functions that run jailed can raise, beside the jail's own.

`CODES` is the whole table (`pipeline/jail/codes.py`).
"""

from __future__ import annotations

from pipeline.jail.codes import JAIL, Cause, Code, End, table

CODES = table(
    *JAIL.values(),
    # What a document is, by who looked into it.
    Code("CORRUPT", Cause.DOCUMENT, End.REFUSED),
    Code("PDF_CORRUPT", Cause.DOCUMENT, End.REFUSED),
    Code("PART_CORRUPT", Cause.DOCUMENT, End.REFUSED),
    Code("TRUNCATED", Cause.DOCUMENT, End.REFUSED),
    Code("EMPTY_FILE", Cause.DOCUMENT, End.REFUSED),
    Code("UNSUPPORTED_TYPE", Cause.DOCUMENT, End.REFUSED),
    Code("PDF_ENCRYPTED", Cause.DOCUMENT, End.REFUSED),
    Code("DOCX_ENCRYPTED", Cause.DOCUMENT, End.REFUSED),
    Code("DOCX_BOMB", Cause.DOCUMENT, End.REFUSED),
    Code("TOO_LARGE", Cause.DOCUMENT, End.REFUSED),
    Code("PIXEL_LIMIT", Cause.DOCUMENT, End.REFUSED),
    Code("PDF_XFA", Cause.DOCUMENT, End.REFUSED),
    Code("NO_PAGES", Cause.DOCUMENT, End.REFUSED),
    Code("NO_SUCH_PAGE", Cause.DOCUMENT, End.REFUSED),
    Code("TOO_MANY_PAGES", Cause.DOCUMENT, End.REFUSED),
    Code("BUNDLE_OVERLAP", Cause.DOCUMENT, End.REFUSED),
    Code("BUNDLE_TOO_LARGE", Cause.DOCUMENT, End.REFUSED),
    Code("BUNDLE_TOO_MANY", Cause.DOCUMENT, End.REFUSED),
    Code("PDF_NOT_WRITTEN", Cause.DOCUMENT, End.REFUSED),
    # What became of an engine on one page.
    Code("OCR_TIMEOUT", Cause.DOCUMENT, End.OVERRAN),
    Code("OCR_CRASHED", Cause.DOCUMENT, End.BROKE, memory=True),
    Code("OCR_FAILED", Cause.DOCUMENT, End.BROKE),
    # What is not here, or cannot be had.
    Code("OCR_MISSING", Cause.MACHINE, End.REFUSED),
    Code("OCR_LANGUAGE", Cause.MACHINE, End.REFUSED),
    Code("ENGINE_MISSING", Cause.MACHINE, End.REFUSED),
    Code("FONT_MISSING", Cause.MACHINE, End.REFUSED),
    Code("GHOSTSCRIPT_MISSING", Cause.MACHINE, End.REFUSED),
    Code("READ_FAILED", Cause.MACHINE, End.REFUSED),
    # What was asked for amiss.
    Code("NO_SUCH_PAPER", Cause.CALLER, End.REFUSED),
    Code("TYPESET_FAILED", Cause.CALLER, End.REFUSED),
    Code("RULES_MISSING", Cause.CALLER, End.REFUSED),
    Code("RULES_INVALID", Cause.CALLER, End.REFUSED),
)
