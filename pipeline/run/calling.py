"""
A call of a vendor: from a stage's wish to the step that keeps the answer.

    admitted by the breaker → a permit of every limit → written down, with the most it
    can cost → sent → the answer, or the failure, recorded with what it did cost

Nothing is repeated here: a failure ends the stage's try, and the worker retries, at
its one layer.  Where a vendor has fallbacks they are asked in order within one try,
and each failure on the way is a step of its own: a crash never pays a chain twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

import anyio

from pipeline.calls import Answer, Kind, Opening, Request, Settled
from pipeline.errors import Disposition, WaybillError
from pipeline.run.outside import Outside
from pipeline.run.stay import Run, StepRecorder
from pipeline.state import encode
from pipeline.vendors.declared import VendorSpec
from pipeline.vendors.limits import uses_of

# So long an item waits in memory for its permits; then it goes back to `waiting`.
PATIENCE_S = 20.0
MODELS = ("openai", "anthropic", "moderation")  # their bodies name a model
Check = Callable[[Answer], None]


class Calling:
    """
    One vendor as one stage of one item calls it; see `Vendor` of pipeline/stage.py.

    Args:
        left_s: What is left to the stage.
    """

    __slots__ = ("_left_s", "_outside", "_run", "_session", "_spec", "_stage")

    def __init__(
        self,
        session: StepRecorder,
        run: Run,
        stage: str,
        spec: VendorSpec,
        left_s: Callable[[], float],
    ) -> None:
        self._session = session
        self._outside: Outside = session.outside
        self._run = run
        self._stage = stage
        self._spec = spec
        self._left_s = left_s

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def kind(self) -> Kind:
        return self._spec.kind

    @property
    def model(self) -> str:
        return self._spec.model

    async def call(
        self, step: str, request: Request, *, check: Check | None = None
    ) -> Answer:
        kept = self._run.memo.get((self._stage, step))
        if kept is not None:
            return Answer.model_validate_json(kept)
        self._session.check_lease()
        tried = _tried(self._run, self._stage, step)
        specs = self._session.services.vendors
        chain = [self._spec, *(specs[n] for n in self._spec.fallbacks)]
        left = [spec for spec in chain if spec.name not in tried.gone]
        for number, spec in enumerate(left, tried.count + 1):
            try:
                return await self._once(spec, step, request, check, number)
            except _Failed as failed:
                over = spec is left[-1] or not _may_others(failed.error)
                await self._write(failed, spec, step, number, over, len(chain) > 1)
                if over:
                    raise failed.error from None
        raise AssertionError("the last of a chain answers, or raises")

    async def _once(
        self,
        spec: VendorSpec,
        step: str,
        request: Request,
        check: Check | None,
        number: int,
    ) -> Answer:
        """
        One call of one vendor; its answer is recorded as the step.

        Raises:
            _Failed: it was not made, or not answered.
        """
        outside, tenant = self._outside, self._run.item.tenant
        began = anyio.current_time()
        body = _with_model(request, spec)
        tokens = request.tokens or _tokens_at_most(body)
        uses = uses_of(spec, tenant, tokens + request.max_tokens)
        async with AsyncExitStack() as held:
            try:
                ticket = outside.breakers.admit(spec, repeat=self._repeats(number))
                held.callback(ticket.forget)  # where nothing was said of it
                patience_s = min(PATIENCE_S, max(self._left_s() - 1.0, 0.0))
                permits = outside.permits.hold(uses, patience_s=patience_s)
                await held.enter_async_context(permits)
                self._waited(anyio.current_time() - began)
                call = await outside.cashier.open(
                    self._opening(spec, step, number, tokens, request.max_tokens)
                )
            except WaybillError as error:
                raise _Failed(error, None, began) from None
            answer = await self._sent(spec, step, body, call, number, ticket, began)
            settled = _settled(call, answer)
            if check is not None:
                try:
                    check(answer)
                except WaybillError as error:
                    # It was answered, and is paid; but nothing is kept of it.
                    spoilt = replace(settled, code=error.code)
                    raise _Failed(error, spoilt, began) from None
        text = encode(answer.model_dump(mode="json"))
        key = (self._stage, step)
        await self._session.record_step(self._run, key, text, began, settled)
        return answer

    async def _sent(
        self,
        spec: VendorSpec,
        step: str,
        body: Request,
        call: CallId,
        number: int,
        ticket: Ticket,
        began: float,
    ) -> Answer:
        """Send a call that is written down; whatever becomes of it is settled."""
        outside, tenant = self._outside, self._run.item.tenant
        sent = anyio.current_time()
        timeout_s = max(0.0, min(spec.timeout_s, self._left_s()))
        try:
            reply = await outside.door.send(
                spec,
                body,
                key=key_of(self._session.services, spec, tenant),
                timeout_s=timeout_s,
                idempotency_key=self._key(step, spec.name),
                artifacts=self._session.services.artifacts,
            )
        except WaybillError as error:
            self._learn(spec, ticket, error, timeout_s)
            took_s = anyio.current_time() - sent
            raise _Failed(error, _lost(call, error, took_s), began) from None
        except BaseException:
            # Cancelled on its way: nobody can wait here, and nobody knows whether it
            # arrived.
            outside.cashier.give_up(call)
            raise
        ticket.succeeded()
        return _answer(reply, spec, number, anyio.current_time() - sent)

    def _learn(
        self, spec: VendorSpec, ticket: Ticket, error: WaybillError, timeout_s: float
    ) -> None:
        """What a failure tells of the vendor, for everybody."""
        match error:
            case Throttled():
                ticket.succeeded()  # busy, so alive
                if error.retry_after_s:
                    self._outside.permits.pause(spec, error.retry_after_s)
            case Transient() if (
                error.code == "VENDOR_TIMEOUT" and timeout_s < spec.timeout_s / 2
            ):
                pass  # the item itself had no time
            case Transient():
                ticket.failed()
            case _:
                ticket.succeeded()

    def _opening(
        self, spec: VendorSpec, step: str, number: int, tokens: int, most: int
    ) -> Opening:
        price = spec.price
        if not most and (price.output or price.reasoning):
            raise Usage(
                f"a call of {spec.name} says not how long its answer may be",
                code="CALL_UNBOUNDED",
                hint="pass max_tokens: so much of the budget is reserved",
            )
        return Opening(
            self._run.item.id,
            self._stage,
            step,
            number,
            spec.name,
            price.most(tokens, most),
            price.currency,
        )

    async def _write(
        self,
        failed: _Failed,
        spec: VendorSpec,
        step: str,
        number: int,
        over: bool,
        chained: bool,
    ) -> None:
        """Record a failed try: with what it did cost, and that the chain went on."""
        if not chained:
            if failed.settled is not None:
                await self._outside.cashier.settle(failed.settled)
            return
        tried = {"vendor": spec.name, "code": failed.error.code, "over": over}
        key = (self._stage, f"{step}/try-{number}")
        text = json.dumps(tried)
        await self._session.record_step(
            self._run, key, text, failed.began, failed.settled
        )

    def _repeats(self, number: int) -> bool:
        """Whether this call is made because one like it failed."""
        repeats = number > 1 or self._run.repeats
        self._run.repeats = False
        return repeats

    def _waited(self, for_s: float) -> None:
        """The line for a permit is not the stage's time."""
        scope = self._run.scope
        if scope is not None and for_s > 0:
            scope.deadline = min(scope.deadline + for_s, self._run.deadline)

    def _key(self, step: str, vendor: str) -> str:
        """What the vendor knows this call by, however often it is made."""
        named = f"{self._run.item.id}/{self._stage}/{step}/{vendor}"
        return hashlib.sha256(named.encode()).hexdigest()[:32]


