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
import math
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

import anyio
from pydantic import SecretStr

from pipeline.calls import NOTHING, Answer, CallId, CallOpening, Kind, Request, Settled
from pipeline.errors import Disposition, LimitWait, Permanent, WaybillError, code_of
from pipeline.errors import Usage as UsageError
from pipeline.folder import Pipeline
from pipeline.run.outside import EARLY_S, Outside, Ticket
from pipeline.run.services import key_of
from pipeline.run.stay import Run, StepRecorder, one_at_a_time
from pipeline.run.tries import tried_before
from pipeline.state import encode
from pipeline.vendors.declared import VendorLimits, VendorSpec
from pipeline.vendors.failures import CallError, garbage
from pipeline.vendors.hearing import Reply
from pipeline.vendors.turn import Turn
from pipeline.vendors.uses import Use, uses_of

# So long an item waits in memory for its permits; then it goes back to `waiting`.
PATIENCE_S = 60.0
ELSEWHERE_S = 10.0  # … where another vendor may be asked in this one's place
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
        with one_at_a_time(self._run, (self._stage, step)):
            return await self._chained(step, request, check)

    async def _chained(
        self, step: str, request: Request, check: Check | None
    ) -> Answer:
        self._session.check_lease()
        tried = tried_before(self._run, self._stage, step)
        specs = self._session.services.vendors
        chain = [self._within(self._spec)]
        chain += [self._within(specs[name]) for name in self._spec.fallbacks]
        left = [spec for spec in chain if spec.name not in tried.gone]
        failures: list[WaybillError] = []
        for number, spec in enumerate(left, tried.times + 1):
            repeats = spec.name in tried.failed
            began = anyio.current_time()
            last = spec is left[-1]
            one = _One(spec, step, request, number, repeats, began, last)
            try:
                return await self._once(one, check)
            except _Failed as failed:
                over = last or not _may_others(failed.error)
                await self._write(one, failed, over)
                failures.append(failed.error)
                if over:
                    raise _decisive(failures) from None
        raise AssertionError("the last of a chain answers, or raises")

    async def _once(self, one: _One, check: Check | None) -> Answer:
        """
        One call of one vendor; its answer is recorded as the step.

        Raises:
            _Failed: it was not made, or not answered.
        """
        outside, tenant = self._outside, self._run.item.tenant
        request, spec = one.request, one.spec
        tokens = _tokens(spec, self._run.pipeline, request)
        uses = uses_within(
            spec, self._run.pipeline, tenant, tokens + request.max_tokens
        )
        async with AsyncExitStack() as held:
            try:
                key = key_of(self._session.services, spec, tenant)
                with self._run.standing():
                    ticket = held.enter_context(
                        await outside.breakers.admit(spec, repeat=one.repeats)
                    )
                    turn = await held.enter_async_context(
                        outside.permits.hold(
                            uses,
                            patience_s=self._patience_s(one.last),
                            # The one probe of all goes before the line.
                            deadline=-math.inf if ticket.probe else self._run.deadline,
                            early_s=EARLY_S,
                            item=self._run.item.id,
                        )
                    )
                ticket.still()
                call = await outside.cashier.open(self._opening(one, tokens))
            except WaybillError as error:
                raise _Failed(error, None) from None
            answer = await self._sent(one, call, ticket, turn, key)
            for use in uses:
                if use.weight > 1 and answer.usage.total:  # tokens, which were a guess
                    turn.took(use, answer.usage.total)
            settled = _settled(call, answer)
            try:
                if check is not None:
                    check(answer)
                text = _text_of(spec, answer)
            except WaybillError as error:
                # It was answered, and is paid; but nothing is kept of it.
                spoilt = replace(settled, code=code_of(error.code))
                raise _Failed(error, spoilt, answer) from None
            except BaseException:  # of the check itself: it ends the stage's try
                outside.cashier.leave(replace(settled, code="STAGE_RAISED"))
                raise
        step = (self._stage, one.step)
        try:
            await self._session.record_step(self._run, step, text, one.began, settled)
        except WaybillError:
            outside.cashier.give_up(call)  # what was refused with it is not settled
            raise
        # As it is kept: a later try must not read something else.
        return Answer.model_validate_json(text)

    async def _sent(
        self, one: _One, call: CallId, ticket: Ticket, turn: Turn, key: SecretStr
    ) -> Answer:
        """Send a call that is written down; whatever becomes of it is settled."""
        outside, spec = self._outside, one.spec
        sent: float | None = None
        ready = anyio.current_time()

        async def moment() -> None:
            nonlocal sent
            with self._run.standing():
                await turn.due()
            sent = anyio.current_time()

        timeout_s = max(0.0, min(spec.timeout_s, self._left_s()))
        try:
            if not turn.paced:
                await moment()
            reply = await outside.send(
                ticket,
                spec,
                one.request,
                key=key,
                timeout_s=timeout_s,
                idempotency_key=self._key(one),
                artifacts=self._session.services.artifacts,
                when=moment if turn.paced else None,
            )
        except LimitWait as error:  # it is sent away, and nothing was sent
            outside.cashier.leave(Settled(call, Decimal(0), code=code_of(error.code)))
            raise _Failed(error, None) from None
        except WaybillError as error:
            lost = _lost(call, error, anyio.current_time() - (sent or ready))
            raise _Failed(outside.breakers.verdict(spec, error), lost) from None
        except BaseException:
            if sent is None:
                outside.cashier.leave(Settled(call, Decimal(0), code="CANCELLED"))
            else:  # nobody knows whether it arrived, and nobody can wait to write it
                outside.cashier.give_up(call)
            raise
        return _answer(reply, one, anyio.current_time() - (sent or ready))

    def _within(self, spec: VendorSpec) -> VendorSpec:
        terms = self._run.pipeline.vendors.get(spec.name)
        return spec if terms is None else spec.within(terms)

    def _opening(self, one: _One, tokens: int) -> CallOpening:
        price, most = one.spec.price, one.request.max_tokens
        if not most and (price.output or price.reasoning):
            raise UsageError(
                f"a call of {one.spec.name} says not how long its answer may be",
                code="CALL_UNBOUNDED",
                hint="pass Request(…, max_tokens=…), also where its body says it: so"
                " much of the budget is reserved",
            )
        return CallOpening(
            self._run.item.id,
            self._stage,
            one.step,
            one.spec.name,
            price.most(tokens, most),
            price.currency,
            one.tries,
            self._run.pipeline.budget,
        )

    async def _write(self, one: _One, failed: _Failed, over: bool) -> None:
        """Record a call that was made and failed, with what it did cost."""
        if failed.settled is None:
            return
        code = code_of(failed.error.code)
        note: dict[str, Any] = {"vendor": one.spec.name, "code": code, "over": over}
        if (answer := failed.answer) is not None:
            # Kept with what the ledger is told, in one transaction.
            note["paid"] = [answer.usage.total, str(answer.cost)]
        text = json.dumps(note)
        key = (self._stage, f"{one.step}/try-{one.tries}")
        await self._session.record_step(self._run, key, text, one.began, failed.settled)

    def _patience_s(self, last: bool) -> float:
        most_s = PATIENCE_S if last else ELSEWHERE_S
        return min(most_s, max(self._left_s() - 1.0, 0.0))

    def _key(self, one: _One) -> str:
        """What the vendor knows this call by, however often it is made."""
        named = f"{self._run.item.id}/{self._stage}/{one.step}/{one.spec.name}"
        return hashlib.sha256(named.encode()).hexdigest()[:32]


