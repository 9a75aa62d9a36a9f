"""
What an item asks the world outside for: parked without a task until an answer comes.

The answer stands in the store, whoever was first; the stage keeps it as a step.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anyio
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import Permanent, SignalTimeout, Usage
from pipeline.run.blame import WAIT_MAX_S, seconds
from pipeline.run.stay import Parked, Run, StepRecorder, memoised, until_answered
from pipeline.signals import Ask, Callback, is_name
from pipeline.state import encode, inline_or_ref
from pipeline.store.signals import Delivery, SignalRow

SCHEMA_CHARS_MAX = 8192  # a larger one is not shown to the door: its answer parks again
POLL_S_MIN = 1.0
Poll = Callable[[], Awaitable[Any]]


class Wanted(NamedTuple):
    """What a stage asks for; see `Context.signal` of pipeline/stage.py."""

    name: str
    adapter: TypeAdapter[Any]
    within_s: float | None
    poll: Poll | None
    every_s: float


class Signals:
    """The signals of the item that is in one stage."""

    def __init__(self, session: StepRecorder, run: Run, stage: str) -> None:
        self._session = session
        self._run = run
        self._stage = stage

    async def ask(
        self,
        name: str,
        schema: Any,
        *,
        within_s: float | None,
        or_none: bool,
        poll: Poll | None,
        every_s: float,
    ) -> Any:
        """See `Context.signal` of pipeline/stage.py."""
        _check(name)
        wanted = Wanted(
            name,
            TypeAdapter(schema),
            None if within_s is None else seconds(within_s),
            poll,
            max(seconds(every_s), POLL_S_MIN),
        )
        kept = self._run.memo.get((self._stage, f"signal:{name}"))
        if kept is not None:
            return wanted.adapter.validate_json(kept)
        # Before anything is awaited: a task beside this one may park the item first.
        self._ask(wanted, None)
        row = await self._row(name)
        if self._poll_is_due(wanted, row):
            row = await self._polled(wanted, row)
        return await self._answer(wanted, row, or_none)

    async def url(self, name: str, within_s: float | None) -> str:
        """See `Context.signal_url` of pipeline/stage.py."""
        _check(name)
        callbacks = self._session.services.callbacks
        if callbacks is None or not callbacks.base:
            raise Usage(
                "there is no address for callbacks",
                code="NO_CALLBACKS",
                hint="set WAYBILL_HTTP, such as 127.0.0.1:8787, or WAYBILL_HTTP_URL",
            )
        key = (self._stage, f"signal-url:{name}")
        for_s = None if within_s is None else seconds(within_s)
        until = await memoised(self._session, self._run, key, self._until, for_s)
        item = self._run.item
        return callbacks.url(Callback(item.tenant, item.id, name, until))

    async def _until(self, within_s: float | None) -> int:
        store = self._session.store
        return await until_answered(store.callback_until, self._run.item.id, within_s)

    async def _row(self, name: str) -> SignalRow | None:
        store = self._session.store
        rows = await until_answered(store.signals, self._run.item.id, name)
        return rows[0] if rows else None

    async def _answer(
        self, wanted: Wanted, row: SignalRow | None, or_none: bool
    ) -> Any:
        """The answer, if it came in time; the item parks if it still may."""
        if row is None or (row.delivery is None and row.stage != self._stage):
            self._park(wanted, None)
        assert row is not None
        mine = row.stage == self._stage
        if row.open and _is_over(wanted, row):
            # Or an answer comes in this very moment: the store says which was first.
            item, within_s = self._run.item.id, wanted.within_s
            lapse = self._session.store.lapse
            await until_answered(lapse, item, wanted.name, self._stage, within_s)
            row = await self._row(wanted.name) or row
        if row.open:
            self._park(wanted, row)
        if row.lapsed and mine:
            return self._without(wanted, or_none)
        return await self._kept(wanted, row)

    async def _kept(self, wanted: Wanted, row: SignalRow) -> Any:
        """The answer as a step; one that does not fit is forgotten."""
        began = anyio.current_time()
        text = row.payload
        if text is None:
            assert row.ref is not None
            text = (await self._session.services.artifacts.get(row.ref)).decode()
        try:
            answer = wanted.adapter.validate_json(text)
        except ValidationError:
            self._park(wanted, row, void=row.delivery or "")
        self._run.asks.pop(wanted.name, None)
        self._session.check_lease()
        key = (self._stage, f"signal:{wanted.name}")
        await self._session.record_step(self._run, key, text, began)
        return answer

    def _without(self, wanted: Wanted, or_none: bool) -> None:
        self._run.asks.pop(wanted.name, None)
        if not or_none:
            raise SignalTimeout(
                f"no answer to the signal {wanted.name} came in "
                f"{wanted.within_s or 0:g} s",
                hint="`waybill items retry` asks again",
            )

    # -- vendors that are asked now and then -------------------------------------------

    def _poll_is_due(self, wanted: Wanted, row: SignalRow | None) -> bool:
        """Not before the first park: whoever was just handed a job has not done it."""
        if wanted.poll is None or row is None or row.stage != self._stage:
            return False
        return row.open and (row.poll_s is None or row.poll_s <= 0)

    async def _polled(self, wanted: Wanted, row: SignalRow | None) -> SignalRow | None:
        """Ask the vendor; what it says is an answer like any other."""
        assert wanted.poll is not None
        found = await wanted.poll()
        if found is None:
            assert row is not None
            return row._replace(poll_s=None)
        text = encode(found)
        try:
            wanted.adapter.validate_json(text)
        except ValidationError:
            raise Permanent(
                f"what was polled for the signal {wanted.name} does not fit",
                code="SIGNAL_SCHEMA",
            ) from None
        payload, ref = await inline_or_ref(text, self._session.services.artifacts)
        digest = hashlib.sha256(text.encode()).hexdigest()
        schema = None if row is None else row.schema
        answer = Delivery(f"poll {digest}", payload, ref, "poll", schema=schema)
        store, item = self._session.store, self._run.item.id
        await until_answered(store.answer, item, wanted.name, answer)
        return await self._row(wanted.name)

    # -- parking -----------------------------------------------------------------------

    def _park(self, wanted: Wanted, row: SignalRow | None, void: str = "") -> Any:
        self._ask(wanted, row, void)
        raise Parked

    def _ask(self, wanted: Wanted, row: SignalRow | None, void: str = "") -> None:
        """What the item is to be parked with."""
        poll_s = None
        if wanted.poll is not None:
            # Apart, lest all that were handed over together ask together.
            poll_s = wanted.every_s * random.uniform(1, 1.1)
            if row is not None and row.stage == self._stage and row.poll_s is not None:
                poll_s = max(0.0, row.poll_s)
        wake_s = WAIT_MAX_S if poll_s is None else poll_s
        if wanted.within_s is not None:
            asked_s = row.asked_s if row and row.stage == self._stage else 0.0
            wake_s = min(wake_s, max(0.0, wanted.within_s - asked_s))
        self._run.asks[wanted.name] = Ask(
            wanted.name, _schema(wanted.adapter), wanted.within_s, wake_s, poll_s, void
        )


def _is_over(wanted: Wanted, row: SignalRow) -> bool:
    return wanted.within_s is not None and row.asked_s >= wanted.within_s


def _check(name: str) -> None:
    if not is_name(name):
        raise Permanent(
            "the name of a signal is not 1 to 100 of a-z, A-Z, 0-9, `_`, `-`, `.`",
            code="BAD_SIGNAL",
        )


def _schema(adapter: TypeAdapter[Any]) -> str | None:
    """What the door checks an answer by; None: it takes any."""
    try:
        text = json.dumps(adapter.json_schema())
    except (ValueError, TypeError, RuntimeError):  # PydanticInvalidForJsonSchema & co.
        return None
    return text if text != "{}" and len(text) <= SCHEMA_CHARS_MAX else None