class _Failed(Exception):  # no error: it is told to whoever asks the chain
    """One try of a chain; `settled` where the call was written down."""

    def __init__(
        self, error: WaybillError, settled: Settled | None, began: float
    ) -> None:
        self.error = error
        self.settled = settled
        self.began = began


class _Tried(NamedTuple):
    """What is recorded of a chain: how many tries, and whom to leave out now."""

    count: int
    gone: frozenset[str]


def _tried(run: Run, stage: str, step: str) -> _Tried:
    count = 0
    gone: set[str] = set()
    while (text := run.memo.get((stage, f"{step}/try-{count + 1}"))) is not None:
        count += 1
        kept = json.loads(text)
        gone.add(kept["vendor"])
        if kept["over"]:
            gone.clear()  # all have failed: the worker's retry begins anew
    return _Tried(count, frozenset(gone))


def _may_others(error: WaybillError) -> bool:
    """Whether another vendor may be asked what this one did not answer."""
    return error.code == "VENDOR_AUTH" or (
        error.disposition in (Disposition.RETRY, Disposition.WAIT)
        and error.code not in OURS
    )


# Ours, not the vendor's: nobody else could be asked instead.
OURS = frozenset({"BUDGET_USED_UP", "RETRY_BUDGET"})


def _with_model(request: Request, spec: VendorSpec) -> Request:
    """The request with the model that is declared, where its shape names one."""
    if spec.kind in MODELS and spec.model and isinstance(request.json, dict):
        return replace(request, json={**request.json, "model": spec.model})
    return request


def _tokens_at_most(request: Request) -> int:
    """A bound of what a request is worth: no token is shorter than a byte."""
    if request.json is not None:
        return len(json.dumps(request.json, ensure_ascii=False).encode())
    form = sum(len(k) + len(v) for k, v in (request.form or {}).items())
    return (
        len(request.content or b"") + form + sum(len(f.content) for f in request.files)
    )


def _answer(reply: Reply, spec: VendorSpec, number: int, took_s: float) -> Answer:
    return Answer(
        status=reply.status,
        data=reply.data,
        artifact=reply.artifact,
        headers={n: reply.headers[n] for n in KEPT_HEADERS if n in reply.headers},
        vendor=spec.name,
        model=reply.model,
        finish=reply.finish,
        usage=reply.usage,
        cost=spec.price.of(reply.usage),
        took_s=took_s,
        tries=number,
    )


def _settled(call: CallId, answer: Answer) -> Settled:
    return Settled(
        call,
        answer.cost,
        answer.usage,
        answer.model,
        answer.finish,
        took_s=answer.took_s,
    )


def _lost(call: CallId, error: WaybillError, took_s: float) -> Settled:
    """What a call did cost that was not answered: nothing, or nobody knows."""
    cost = None if error.code in UNKNOWN else Decimal(0)
    return Settled(call, cost, code=error.code, took_s=took_s)


# They may have been served, and then they are billed.
UNKNOWN = frozenset({"VENDOR_TIMEOUT", "VENDOR_LOST", "VENDOR_GARBAGE"})
