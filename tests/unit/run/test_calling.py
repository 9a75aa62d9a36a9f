"""A call of a vendor: kept once, failed calls on record, fallbacks in order, paid."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import anyio
import pytest

from pipeline.calls import CallClass, Request, Usage
from pipeline.errors import Throttled, Transient, WaybillError
from pipeline.run.calling import uses_within
from pipeline.run.outside import Free, Outside
from pipeline.run.sending import VendorCaller
from pipeline.stage import Advance, Retry
from pipeline.vendors.asking import with_model
from pipeline.vendors.declared import Price, Rate, VendorLimits, VendorSpec, VendorTerms
from pipeline.vendors.failures import failure
from pipeline.vendors.hearing import Reply
from pipeline.vendors.limits import FleetLimits
from pipeline.vendors.pacing import LimitSpec
from pipeline.vendors.uses import uses_of
from tests.unit.engine import Engine, Letter, Tape, until

USED = Usage(input_tokens=1000, output_tokens=100)
PRICE = Price(input=Decimal(10), output=Decimal(100))  # USD a million tokens
ASK = Request("/x", json={"q": 1}, tokens=2000, max_tokens=200)


def spec(name: str, **more: Any) -> VendorSpec:
    return VendorSpec(name=name, url=f"https://{name}.test", **more)


def down(name: str, *, in_doubt: bool = False) -> WaybillError:
    why = "is in trouble (503)"
    return failure(CallClass.TRANSIENT, spec(name), why, hint="wait", in_doubt=in_doubt)


class FakeDoor:
    """Answers by a function of the vendor's name; keeps what was sent."""

    def __init__(self, answers: Any) -> None:
        self.answers = answers
        self.sent: list[tuple[str, Any, str]] = []
        self.heard: Callable[[Any], None] = lambda how: None

    async def send(self, spec: VendorSpec, request: Request, **how: Any) -> Reply:
        body = with_model(spec, request.json)  # as the door does
        self.sent.append((spec.name, body, how["idempotency_key"]))
        if how["when"] is not None:
            await how["when"]()
        self.heard(how)
        await anyio.sleep(1)
        answer = self.answers(spec.name, len(self.sent))
        if isinstance(answer, WaybillError):
            raise answer
        return Reply(200, answer, usage=USED, model=f"{spec.name}-1", finish="stop")

    @property
    def asked(self) -> list[str]:
        return [name for name, _, _ in self.sent]


class World:
    """One stage that calls `llm`, whose fallback is `spare`."""

    def __init__(
        self, answers: Any, *, check: Any = None, ask: Request = ASK, **llm: Any
    ) -> None:
        self.got: list[Any] = []

        async def calls(letter: Letter, ctx: Any) -> Any:
            answer = await ctx.vendor("llm").call("ask", ask, check=check)
            self.got.append(answer)
            return Advance(answer=str(answer.data))

        tape = Tape()
        retry = Retry(attempts=3, base_s=1, cap_s=2)
        self.engine = Engine([tape.station("one", calls, retry=retry, timeout_s=60)])
        self.door = FakeDoor(answers)
        llm = {"price": PRICE, "kind": "openai", "model": "large", **llm}
        vendors = {
            "llm": spec("llm", **llm),
            "spare": spec("spare", kind="openai", model="small"),
        }
        services: Any = self.engine.services
        self.engine.services = replace(services, door=self.door, vendors=vendors)

    async def run(self) -> str:
        [self.item] = await self.engine.submit()
        async with self.engine.session():
            await self.engine.finish([self.item])
        return await self.engine.state(self.item)

    async def ledger(self) -> list[tuple[str, str, Decimal]]:
        """Oldest first: vendor, code, cost."""
        rows = await self.engine.store.calls_of(self.item)
        return [(r.vendor, r.code, r.cost) for r in reversed(rows)]


COST = PRICE.of(USED)
MOST = PRICE.most(2000, 200)


