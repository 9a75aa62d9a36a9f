"""Sinks over HTTP and SMTP: what they send, and what answers come to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any, NamedTuple

import aiosmtplib
import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from pipeline.calls import CallClass, Moment, Request
from pipeline.doubles import MemoryArtifacts
from pipeline.effects.declared import (
    CrmSpec,
    PostSpec,
    SmtpSpec,
    WebhookSpec,
    read_sinks,
)
from pipeline.effects.mail import SmtpSink
from pipeline.effects.opened import open_sinks
from pipeline.effects.posting import PostSink, WebhookSink, signed
from pipeline.effects.records import CrmSink
from pipeline.effects.sink import Absent, Confirmed, NotSent, Refused, Unknown
from pipeline.errors import Throttled, Usage
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.failures import CallError, failure
from pipeline.vendors.hearing import Reply
from tests.unit.effects.receivers import begun, parcel

SHOP = VendorSpec(name="shop", url="https://shop.example")
WHSEC = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ....").decode()


class Said(NamedTuple):
    vendor: str
    tenant: str
    request: Request
    key: str


class Calls:
    """Whoever calls vendors: gives these answers in turn."""

    def __init__(self, *answers: Any) -> None:
        self.made: list[Said] = []
        self._answers = list(answers)

    async def send(
        self,
        vendor: str,
        tenant: str,
        request: Request,
        *,
        key: str,
        timeout_s: float,
        begin: Moment | None = None,
    ) -> Reply:
        if begin is not None:
            await begin()
        self.made.append(Said(vendor, tenant, request, key))
        answer = self._answers.pop(0) if self._answers else Reply(200, "{}")
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Reply)
        return answer


def failed(
    kind: CallClass, *, in_doubt: bool = False, status: int = 0, **more: Any
) -> CallError:
    error = failure(kind, SHOP, "failed", hint="", in_doubt=in_doubt, **more)
    error.status = status
    return error


def secret(reference: str, tenant: str) -> SecretStr:
    assert (reference, tenant) == ("secret:hook", "acme")
    return SecretStr(WHSEC)


# -- posted ----------------------------------------------------------------------------


async def test_a_webhook_verifies_and_is_the_same_each_time() -> None:
    """By the official library; only its time and signature differ."""
    calls = Calls()
    times = [datetime.now(UTC), datetime.now(UTC)]
    spec = WebhookSpec(kind="webhook", name="hook", vendor="shop", secret="secret:hook")
    sink = WebhookSink(spec, calls, secret, times.pop)
    sent = parcel(7, {"n": 1}, artifacts={"reply": "a" * 64})

    [said] = await sink.send([sent], begun)
    await sink.send([sent], begun)

    one, two = [c.request for c in calls.made]
    assert one.content is not None
    assert one.content == two.content
    verified = Webhook(WHSEC).verify(one.content, dict(one.headers))
    assert verified["data"] == {"n": 1}
    assert verified["artifacts"] == {"reply": "a" * 64}
    assert one.headers["webhook-id"] == sent.effect.key == calls.made[0].key
    assert said == Confirmed({"status": 200, "data": {}})


async def test_a_signature_needs_its_secret() -> None:
    """Without one nothing is sent, and nothing is lost."""

    def nowhere(reference: str, tenant: str) -> SecretStr:
        raise Usage("there is no secret hook")

    calls = Calls()
    spec = WebhookSpec(kind="webhook", name="hook", vendor="shop", secret="secret:hook")

    [said] = await WebhookSink(spec, calls, nowhere).send([parcel()], begun)

    assert isinstance(said, NotSent)
    assert calls.made == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (failed(CallClass.TRANSIENT, in_doubt=True), Unknown),
        (failed(CallClass.GARBAGE, in_doubt=True), Unknown),
        (failed(CallClass.TRANSIENT), NotSent),
        (failed(CallClass.THROTTLED, retry_after_s=9), NotSent),
        (failed(CallClass.QUOTA), NotSent),
        (failed(CallClass.AUTH), NotSent),
        (failed(CallClass.PERMANENT, status=410), Refused),
        (Throttled("its breaker is open", code="VENDOR_OPEN"), NotSent),
    ],
)
async def test_a_failure_says_whether_it_happened(
    error: Exception, expected: type[Any]
) -> None:
    """Only what was answered by a no for ever is refused; a doubt stays one."""
    spec = PostSpec(kind="http", name="erp", vendor="shop", path="/jobs")

    [said] = await PostSink(spec, Calls(error)).send([parcel()], begun)

    assert isinstance(said, expected)
    if isinstance(said, NotSent) and getattr(error, "retry_after_s", None):
        assert said.after_s == 9


async def test_an_answer_that_says_yes_is_one_whatever_its_body() -> None:
    """Nested without end, no number, no text: it was done, and is not sent again."""
    spec = PostSpec(kind="http", name="erp", vendor="shop")
    picture = failed(CallClass.GARBAGE, in_doubt=True, status=200)
    calls = Calls(Reply(201, "[" * 100_000), Reply(200, "[NaN"), picture)
    sink = PostSink(spec, calls)

    said = [(await sink.send([parcel()], begun))[0] for _ in range(3)]

    assert said == [Confirmed({"status": status}) for status in (201, 200, 200)]


async def test_it_is_asked_for_by_its_key() -> None:
    """A 404 alone says that it was not done."""
    spec = PostSpec(kind="http", name="erp", vendor="shop", ask="/jobs/{key}")
    calls = Calls(
        Reply(200, '{"job": 1}'),
        failed(CallClass.PERMANENT, status=404),
        failed(CallClass.PERMANENT, status=400),
        failed(CallClass.TRANSIENT),
    )
    sink = PostSink(spec, calls)

    found = [await sink.ask(parcel(3)) for _ in range(4)]

    assert found[:2] == [Confirmed({"status": 200, "data": {"job": 1}}), Absent()]
    assert all(isinstance(f, Unknown | NotSent) for f in found[2:])
    assert calls.made[0].request.path == f"/jobs/{3:040x}"
    assert calls.made[0].request.method == "GET"
    assert calls.made[0].key == ""  # under it the vendor knows the request itself


async def test_who_cannot_be_asked_any_more_is_not() -> None:
    """Its sink lost `ask` meanwhile: the vendor's own address would say yes."""
    calls = Calls(Reply(200, "{}"))
    spec = PostSpec(kind="http", name="erp", vendor="shop", dedupes=True)

    assert isinstance(await PostSink(spec, calls).ask(parcel(3)), Unknown)
    assert calls.made == []


