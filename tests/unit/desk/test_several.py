"""Several holds are approved each by itself: what cannot be is refused by name."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio

from pipeline.errors import Conflict, Integrity, StoreUnavailable, Usage, WaybillError
from pipeline.model import Hold
from pipeline.store.rows import HoldRow
from tests.unit.engine import Engine, Letter, Tape, until
from waybill.desk import model, several


class Desks:
    """Two reviewers over one store with some items held."""

    roles: tuple[str, ...] = ()

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ann, self.bob = (self._app(name) for name in ("ann", "bob"))

    def _app(self, reviewer: str) -> Any:
        return SimpleNamespace(
            store=self.engine.store,
            artifacts=self.engine.artifacts,
            catalogue=self.engine.catalogue,
            settings=SimpleNamespace(reviewer=reviewer, roles=self.roles),
        )

    async def holds(self) -> list[HoldRow]:
        return await self.engine.store.holds()


async def desks(items: int, *, needs: tuple[str, ...] = (), role: str = "") -> Desks:
    """Reviewers over so many held items; the first needs an answer, or has a role."""
    tape = Tape()

    async def hold(letter: Letter, ctx: Any) -> Hold:
        wanted = needs if ctx.item.id == 1 else ()
        theirs = role if ctx.item.id == 1 else ""
        text = f"of {ctx.item.id}"
        return Hold("LOOK", "why", needs=wanted, role=theirs, text=text)

    engine = Engine([tape.station("one", hold)])
    await engine.submit(items)
    async with engine.session():
        await until(lambda: len(engine.store._open) == items)
    return Desks(engine)


def said(ruled: list[several.Ruled]) -> list[str]:
    """What became of each, in a word."""
    return [
        one.error.code if one.error else one.decided.decision.author  # type: ignore[union-attr]
        for one in ruled
    ]


async def test_each_is_a_decision_of_its_own() -> None:
    """In the order given, with its changes, and nothing is left."""
    there = await desks(3)
    one, two, three = await there.holds()

    ruled = await several.approve_all(there.ann, [three, one, two], reason="seen")

    assert [r.hold.id for r in ruled] == [three.id, one.id, two.id]
    assert said(ruled) == ["ann"] * 3
    assert [c.new for r in ruled for c in r.changes] == [
        f"of {h.item_id}" for h in (three, one, two)
    ]
    assert await there.holds() == []
    assert several.exit_code(ruled) == 0


async def test_a_decision_tells_the_hold_that_it_led_to(tmp_path: Path) -> None:
    """Its number and its code; of an item that goes on, none."""
    tape = Tape()

    async def hold(letter: Letter, ctx: Any) -> Hold:
        return Hold("LOOK", "why", text="of it")

    async def holds_again(letter: Letter, ctx: Any) -> Hold:
        return Hold("AGAIN", "why", text="of it")

    engine = Engine([tape.station("one", hold), tape.station("two", holds_again)])
    await engine.submit(1)
    app = Desks(engine).ann
    app.settings.out_dir = tmp_path
    told = []
    async with engine.session():
        for _ in range(2):
            await until(lambda: len(engine.store._open) == 1)
            [row] = await engine.store.holds()
            ruled = await several.approve_all(app, [row], reason="")
            [one] = ruled
            assert one.decided is not None
            await until(lambda: len(engine.store._holds) > 1)
            told.append(await model.consequence(app, one.decided))

    assert [(t.next_hold, t.next_code) for t in told] == [("h2", "AGAIN"), (None, "")]


async def test_what_was_decided_meanwhile_is_refused_and_the_others_go_on() -> None:
    """Of what was looked at, others have decided, claimed and changed some."""
    there = await desks(5)
    looked_at = await there.holds()
    decided, claimed, forged, other, _ = looked_at
    for hold in looked_at:
        assert (await several.would(there.ann, hold)).error is None
    looked_at[3] = other._replace(digest="of what it was when it was shown")
    await several.approve_all(there.bob, [decided])
    await there.engine.store.claim_hold(claimed.id, "bob", lease_s=60)
    rows = there.engine.store._holds
    rows[forged.id] = rows[forged.id]._replace(proposal={"text": "forged"})

    ruled = await several.approve_all(there.ann, looked_at)

    assert said(ruled) == ["DECIDED", "CLAIMED", "HOLD_CHANGED", "STALE", "ann"]
    assert several.exit_code(ruled) == 8
    left = {h.id for h in await there.holds()}
    assert left == {claimed.id, forged.id, other.id}
    first = (await there.engine.store.hold(decided.id)).decision
    assert first is not None
    assert first.author == "bob"


async def test_what_is_decided_is_not_shown_as_if_it_were_open() -> None:
    """A preview says so, too."""
    there = await desks(1)
    [hold] = await there.holds()
    await several.approve_all(there.bob, [hold])
    row = await there.engine.store.hold(hold.id)

    would = await several.would(there.ann, row)

    assert would.error is not None
    assert would.error.code == "DECIDED"


async def test_two_reviewers_of_the_same_holds_share_them() -> None:
    """Whatever the order in which they come, each hold has one decision."""
    there = await desks(6)
    holds = await there.holds()
    ruled: dict[str, list[several.Ruled]] = {}

    async def review(app: Any, line: list[HoldRow]) -> None:
        ruled[app.settings.reviewer] = await several.approve_all(app, line)

    async with anyio.create_task_group() as both:
        both.start_soon(review, there.ann, holds)
        both.start_soon(review, there.bob, holds[::-1])

    by_hold = {
        (one.hold.id, word)
        for line in ruled.values()
        for one, word in zip(line, said(line), strict=True)
    }
    assert {hold for hold, word in by_hold if word == "DECIDED"} == {
        hold for hold, word in by_hold if word != "DECIDED"
    }
    assert max(map(several.exit_code, ruled.values())) == 7
    assert await there.holds() == []


async def test_what_needs_an_answer_is_told_apart() -> None:
    """A filter leaves it, and what somebody else reads; named, it is refused."""
    there = await desks(3, needs=("answer",))
    holds = await there.holds()
    needy = next(hold for hold in holds if hold.needs)
    other, mine = [hold for hold in holds if not hold.needs]
    await there.engine.store.claim_hold(other.id, "bob", lease_s=60)
    await there.engine.store.claim_hold(mine.id, "ann", lease_s=60)

    can, left = several.apart(there.ann, await there.holds())
    ruled = await several.approve_all(there.ann, [needy, mine])

    assert [h.id for h in can] == [mine.id]
    assert {h.id for h in left} == {needy.id, other.id}
    assert said(ruled) == ["ANSWER_NEEDED", "ann"]
    assert several.exit_code(ruled) == 2


class Going:
    """A store that is gone when a second decision is made."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def decide(self, hold: int, **how: Any) -> HoldRow:
        self.asked += 1
        if self.asked == 2:
            raise StoreUnavailable("gone")
        decided: HoldRow = await self._store.decide(hold, **how)
        return decided