def uses_within(
    spec: VendorSpec, pipeline: Pipeline, tenant: str, tokens: int
) -> list[Use]:
    """All limits that a call obeys: its vendor's, and those of the pipeline's terms."""
    uses = uses_of(spec, tenant, tokens)
    terms = pipeline.vendors.get(spec.name)
    if terms is not None:
        own = {"name": f"{spec.name}/pipeline/{pipeline.name}", "limits": terms.limits}
        none = {"limits_per_tenant": VendorLimits()}
        uses += uses_of(spec.model_copy(update=own | none), tenant, tokens)
    return uses


class _One(NamedTuple):
    """One call of one vendor, for a step; `tries` counts those of the step."""

    spec: VendorSpec
    step: str
    request: Request
    tries: int
    repeats: bool  # it failed at this vendor before
    began: float
    last: bool  # of its chain


class _Failed(Exception):  # no error: it is told to whoever asks the chain
    """
    One try of a chain; `settled` where the call was written down, `answer` where it
    was answered by what is no answer.
    """

    def __init__(
        self,
        error: WaybillError,
        settled: Settled | None,
        answer: Answer | None = None,
    ) -> None:
        self.error = error
        self.settled = settled
        self.answer = answer


def _may_others(error: WaybillError) -> bool:
    """Whether another vendor may be asked what this one did not answer."""
    return error.code in ("VENDOR_AUTH", "VENDOR_KEY") or error.disposition in (
        Disposition.RETRY,
        Disposition.WAIT,
    )


