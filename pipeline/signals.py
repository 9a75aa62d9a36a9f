"""
Signals: what a stage asks the world outside for, and the URLs to which answers come.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

TOKEN_CHARS_MAX = 2000
NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
_FOR = b"waybill signal\n"  # the key signs nothing else that reads like this


class Asking(Protocol):
    """What a stage may ask the world outside for: a part of its `Context`."""

    async def signal(
        self,
        name: str,
        schema: Any = Any,
        *,
        within_s: float | None = None,
        or_none: bool = False,
        poll: Callable[[], Awaitable[Any]] | None = None,
        every_s: float = 60.0,
    ) -> Any:
        """
        The answer from outside to the signal `name` of this item, as `schema`.

        Until it comes the item is parked and holds no task; this stage runs again from
        its start, its steps from memory.  It comes by `waybill signal`, by a callback
        (`signal_url`) or from `poll`: the first one counts, for ever, and one that came
        before it was asked for is kept.

        Args:
            name: 1 to 100 of a-z, A-Z, 0-9, `_`, `-`, `.`.
            schema: A pydantic model, or any type; an answer that does not fit is
                refused.
            within_s: It waits so long, from when this stage asked first; None: as
                long as the item has time.
            or_none: Return None then, instead of raising.
            poll: Asks the vendor whether it is done: an answer, or None for not yet.
                First after `every_s`, then every so often.

        Raises:
            SignalTimeout: no answer came `within_s`; not caught, it fails the item.
            Permanent: BAD_SIGNAL, SIGNAL_SCHEMA (what `poll` returned does not fit).
        """
        ...

    async def signal_url(self, name: str, *, within_s: float | None = None) -> str:
        """
        A signed URL: whoever POSTs JSON to it answers the signal `name`.

        The same for every run of the stage: hand it to a vendor in a step.  It is a
        secret, good for one answer.

        Args:
            within_s: It is taken so long; None: as long as the item is on its way.

        Raises:
            Usage: NO_CALLBACKS, neither WAYBILL_HTTP nor WAYBILL_HTTP_URL is set.
        """
        ...


class Ask(NamedTuple):
    """
    What a parked stage asks the world outside for: a signal, by name.

    Attributes:
        schema: JSON Schema of the answer, as text; None: it takes any.
        within_s: Of its time, counted from the first ask of the stage; None: all.
        wake_s: Run the stage again after this, answered or not.
        poll_s: Its vendor is to be asked after this; None: it never is.
        void: An answer that did not fit, by its delivery: to be forgotten.
    """

    name: str
    schema: str | None
    within_s: float | None
    wake_s: float
    poll_s: float | None = None
    void: str = ""


class Callback(NamedTuple):
    """What a token says; `until` is in seconds since 1970."""

    tenant: str
    item: int
    name: str
    until: int


def is_name(name: object) -> bool:
    """Whether a signal may be called so."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None


class Callbacks:
    """
    Makes callback URLs and reads their tokens.

    Whoever has one may answer one signal of an item.  The token says which, signed with
    the service's own key; the same signal and time give the same URL for ever, so that
    a stage which runs again sends nothing new.

    Args:
        key: The service's own, 32 bytes.
        base: Where `waybill up` is reached from outside; "": nobody listens.
    """

    def __init__(self, key: bytes, base: str) -> None:
        self._key = key
        self.base = base.rstrip("/")

    def __repr__(self) -> str:
        return f"<Callbacks {self.base}>"

    def url(self, callback: Callback) -> str:
        """The URL to which an answer is POSTed."""
        tenant, item, name, until = callback
        said = f"{item}\n{until}\n{name}\n{tenant}".encode()
        return f"{self.base}/signals/{_text(said)}.{_text(self._signed(said))}"

    def read(self, token: str) -> tuple[Callback | None, bool]:
        """What a token says, None if nothing; and whether it is one of ours."""
        if len(token) > TOKEN_CHARS_MAX or not token.isascii():
            return None, False
        first, _, second = token.partition(".")
        try:
            said, signature = _bytes(first), _bytes(second)
            item, until, name, tenant = said.decode().split("\n", 3)
            callback = Callback(tenant, int(item), name, int(until))
        except ValueError:
            return None, False
        return callback, hmac.compare_digest(signature, self._signed(said))

    def _signed(self, said: bytes) -> bytes:
        return hmac.digest(self._key, _FOR + said, hashlib.sha256)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """In the one way that `_text` writes it: others leave out what they do not know."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _text(data) != text:
        raise ValueError("other texts are read so as well")
    return data
