"""
A whole world of vendors behind one port: `/NAME/…` is a vendor, `/control` steers.

    GET  /control          what is set, and where everything is
    POST /control          {"vendor": {NAME: {KEY: VALUE}}}: behave otherwise from now
    GET  /control/counts   by vendor: what was asked, accepted, billed and done
    POST /control/reset    an empty book, no memory, the clock at 0
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import anyio

from loadtest.vendors.book import Book
from loadtest.vendors.chat import Chat
from loadtest.vendors.crm import Crm
from loadtest.vendors.deliveries import deliver
from loadtest.vendors.judging import Judge
from loadtest.vendors.kinds import Call, Echo, Kind
from loadtest.vendors.mail import Mail, smtp
from loadtest.vendors.player import Decided, Player
from loadtest.vendors.readers import Reader
from loadtest.vendors.reading import Reading
from loadtest.vendors.settings import Play, World
from loadtest.vendors.shops import Erp, Hook, Moderation, Printer
from loadtest.vendors.wire import Answer, Asked, listening

DESCRIPTORS = 65_536

KINDS: dict[str, Callable[[], Kind]] = {
    "chat": Chat,
    "reader": Reader,
    "judge": Judge,
    "moderation": Moderation,
    "ocr": Reading,
    "crm": Crm,
    "erp": Erp,
    "print": Printer,
    "mail": Mail,
    "hook": Hook,
    "echo": Echo,
}


class Playing:
    """A running world."""

    def __init__(self, world: World, book: Book) -> None:
        self.book = book
        self.url = ""
        self._world = world
        self._smtp: dict[str, int] = {}
        self._begin()

    def _begin(self) -> None:
        """Everybody fresh, the clock at 0."""
        self._started = time.monotonic()
        self.players = {
            name: self._player(name, play) for name, play in self._world.vendor.items()
        }

    def _player(self, name: str, play: Play) -> Player:
        kind = KINDS[play.kind]()
        return Player(name, play, kind, self.book, self._world.seed)

    @asynccontextmanager
    async def at(self, port: int) -> AsyncIterator[None]:
        """Play on 127.0.0.1 while the block lasts; port 0 is any free one."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        try:
            async with AsyncExitStack() as stack:
                bound = await stack.enter_async_context(listening(self, port))
                self.url = f"http://127.0.0.1:{bound}"
                for name, player in self.players.items():
                    if player.play.kind == "mail":
                        server = smtp(partial(self._named, name), self._decided)
                        self._smtp[name] = await stack.enter_async_context(server)
                tasks = await stack.enter_async_context(anyio.create_task_group())
                self._deliveries = tasks
                yield
                tasks.cancel_scope.cancel()
        finally:
            self.book.close()

    def answer(self, asked: Asked) -> Answer:
        """What is sent, and when."""
        target, asks, query = asked.target.partition("?")
        name, _, rest = target.removeprefix("/").partition("/")
        if name == "control":
            return self._control(asked, rest)
        player = self.players.get(name)
        if player is None:
            return _json(404, {"error": {"message": f"no vendor {name!r} here"}})
        url = f"{self.url}/{name}"
        call = Call(
            asked.method, f"/{rest}{asks}{query}", asked.headers, asked.body, url
        )
        asked.call = (player, decided := self._decided(player, call))
        return decided.answer

    def _named(self, name: str) -> Player:
        return self.players[name]

    def _decided(self, player: Player, call: Call) -> Decided:
        """What becomes of a call; what a vendor sends later is on its way."""
        decided = player.decide(call, self.clock_s)
        for each in decided.later:
            sent = partial(self.book.sent, player.name, each.id, each.url)
            self._deliveries.start_soon(deliver, each, sent)
        return decided

    def ended(self, asked: Asked) -> None:
        """It was answered, or the client is gone."""
        if asked.call is not None:
            player, decided = asked.call
            assert isinstance(player, Player)
            assert isinstance(decided, Decided)
            player.ended(decided)

    @property
    def clock_s(self) -> float:
        """Seconds since the world began, or was reset."""
        return time.monotonic() - self._started

    def shown(self) -> dict[str, Any]:
        """Where everything is, and how it is set."""
        return {
            "url": self.url,
            "control": f"{self.url}/control",
            "book": str(self.book.path),
            "clock_s": self.clock_s,
            "vendors": {
                name: {
                    "url": f"{self.url}/{name}",
                    **({"smtp": self._smtp[name]} if name in self._smtp else {}),
                    **player.play.model_dump(mode="json", exclude_defaults=True),
                }
                for name, player in self.players.items()
            },
        }

    def counts(self) -> dict[str, dict[str, Any]]:
        """What the book says, and how many calls are and were under way at once."""
        found = self.book.counts()
        return {
            name: {
                **found.get(name, {}),
                "under_way": player.under_way,
                "under_way_max": player.under_way_max,
            }
            for name, player in self.players.items()
            if name in found
        }

    def change(self, wanted: dict[str, Any]) -> None:
        """
        Set these keys; all or none.

        Raises:
            ValueError: a key, a value or a fault that is unknown.
        """
        vendor = {n: p.play.model_dump() for n, p in self.players.items()}
        named = wanted.get("vendor") or {}
        for name, keys in named.items():
            vendor[name] = {**vendor.get(name, {}), **keys}
        seed = self._world.seed
        world = World.model_validate({"seed": seed, **wanted, "vendor": vendor})
        players: dict[str, Player] = {}
        for name, play in world.vendor.items():
            before = self.players.get(name)
            if before is not None and before.play.kind == play.kind:
                before.check(play)
                players[name] = before
            elif play.kind == "mail":
                raise ValueError(f"{name}: SMTP needs a port from the start")
            else:
                players[name] = self._player(name, play)
        for name, player in players.items():
            again = "script" in named.get(name, ())
            player.change(world.vendor[name], again=again)
        self.players, self._world = players, world

    def _control(self, asked: Asked, what: str) -> Answer:
        match (asked.method, what):
            case ("GET", ""):
                return _json(200, self.shown())
            case ("GET", "counts"):
                return _json(200, self.counts())
            case ("POST", "reset"):
                self.book.empty()
                self._begin()
                return _json(200, {})
            case ("POST", ""):
                try:
                    self.change(json.loads(asked.body))
                except (AttributeError, TypeError, ValueError) as error:
                    return _json(400, {"error": str(error)})
                return _json(200, self.shown())
            case _:
                return _json(404, {"error": "see GET /control"})


def _json(status: int, data: Any) -> Answer:
    return Answer(status, json.dumps(data).encode())