def _decisive(failures: Sequence[WaybillError]) -> WaybillError:
    """
    What a chain that failed does to its item: who may be asked soon goes before who
    must be tried again, and both before who cannot be asked.  The first vendor, which
    only rests, answers later whatever its fallback lacks.
    """
    last = failures[-1]
    if not _may_others(last):  # refused: it would be elsewhere, too
        return last
    waits = [e for e in failures if e.disposition is Disposition.WAIT]
    if waits:
        return min(waits, key=lambda error: error.retry_after_s or 0.0)
    tries = [e for e in failures if e.disposition is Disposition.RETRY]
    return tries[-1] if tries else last


def _tokens(spec: VendorSpec, pipeline: Pipeline, request: Request) -> int:
    """What a request is worth; 0 where neither a limit nor a price asks for it."""
    terms = pipeline.vendors.get(spec.name)
    limits = [spec.limits, spec.limits_per_tenant]
    limits += [] if terms is None else [terms.limits]
    if not spec.price.costs and all(limit.tokens is None for limit in limits):
        return 0
    return request.tokens or _tokens_at_most(request)


def _tokens_at_most(request: Request) -> int:
    """A bound of what a request is worth: no token is shorter than a byte."""
    if request.json is not None:
        try:
            text = json.dumps(request.json, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            return 0  # the door will say so, and send nothing
        return len(text.encode("utf-8", "surrogatepass"))
    form = sum(len(k) + len(v) for k, v in (request.form or {}).items())
    files = sum(len(f.content) for f in request.files)
    return len(request.content or b"") + form + files


def _answer(reply: Reply, one: _One, took_s: float) -> Answer:
    return Answer(
        status=reply.status,
        data=reply.data,
        artifact=reply.artifact,
        headers=reply.headers,
        vendor=one.spec.name,
        model=reply.model,
        finish=reply.finish,
        usage=reply.usage or NOTHING,
        cost=_cost(reply, one),
        took_s=took_s,
        tries=one.tries,
    )


def _text_of(spec: VendorSpec, answer: Answer) -> str:
    """The answer as it is kept; VENDOR_GARBAGE where it cannot be: it is too deep."""
    try:
        return encode(answer.model_dump(mode="json"))
    except (ValueError, RecursionError, Permanent):
        raise garbage(spec, "something too deep or too large to be kept") from None


def _cost(reply: Reply, one: _One) -> Decimal:
    """What it did cost; the most, where a vendor with a price says not what it took."""
    price = one.spec.price
    if reply.usage is None and price.costs:
        tokens = one.request.tokens or _tokens_at_most(one.request)
        return price.most(tokens, one.request.max_tokens)
    return price.of(reply.usage or NOTHING)


def _settled(call: CallId, answer: Answer) -> Settled:
    said = answer.usage, answer.model, answer.finish
    return Settled(call, answer.cost, *said, took_s=answer.took_s)


def _lost(call: CallId, error: WaybillError, took_s: float) -> Settled:
    """What a call did cost that was not answered: nothing, or nobody knows."""
    in_doubt = isinstance(error, CallError) and error.in_doubt
    cost = None if in_doubt else Decimal(0)
    return Settled(call, cost, code=code_of(error.code), took_s=took_s)
