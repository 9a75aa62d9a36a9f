"""What simulated vendors say, read by the official clients of the real ones."""

from __future__ import annotations

import base64
import re
import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import anthropic
import openai
import pytest
import requests
from pydantic import BaseModel
from pydantic_ai import Agent, UnexpectedModelBehavior
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from simple_salesforce import (  # type: ignore[attr-defined]  # its own __init__
    Salesforce,
    SalesforceExpiredSession,
    SalesforceMalformedRequest,
    SalesforceRefusedRequest,
    SalesforceResourceNotFound,
)
from standardwebhooks import Webhook, WebhookVerificationError

from loadtest.vendors.playing import Steered, playing

SECRET = f"whsec_{base64.b64encode(b'of this test, 24 bytes..').decode()}"
PIXEL = base64.b64encode(b"\xff\xd8 a small picture").decode()
ASK: Any = [{"role": "user", "content": "Which toys does Mia ask for?"}]


class Wish(BaseModel):
    """What a letter asks for."""

    toy: str
    age: int


@pytest.fixture(scope="module")
def world() -> Iterator[Steered]:
    """One world for all clients."""
    keys = {"secret": SECRET}
    vendors = {
        "llm": {"cached": 0.5, "reasoning": 0.25},
        "claude": {"cached": 0.5, "reasoning": 0.25},
        "crm": {"page_size": 150, "credential": "session-1"},
        "ocr": {**keys, "done_after_s": 0.0},
        "hook": keys,
    }
    with playing(vendors, for_s=120) as found:
        yield found


@pytest.fixture(autouse=True)
def fresh(world: Steered) -> None:
    """What one test set ends with it."""
    usual = {"script": [], "faults": {}, "limits": [], "api_max": 15_000}
    world.change(dict.fromkeys(("llm", "claude", "crm", "ocr"), usual))


