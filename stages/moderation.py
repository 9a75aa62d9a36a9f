"""
Moderation: is there something in the text that a person must see first?

Reads   `text`, and the pipeline folder's rule files.
Writes  `verdict`: action, categories, and the places in the text behind them.
Steps   none; a text is read in milliseconds, and reading it again is harmless.
Limits  `max_chars`; longer texts than a slice are read slice by slice.
Ends    Advance; Hold with the gravest category's name, in capitals; Reject alike,
        where a rule file says block; RULES_MISSING and RULES_INVALID fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, assert_never

from anyio.lowlevel import checkpoint
from pydantic import Field

from pipeline.errors import Usage
from pipeline.stage import (
    Advance,
    Context,
    Folder,
    Hold,
    Outcome,
    Reject,
    Settings,
    stage,
)
from pipeline.threads import in_thread
from stages.document import Document, Span, Verdict
from stages.rules.compiler import faults_in, rulebook
from stages.rules.normaliser import normalise
from stages.rules.personal import find_personal
from stages.rules.rulebook import Rulebook

PERSONAL = "personal_data"  # the category that held personal data belongs to
HOLD_PERSONAL = ("card", "iban")  # nobody needs these to answer; an address they do
SLICE_CHARS = 3_000  # some 20 ms of the event loop; most documents are one slice
OVERLAP_CHARS = 400  # more than a phrase and its excuse are long
MAX_SPANS = 200  # in a verdict: rows stay small, and reviewers have seen enough
MAX_EXCERPTS = 12
EXCERPT_CHARS = 60  # on either side

_GRAVER = {"allow": 0, "hold": 1, "block": 2}


class ModerationSettings(Settings):
    """The `[stage.moderation]` keys."""

    rules: str = "rules/*.toml"  # a glob in the pipeline folder
    hold_personal: tuple[str, ...] = HOLD_PERSONAL  # kinds of stages/rules/personal.py
    # Half a million characters is a 200-page book; what is longer was not written
    # to us, and a person decides.
    max_chars: int = Field(default=500_000, ge=1)


def check_rules(folder: Folder, settings: ModerationSettings) -> Iterator[Usage]:
    """What is wrong with the rule files."""
    yield from faults_in(folder.texts(settings.rules))


@stage(settings=ModerationSettings, timeout_s=60, check=check_rules)
async def moderation(document: Document, ctx: Context) -> Outcome:
    """Judge the text; hold or reject what a rule says to, with the places."""
    settings: ModerationSettings = ctx.settings
    # Compiled at the first letter, which takes longer than a turn on the loop may.
    rules = await in_thread(rulebook, ctx.folder, settings.rules)
    return await outcome_of(document.text, rules, settings)


async def outcome_of(
    text: str, rules: Rulebook, settings: ModerationSettings
) -> Advance | Hold | Reject:
    """
    What becomes of a document with this text; its verdict is among the updates,
    but where the text was too long to be read.
    """
    if len(text) > settings.max_chars:
        return Hold(
            "TEXT_TOO_LONG",
            f"The text has {len(text)} characters, more than are read by rules "
            f"({settings.max_chars}); read it, or raise max_chars.",
            evidence={"characters": len(text)},
        )
    verdict = await _assess_slices(text, rules, settings.hold_personal)
    match verdict.action:
        case "allow":
            return Advance(verdict=verdict)
        case "hold":
            evidence = {
                "verdict": verdict.model_dump(mode="json"),
                "excerpts": excerpts(text, verdict.spans),
            }
            return Hold(
                _code(verdict), _why(verdict, rules), evidence=evidence, verdict=verdict
            )
        case "block":
            return Reject(_code(verdict), _why(verdict, rules), verdict=verdict)
        case _:
            assert_never(verdict.action)


def assess(
    text: str, rules: Rulebook, hold_personal: Collection[str] = HOLD_PERSONAL
) -> Verdict:
    """
    The rules' opinion of `text`: pure, in milliseconds a thousand characters.

    `spans` are the reasons, `personal` the personal data; kinds of it named in
    `hold_personal` are reasons too.  At most MAX_SPANS of each are reported, and
    of more the gravest.  Texts of any length are read in one go; the stage slices
    long ones.
    """
    plain = normalise(text)
    spans: list[Span] = []
    for hit in rules.hits(plain):
        start, end = plain.span(hit.start, hit.end)
        spans.append(Span(start=start, end=end, category=hit.category, rule=hit.rule))
    personal = [
        Span(start=found.start, end=found.end, category=PERSONAL, rule=found.kind)
        for found in find_personal(text)
    ]
    spans += [span for span in personal if span.rule in hold_personal]
    return _verdict(spans, personal, rules)


def _verdict(spans: list[Span], personal: list[Span], rules: Rulebook) -> Verdict:
    """The verdict that these reasons make: the gravest category's action."""
    ranks = {name: _rank(name, rules) for name in {span.category for span in spans}}
    names = sorted(ranks, key=lambda name: (ranks[name], name), reverse=True)
    spans = sorted(spans, key=lambda s: ranks[s.category], reverse=True)[:MAX_SPANS]
    action = action_of(names[0], rules) if names else "allow"
    return Verdict.model_validate(
        {
            "action": action,
            "categories": names,
            "spans": sorted(spans, key=lambda s: (s.start, s.end, s.category)),
            "personal": personal[:MAX_SPANS],
        }
    )


