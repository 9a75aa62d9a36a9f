"""
What votes make of a verdict: they raise it, and nothing here can lower one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from stages.document import PageText, Verdict, Vote
from stages.rules.rulebook import Rulebook
from stages.rules.voting import Heard

GRAVEST = 5  # the severity over which there is none
UNKNOWN = 3  # the severity of what no rule file speaks of; arbitrary
DOUBTED_BELOW = 92  # confidence of a page; as `doubt_below` of the ocr stage
NAMED_MAX = 5  # categories of a vote in a hold's reason


def severity_of(category: str, rules: Rulebook) -> int:
    """How grave it is that somebody voted for this category."""
    known = rules.categories.get(category)
    return known.severity if known else UNKNOWN


def may_rise(verdict: Verdict, rules: Rulebook) -> bool:
    """Whether a vote could make more of it: it is not blocked, nor held as gravest."""
    if verdict.action == "allow":
        return True
    known = [rules.categories.get(name) for name in verdict.categories]
    voted = {name for vote in verdict.votes for name in vote.categories}
    gravest = [severity_of(name, rules) for name in voted] + [
        one.severity for one in known if one and one.action == "hold"
    ]
    return verdict.action == "hold" and max(gravest, default=0) < GRAVEST


def raised(verdict: Verdict, heard: Heard, rules: Rulebook) -> Verdict:
    """The verdict with one more vote, and with what it raises."""
    vote = heard.vote
    votes = [*verdict.votes, vote]
    if vote.says != "hold":
        return verdict.model_copy(update={"votes": votes})
    voted = {name for one in votes for name in one.categories}
    ranks: dict[str, tuple[bool, int]] = {}
    for name in (*verdict.categories, *vote.categories):
        known = rules.categories.get(name)
        holds = name in voted or known is None or known.action != "allow"
        # Personal data is no rule file's: it is held, and not for an alarm.
        severity = severity_of(name, rules) if known or name in voted else 1
        ranks[name] = (holds, severity)
    spans = [*verdict.spans, *heard.spans]
    return verdict.model_copy(
        update={
            "action": "block" if verdict.action == "block" else "hold",
            "categories": sorted(ranks, key=lambda n: (*ranks[n], n), reverse=True),
            "spans": sorted(spans, key=lambda s: (s.start, s.end, s.category)),
            "votes": votes,
        }
    )


def said(votes: Sequence[Vote]) -> str:
    """Who voted what and what for, in words that are none of the text's."""
    return "; ".join(map(_said, votes))


def _said(vote: Vote) -> str:
    match vote.says:
        case "hold":
            more = len(vote.categories) - NAMED_MAX
            named = ", ".join(vote.categories[:NAMED_MAX])
            return f"{vote.by}: hold ({named}{f' and {more} more' * (more > 0)})"
        case "pass":
            return f"{vote.by}: pass"
        case _:
            return f"{vote.by}: no vote ({vote.code})"


def without_excuses(rules: Rulebook) -> Rulebook:
    """The same rules, that take no excuse: what they hold more was nearly held."""
    kept = [n for n, trail in enumerate(rules.trails) if not trail.excuse]
    return replace(
        rules,
        trails=tuple(rules.trails[n] for n in kept),
        needs=tuple(rules.needs[n] for n in kept),
    )


def doubts_of(
    verdict: Verdict, strict: Verdict, pages: Sequence[PageText]
) -> Iterator[str]:
    """
    Why the rules are unsure of a text that they let pass, each in a word or two.

    Args:
        strict: What they make of it without their excuses.
    """
    if verdict.categories:
        yield f"noted: {', '.join(verdict.categories[:NAMED_MAX])}"
    if strict.action != "allow":
        yield "excused"
    if any(page.source == "ocr" and page.confidence < DOUBTED_BELOW for page in pages):
        yield "read doubtfully"
    if any(page.noticed for page in pages):
        yield "in another language"