async def test_an_answer_is_kept_with_what_it_did_cost() -> None:
    world = World(lambda name, n: "yes")

    assert await world.run() == "done"

    [answer] = world.got
    assert (answer.vendor, answer.model, answer.finish) == ("llm", "llm-1", "stop")
    assert (answer.usage, answer.cost, answer.tries) == (USED, COST, 1)
    assert await world.ledger() == [("llm", "", COST)]
    assert world.door.sent[0][1] == {"q": 1, "model": "large"}


async def test_after_a_crash_the_kept_answer_is_returned() -> None:
    """A stage that goes on after its call: its worker dies there, the call is kept."""
    world = World(lambda name, n: "yes")
    hang = anyio.Event()

    async def ask(letter: Letter, ctx: Any) -> Any:
        answer = await ctx.vendor("llm").call("ask", ASK)
        if not hang.is_set():
            hang.set()
            await anyio.sleep_forever()
        return Advance(answer=str(answer.data))

    bound = world.engine.pipeline.stages["one"]
    stages = {"one": replace(bound, stage=replace(bound.stage, run=ask))}
    world.engine.pipeline = replace(world.engine.pipeline, stages=stages)
    [world.item] = await world.engine.submit()
    async with world.engine.session() as session:
        await until(hang.is_set)
    await world.engine.bury(session)
    async with world.engine.session():
        await world.engine.finish([world.item])

    assert world.door.asked == ["llm"]
    assert await world.ledger() == [("llm", "", COST)]


async def test_a_failed_call_is_on_record_and_the_worker_tries_again() -> None:
    """Every time with the key that the vendor knows the call by."""
    world = World(lambda name, n: down(name) if n < 3 else "yes")

    assert await world.run() == "done"

    assert [code for _, code, _ in await world.ledger()] == ["VENDOR_DOWN"] * 2 + [""]
    assert len({key for _, _, key in world.door.sent}) == 1
    assert world.got[0].tries == 3


async def test_what_may_have_been_served_counts_as_the_most() -> None:
    """A refusal costs nothing; of a lost reply nobody knows."""
    answers = [down("llm"), down("llm", in_doubt=True), "yes"]
    world = World(lambda name, n: answers[n - 1])

    await world.run()

    assert [cost for _, _, cost in await world.ledger()] == [0, MOST, COST]


async def test_a_fallback_answers_where_the_first_is_away() -> None:
    """In the same try, with its own model, recorded as what it is."""
    world = World(
        lambda name, n: down(name) if name == "llm" else "yes", fallbacks=("spare",)
    )

    assert await world.run() == "done"

    assert world.door.asked == ["llm", "spare"]
    assert world.door.sent[1][1] == {"q": 1, "model": "small"}
    assert world.door.sent[0][2] != world.door.sent[1][2]
    assert (world.got[0].vendor, world.got[0].tries) == ("spare", 2)
    assert await world.ledger() == [("llm", "VENDOR_DOWN", 0), ("spare", "", 0)]
    assert world.engine.store.attempts == []


async def test_a_crash_pays_no_chain_twice() -> None:
    """What failed before it is on record; the next one of the chain is asked."""
    world = World(
        lambda name, n: down(name) if name == "llm" else "yes", fallbacks=("spare",)
    )
    [world.item] = await world.engine.submit()
    async with world.engine.session() as session:
        await until(lambda: len(world.door.sent) == 2, every_s=0.1)
    await world.engine.bury(session)
    async with world.engine.session():
        await world.engine.finish([world.item])

    assert world.door.asked == ["llm", "spare", "spare"]
    assert world.door.sent[1][2] == world.door.sent[2][2]  # known by its key


async def test_when_all_have_failed_the_retry_begins_with_the_first() -> None:
    world = World(lambda name, n: down(name) if n < 4 else "yes", fallbacks=("spare",))

    assert await world.run() == "done"

    assert world.door.asked == ["llm", "spare", "llm", "spare"]