# -- records ---------------------------------------------------------------------------

YES = Confirmed({})
CRM = CrmSpec(
    kind="crm", name="crm", vendor="shop", object="Case", external_id="Key__c"
)


async def test_records_are_written_by_external_id_each_with_its_outcome() -> None:
    """One call; the key is the id, unless the stage named one."""
    lock = {"statusCode": "UNABLE_TO_LOCK_ROW", "message": "secret text", "fields": []}
    bad = {"statusCode": "INVALID_FIELD", "message": "secret text", "fields": ["Odd"]}
    calls = Calls(
        Reply(
            200,
            [
                {"id": "001", "success": True, "errors": [], "created": True},
                {"success": False, "errors": [lock]},
                {"success": False, "errors": [bad]},
                {"odd": 1},
            ],
        )
    )
    sent = [parcel(1, {"Subject": "x"}), parcel(2, {"Key__c": "mine"})]
    sent += [parcel(3), parcel(4)]

    said = await CrmSink(CRM, calls).send(sent, begun)

    [call] = calls.made
    assert call.request.method == "PATCH"
    assert call.request.path.endswith("/composite/sobjects/Case/Key__c")
    assert call.request.json["allOrNone"] is False
    assert [r["Key__c"] for r in call.request.json["records"]] == [
        f"{1:040x}",
        "mine",
        f"{3:040x}",
        f"{4:040x}",
    ]
    assert call.request.json["records"][0]["attributes"] == {"type": "Case"}
    assert said[0] == Confirmed({"id": "001", "created": True})
    assert [type(s) for s in said[1:]] == [NotSent, Refused, Unknown]
    assert said[2] == Refused("INVALID_FIELD: the record is refused for Odd")


async def test_a_lost_collection_is_lost_for_each() -> None:
    """And one that answers for fewer records than were sent."""
    sent = [parcel(1), parcel(2)]
    short = Reply(200, [{"success": True}])
    for answer in (failed(CallClass.TRANSIENT, in_doubt=True), short):
        said = await CrmSink(CRM, Calls(answer)).send(sent, begun)
        assert [type(s) for s in said] == [Unknown, Unknown]


async def test_a_record_that_spoils_its_collection_is_refused_alone() -> None:
    """Where the whole is refused for one of them the others are sent without it."""

    class OneBad(Calls):
        async def send(
            self, vendor: str, tenant: str, request: Request, **more: Any
        ) -> Reply:
            records = request.json["records"]
            if any(record.get("Odd") for record in records):
                raise failed(CallClass.PERMANENT, status=400)
            self.made.append(Said(vendor, tenant, request, more["key"]))
            return Reply(200, [{"success": True}] * len(records))

    sent = [parcel(n, {"Odd": n == 77}) for n in range(1, 201)]
    calls = OneBad()

    said = await CrmSink(CRM, calls).send(sent, begun)

    refused = [p.payload for p, one in zip(sent, said, strict=True) if one != YES]
    assert refused == [{"Odd": True}]
    assert isinstance(said[76], Refused)
    assert sum(len(c.request.json["records"]) for c in calls.made) == 199


