"""
A mail server: SMTP on a port of its own, and HTTP to look into its box.

What comes by SMTP goes the way of every other call, so that limits, faults and
outages strike it too, and the book counts it; SMTP never knows a mail by its key.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import default
from typing import Any, cast

import anyio
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from loadtest.vendors.book import Taken
from loadtest.vendors.kinds import Call, Plain, Reply
from loadtest.vendors.player import Decided, Player
from loadtest.vendors.settings import Play

BOX_MAX = 1000  # mails that can be looked at
MAIL_BYTES_MAX = 32 << 20
DELIVERED = "DATA"  # the method of a mail that came by SMTP

Decide = Callable[[Player, Call], Decided]


class Mail(Plain):
    """
    A mail box.

        GET  /messages          the last ones, oldest first
        POST /messages          a mail as JSON, for who has no SMTP
    """

    def __init__(self) -> None:
        self._box: deque[dict[str, Any]] = deque(maxlen=BOX_MAX)

    def answer(self, call: Call, play: Play, fault: str, dice: random.Random) -> Reply:
        """A mail that was taken, or the box."""
        match (call.method, *call.parts):
            case ("GET", "messages"):
                return Reply(data={"messages": list(self._box)})
            case ("POST", "messages") if call.fields:
                self._box.append(call.fields)
                key = call.headers.get(play.key_header, "")
                done = [Taken("mail", key, call.body)]
                return Reply(202, {"id": f"mail_{len(self._box)}"}, taken=done)
            case (method, *_) if method == DELIVERED:
                self._box.append(_shown(call))
                key = call.headers.get("message-id", "")
                return Reply(250, taken=[Taken("mail", key, call.body)])
            case _:
                return self.error(call, 404, "no such box")


class Box:
    """What aiosmtpd asks when a mail is there; see `smtp`."""

    def __init__(self, player: Callable[[], Player], decide: Decide) -> None:
        self._player = player
        self._decide = decide

    async def handle_DATA(
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """What is said to a mail."""
        content = envelope.original_content or b""
        mail = message_from_bytes(content, policy=default)
        known = {name.lower(): str(value) for name, value in mail.items()}
        if isinstance(session.auth_data, LoginPassword):
            known["x-api-key"] = session.auth_data.password.decode("utf-8", "replace")
        known["x-recipients"] = ", ".join(envelope.rcpt_tos)
        player = self._player()
        decided = self._decide(player, Call(DELIVERED, "/", known, content, ""))
        try:
            await anyio.sleep(decided.answer.after_s)
        finally:
            player.ended(decided)
        if decided.answer.ends == "reset" or decided.answer.chop is not None:
            cast(asyncio.Transport, server.transport).abort()
        return _said(decided)


@asynccontextmanager
async def smtp(player: Callable[[], Player], decide: Decide) -> AsyncIterator[int]:
    """Serve SMTP for a vendor on 127.0.0.1 while the block lasts; gives the port."""
    port = player().play.port
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # its own deprecations
    box = Box(player, decide)

    def known(*asked: Any) -> AuthResult:
        password = getattr(asked[-1], "password", b"")
        right = password == player().play.credential.encode()
        return AuthResult(success=right, handled=False, auth_data=asked[-1])

    def protocol() -> SMTP:
        return SMTP(
            box,
            hostname="simulated",
            data_size_limit=MAIL_BYTES_MAX,
            authenticator=known if player().play.credential else None,
            auth_require_tls=False,
            enable_SMTPUTF8=True,
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def _said(decided: Decided) -> str:
    """SMTP's word for what became of a mail."""
    match decided.outcome:
        case "accepted" | "repeated":
            return "250 2.0.0 OK: queued"
        case "throttled":
            return "451 4.7.1 too many mails: try again later"
        case "outage":
            return "421 4.3.2 down for maintenance"
        case _:
            pass  # by its status
    match decided.status:
        case 401:
            return "530 5.7.0 authentication required"
        case status if 400 <= status < 500 and status != 429:
            return "550 5.7.1 refused"
        case _:
            return "451 4.3.0 try again later"


def _shown(call: Call) -> dict[str, Any]:
    mail = message_from_bytes(call.body, policy=default)
    text = mail.get_body(("plain", "html"))
    names = [part.get_filename() or "" for part in mail.iter_attachments()]
    return {
        "to": call.headers["x-recipients"].split(", "),
        "from": str(mail["from"]),
        "subject": str(mail["subject"]),
        "message_id": str(mail["message-id"] or ""),
        "text": text.get_content() if text is not None else "",
        "attachments": names,
    }