async def test_our_own_trouble_ends_the_rest_untried() -> None:
    """A database that has gone is not asked a thousand times, and is the exit code."""
    there = await desks(4)
    there.ann.store = Going(there.engine.store)

    ruled = await several.approve_all(there.ann, await there.holds())

    assert said(ruled) == ["ann", *["DATABASE_UNAVAILABLE"] * 3]
    assert there.ann.store.asked == 2
    assert several.exit_code(ruled) == StoreUnavailable.exit_code


def test_the_gravest_refusal_is_the_exit_code() -> None:
    """Our own trouble before all: what else was refused must be looked at again."""

    def of(*errors: WaybillError) -> int:
        hold: Any = None
        return several.exit_code([several.Ruled(hold, None, [], e) for e in errors])

    assert of() == 0
    assert of(Usage("a"), Conflict("b")) == 7
    assert of(Integrity("a"), Conflict("b")) == 8
    assert of(Integrity("a"), StoreUnavailable("b")) == 3


async def test_what_is_a_roles_is_never_decided_among_several() -> None:
    """Left out of a filter and refused by name, also to whoever has the role."""
    there = await desks(2, role="safeguarding")
    grave, other = await there.holds()
    there.ann.settings.roles = ("safeguarding",)

    can, left = several.apart(there.ann, [grave, other])
    ruled = await several.approve_all(there.ann, [grave, other])

    assert (can, left) == ([other], [grave])
    assert said(ruled) == ["ONE_BY_ONE", "ann"]
    assert (await there.engine.store.hold(grave.id)).decision is None


async def test_only_who_has_the_role_rules_on_it() -> None:
    """Others may neither claim nor decide it, and meet it in no common line."""
    there = await desks(1, role="safeguarding")
    [grave] = await there.holds()
    there.bob.settings.roles = ("safeguarding",)

    refused: list[str] = []
    for call in (
        lambda: model.claim(there.ann, grave),
        lambda: model.claim_next(there.ann),
        lambda: model.claim_next(there.ann, role="safeguarding"),
        lambda: model.decide(there.ann, grave, "reject", reason="no"),
    ):
        try:
            await call()
        except WaybillError as error:
            refused.append(error.code)
    theirs = await model.claim_next(there.bob, role="safeguarding")
    decided = await model.decide(there.bob, theirs, "reject", reason="told somebody")

    assert refused == ["ROLE_NEEDED", "NOTHING_HELD", "ROLE_NEEDED", "ROLE_NEEDED"]
    assert decided.decision is not None
