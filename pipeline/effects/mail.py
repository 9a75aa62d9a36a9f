"""
Effects as e-mail.

A mail server does not tell whether it has a message already: class C.  What is certain
is told apart from what is not by the moment at which it went wrong: until the text was
sent, nothing has happened.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from typing import Any, NamedTuple, Protocol

import aiosmtplib
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from pipeline.calls import Moment
from pipeline.effects.declared import SmtpSpec
from pipeline.effects.sink import Confirmed, NotSent, Outcome, Parcel, Refused, Unknown
from pipeline.errors import WaybillError
from pipeline.stage import Artifacts

LINE = r"^[^\r\n\x00]*$"
ADDRESS = r"^[^\s@<>,;:\"\\]+@[^\s@<>,;:\"\\]+$"
TO_MAX = 50
OURS_AGAIN_S = 60.0


class Mail(BaseModel):
    """An e-mail as a stage plans it; its artifacts are attached by their names."""

    model_config = ConfigDict(
        extra="forbid", hide_input_in_errors=True, defer_build=True
    )

    to: str | list[str]
    subject: str = Field(pattern=LINE, max_length=500)
    text: str = Field(max_length=1_000_000)
    html: str = Field(default="", max_length=1_000_000)
    reply_to: str = Field(default="", pattern=f"^$|{ADDRESS}")


class Ready(NamedTuple):
    """A message on its way."""

    to: list[str]
    text: bytes


class Connection(Protocol):
    """What is used of `aiosmtplib.SMTP`."""

    async def connect(self) -> Any: ...
    async def mail(self, sender: str) -> Any: ...
    async def rcpt(self, recipient: str) -> Any: ...
    async def data(self, message: bytes) -> Any: ...
    async def quit(self) -> Any: ...
    def close(self) -> None: ...


class SmtpSink:
    """
    Sends effects as e-mail, a connection each.

    Args:
        password: Finds the password, of a tenant or else of the service.
        connect: Makes a connection that is not open yet.
    """

    together = 1

    def __init__(
        self,
        spec: SmtpSpec,
        artifacts: Artifacts,
        password: Callable[[str, str], SecretStr],
        connect: Callable[..., Connection] = aiosmtplib.SMTP,
    ) -> None:
        self.name, self.facts = spec.name, spec.facts
        self.at_once, self.timeout_s = spec.at_once, spec.timeout_s
        self._spec = spec
        self._artifacts = artifacts
        self._password = password
        self._connect = connect

    def __repr__(self) -> str:
        return f"<SmtpSink {self.name} by {self._spec.host}:{self._spec.port}>"

    async def send(self, parcels: Sequence[Parcel], begin: Moment) -> list[Outcome]:
        """Hand it to the server."""
        [parcel] = parcels
        try:
            ready = await self._written(parcel)
            connection = self._connection(parcel.effect.tenant)
            await begin()
        except (ValidationError, ValueError) as error:
            return [Refused(f"BAD_MAIL: {_where(error)}")]
        except WaybillError as error:
            return [NotSent(f"{error.code}: {error.message}")]
        try:
            return [await self._handed(connection, ready)]
        finally:
            connection.close()

    async def ask(self, parcel: Parcel) -> Outcome:
        """Nobody could say."""
        return Unknown("a mail server cannot be asked")

    def _connection(self, tenant: str) -> Connection:
        spec = self._spec
        password = self._password(spec.password, tenant) if spec.password else None
        return self._connect(
            hostname=spec.host,
            port=spec.port,
            username=spec.username or None,
            password=password.get_secret_value() if password else None,
            use_tls=spec.tls == "tls",
            start_tls=spec.tls == "starttls",
            timeout=self.timeout_s,
        )

    async def _handed(self, connection: Connection, ready: Ready) -> Outcome:
        try:
            await connection.connect()
            await connection.mail(self._spec.sender)
        except aiosmtplib.SMTPResponseException as error:
            # Our name, password or sender: no fault of this one.
            return NotSent(_no(error), OURS_AGAIN_S)
        except (aiosmtplib.SMTPException, OSError) as error:
            return NotSent(f"SMTP_DOWN: {type(error).__name__}")
        try:
            for to in ready.to:
                await connection.rcpt(to)
        except aiosmtplib.SMTPResponseException as error:
            return _by_code(error)
        except (aiosmtplib.SMTPException, OSError) as error:
            return NotSent(f"SMTP_DOWN: {type(error).__name__}")
        try:
            said = await connection.data(ready.text)
        except aiosmtplib.SMTPResponseException as error:
            return _by_code(error)
        except (aiosmtplib.SMTPException, OSError) as error:
            return Unknown(f"SMTP_LOST: {type(error).__name__} after the text was sent")
        return Confirmed({"status": said.code})

    async def _written(self, parcel: Parcel) -> Ready:
        """
        The message, the same each time.

        Raises:
            ValueError: what was planned is no e-mail.
        """
        effect = parcel.effect
        mail = Mail.model_validate(parcel.payload)
        to = [mail.to] if isinstance(mail.to, str) else mail.to
        if not 1 <= len(to) <= TO_MAX:
            raise ValueError(f"it goes to 1 to {TO_MAX} addresses")
        domain = self._spec.sender.rpartition("@")[2]
        message = EmailMessage(policy=WIRE)
        message["From"] = _address(self._spec.sender)
        message["To"] = [_address(each) for each in to]
        message["Subject"] = mail.subject
        message["Date"] = effect.planned_at
        message["Message-ID"] = f"<{effect.key}@{domain}>"
        if mail.reply_to:
            message["Reply-To"] = _address(mail.reply_to)
        message.set_content(mail.text)
        if mail.html:
            message.add_alternative(mail.html, subtype="html")
        for name, artifact in effect.artifacts.items():
            data = await self._artifacts.get(artifact)
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            main, _, sub = kind.partition("/")
            message.add_attachment(data, maintype=main, subtype=sub, filename=name)
        return Ready(to, _bounded(message, effect.key))


def _address(text: str) -> Address:
    """
    One plain address: nothing in it begins another header, or names another one.

    Raises:
        ValueError: it is none.
    """
    if not text.isprintable() or text.count("@") != 1 or set(text) & set(' <>,;:"\\'):
        raise ValueError("an address is of the form name@domain")
    return Address(addr_spec=text)


def _bounded(message: EmailMessage, key: str) -> bytes:
    """Its bytes; the boundaries between its parts are told by its key alone."""
    for number, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_{number}_{key}")
    return message.as_bytes()


def _by_code(error: aiosmtplib.SMTPResponseException) -> Outcome:
    """A server that says no has not taken it: for ever, or for now."""
    refused = 500 <= error.code < 600
    return Refused(_no(error)) if refused else NotSent(_no(error))


def _no(error: aiosmtplib.SMTPResponseException) -> str:
    return f"SMTP_{error.code}: the server says no"


def _where(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}"
    return str(error)