async def test_of_records_that_are_all_bad_some_wait() -> None:
    """Who refuses everything is not asked without end."""
    calls = Calls(*[failed(CallClass.PERMANENT, status=400) for _ in range(40)])

    said = await CrmSink(CRM, calls).send([parcel(n) for n in range(1, 201)], begun)

    assert len(calls.made) == 40
    assert {type(one) for one in said} == {Refused, NotSent}


async def test_an_answer_of_the_wrong_shape_spoils_no_other() -> None:
    """`errors` that are a number, and fields that are one."""
    odd = [
        {"success": False, "errors": 7},
        {"success": False, "errors": [{"fields": 1}]},
    ]
    calls = Calls(Reply(200, [*odd, {"success": True}]))

    said = await CrmSink(CRM, calls).send([parcel(1), parcel(2), parcel(3)], begun)

    assert [type(s) for s in said] == [Refused, Refused, Confirmed]


async def test_one_record_is_not_twice_in_a_collection() -> None:
    """Nor are two tenants in one."""
    calls = Calls(Reply(200, [{"success": True}]), Reply(200, [{"success": True}]))
    same = [parcel(n, {"Key__c": "mine"}) for n in (1, 2)]

    said = await CrmSink(CRM, calls).send([*same, parcel(3, tenant="other")], begun)

    assert [type(s) for s in said] == [Confirmed, NotSent, Confirmed]
    assert [c.tenant for c in calls.made] == ["acme", "other"]


# -- mail ------------------------------------------------------------------------------


class Server:
    """A mail server: `fails` names a command, and what it answers."""

    def __init__(self, **fails: Exception) -> None:
        self.fails = fails
        self.taken: list[bytes] = []
        self.to: list[str] = []
        self.closed = 0
        self.options: dict[str, Any] = {}

    def __call__(self, **options: Any) -> Server:
        self.options = options
        return self

    def _maybe(self, command: str) -> None:
        if command in self.fails:
            raise self.fails[command]

    async def connect(self) -> None:
        self._maybe("connect")

    async def mail(self, sender: str) -> None:
        self._maybe("mail")

    async def rcpt(self, recipient: str) -> None:
        self._maybe("rcpt")
        self.to.append(recipient)

    async def data(self, message: bytes) -> Any:
        self._maybe("data")
        self.taken.append(message)
        return aiosmtplib.SMTPResponse(250, "queued")

    async def quit(self) -> None:
        pass

    def close(self) -> None:
        self.closed += 1


MAIL = {"to": "ann@example.org", "subject": "Ihr Schreiben — 请", "text": "Guten Tag"}


def mailing(server: Server, **more: Any) -> SmtpSink:
    spec = SmtpSpec(kind="smtp", name="mail", host="mx", sender="me@example.com")
    return SmtpSink(spec.model_copy(update=more), MemoryArtifacts(), secret, server)


async def test_a_mail_is_the_same_each_time_and_named_by_its_key() -> None:
    """With its text, in any script, and what is attached."""
    server = Server()
    sink = mailing(server)
    sha = await sink._artifacts.put(b"%PDF-1.7 it")
    sent = parcel(5, {**MAIL, "html": "<p>x"}, artifacts={"reply.pdf": sha})

    [said] = await sink.send([sent], begun)
    await sink.send([sent], begun)

    assert said == Confirmed({"status": 250})
    assert server.taken[0] == server.taken[1]
    found: Any = message_from_bytes(server.taken[0], policy=default)
    assert found["Message-ID"] == f"<{5:040x}@example.com>"
    assert found["Subject"] == MAIL["subject"]
    assert [a.get_filename() for a in found.iter_attachments()] == ["reply.pdf"]
    assert server.to == ["ann@example.org"] * 2
    assert server.options["start_tls"] is True
    assert server.closed == 2


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "x\r\nBcc: eve@example.org"},
        {"subject": "x\ny"},
        {"to": "ann@example.org\r\nBcc: eve@example.org"},
        {"to": "ann@example.org, eve@example.org"},
        {"to": "Ann <ann@example.org>"},
        {"to": []},
        {"to": "nobody"},
        {"reply_to": "a@b\nX: y"},
        {"bcc": "eve@example.org"},
        {"text": None},
    ],
)
async def test_no_header_is_smuggled_in(change: dict[str, Any]) -> None:
    """Refused before anybody is called; the value is not told."""
    server = Server()

    [said] = await mailing(server).send([parcel(1, MAIL | change)], begun)

    assert isinstance(said, Refused)
    assert "eve@" not in said.why
    assert (server.taken, server.to) == ([], [])


def answered(code: int) -> Exception:
    return aiosmtplib.SMTPResponseException(code, "ann@example.org is odd")


