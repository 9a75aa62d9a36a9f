"""
What a model's answer says that it took: disjoint counts, its name, why it stopped.

    OpenAI, chat        prompt_tokens hold the cached ones, completion_tokens the
                        reasoning ones
    OpenAI, responses   input_tokens and output_tokens hold them likewise
    Anthropic           input_tokens hold neither what was read from the cache nor
                        what was written to it; the latter counts as input here
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.calls import TOKENS_MAX, Kind, Usage

WORD_CHARS_MAX = 200


class Said(NamedTuple):
    """
    What an answer says of itself.

    Attributes:
        usage: None where it says nothing, or nothing that can be believed: then
            nobody knows what the call cost.
        model: The model that answered; "" where it says nothing.
        finish: Why it stopped, in the vendor's word.
    """

    usage: Usage | None = None
    model: str = ""
    finish: str = ""


def said_in(kind: Kind, data: Any) -> Said:
    """What the decoded answer of a vendor of this kind says of itself."""
    if not isinstance(data, dict) or kind == "http":
        return Said()
    counts = data.get("usage")
    read, why = _openai, _why(data)
    if kind == "anthropic":
        read, why = _anthropic, data.get("stop_reason")
    usage = read(counts) if isinstance(counts, dict) else None
    return Said(usage, _word(data.get("model")), _word(why))


def _openai(counts: dict[str, Any]) -> Usage | None:
    # Chat completions and responses count the same under two names.
    ask, answer = (
        ("input", "output") if "input_tokens" in counts else ("prompt", "completion")
    )
    asked = _count(counts, f"{ask}_tokens")
    written = _count(counts, f"{answer}_tokens")
    cached = _count(counts.get(f"{ask}_tokens_details"), "cached_tokens")
    thought = _count(counts.get(f"{answer}_tokens_details"), "reasoning_tokens")
    if asked is None or written is None or cached is None or thought is None:
        return None
    if f"{ask}_tokens" not in counts or cached > asked or thought > written:
        return None
    # Embeddings have no answer, and a total that says so; else it was left out.
    if f"{answer}_tokens" not in counts and counts.get("total_tokens") != asked:
        return None
    return Usage(
        input_tokens=asked - cached,
        cached_input_tokens=cached,
        output_tokens=written - thought,
        reasoning_tokens=thought,
    )


def _anthropic(counts: dict[str, Any]) -> Usage | None:
    asked = _count(counts, "input_tokens")
    kept = _count(counts, "cache_creation_input_tokens")
    cached = _count(counts, "cache_read_input_tokens")
    written = _count(counts, "output_tokens")
    if asked is None or kept is None or cached is None or written is None:
        return None
    if "input_tokens" not in counts or "output_tokens" not in counts:
        return None
    return Usage(
        input_tokens=asked + kept, cached_input_tokens=cached, output_tokens=written
    )


def _count(counts: Any, name: str) -> int | None:
    """A count, 0 where there is none; None for what is no count."""
    value = counts.get(name) if isinstance(counts, dict) else None
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= TOKENS_MAX:
        return None
    return value


def _why(data: dict[str, Any]) -> Any:
    match data:
        case {"choices": [{"finish_reason": why}, *_]}:
            return why
        case {"status": "incomplete", "incomplete_details": {"reason": why}}:
            return why
        case _:
            return data.get("status")


def _word(value: Any) -> str:
    """A name that can be stored and shown; "" for anything else."""
    if isinstance(value, str) and len(value) <= WORD_CHARS_MAX and value.isprintable():
        return value
    return ""