@pytest.fixture
def gpt(world: Steered) -> Iterator[openai.OpenAI]:
    url = f"{world.url('llm')}/v1"
    with openai.OpenAI(api_key="sk-1", base_url=url, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(world: Steered) -> Iterator[anthropic.Anthropic]:
    url = world.url("claude")
    with anthropic.Anthropic(api_key="sk-2", base_url=url, max_retries=0) as client:
        yield client


# -- openai ---------------------------------------------------------------------------


def test_openai_reads_a_completion(gpt: openai.OpenAI) -> None:
    """Nothing is missing of a completion, and its figures agree."""
    said = gpt.chat.completions.create(model="small", messages=ASK)

    usage = said.usage
    assert said.model == "small"
    assert said.id.startswith("chatcmpl-")
    assert abs(said.created - datetime.now(UTC).timestamp()) < 60
    assert said.choices[0].finish_reason == "stop"
    assert "Mia" in (said.choices[0].message.content or "")
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens // 2
    assert usage.completion_tokens_details.reasoning_tokens == 25
    assert [model.object for model in gpt.models.list()] == ["model"]


def test_openai_parses_what_a_schema_asks_for(gpt: openai.OpenAI) -> None:
    """Structured output fits; a model may refuse, and may run out of tokens."""
    parse = gpt.chat.completions.parse

    said = parse(model="small", messages=ASK, response_format=Wish)
    with pytest.raises(openai.LengthFinishReasonError):
        parse(model="small", messages=ASK, response_format=Wish, max_tokens=3)

    assert isinstance(said.choices[0].message.parsed, Wish)


def test_openai_sees_a_refusal_and_a_filter(gpt: openai.OpenAI, world: Steered) -> None:
    """Each in its own place."""
    world.set("llm", script=["refusal", "filter"])

    refused = gpt.chat.completions.parse(
        model="small", messages=ASK, response_format=Wish
    )
    filtered = gpt.chat.completions.create(model="small", messages=ASK)

    assert refused.choices[0].message.refusal
    assert refused.choices[0].message.parsed is None
    assert filtered.choices[0].finish_reason == "content_filter"


def test_openai_is_called_back_by_tools(gpt: openai.OpenAI) -> None:
    """A tool is called once, with arguments of its schema; then comes the answer."""
    tool: Any = openai.pydantic_function_tool(Wish, name="note")
    asked = gpt.chat.completions.create(model="small", messages=ASK, tools=[tool])
    message = asked.choices[0].message
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    assert call.type == "function"
    told: Any = {"role": "tool", "tool_call_id": call.id, "content": "noted"}

    said = gpt.chat.completions.create(
        model="small", messages=[*ASK, message, told], tools=[tool]
    )

    assert asked.choices[0].finish_reason == "tool_calls"
    assert Wish.model_validate_json(call.function.arguments)
    assert said.choices[0].finish_reason == "stop"


def test_openai_shows_a_picture(gpt: openai.OpenAI) -> None:
    """A picture costs tokens; one that is none is refused."""

    def shown(data: str) -> Any:
        image = {"url": f"data:image/jpeg;base64,{data}", "detail": "high"}
        return [
            {"role": "user", "content": [{"type": "image_url", "image_url": image}]}
        ]

    said = gpt.chat.completions.create(model="small", messages=shown(PIXEL))
    with pytest.raises(openai.BadRequestError, match="invalid image"):
        gpt.chat.completions.create(model="small", messages=shown("?"))

    assert said.usage is not None
    assert said.usage.prompt_tokens > 500


def test_openai_hears_that_it_is_too_quick(gpt: openai.OpenAI, world: Steered) -> None:
    """429 with the time to wait, and what is left in headers."""
    world.set("llm", limits=[{"requests": "1/h", "tokens": "100000/h"}])

    first = gpt.chat.completions.with_raw_response.create(model="s", messages=ASK)
    with pytest.raises(openai.RateLimitError) as caught:
        gpt.chat.completions.create(model="s", messages=ASK)

    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert 0 < int(first.headers["x-ratelimit-remaining-tokens"]) < 100_000
    assert caught.value.code == "rate_limit_exceeded"
    assert 3500 < int(caught.value.response.headers["retry-after"]) <= 3600


def test_openai_retries_a_lost_reply_under_its_key(
    gpt: openai.OpenAI, world: Steered
) -> None:
    """The client's own retry is answered from memory: billed once."""
    world.reset()
    world.set("llm", script=["lost", "ok"])
    client = gpt.with_options(max_retries=1)
    key = {"idempotency-key": "letter-7"}

    client.chat.completions.create(model="small", messages=ASK, extra_headers=key)

    counts = world.counts("llm")
    assert (counts["accepted"], counts["repeated"], counts["billed"]) == (1, 1, 1)


def test_openai_moderates(world: Steered) -> None:
    """A result for each text."""
    url = f"{world.url('moderation')}/v1"
    with openai.OpenAI(api_key="sk-1", base_url=url) as client:
        found = client.moderations.create(input=["Dear Santa", "I will kill you"])

    assert [each.flagged for each in found.results] == [False, True]
    assert found.results[1].categories.violence
    assert found.results[1].category_scores.violence > 0.9


# -- anthropic ------------------------------------------------------------------------


def test_anthropic_reads_a_message(claude: anthropic.Anthropic) -> None:
    """Text, stop reason, and usage whose input holds no cached tokens."""
    said = claude.messages.create(model="c", max_tokens=100, messages=ASK)

    usage = said.usage
    assert said.content[0].type == "text"
    assert "Mia" in said.content[0].text
    assert (said.stop_reason, said.model) == ("end_turn", "claude-simulated")
    assert (usage.cache_read_input_tokens or 0) > 0
    assert usage.input_tokens - (usage.cache_read_input_tokens or 0) in (0, 1)
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 25


def test_anthropic_uses_tools_and_schemas(claude: anthropic.Anthropic) -> None:
    """Arguments of the tool's schema; parsed output of the model asked for."""
    tool: Any = {"name": "note", "input_schema": Wish.model_json_schema()}
    asked = claude.messages.create(
        model="c",
        max_tokens=100,
        messages=ASK,
        tools=[tool],
        tool_choice={"type": "tool", "name": "note"},
    )
    parsed = claude.messages.parse(
        model="c", max_tokens=100, messages=ASK, output_format=Wish
    )

    assert asked.stop_reason == "tool_use"
    assert asked.content[0].type == "tool_use"
    assert Wish.model_validate(asked.content[0].input)
    assert isinstance(parsed.parsed_output, Wish)


def test_anthropic_hears_limits_and_overload(
    claude: anthropic.Anthropic, world: Steered
) -> None:
    """Its own errors, in its own words, with its own headers."""
    world.set("claude", limits=[{"requests": "2/h"}], script=["error_529", "refusal"])

    def ask() -> Any:
        return claude.messages.create(model="c", max_tokens=100, messages=ASK)

    with pytest.raises(anthropic.APIStatusError) as overloaded:
        ask()
    refused = ask()
    with pytest.raises(anthropic.RateLimitError) as limited:
        ask()

    headers = limited.value.response.headers
    assert overloaded.value.status_code == 529
    assert overloaded.value.body["error"]["type"] == "overloaded_error"
    assert refused.stop_reason == "refusal"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert datetime.fromisoformat(headers["anthropic-ratelimit-requests-reset"])


# -- pydantic-ai ----------------------------------------------------------------------


async def test_an_agent_takes_both_models_at_their_word(world: Steered) -> None:
    """Typed output by a tool, usage counted: no field of an answer is missing."""
    async with (
        openai.AsyncOpenAI(api_key="1", base_url=f"{world.url('llm')}/v1") as gpt,
        anthropic.AsyncAnthropic(api_key="2", base_url=world.url("claude")) as claude,
    ):
        for model in (
            OpenAIChatModel("small", provider=OpenAIProvider(openai_client=gpt)),
            AnthropicModel("c", provider=AnthropicProvider(anthropic_client=claude)),
        ):
            text = await Agent(model).run("Dear Santa")
            typed = await Agent(model, output_type=Wish).run("Dear Santa")

            assert "Dear Santa" in text.output
            assert isinstance(typed.output, Wish)
            assert text.usage.output_tokens == 100


async def test_an_agent_notices_an_answer_that_does_not_fit(world: Steered) -> None:
    """A wrong schema is no answer, however often it comes."""
    world.set("llm", faults={"wrong_schema": 1})
    url = f"{world.url('llm')}/v1"
    async with openai.AsyncOpenAI(api_key="1", base_url=url) as gpt:
        provider = OpenAIProvider(openai_client=gpt)
        agent = Agent(OpenAIChatModel("small", provider=provider), output_type=Wish)

        with pytest.raises(UnexpectedModelBehavior):
            await agent.run("Dear Santa")


# -- simple-salesforce ----------------------------------------------------------------


class ToLoopback(requests.adapters.HTTPAdapter):
    """The client knows https and Salesforce's own hosts; here is neither."""

    def __init__(self, world: Steered) -> None:
        self.base = world.url("crm")
        super().__init__()

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        here = self.base.removeprefix("http://")
        url = request.url.replace(f"https://{here}", self.base)
        request.url = re.sub(r"https://[\w.]+\.salesforce\.com", self.base, url)
        return super().send(request, *args, **kwargs)


@pytest.fixture(scope="module")
def session(world: Steered) -> Iterator[requests.Session]:
    with requests.Session() as found:
        found.mount("https://", ToLoopback(world))
        yield found


@pytest.fixture(scope="module")
def crm(world: Steered, session: requests.Session) -> Salesforce:
    """Logged in by OAuth."""
    who = {"username": "u", "password": "p"}
    app = {"consumer_key": "k", "consumer_secret": "s"}
    return Salesforce(**who, **app, session=session)


def contact(number: int, **more: Any) -> dict[str, Any]:
    kind = {"attributes": {"type": "Contact"}}
    return {**kind, "Letter__c": f"L-{number}", "LastName": f"Child {number}", **more}


def upserted(crm: Salesforce, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    path = "composite/sobjects/Contact/Letter__c"
    body = {"allOrNone": False, "records": records}
    found: list[dict[str, Any]] = crm.restful(path, method="PATCH", json=body)
    return found


def test_salesforce_logs_in_in_each_of_its_ways(
    world: Steered, session: requests.Session
) -> None:
    """A user's password by SOAP, an app by OAuth, a session; a wrong one is told."""
    by_soap = Salesforce(
        username="u", password="p", security_token="t", session=session
    )
    by_app = Salesforce(
        consumer_key="k", consumer_secret="s", domain="acme.my", session=session
    )
    host = world.url("crm").removeprefix("http://")
    wrong = Salesforce(session_id="stale", instance=host, session=session)

    for client in (by_soap, by_app):
        assert client.session_id == "session-1"
    with pytest.raises(SalesforceExpiredSession):
        wrong.limits()


def test_salesforce_upserts_by_external_id(crm: Salesforce) -> None:
    """Made the first time, changed the second, found by either id, and deleted."""
    made = crm.Contact.upsert("Letter__c/A%2F1", {"LastName": "Mia"})
    changed = crm.Contact.upsert("Letter__c/A%2F1", {"LastName": "Mia B."})
    found = crm.Contact.get_by_custom_id("Letter__c", "A/1")

    assert (made, changed) == (201, 200)
    assert found["LastName"] == "Mia B."
    assert crm.Contact.get(found["Id"])["Letter__c"] == "A/1"
    assert crm.Contact.update(found["Id"], {"Email": "m@example.com"}) == 204
    assert crm.Contact.delete(found["Id"]) == 204
    with pytest.raises(SalesforceResourceNotFound):
        crm.Contact.get(found["Id"])
    assert crm.Lead.create({"Company": "ACME"})["success"]


def test_salesforce_lists_and_pages(crm: Salesforce, world: Steered) -> None:
    """Collections of 200 with an outcome each; every row comes back, page by page."""
    world.reset()
    for start in (0, 200):
        outcomes = upserted(crm, [contact(start + n) for n in range(200)])
        assert len(outcomes) == 200
        assert all(each["success"] and each["created"] for each in outcomes)

    first = crm.query("SELECT Id, Letter__c FROM Contact")
    every = crm.query_all("SELECT Id, Letter__c FROM Contact")
    some = crm.query(
        "SELECT Letter__c FROM Contact WHERE Letter__c IN ('L-3', 'L-5')"
        " AND LastName != 'Child 5' ORDER BY Letter__c LIMIT 9"
    )

    assert (first["totalSize"], len(first["records"]), first["done"]) == (
        400,
        150,
        False,
    )
    assert len({row["Letter__c"] for row in every["records"]}) == 400
    assert every["done"]
    assert [row["Letter__c"] for row in some["records"]] == ["L-3"]
    assert crm.query("SELECT count() FROM Contact")["totalSize"] == 400
    fields = {field["name"]: field for field in crm.Contact.describe()["fields"]}
    assert fields["Letter__c"]["externalId"]
    assert "Contact" in [each["name"] for each in crm.describe()["sobjects"]]
    assert world.counts("crm")["taken"] == world.counts("crm")["keys"] == 400


def test_salesforce_says_what_became_of_each_record(
    crm: Salesforce, world: Steered
) -> None:
    """Some are written and some are not; all or none undoes the good ones."""
    world.reset()
    bad = contact(2, Email="nobody")
    twins = [contact(3), contact(3)]
    outcomes = upserted(crm, [contact(1), bad, *twins])
    world.set("crm", script=["locked"])
    locked = upserted(crm, [contact(4), contact(5)])
    path = "composite/sobjects/Contact/Letter__c"
    body = {"allOrNone": True, "records": [contact(6), bad]}
    none = crm.restful(path, method="PATCH", json=body)

    def codes(found: list[dict[str, Any]]) -> list[str]:
        return [e["errors"][0]["statusCode"] if e["errors"] else "" for e in found]

    twice = "DUPLICATE_VALUE"
    assert codes(outcomes) == ["", "INVALID_EMAIL_ADDRESS", twice, twice]
    assert codes(locked) == ["UNABLE_TO_LOCK_ROW", ""]
    assert codes(none) == [
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "INVALID_EMAIL_ADDRESS",
    ]
    assert crm.query("SELECT count() FROM Contact")["totalSize"] == 2
    with pytest.raises(SalesforceMalformedRequest, match="LIMIT_EXCEEDED"):
        upserted(crm, [contact(n) for n in range(201)])


def test_salesforce_counts_its_calls(crm: Salesforce, world: Steered) -> None:
    """Each answer says how many are used; what is over is a 403 and changes nothing."""
    world.reset()
    world.set("crm", api_max=2)

    crm.limits()
    upserted(crm, [contact(1)])
    with pytest.raises(SalesforceRefusedRequest, match="REQUEST_LIMIT_EXCEEDED"):
        upserted(crm, [contact(2)])

    counts = world.counts("crm")
    assert crm.api_usage["api-usage"].used == 2
    assert crm.api_usage["api-usage"].total == 2
    assert (counts["throttled"], counts["taken"]) == (1, 1)


# -- standardwebhooks -----------------------------------------------------------------


class Receiver(BaseHTTPRequestHandler):
    """Takes whatever comes."""

    server: Heard

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {k.lower(): v for k, v in self.headers.items()}
        self.server.came.append((headers, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Heard(HTTPServer):
    """A receiver of callbacks, and what came, in turn."""

    timeout = 10

    def __init__(self) -> None:
        self.came: list[tuple[dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), Receiver)


@pytest.fixture
def heard() -> Iterator[Heard]:
    with Heard() as found:
        yield found


def test_a_callback_verifies(world: Steered, heard: Heard) -> None:
    """Signed, sent twice where the vendor errs; a forged one does not verify."""
    world.set("ocr", script=["duplicate", "forged"])
    url = f"http://127.0.0.1:{heard.server_port}/signals"
    for reference in ("item-1", "item-2"):
        asked = {"callback_url": url, "reference": reference, "text": "Dear Santa"}
        job = requests.post(f"{world.url('ocr')}/v1/jobs", json=asked, timeout=10)
        assert job.status_code == 202
    while len(heard.came) < 3:
        heard.handle_request()

    hook = Webhook(SECRET)
    right, wrong = [], 0
    for headers, body in heard.came:
        try:
            right.append((headers["webhook-id"], hook.verify(body, headers)))
        except WebhookVerificationError:
            wrong += 1
    polled = requests.get(job.headers["location"], timeout=10).json()

    assert wrong == 1
    assert right[0] == right[1]
    assert right[0][1]["data"]["reference"] == "item-1"
    assert polled["result"]["pages"][0]["text"] == "Dear Santa"


def test_a_webhook_of_ours_is_taken_once(world: Steered) -> None:
    """Signed by the official library; again is known, and not signed is refused."""
    world.reset()
    url, body = world.url("hook"), '{"type":"letter.printed"}'
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, body),
    }
    forged = {**headers, "webhook-id": "msg_2"}

    statuses = [
        requests.post(url, data=body, headers=each, timeout=10).status_code
        for each in (headers, headers, forged)
    ]

    assert statuses == [204, 204, 401]
    assert world.rows("select key from taken where what = 'event'") == [("msg_1",)]


# -- mail -----------------------------------------------------------------------------


def test_a_mail_arrives_by_smtp(world: Steered) -> None:
    """It is in the box; a reply that is lost leaves one there as well."""
    world.reset()
    world.set("mail", script=["ok", "lost", "error_500"])
    mail = EmailMessage()
    mail["from"], mail["to"] = "waybill@example.com", "mia@example.com"
    mail["subject"], mail["message-id"] = "Grüße", "<letter-1@example.com>"
    mail.set_content("Dear Mia")

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", world.smtp("mail"), timeout=10) as client:
            client.send_message(mail)

    send()
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send()
    with pytest.raises(smtplib.SMTPDataError) as later:
        send()

    box = requests.get(f"{world.url('mail')}/messages", timeout=10).json()["messages"]
    assert later.value.smtp_code == 451
    assert [each["subject"] for each in box] == ["Grüße", "Grüße"]
    assert world.counts("mail")["keys"] == 1