async def test_a_request_that_is_refused_is_nobodys_elses() -> None:
    """What is wrong with the request is wrong with it everywhere."""
    refused = failure(CallClass.PERMANENT, spec("llm"), "refused it (422)", hint="no")
    world = World(lambda name, n: refused, fallbacks=("spare",))

    assert await world.run() == "failed"

    assert (await world.engine.code(world.item), world.door.asked) == (
        "VENDOR_REFUSED",
        ["llm"],
    )


async def test_an_answer_that_does_not_pass_is_paid_and_not_kept() -> None:
    """`check` makes a failed call of it: a fallback, or the next try, answers."""

    def check(answer: Any) -> None:
        if answer.data == "half":
            raise Transient("half an answer", code="VENDOR_GARBAGE")

    world = World(
        lambda name, n: "half" if name == "llm" else "whole",
        check=check,
        fallbacks=("spare",),
    )

    assert await world.run() == "done"

    assert (await world.engine.letter(world.item)).answer == "whole"
    assert await world.ledger() == [("llm", "VENDOR_GARBAGE", COST), ("spare", "", 0)]


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [900, 240])
async def test_an_answer_too_deep_to_be_kept_is_garbage_and_settled(
    levels: int,
) -> None:
    """Nothing of it stays reserved; also one that can be written and not read again."""
    world = World(lambda name, n: deep(levels) if n == 1 else "flat")

    assert await world.run() == "done"

    assert await world.ledger() == [("llm", "VENDOR_GARBAGE", COST), ("llm", "", COST)]


async def test_a_check_that_fails_by_itself_leaves_nothing_reserved() -> None:
    """An error of the stage's own, which ends its try: the call was answered."""

    def check(answer: Any) -> None:
        raise KeyError("choices")

    world = World(lambda name, n: "yes", check=check)

    assert await world.run() == "failed"

    assert await world.ledger() == [("llm", "STAGE_RAISED", COST)] * 3


async def test_a_call_that_is_cut_off_counts_as_the_most() -> None:
    """Its item is cancelled while it is under way: nobody can wait for its end."""
    world = World(lambda name, n: "yes")
    [world.item] = await world.engine.submit()
    async with world.engine.session(lease_s=1):
        await until(lambda: bool(world.door.sent), every_s=0.05)
        await world.engine.store.cancel([world.item], "ann")
        await world.engine.finish([world.item], every_s=0.05)
        await anyio.sleep(1)

    [(vendor, code, cost)] = await world.ledger()
    assert (vendor, bool(code), cost) == ("llm", True, MOST)


async def test_a_call_must_say_how_long_its_answer_may_be() -> None:
    """Where the answer costs: what is reserved is the most that it can be."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        await ctx.vendor("llm").call("ask", Request(json={}))

    world = World(lambda name, n: "yes")
    bound = world.engine.pipeline.stages["one"]
    stages = {"one": replace(bound, stage=replace(bound.stage, run=ask))}
    world.engine.pipeline = replace(world.engine.pipeline, stages=stages)

    assert await world.run() == "failed"

    assert await world.engine.code(world.item) == "CALL_UNBOUNDED"
    assert world.door.sent == []


@pytest.mark.parametrize("tokens", [-1, 10**30])
def test_a_request_that_cannot_be_reserved_is_none(tokens: int) -> None:
    """It is refused where it is made, in the stage's own line."""
    with pytest.raises(ValueError, match="tokens of a request is 0 to 1,000,000,000"):
        Request(tokens=tokens)
    with pytest.raises(ValueError, match="max_tokens"):
        Request(max_tokens=tokens)


async def test_half_a_character_is_counted_as_well() -> None:
    """Documents have them; the door sends them escaped."""
    world = World(
        lambda name, n: "yes", ask=replace(ASK, json={"q": "\ud800"}, tokens=0)
    )

    assert await world.run() == "done"


async def test_a_vendor_that_nobody_declared_fails_by_name() -> None:
    async def ask(letter: Letter, ctx: Any) -> Any:
        await ctx.vendor("crm").call("ask", ASK)

    engine = Engine([Tape().station("one", ask)])
    [item] = await engine.submit()
    async with engine.session():
        await engine.finish([item])

    assert await engine.code(item) == "VENDOR_UNKNOWN"