@pytest.mark.parametrize(
    ("command", "error", "expected"),
    [
        ("connect", ConnectionRefusedError(), NotSent),
        ("connect", aiosmtplib.SMTPConnectError("x"), NotSent),
        ("connect", aiosmtplib.SMTPAuthenticationError(535, "x"), NotSent),
        ("mail", aiosmtplib.SMTPReadTimeoutError("x"), NotSent),
        ("rcpt", answered(550), Refused),
        ("rcpt", answered(451), NotSent),
        ("data", answered(554), Refused),
        ("data", answered(452), NotSent),
        ("data", aiosmtplib.SMTPServerDisconnected("x"), Unknown),
        ("data", aiosmtplib.SMTPReadTimeoutError("x"), Unknown),
        ("data", ConnectionResetError(), Unknown),
    ],
)
async def test_only_after_its_text_was_sent_a_mail_is_in_doubt(
    command: str, error: Exception, expected: type[Any]
) -> None:
    """Whatever went wrong before has done nothing; a no is a no."""
    server = Server(**{command: error})

    [said] = await mailing(server).send([parcel(1, MAIL)], begun)

    assert type(said) is expected
    assert "ann@" not in getattr(said, "why", "")
    assert server.closed == 1


# -- declared --------------------------------------------------------------------------

DECLARED = """
[sink.press]
kind = "folder"
path = "handed-over"
[sink.hook]
kind = "webhook"
vendor = "shop"
secret = "secret:hook"
[sink.erp]
kind = "http"
vendor = "shop"
ask = "/jobs/{key}"
[sink.plain]
kind = "http"
vendor = "shop"
irreversible = true
[sink.crm]
kind = "crm"
vendor = "shop"
object = "Case"
external_id = "Key__c"
[sink.mail]
kind = "smtp"
host = "mx.example.com"
sender = "me@example.com"
"""


def test_a_sinks_class_follows_from_its_kind(tmp_path: Path) -> None:
    """And every kind opens."""
    path = tmp_path / "vendors.toml"
    path.write_text(DECLARED)
    specs = read_sinks(path, frozenset({"shop"}))
    opened = open_sinks(
        specs, home=tmp_path, artifacts=MemoryArtifacts(), caller=Calls(), secret=secret
    )

    classes = {name: sink.facts.sink_class.value for name, sink in opened.items()}
    assert classes == {
        "press": "a",
        "hook": "a",
        "crm": "a",
        "erp": "b",
        "plain": "c",
        "mail": "c",
    }
    assert opened["plain"].facts.irreversible
    assert [sink.name for sink in opened.values()] == list(specs)
    assert read_sinks(tmp_path / "none.toml") == {}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[sink.x]\nkind = "odd"', "sink.x"),
        ('[sink.x]\nkind = "http"\nvendor = "none"', "'none'"),
        ('[sink.x]\nkind = "smtp"\nhost = "h"\nsender = "no"', "sender"),
        ('[sink.x]\nkind = "smtp"\nhost = "h"\nsender = "a@b"\npassword = "p"', "pass"),
        ('[sink.x]\nkind = "webhook"\nvendor = "shop"', "secret"),
        ('[sink.x]\nkind = "http"\nvendor = "shop"\nask = "/a/{id}"', "/jobs/{key}"),
        ('[sink.x]\nkind = "http"\nvendor = "shop"\nask = "{key}/{id}"', "{key}"),
        ("[sink.x", "cannot be read"),
    ],
)
def test_a_file_that_is_not_in_order_is_told(
    tmp_path: Path, text: str, named: str
) -> None:
    """By the key that is wrong."""
    path = tmp_path / "vendors.toml"
    path.write_text(text)

    with pytest.raises(Usage) as caught:
        read_sinks(path, frozenset({"shop"}))

    assert caught.value.code == "SINKS_FILE"
    assert named in caught.value.message
    assert json.dumps(caught.value.message)


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        ("\N{LATIN SMALL LETTER U WITH DIAERESIS}mlaut", None),
        ("whsec_" + base64.b64encode(b"k" * 24).decode(), b"k" * 24),
        ("plain words", None),
    ],
)
def test_a_delivery_is_signed_with_any_secret(secret: str, key: bytes | None) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)

    headers = signed(SecretStr(secret), "msg_1", at, b"{}")

    stamped = f"msg_1.{int(at.timestamp())}.".encode() + b"{}"
    mac = hmac.digest(key or secret.encode(), stamped, hashlib.sha256)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"


def test_nothing_is_signed_with_an_empty_key() -> None:
    with pytest.raises(Usage, match="empty") as raised:
        signed(SecretStr("whsec_"), "msg_1", datetime.now(UTC), b"{}")
    assert raised.value.code == "VENDOR_KEY"