def action_of(name: str, rules: Rulebook) -> str:
    """What a category does to an item: allow, hold or block."""
    known = rules.categories.get(name)
    return known.action if known else "hold"  # personal data that must be seen


def _rank(name: str, rules: Rulebook) -> tuple[int, int]:
    known = rules.categories.get(name)
    return _GRAVER[action_of(name, rules)], known.severity if known else 1


# -- long texts ------------------------------------------------------------------------


async def _assess_slices(
    text: str, rules: Rulebook, hold_personal: Collection[str]
) -> Verdict:
    """`assess`, giving other items a turn between the slices of a long text."""
    spans: list[Span] = []
    personal: list[Span] = []
    seen = 0  # every place before it has been read
    for start, end in slices(text):
        if start:
            await checkpoint()
        found = assess(text[start:end], rules, hold_personal)
        # What begins close to the cut is left to the next slice, which also sees
        # what comes after it, and that may excuse it.
        until = end if end == len(text) else end - OVERLAP_CHARS // 2
        spans += _within(found.spans, start, seen, until)
        personal += _within(found.personal, start, seen, until)
        seen = until
    return _verdict(spans, personal, rules)


def slices(text: str) -> Iterator[tuple[int, int]]:
    """[start, end) of slices that overlap by OVERLAP_CHARS or more."""
    start = 0
    while len(text) - start > SLICE_CHARS:
        end = start + SLICE_CHARS
        yield start, end
        # At a blank where there is one, so that no word is cut.
        blank = text.rfind(" ", end - 2 * OVERLAP_CHARS, end - OVERLAP_CHARS)
        start = blank + 1 if blank >= 0 else end - OVERLAP_CHARS
    yield start, len(text)


def _within(spans: Sequence[Span], by: int, start: int, end: int) -> Iterator[Span]:
    """Spans of a slice that began at `by`, in the whole text's places."""
    for span in spans:
        if start <= span.start + by < end:
            yield span.model_copy(
                update={"start": span.start + by, "end": span.end + by}
            )


# -- for the reviewer ------------------------------------------------------------------


def excerpts(text: str, spans: Sequence[Span]) -> list[dict[str, Any]]:
    """
    The places of `spans` with some text around, for review and nothing else.

    `marked` is [start, end) of the span within `text` of the excerpt.
    """
    shown: list[dict[str, Any]] = []
    for span in spans[:MAX_EXCERPTS]:
        start = max(0, span.start - EXCERPT_CHARS)
        end = min(len(text), span.end + EXCERPT_CHARS)
        shown.append(
            {
                "category": span.category,
                "rule": span.rule,
                "text": text[start:end],
                "marked": [span.start - start, span.end - start],
            }
        )
    return shown


def _code(verdict: Verdict) -> str:
    return verdict.categories[0].upper()


def _why(verdict: Verdict, rules: Rulebook) -> str:
    """One sentence that names categories and rules, and quotes nothing."""
    parts: list[str] = []
    for category in verdict.categories:
        if action_of(category, rules) == "allow":
            continue  # a note, not a reason
        names = sorted({s.rule for s in verdict.spans if s.category == category})
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        parts.append(f"{category} ({', '.join(names[:5])}{more})")
    return f"Rules found {', '.join(parts)}; read the marked places."