@pytest.mark.parametrize("many", [1, 40])
async def test_calls_beside_each_other_are_steps_of_their_own(many: int) -> None:
    """In one task group, each with its name."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        async with anyio.create_task_group() as group:
            for n in range(many):
                group.start_soon(ctx.vendor("llm").call, f"ask-{n}", ASK)
        return Advance()

    world = World(lambda name, n: "yes")
    bound = world.engine.pipeline.stages["one"]
    stages = {"one": replace(bound, stage=replace(bound.stage, run=ask))}
    world.engine.pipeline = replace(world.engine.pipeline, stages=stages)

    assert await world.run() == "done"

    steps = {c.step for c in await world.engine.history(world.item) if c.step}
    assert steps == {f"ask-{n}" for n in range(many)}
    assert len(await world.ledger()) == many


@pytest.mark.parametrize("kind", ["step", "call"])
async def test_no_step_is_called_as_a_failed_try_is_recorded(kind: str) -> None:
    """It would be read as one: who failed, and what it cost."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        if kind == "step":
            await ctx.step("ask/try-1", anyio.sleep, 0)
        else:
            await ctx.vendor("llm").call("ask/try-1", ASK)
        return Advance()

    world = World(lambda name, n: "yes")
    bound = world.engine.pipeline.stages["one"]
    stages = {"one": replace(bound, stage=replace(bound.stage, run=ask))}
    world.engine.pipeline = replace(world.engine.pipeline, stages=stages)

    assert await world.run() == "failed"

    assert await world.engine.code(world.item) == "STEP_KEPT"
    assert await world.ledger() == []


async def test_two_calls_of_one_name_at_once_are_a_bug() -> None:
    """Both would be paid; one after the other the second has the first one's answer."""

    async def ask(letter: Letter, ctx: Any) -> Any:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(ctx.vendor("llm").call, "ask", ASK)
        return Advance()

    world = World(lambda name, n: "yes")
    bound = world.engine.pipeline.stages["one"]
    stages = {"one": replace(bound, stage=replace(bound.stage, run=ask))}
    world.engine.pipeline = replace(world.engine.pipeline, stages=stages)

    assert await world.run() == "failed"

    assert await world.engine.code(world.item) == "STEP_TWICE"
    assert len(await world.ledger()) < 2


async def test_a_pipelines_terms_tighten_what_it_calls() -> None:
    """Its timeout is the call's, its limits are kept beside the vendor's own."""
    world = World(lambda name, n: "yes", limits=VendorLimits(requests=Rate(9, 1)))
    limits = VendorLimits(requests=Rate(2, 1), concurrency=3)
    terms = {"llm": VendorTerms(timeout_s=0.5, limits=limits)}
    world.engine.pipeline = replace(world.engine.pipeline, vendors=terms)
    told: list[float] = []
    world.door.heard = lambda how: told.append(how["timeout_s"])

    assert await world.run() == "done"

    llm = spec("llm", limits=VendorLimits(requests=Rate(9, 1)))
    pipeline = world.engine.pipeline
    uses = uses_within(llm, pipeline, "north", 10)
    own = f"vendor/llm/pipeline/{pipeline.name}"
    assert told == [0.5]
    assert {use.key: use.spec for use in uses} == {
        "vendor/llm/requests": LimitSpec(9, 1),
        f"{own}/requests": LimitSpec(2, 1),
        f"{own}/concurrency": LimitSpec(concurrency=3),
    }


async def test_a_vendor_that_is_busy_rests_for_everybody() -> None:
    """Also when an effect was told: under the key that its limits are leased by."""
    llm = spec("llm", kind="openai", model="large")
    why = "asks us to slow down (429)"
    busy = failure(CallClass.THROTTLED, llm, why, hint="wait", retry_after_s=7)
    rested: list[tuple[str, float]] = []

    class Noted(Free):
        def pause(self, key: str, for_s: float) -> None:
            rested.append((key, for_s))

    free, world = Noted(), World(lambda name, n: busy)
    outside = Outside(world.door, free, free, free)
    caller = VendorCaller(world.engine.services, outside)
    with pytest.raises(Throttled):
        await caller.send("llm", "north", ASK, key="k", timeout_s=5)

    assert rested == [(uses_of(llm, "north", 0)[0].key, 7)]


