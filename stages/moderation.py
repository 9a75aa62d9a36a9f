"""
Moderation: is there something in the text that a person must see first?

Reads   `text`, and the pipeline folder's rule files.
Writes  `verdict`: action, categories, the places in the text behind them, and votes.
Steps   `vote:<voter>` of a second opinion; by rules none, reading again is harmless.
Limits  `max_chars`; longer texts than a slice are read slice by slice.
Ends    Advance; Hold with the gravest category's name, in capitals, and what is
        grave in the line of its role; SECOND_OPINION_AWAY, SECOND_OPINION_VOID;
        Hold(QUALITY_SAMPLE), drawn by lot of what passed; Reject as the first, where a
        rule file says block; RULES_MISSING and RULES_INVALID fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Self, assert_never

from anyio.lowlevel import checkpoint
from pydantic import Field, field_validator, model_validator

from pipeline.errors import Usage, WaybillError, code_of
from pipeline.stage import (
    Advance,
    Context,
    Folder,
    Hold,
    Lapse,
    Outcome,
    Reject,
    Settings,
    stage,
)
from pipeline.threads import in_thread
from stages.document import Document, Span, Verdict, Vote
from stages.rules.compiler import faults_in, rulebook
from stages.rules.excerpts import excerpts
from stages.rules.normaliser import normalise
from stages.rules.personal import find_personal
from stages.rules.raising import doubts_of, may_rise, raised, said, without_excuses
from stages.rules.rulebook import Rulebook
from stages.rules.sampling import odds, share
from stages.rules.voting import VOTERS_MAX, Heard, Voter, WhenAway, hear

PERSONAL = "personal_data"  # the category that held personal data belongs to
HOLD_PERSONAL = ("card", "iban")  # nobody needs these to answer; an address they do
SLICE_CHARS = 3_000  # some 20 ms of the event loop; most documents are one slice
OVERLAP_CHARS = 400  # more than a phrase and its excuse are long
MAX_SPANS = 200  # in a verdict: rows stay small, and reviewers have seen enough
KEPT_SPANS = 20  # in what an unread sample goes on with
SAMPLED = "QUALITY_SAMPLE"
WHO_ANSWERS = (
    " Then say who answers: answer_by=person, or machine where it was a false alarm; "
    "or reject it, and nothing is sent."
)

_GRAVER = {"allow": 0, "hold": 1, "block": 2}


class ModerationSettings(Settings):
    """The `[stage.moderation]` keys."""

    rules: str = "rules/*.toml"  # a glob in the pipeline folder
    hold_personal: tuple[str, ...] = HOLD_PERSONAL  # kinds of stages/rules/personal.py
    # Half a million characters is a 200-page book; what is longer was not written
    # to us, and a person decides.
    max_chars: int = Field(default=500_000, ge=1)
    # Holds of a category so severe are for that role alone, within that time.
    grave_from: int = Field(default=5, ge=1, le=6)  # 6: none is
    grave_role: str = Field(default="safeguarding", pattern=r"^[a-z][a-z-]{0,39}$")
    grave_within_s: float = Field(default=4 * 3600.0, gt=0)
    # Of what passes, so much is read by that role, or goes on unread after that time.
    sample: str = "0%"
    sample_role: str = Field(default="quality", pattern=r"^[a-z][a-z-]{0,39}$")
    sample_within_s: float = Field(default=2 * 86400.0, gt=0)
    care: tuple[str, ...] = ("care",)  # categories that are notes to the writer
    # Who gives a second opinion: vendors of kind `moderation`, and `model:NAME`.
    second: tuple[Voter, ...] = Field(default=(), max_length=VOTERS_MAX)
    when_away: WhenAway | None = None  # is said by whoever asks for one

    @field_validator("sample")
    @classmethod
    def _share(cls, text: str) -> str:
        share(text)
        return text

    @model_validator(mode="after")
    def _says_what_then(self) -> Self:
        if len(set(self.second)) < len(self.second):
            raise ValueError("second: the same is named twice")
        if self.second and self.when_away is None:
            raise ValueError(
                "when_away: say what becomes of a text while a second opinion is away: "
                f"{', '.join(map(repr, map(str, WhenAway)))}"
            )
        if self.when_away is WhenAway.SAMPLE and not share(self.sample):
            raise ValueError('when_away: with "sample" say how much: sample = "5%"')
        return self


def check_rules(folder: Folder, settings: ModerationSettings) -> Iterator[Usage]:
    """What is wrong with the rule files."""
    yield from faults_in(folder.texts(settings.rules))


@stage(settings=ModerationSettings, timeout_s=300, check=check_rules)
async def moderation(document: Document, ctx: Context) -> Outcome:
    """Judge the text; hold or reject what a rule says to, with the places."""
    settings: ModerationSettings = ctx.settings
    # Compiled at the first letter, which takes longer than a turn on the loop may.
    rules = await in_thread(rulebook, ctx.folder, settings.rules)
    outcome = await outcome_of(document.text, rules, settings)
    if settings.second:
        outcome = await _with_votes(document, outcome, rules, ctx)
    return drawn(document, outcome, ctx) if isinstance(outcome, Advance) else outcome


def drawn(document: Document, outcome: Advance, ctx: Context) -> Advance | Hold:
    """
    What passed, or a hold of it where the lot says that a person reads it.

    The same at every try.  Nothing of a trial is drawn: nobody reads it, and what is
    scored is what the machine does.
    """
    settings: ModerationSettings = ctx.settings
    verdict: Verdict = outcome.updates["verdict"]
    unseen = any(vote.says == "away" for vote in verdict.votes)
    unseen = unseen and settings.when_away is WhenAway.SAMPLE
    noted = bool(verdict.categories)
    chance, why = odds(document, share(settings.sample), noted=noted, unseen=unseen)
    if ctx.item.trial or ctx.lot("sample") >= chance:
        return outcome
    within_s = settings.sample_within_s
    kept = {"spans": verdict.spans[:KEPT_SPANS]}
    kept["personal"] = verdict.personal[:KEPT_SPANS]
    more = f", more often as it is {' and '.join(why)}" if why else ""
    return Hold(
        SAMPLED,
        f"It passed, and was drawn by lot for a person to read{more}. Approve it if "
        "that was right; else reject it, or set missed to the category that it "
        "should have been held for.",
        evidence={"odds": chance, "because": why},
        lapse=Lapse(within_s, updates={"verdict": verdict.model_copy(update=kept)}),
        role=settings.sample_role,
        within_s=within_s,
        verdict=verdict,
    )


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
    verdict.care = _notes(verdict, settings.care)
    match verdict.action:
        case "allow":
            return Advance(verdict=verdict)
        case "hold":
            evidence = {"excerpts": excerpts(text, verdict.spans)}
            why = _why(verdict, rules)
            return _held(verdict, _code(verdict), why, evidence, rules, settings)
        case "block":
            return Reject(_code(verdict), _why(verdict, rules), verdict=verdict)
        case _:
            assert_never(verdict.action)


async def _with_votes(
    document: Document, outcome: Advance | Hold | Reject, rules: Rulebook, ctx: Context
) -> Advance | Hold | Reject:
    """
    The outcome by rules, with what others say of the text: it holds, or it stays.

    Raises:
        WaybillError: somebody is asked again later, and nobody held it.
    """
    settings: ModerationSettings = ctx.settings
    first: Verdict | None = outcome.updates.get("verdict")
    if first is None:
        return outcome  # it was too long to be read, and is held
    text, verdict = document.text, first
    pieces = [text[start:end] for start, end in slices(text)]
    names = [n for n, known in rules.categories.items() if known.action == "hold"]
    later: WaybillError | None = None
    for by in settings.second:
        if not may_rise(verdict, rules):
            break
        when = settings.when_away if verdict.action == "allow" else None
        try:
            heard = await hear(by, text, pieces, names, ctx, when)
        except WaybillError as error:
            # Whoever is asked next may hold it, and then it waits for nobody.
            later = later or error
            heard = Heard(Vote(by=by, says="away", code=code_of(error.code)))
        verdict = raised(verdict, heard, rules)
    if not verdict.votes:
        return outcome
    if verdict.action == "allow":
        if later is not None and not any(vote.alarm for vote in verdict.votes):
            raise later
        code, why = await _unvoted(document, verdict, rules, settings)
        if not code:
            return Advance(verdict=verdict)
        verdict = verdict.model_copy(update={"action": "hold"})
    else:
        code, why = _code(verdict), "Read the text."
    by_rules = _why(first, rules) if first.action == "hold" else "Rules hold nothing."
    evidence = {
        "votes": [vote.model_dump(mode="json") for vote in verdict.votes],
        "excerpts": excerpts(text, verdict.spans),
    }
    why = f"{by_rules} Second opinions: {said(verdict.votes)}. {why}"
    return _held(verdict, code, why, evidence, rules, settings)


def _held(
    verdict: Verdict,
    code: str,
    why: str,
    evidence: dict[str, Any],
    rules: Rulebook,
    settings: ModerationSettings,
) -> Hold:
    """A hold; what is grave stands in the line of its role."""
    verdict.grave = any(_is_grave(name, rules, settings) for name in verdict.categories)
    there = verdict.model_dump(mode="json", exclude={"votes"})
    return Hold(
        code,
        why + WHO_ANSWERS * verdict.grave,
        # Nobody lets it pass by one word too few: who answers must be said.
        needs=("answer_by",) if verdict.grave else (),
        role=settings.grave_role if verdict.grave else "",
        within_s=settings.grave_within_s if verdict.grave else None,
        evidence={"verdict": there, **evidence},
        verdict=verdict,
    )


async def _unvoted(
    document: Document, verdict: Verdict, rules: Rulebook, settings: ModerationSettings
) -> tuple[str, str]:
    """Code and reason of the hold of a text that nobody holds; "" where it goes on."""
    if any(vote.alarm for vote in verdict.votes):
        return "SECOND_OPINION_VOID", "An answer that is refused asks for a person."
    if all(vote.says == "pass" for vote in verdict.votes):
        return "", ""
    match settings.when_away:
        case WhenAway.SAMPLE:
            return "", ""
        case WhenAway.WAIT:
            return "SECOND_OPINION_AWAY", "Waiting brings no vote."
        case WhenAway.HOLD | None:
            strict = await _assess_slices(document.text, without_excuses(rules), ())
            doubts = ", ".join(doubts_of(verdict, strict, document.read))
            why = f"Rules are unsure of it: {doubts}."
            return ("SECOND_OPINION_AWAY", why) if doubts else ("", "")
        case _:
            assert_never(settings.when_away)


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
    names = sorted(ranks, key=lambda name: (*(-n for n in ranks[name]), name))
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


def _is_grave(name: str, rules: Rulebook, settings: ModerationSettings) -> bool:
    known = rules.categories.get(name)
    grave = known is not None and known.severity >= settings.grave_from
    return grave and action_of(name, rules) == "hold"


def _notes(verdict: Verdict, categories: Collection[str]) -> list[str]:
    """What whoever answers should know: the rules of these categories that matched."""
    return sorted({s.rule for s in verdict.spans if s.category in categories})


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
