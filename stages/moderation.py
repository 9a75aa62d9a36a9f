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
from typing import Any

from anyio.lowlevel import checkpoint
from pydantic import Field

from pipeline.stage import Advance, Context, Hold, Outcome, Reject, Settings, stage
from stages.document import Document, Span, Verdict
from stages.normaliser import normalise
from stages.personal import find_personal
from stages.rulebook import Rulebook, rulebook

PERSONAL = "personal_data"  # the category that held personal data belongs to
HOLD_PERSONAL = ("card", "iban")  # nobody needs these in a letter; an address they do
SLICE_CHARS = 20_000  # about 20 ms of the event loop, measured; a letter has 2,000
OVERLAP_CHARS = 400  # slices overlap by more than any phrase is long
MAX_SPANS = 200  # in a verdict: rows stay small, and reviewers have seen enough
MAX_EXCERPTS = 12
EXCERPT_CHARS = 60  # on either side

_GRAVER = {"allow": 0, "hold": 1, "block": 2}


class ModerationSettings(Settings):
    """The `[stage.moderation]` keys."""

    rules: str = "rules/*.toml"  # a glob in the pipeline folder
    hold_personal: tuple[str, ...] = HOLD_PERSONAL  # kinds of stages/personal.py
    # Half a million characters is a 200-page book; what is longer was not written
    # to us, and a person decides.
    max_chars: int = Field(default=500_000, ge=1)


@stage(settings=ModerationSettings, timeout_s=60)
async def moderation(document: Document, ctx: Context) -> Outcome:
    """Judge the text; hold or reject what a rule says to, with the places."""
    settings: ModerationSettings = ctx.settings
    rules = rulebook(ctx.folder, settings.rules)
    text = document.text
    if len(text) > settings.max_chars:
        return Hold(
            "TEXT_TOO_LONG",
            f"The text has {len(text)} characters, more than are read by rules "
            f"({settings.max_chars}); read it, or raise max_chars.",
            evidence={"characters": len(text)},
        )
    verdicts: list[Verdict] = []
    for start, end in slices(text):
        if verdicts:
            await checkpoint()
        found = assess(text[start:end], rules, settings.hold_personal)
        verdicts.append(_moved(found, start))
    verdict = _merged(verdicts, rules)
    match verdict.action:
        case "allow":
            return Advance(verdict=verdict)
        case "hold":
            evidence = {
                "verdict": verdict.model_dump(mode="json"),
                "excerpts": excerpts(text, verdict.spans),
            }
            return Hold(
                _code(verdict), _why(verdict), evidence=evidence, verdict=verdict
            )
        case "block":
            return Reject(_code(verdict), _why(verdict), verdict=verdict)


def assess(
    text: str, rules: Rulebook, hold_personal: Collection[str] = HOLD_PERSONAL
) -> Verdict:
    """
    The rules' opinion of `text`: pure, in about a millisecond a thousand characters.

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
    return _judged(spans, personal, rules)


def _judged(spans: list[Span], personal: list[Span], rules: Rulebook) -> Verdict:
    """The verdict that these reasons make: the gravest category's action."""
    ranks = {name: _rank(name, rules) for name in {span.category for span in spans}}
    names = sorted(ranks, key=lambda name: (ranks[name], name), reverse=True)
    spans = sorted(spans, key=lambda s: ranks[s.category], reverse=True)[:MAX_SPANS]
    action = _action(names[0], rules) if names else "allow"
    return Verdict.model_validate(
        {
            "action": action,
            "categories": names,
            "spans": sorted(spans, key=lambda s: (s.start, s.end, s.category)),
            "personal": personal[:MAX_SPANS],
        }
    )


def _action(name: str, rules: Rulebook) -> str:
    known = rules.categories.get(name)
    return known.action if known else "hold"  # personal data that must be seen


def _rank(name: str, rules: Rulebook) -> tuple[int, int]:
    known = rules.categories.get(name)
    return _GRAVER[_action(name, rules)], known.severity if known else 1


# -- long texts ------------------------------------------------------------------------


def slices(text: str) -> Iterator[tuple[int, int]]:
    """[start, end) of overlapping slices, cut at a blank where there is one."""
    start = 0
    while len(text) - start > SLICE_CHARS:
        end = start + SLICE_CHARS
        end = max(end - OVERLAP_CHARS, text.rfind(" ", start, end))
        yield start, end
        start = text.rfind(" ", end - 2 * OVERLAP_CHARS, end - OVERLAP_CHARS) + 1
        start = start or end - OVERLAP_CHARS
    yield start, len(text)


def _moved(verdict: Verdict, by: int) -> Verdict:
    """The verdict of a slice that began at `by`, in the whole text's places."""

    def shift(spans: list[Span]) -> list[Span]:
        return [
            span.model_copy(update={"start": span.start + by, "end": span.end + by})
            for span in spans
        ]

    if not by:
        return verdict
    return verdict.model_copy(
        update={"spans": shift(verdict.spans), "personal": shift(verdict.personal)}
    )


def _merged(verdicts: Sequence[Verdict], rules: Rulebook) -> Verdict:
    """One verdict of many slices; what both sides of a cut saw counts once."""
    if len(verdicts) == 1:
        return verdicts[0]
    spans: dict[tuple[int, str, str], Span] = {}
    personal: dict[tuple[int, str, str], Span] = {}
    for verdict in verdicts:
        for span in verdict.spans:
            spans.setdefault((span.start, span.category, span.rule), span)
        for span in verdict.personal:
            personal.setdefault((span.start, span.category, span.rule), span)
    return _judged(list(spans.values()), list(personal.values()), rules)


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


def _why(verdict: Verdict) -> str:
    """One sentence that names categories and rules, and quotes nothing."""
    parts: list[str] = []
    for category in verdict.categories:
        names = sorted({s.rule for s in verdict.spans if s.category == category})
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        parts.append(f"{category} ({', '.join(names[:5])}{more})")
    return f"Rules found {', '.join(parts)}; read the marked places."
