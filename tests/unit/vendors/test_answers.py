"""What a refusal means, whoever gives it."""

import json

import pytest

from pipeline.agents.shapes import said_of
from pipeline.calls import CallClass
from pipeline.messages import Asked, ModelRequest
from pipeline.vendors.answers import known_class, parsed, refusal
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.failures import CallPermanent, CallThrottled, CallTransient

CRM = VendorSpec(name="crm", url="https://crm.test", key="secret:crm")


@pytest.mark.parametrize(
    ("status", "wait_s", "text", "kind"),
    [
        (429, None, "", "throttled"),
        (429, None, '{"error": {"code": "insufficient_quota"}}', "quota"),
        (429, None, "You exceeded your current quota, check your billing", "quota"),
        (429, 3, '{"error": {"type": "rate_limit_error"}}', "throttled"),
        (402, None, "", "quota"),
        (403, None, '[{"errorCode": "REQUEST_LIMIT_EXCEEDED"}]', "quota"),
        (403, None, '{"reason": "userRateLimitExceeded"}', "throttled"),
        (403, None, '{"reason": "dailyLimitExceeded"}', "quota"),
        (403, None, "no such permission", "auth"),
        (400, None, "Rate limit reached", "throttled"),
        (400, None, "Your credit balance is too low", "quota"),
        (400, None, "maximum context length: token limit", "permanent"),
        (400, None, '[{"errorCode": "UNABLE_TO_LOCK_ROW"}]', "transient"),
        (401, None, "quota", "auth"),
        (503, 9, "", "throttled"),
        (503, None, "", "transient"),
        (529, None, '{"error": {"type": "overloaded_error"}}', "transient"),
        (500, None, "quota", "transient"),
        (501, None, "", "permanent"),
        (408, None, "", "transient"),
        (423, None, "", "transient"),
        (404, None, "", "permanent"),
        (409, None, "", "permanent"),
        (413, None, "", "permanent"),
        (302, None, "", "permanent"),
    ],
)
def test_what_a_refusal_means(
    status: int, wait_s: float | None, text: str, kind: str
) -> None:
    assert known_class(status, wait_s, text) == kind


def test_a_failure_knows_its_class_its_vendor_and_its_doubt() -> None:
    throttled = refusal(CRM, 429, 7, "")
    down = refusal(CRM, 502, None, "")
    auth = refusal(CRM, 401, None, "the key sk-1 is wrong")

    assert isinstance(throttled, CallThrottled)
    assert (throttled.retry_after_s, throttled.in_doubt) == (7, False)
    assert isinstance(down, CallTransient)
    assert (down.code, down.kind, down.in_doubt) == ("VENDOR_DOWN", "transient", True)
    assert isinstance(auth, CallPermanent)
    assert (auth.vendor, auth.kind) == ("crm", CallClass.AUTH)
    assert "secret:crm" in auth.hint
    assert "sk-1" not in f"{auth!r} {auth.hint}"


@pytest.mark.parametrize(
    ("status", "text", "code"),
    [
        (400, '{"error": {"code": "context_length_exceeded"}}', "MODEL_CONTEXT"),
        (400, "This model's maximum context length is 4096 tokens", "MODEL_CONTEXT"),
        (400, "prompt is too long: 207791 tokens > 200000 maximum", "MODEL_CONTEXT"),
        (400, "input length and `max_tokens` exceed context limit", "MODEL_CONTEXT"),
        (413, '{"error": {"type": "request_too_large"}}', "MODEL_CONTEXT"),
        (400, '{"error": {"code": "content_filter"}}', "MODEL_FILTER"),
        (400, "Output blocked by content filtering policy", "MODEL_FILTER"),
        (400, "Invalid schema for response_format", "VENDOR_REFUSED"),
        (404, "no such model", "VENDOR_REFUSED"),
    ],
)
def test_a_model_that_cannot_answer_this_is_told_from_a_bad_request(
    status: int, text: str, code: str
) -> None:
    """Another model may; of a CRM the same words mean nothing."""
    model = CRM.model_copy(update={"kind": "openai"})

    error = refusal(model, status, None, text)

    assert (error.code, error.kind) == (code, "permanent")
    assert text not in f"{error!r} {error.hint}"
    assert refusal(CRM, status, None, text).code == "VENDOR_REFUSED"


def test_the_vendors_own_words_go_before_what_is_known() -> None:
    spec = CRM.model_copy(
        update={
            "errors": {"500:E42": CallClass.PERMANENT, "429": CallClass.QUOTA},
        }
    )

    assert refusal(spec, 500, None, "… e42 …").kind == "permanent"
    assert refusal(spec, 500, None, "… e43 …").kind == "transient"
    assert refusal(spec, 429, None, "").kind == "quota"


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_key_that_stands_twice_in_a_call_reaches_who_vets_it(kind: str) -> None:
    """A vendor that decodes arguments for us hides it from nobody; also when kept."""
    twice = '{"to": "ann", "to": ["mallory", {"a": 1.5, "a": null}]}'
    said = {
        "anthropic": '{"content": [{"type": "tool_use", "name": "send", "input": %s}],'
        ' "stop_reason": "tool_use"}',
        "openai": '{"choices": [{"message": {"tool_calls": [{"function":'
        ' {"name": "send", "arguments": %s}}]}, "finish_reason": "tool_calls"}]}',
    }[kind]
    spec = VendorSpec(name="m", url="https://m.test", kind=kind)
    asked = ModelRequest(system="", messages=(Asked(text="go"),))

    data = json.loads(json.dumps(parsed((said % twice).encode(), spec)))

    [call] = said_of(kind, data, asked, 1).calls
    assert (call.name, call.arguments) == ("send", twice)