@pytest.mark.parametrize(("more_s", "ends"), [(50, "done"), (70, "failed")])
async def test_time_in_line_is_not_the_stages_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, more_s: float, ends: str
) -> None:
    """Of calls beside each other it counts once; the stage has a minute of its own."""
    hold = FleetLimits.hold

    @asynccontextmanager
    async def slow(limits: Any, uses: Any, **how: Any) -> Any:
        await anyio.sleep(100)
        async with hold(limits, uses, **how) as turn:
            yield turn

    monkeypatch.setattr(FleetLimits, "hold", slow)
    world = World(lambda name, n: "yes")

    async def ask(letter: Letter, ctx: Any) -> Any:
        async with anyio.create_task_group() as tasks:
            for step in ("one", "two"):
                tasks.start_soon(ctx.vendor("llm").call, step, ASK)
        await anyio.sleep(more_s)
        return Advance(answer="yes")

    bound = world.engine.pipeline.stages["one"]
    stages = {"one": replace(bound, stage=replace(bound.stage, run=ask))}
    world.engine.pipeline = replace(world.engine.pipeline, stages=stages)

    assert await world.run() == ends


@pytest.mark.parametrize(("paused_s", "asked"), [(40, "spare"), (5, "llm")])
async def test_a_fallback_is_asked_where_a_limit_rests_for_long(
    paused_s: float, asked: str
) -> None:
    """Who has another to ask waits seconds in line, and no minute."""
    limits = VendorLimits(requests=Rate(10, 1))
    world = World(lambda name, n: "yes", fallbacks=("spare",), limits=limits)
    await world.engine.store.pause_limit("vendor/llm/requests", paused_s)
    began = anyio.current_time()

    assert await world.run() == "done"

    assert world.door.asked == [asked]
    assert anyio.current_time() - began < 12


async def test_a_fallback_is_asked_where_the_secret_is_not_there() -> None:
    """Nothing was sent, and nothing counts as a call; without one it fails by name."""
    world = World(lambda name, n: "yes", fallbacks=("spare",), key="secret:absent")
    alone = World(lambda name, n: "yes", key="secret:absent")

    assert (await world.run(), await alone.run()) == ("done", "failed")

    assert world.door.asked == ["spare"]
    assert await world.ledger() == [("spare", "", 0)]
    assert await alone.ledger() == []
    assert (await alone.engine.store.item(alone.item)).code == "VENDOR_KEY"


@pytest.mark.parametrize("spare", ["no secret", "refuses our key", "rests"])
async def test_a_first_vendor_that_only_rests_answers_later(spare: str) -> None:
    """Whatever its fallback lacks, or however long that rests itself."""
    limits = VendorLimits(requests=Rate(10, 1))

    def answer(name: str, n: int) -> Any:
        if name == "spare":
            why = "does not accept our key (401)"
            return failure(CallClass.AUTH, spec(name), why, hint="mend it")
        return "yes"

    world = World(answer, fallbacks=("spare",), limits=limits)
    services: Any = world.engine.services
    more = {"no secret": {"key": "secret:absent"}, "rests": {"limits": limits}}
    given: dict[str, Any] = more.get(spare, {})
    vendors = services.vendors | {"spare": spec("spare", kind="openai", **given)}
    world.engine.services = replace(services, vendors=vendors)
    await world.engine.store.pause_limit("vendor/llm/requests", 40)
    await world.engine.store.pause_limit("vendor/spare/requests", 3600)
    began = anyio.current_time()

    assert await world.run() == "done"

    assert world.door.asked[-1] == "llm"
    assert anyio.current_time() - began < 90
