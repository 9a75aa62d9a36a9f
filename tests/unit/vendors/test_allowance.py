"""What headers say is left."""

from datetime import UTC, datetime

import pytest

from pipeline.vendors.allowance import Allowance, allowances

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        (
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-limit-tokens": "150000",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            [
                Allowance("requests", 59, 60, 1),
                Allowance("tokens", 149984, 150000, 360),
            ],
        ),
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-27T12:00:20Z",
                "anthropic-ratelimit-output-tokens-remaining": "8000",
            },
            [Allowance("requests", 0, 50, 20), Allowance("output-tokens", 8000)],
        ),
        (
            {"sforce-limit-info": "api-usage=18/5000; per-app-api-usage=17/250(app)"},
            [Allowance("requests", 4982, 5000)],
        ),
        ({"sforce-limit-info": "api-usage=9/5"}, [Allowance("requests", 0, 5)]),
        (
            {"x-ratelimit-remaining": "3", "x-ratelimit-reset": "1795780810"},
            [Allowance("requests", 3, None, 10)],
        ),
        (
            {"ratelimit-remaining": "3", "ratelimit-reset": "7"},
            [Allowance("requests", 3, None, 7)],
        ),
        ({}, []),
        ({"x-ratelimit-remaining-requests": "-1"}, []),
        ({"x-ratelimit-remaining-requests": "many"}, []),
        ({"x-ratelimit-remaining-requests": "1e9"}, []),
        ({"sforce-limit-info": "api-usage=a/b"}, []),
    ],
)  # fmt: skip
def test_what_is_left(headers: dict[str, str], left: list[Allowance]) -> None:
    assert list(allowances(headers, NOW)) == left


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("20ms", 0.02),
        ("1m26.5s", 86.5),
        ("1h2m3s", 3723),
        ("0s", 0),
        ("120", 120),
        ("2026-11-27T13:00:00+01:00", 0),
        ("2026-11-27T12:00:05", 5),
        ("9999999999s", None),
        ("99999999s", 86_400),
        ("2099-01-01T00:00:00Z", 86_400),
        ("soon", None),
        ("1s1", None),
        ("", None),
    ],
)
def test_when_there_is_more(reset: str, seconds: float | None) -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": reset,
    }

    (found,) = allowances(headers, NOW)

    assert found.resets_in_s == (
        None if seconds is None else pytest.approx(seconds, abs=1e-6)
    )
