"""
Asking a declared model: one call of its vendor, or of those that stand behind it.

A call is a step, and so is why a model was passed by: after a crash the chain goes on
where it was, and nothing of it is paid twice.  When the last of a chain has failed the
worker tries the stage again, and the chain begins anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import anyio

from pipeline.agents.declared import FINISHES, Cause, ModelSpec, cause_of
from pipeline.agents.shapes import request_of, said_of, shape_of
from pipeline.calls import Answer
from pipeline.errors import Permanent, Usage, WaybillError
from pipeline.messages import Beside, Finish, ModelAnswer, ModelRequest, Said
from pipeline.run.calling import Calling
from pipeline.run.stay import Run, StepRecorder
from pipeline.run.tries import paid_for_none


class DeclaredModel:
    """
    A declared model as one stage asks it; see `Model` of pipeline/messages.py.

    Args:
        names: Of the model, and of those that stand in for it.
        left_s: What is left to the stage.
    """

    __slots__ = ("_chain", "_left_s", "_run", "_session", "_stage")

    def __init__(
        self,
        session: StepRecorder,
        run: Run,
        stage: str,
        names: Sequence[str],
        left_s: Callable[[], float],
    ) -> None:
        models = session.services.models
        for name in names:
            if name in models:
                continue
            raise Usage(
                f"there is no model {name!r}",
                code="MODEL_UNKNOWN",
                hint=f"declare [model.{name}] in vendors.toml; known: "
                f"{', '.join(models) or 'none'}",
            )
        self._session = session
        self._run = run
        self._stage = stage
        self._chain = [models[name] for name in names]
        if len(names) == 1:
            self._chain += [models[name] for name in self._chain[0].fallbacks]
        self._left_s = left_s

    @property
    def name(self) -> str:
        return self._chain[0].name

    @property
    def longest(self) -> int:
        return max(spec.max_tokens for spec in self._chain)

    def beside(self, step: str) -> Beside:
        found = Beside()
        for _, own in self._steps(step):
            for tokens, cost in paid_for_none(self._run, self._stage, own):
                found = found.plus(1, tokens, cost)
            if (self._stage, own) in self._run.memo:
                found = found._replace(answered=True)
        return found

    def _steps(self, step: str) -> list[tuple[ModelSpec, str]]:
        """Those of the chain, each with the step that its call is."""
        first = self._chain[0]
        return [
            (spec, step if spec is first else f"{step}/by-{spec.name}")
            for spec in self._chain
        ]

    async def ask(
        self, step: str, request: ModelRequest, *, number: int = 1
    ) -> ModelAnswer:
        chain = self._chain
        passed = self._passed(step)
        because: list[str] = []
        taken = Beside()  # by answers that were passed by
        for spec, own in self._steps(step):
            last = spec is chain[-1]
            known = passed.causes.get(spec.name)
            if known == Cause.FILTER and last:
                return _withheld(spec, because)
            # Whoever stood behind the last one may be declared no more.
            if known is not None and not last:
                because.append(known)
                continue
            try:
                answered = await self._once(spec, own, request, number)
            except WaybillError as error:
                cause = cause_of(error)
                others = not last and cause is not None and cause in spec.on
                filtered = last and cause is Cause.FILTER
                # Alone it needs no note where it is asked again.
                if others or because or filtered:
                    over = not others and not filtered
                    passed = await self._note(step, passed, spec, cause, over)
                if filtered:
                    return _withheld(spec, because)
                if not others:
                    raise
                because.append(str(cause))
                continue
            stopped = FINISHES.get(answered.said.finish)
            if stopped is not None and not last and stopped in spec.on:
                because.append(stopped.value)
                taken = taken.plus(1, answered.usage.total, answered.cost)
                continue
            none = self.beside(step)
            beside = taken.plus(none.asks, none.tokens, none.cost)
            more = {"because": tuple(because), "beside": beside}
            return answered.model_copy(update=more)
        raise AssertionError("the last of a chain answers, or raises")

    async def _once(
        self, spec: ModelSpec, step: str, request: ModelRequest, number: int
    ) -> ModelAnswer:
        asked = spec.asked(request)
        text = self._run.memo.get((self._stage, step))
        if text is not None:
            # Nothing is made of the question: of a long talk that would be most of the
            # work.  What was paid for is read as it came, whatever is declared now.
            answer = Answer.model_validate_json(text)
            said = said_of(shape_of(answer.data), answer.data, asked, number)
            return _answered(spec, said, answer)
        if spec.too_long(asked):
            raise Permanent(
                f"what {spec.name} is asked is longer than its context of "
                f"{spec.context} tokens",
                code="MODEL_CONTEXT",
                hint="ask about less of the document, or declare a fallback for it",
            )
        vendor = spec.on_vendor(self._session.services.vendors[spec.vendor])
        kind = vendor.kind
        calling = Calling(self._session, self._run, self._stage, vendor, self._left_s)

        read: list[tuple[Any, Said]] = []

        def check(answer: Answer) -> None:
            read.append((answer.data, said_of(kind, answer.data, asked, number)))

        sent = request_of(kind, asked, spec.output, spec.max_tokens_field)
        answer = await calling.call(step, sent, check=check)
        if read and read[-1][0] == answer.data:
            said = read[-1][1]
        else:  # changed in the keeping: no database takes all text
            said = said_of(kind, answer.data, asked, number)
        return _answered(spec, said, answer)

    def _passed(self, step: str) -> _Passed:
        """Those that were passed by in this round of the chain, as recorded."""
        found = _Passed(0, {})
        while True:
            text = self._run.memo.get((self._stage, f"{step}/passed-{found.notes + 1}"))
            if text is None:
                return found
            kept = json.loads(text)
            causes = {**found.causes, kept["model"]: kept["cause"]}
            found = _Passed(found.notes + 1, {} if kept["over"] else causes)

    async def _note(
        self,
        step: str,
        passed: _Passed,
        spec: ModelSpec,
        cause: Cause | None,
        over: bool,
    ) -> _Passed:
        why = cause.value if cause is not None else ""
        note = {"model": spec.name, "cause": why, "over": over}
        key = (self._stage, f"{step}/passed-{passed.notes + 1}")
        text = json.dumps(note)
        await self._session.record_step(self._run, key, text, anyio.current_time())
        return _Passed(passed.notes + 1, {**passed.causes, spec.name: why})


def _answered(spec: ModelSpec, said: Said, answer: Answer) -> ModelAnswer:
    return ModelAnswer(
        said=said,
        declared=spec.name,
        vendor=answer.vendor,
        model=answer.model,
        usage=answer.usage,
        cost=answer.cost,
    )


def _withheld(spec: ModelSpec, because: Sequence[str]) -> ModelAnswer:
    """A vendor that withholds by an error says what others say by how they finish."""
    return ModelAnswer(
        said=Said(finish=Finish.FILTER),
        declared=spec.name,
        vendor=spec.vendor,
        because=tuple(because),
    )


class _Passed(NamedTuple):
    """How many notes there are, and why each model of this round was passed by."""

    notes: int
    causes: dict[str, str]
