"""What a model's answer says that it took: each token once, and no lies."""

from typing import Any

import pytest

from pipeline.calls import Kind, Usage
from pipeline.vendors.usage import Said, said_in


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (
            "openai",
            {
                "model": "small-2026",
                "choices": [{"finish_reason": "length"}],
                "usage": {
                    "prompt_tokens": 100,
                    "completion_tokens": 50,
                    "total_tokens": 150,
                    "prompt_tokens_details": {"cached_tokens": 60},
                    "completion_tokens_details": {"reasoning_tokens": 20},
                },
            },
            Said(
                Usage(
                    input_tokens=40,
                    cached_input_tokens=60,
                    output_tokens=30,
                    reasoning_tokens=20,
                ),
                "small-2026",
                "length",
            ),
        ),
        (
            "openai",
            {
                "model": "m",
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
                "usage": {
                    "input_tokens": 10,
                    "input_tokens_details": {"cached_tokens": 1},
                    "output_tokens": 5,
                    "output_tokens_details": {"reasoning_tokens": 4},
                },
            },
            Said(
                Usage(
                    input_tokens=9,
                    cached_input_tokens=1,
                    output_tokens=1,
                    reasoning_tokens=4,
                ),
                "m",
                "max_output_tokens",
            ),
        ),
        (
            "openai",
            {"model": "embed", "usage": {"prompt_tokens": 8, "total_tokens": 8}},
            Said(Usage(input_tokens=8), "embed", ""),
        ),
        (
            "anthropic",
            {
                "model": "c",
                "stop_reason": "end_turn",
                "usage": {
                    "input_tokens": 7,
                    "cache_read_input_tokens": 100,
                    "cache_creation_input_tokens": 30,
                    "output_tokens": 9,
                },
            },
            Said(
                Usage(input_tokens=37, cached_input_tokens=100, output_tokens=9),
                "c",
                "end_turn",
            ),
        ),
        ("http", {"usage": {"prompt_tokens": 1}}, Said()),
        ("openai", [1], Said()),
        ("openai", {"model": 7, "usage": None}, Said()),
        ("openai", {"model": "a\nb", "choices": []}, Said()),
    ],
)
def test_each_token_is_counted_once(kind: Kind, data: Any, said: Said) -> None:
    assert said_in(kind, data) == said


@pytest.mark.parametrize("lie", [-1, 10**12, "12", 1.5, True, [1], {"a": 1}])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("openai", "prompt_tokens"),
        ("openai", "completion_tokens"),
        ("anthropic", "input_tokens"),
        ("anthropic", "cache_read_input_tokens"),
        ("anthropic", "output_tokens"),
    ],
)
def test_a_count_that_cannot_be_is_not_believed(
    kind: Kind, name: str, lie: Any
) -> None:
    """Nor is any other of that answer: what it cost is not known."""
    good = {"prompt_tokens": 5, "completion_tokens": 5}
    if kind == "anthropic":
        good = {"input_tokens": 5, "output_tokens": 5}

    assert said_in(kind, {"usage": good}).usage is not None
    assert said_in(kind, {"usage": {**good, name: lie}}).usage is None


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}},
        {
            "prompt_tokens": 5,
            "completion_tokens": 1,
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        {"total_tokens": 5},
        {"prompt_tokens": 5},
        {"prompt_tokens": 5, "total_tokens": 105},
        {"input_tokens": 5},
        {},
    ],
)
def test_counts_that_contradict_each_other_are_not_believed(usage: Any) -> None:
    assert said_in("openai", {"usage": usage}).usage is None


def test_an_answer_that_was_left_out_of_the_count_was_not_free() -> None:
    """Nobody knows what it took: the most."""
    assert said_in("anthropic", {"usage": {"input_tokens": 5}}).usage is None
