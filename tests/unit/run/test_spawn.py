"""One document becomes several, and waits for them without costing anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from pipeline.errors import Permanent
from pipeline.model import Advance, Done, Entry, Reject, State, ToJoining, Wait
from pipeline.parts import PARTS_MAX, Part
from pipeline.stage import Stage
from tests.unit.engine import Engine, Letter, Tape, landed, lost, not_sent, until

BUNDLE = 1  # the first item of every test


def parts(count: int, **facts: Any) -> list[Part]:
    """So many documents."""
    return [Part(f"{n}.pdf", {"text": f"part {n}", **facts}) for n in range(count)]


class Desk:
    """A pipeline whose one stage unpacks bundles; what is not one is read."""

    def __init__(self, count: int = 3, *, took_s: float = 5.0) -> None:
        self.tape = Tape()
        self.made = parts(count)
        self.took_s = took_s
        self.joined: list[list[Any]] = []
        self.need: tuple[str, ...] = ()
        self.fate: Callable[[int], Any] = lambda _: None

    def stages(self) -> list[Stage]:
        return [self.tape.station("unpack", self.unpack, timeout_s=60)]

    def branches(self) -> dict[str, Sequence[Stage]]:
        return {"part": [self.tape.station("read", self.read)]}

    def engine(self, **settings: Any) -> Engine:
        return Engine(self.stages(), branches=self.branches(), **settings)

    async def unpack(self, letter: Letter, ctx: Any) -> Any:
        await ctx.spawn(self.made, at="part")
        kin = await ctx.join(need=self.need)
        self.joined.append(kin)
        return Advance(answer=",".join(k.values["answer"] for k in kin if k.values))

    async def read(self, letter: Letter, ctx: Any) -> Any:
        await anyio.sleep(self.took_s)
        ended = self.fate(ctx.item.id)
        if isinstance(ended, Exception):
            raise ended
        return ended or Advance(answer=letter.text.upper())


async def parked(engine: Engine) -> None:
    """Until the bundle waits for its children."""

    async def waits() -> bool:
        row = await engine.store.item(BUNDLE)
        return (row.state, row.joining) == (State.WAITING, True)

    await until(waits, within_s=600)


# -- the way through -------------------------------------------------------------------


async def test_a_bundle_of_a_hundred_waits_for_all_of_them() -> None:
    """Each part is read once; the bundle goes on with what they came to."""
    desk = Desk(100)
    engine = desk.engine()
    [bundle] = await engine.submit()

    async with engine.session():
        ended = await engine.finish([bundle])

    [kin] = desk.joined
    assert ended == {"done": 1}
    assert [k.item_id for k in kin] == list(range(2, 102))
    assert [k.values["answer"] for k in kin] == [f"PART {n}" for n in range(100)]
    assert {(k.state, k.stage, k.code) for k in kin} == {(State.DONE, "read", "")}
    assert [s for _, s, _ in desk.tape.ran].count("read") == 100
    assert (await engine.letter(bundle)).answer.count("PART") == 100
    assert await engine.sound()


async def test_a_bundle_that_waits_holds_nothing() -> None:
    """No task, no place in a window, no attempt: one row until its children are
    final, hours later."""
    desk = Desk(2, took_s=200)
    engine = desk.engine()
    [bundle] = await engine.submit()

    async with engine.session() as session:
        await parked(engine)
        here = session.windows.total
        await anyio.sleep(100)
        runs = list(desk.tape.stages(bundle))
        await engine.finish([bundle])

    assert here == 2  # its two children
    assert runs == ["unpack"]
    assert desk.tape.stages(bundle) == ["unpack", "unpack"]
    assert engine.store.attempts == []
    [waited] = engine.wire.moves(ToJoining)
    assert (waited.stage, waited.attempt) == ("unpack", 0)


async def test_the_bundle_goes_on_soon_after_its_last_child() -> None:
    """Within one look at the timers."""
    desk = Desk(3, took_s=5)
    engine = desk.engine()
    [bundle] = await engine.submit()

    async with engine.session():
        await engine.finish([bundle])

    last_read = max(at for _, s, at in desk.tape.ran if s == "read")
    again = desk.tape.times(bundle)[-1]
    assert 5 <= again - last_read < 5 + 1.5


async def test_children_begin_at_the_first_stage_without_a_branch() -> None:
    """`at` is for children that take another way."""
    tape = Tape()

    async def intake(letter: Letter, ctx: Any) -> Any:
        if letter.text:
            return Advance(answer="child")
        await ctx.spawn(parts(2))
        return Done(answer=str(len(await ctx.join())))

    engine = Engine([tape.station("intake", intake), tape.station("ocr")])
    [bundle] = await engine.submit()

    async with engine.session():
        await engine.finish([bundle])

    assert tape.stages(2) == tape.stages(3) == ["intake", "ocr"]
    assert (await engine.letter(bundle)).answer == "2"


async def test_a_child_may_be_a_bundle_itself() -> None:
    """Families of any depth: each waits for its own."""
    tape = Tape()

    async def intake(letter: Letter, ctx: Any) -> Any:
        depth = int(letter.text or 0)
        if depth == 2:
            return Done(pence=1)
        await ctx.spawn([Part(f"{n}", {"text": str(depth + 1)}) for n in range(3)])
        return Done(pence=sum(k.values["pence"] for k in await ctx.join()))

    engine = Engine([tape.station("intake", intake)])
    [bundle] = await engine.submit()

    async with engine.session():
        await engine.finish([bundle])

    assert (await engine.letter(bundle)).pence == 9


async def test_join_without_children_is_empty() -> None:
    """And waits for nobody."""
    tape = Tape()

    async def unpack(letter: Letter, ctx: Any) -> Any:
        return Advance(answer=str(await ctx.join()))

    engine = Engine([tape.station("unpack", unpack)])
    [item] = await engine.submit()

    async with engine.session():
        await engine.finish([item])

    assert (await engine.letter(item)).answer == "[]"
    assert tape.stages() == ["unpack"]


async def test_a_stage_may_join_spawn_more_and_join_again() -> None:
    """The second join sees the children of both spawns, the first one's list stays."""
    tape = Tape()
    seen: list[tuple[int, int]] = []

    async def unpack(letter: Letter, ctx: Any) -> Any:
        if letter.text:
            return Advance()
        await ctx.spawn(parts(2), name="first")
        first = await ctx.join()
        await ctx.spawn(parts(3), name="second")
        seen.append((len(first), len(await ctx.join())))
        return Advance()

    engine = Engine([tape.station("unpack", unpack)])
    [bundle] = await engine.submit()

    async with engine.session():
        await engine.finish([bundle])

    assert seen == [(2, 5)]


async def test_a_join_beside_other_tasks_parks_all_the_same() -> None:
    """The park comes out of a task group as what it is, not as a failure."""
    desk = Desk(2)

    async def unpack(letter: Letter, ctx: Any) -> Any:
        await ctx.spawn(desk.made, at="part")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.join)
        return Advance(answer="after")

    engine = Engine([desk.tape.station("unpack", unpack)], branches=desk.branches())
    [bundle] = await engine.submit()

    async with engine.session():
        ended = await engine.finish([bundle])

    assert ended == {"done": 1}
    assert engine.store.attempts == []


# -- how children end ------------------------------------------------------------------


async def test_children_that_fail_are_in_the_list() -> None:
    """The bundle decides what that means; nobody decides for it."""
    desk = Desk(4, took_s=1)
    fates = {
        3: Reject("BLANK", "no ink", answer="said before"),
        4: Permanent("no", code="BROKEN"),
    }
    desk.fate = fates.get
    engine = desk.engine()
    [bundle] = await engine.submit()

    async with engine.session():
        ended = await engine.finish([bundle])

    [kin] = desk.joined
    assert ended == {"done": 1}
    assert [(k.state, k.code) for k in kin] == [
        ("done", ""),
        ("rejected", "BLANK"),
        ("failed", "BROKEN"),
        ("done", ""),
    ]
    assert [k.values["answer"] for k in kin] == ["PART 0", "said before", "", "PART 3"]


@pytest.mark.parametrize(
    ("need", "said"),
    [
        (("0.pdf",), ""),
        (("0.pdf", "1.pdf"), "not done: 1.pdf (item 3, failed UNREADABLE)"),
        (("3.pdf",), "not done: 3.pdf (there is none)"),
    ],
)
async def test_without_a_part_that_is_needed_a_person_is_asked(
    need: tuple[str, ...], said: str
) -> None:
    """Others that failed are named gaps; what is needed holds the item, by name."""
    desk = Desk(3)
    desk.need = need
    errors = {3: Permanent("the page is black", code="UNREADABLE")}
    desk.fate = errors.get
    engine = desk.engine()
    [bundle] = await engine.submit()

    async def ended() -> bool:
        return (await engine.state(bundle)) in ("held", "done")

    async with engine.session():
        await until(ended, within_s=600)

    row = await engine.store.item(bundle)
    assert row.state is (State.HELD if said else State.DONE)
    assert said in row.why
    assert row.code == ("PART_MISSING" if said else "")
    assert len(desk.joined) == (0 if said else 1)


async def test_what_a_join_saw_it_sees_again() -> None:
    """A child that is retried afterwards does not change a stage that is retried."""
    desk = Desk(2, took_s=1)
    desk.fate = {3: Permanent("no", code="BROKEN")}.get
    tries: list[list[str]] = []

    async def unpack(letter: Letter, ctx: Any) -> Any:
        await ctx.spawn(desk.made, at="part")
        tries.append([k.state.value for k in await ctx.join()])
        if len(tries) == 1:
            return Wait(120)
        return Advance()

    engine = Engine([desk.tape.station("unpack", unpack)], branches=desk.branches())
    [bundle] = await engine.submit()

    async with engine.session():
        await until(lambda: len(tries) == 1)
        desk.fate = lambda _: None
        await engine.store.retry([3], "ann")
        await engine.finish([bundle])

    assert await engine.state(3) == "done"
    assert tries == [["done", "failed"]] * 2


async def test_values_too_large_for_a_row_are_joined_from_the_artifacts() -> None:
    """A long text is a text like any other."""
    desk = Desk(1, took_s=1)
    desk.fate = lambda _: Advance(answer="x" * 20_000)
    engine = desk.engine()
    [bundle] = await engine.submit()

    async with engine.session():
        await engine.finish([bundle])

    assert len(desk.joined[0][0].values["answer"]) == 20_000


async def test_a_child_whose_input_does_not_fit_has_no_values() -> None:
    """It failed with BAD_INPUT; its parent hears of it and goes on."""
    desk = Desk()
    desk.made = [Part("odd", {"pence": "no number"})]
    engine = desk.engine()
    [bundle] = await engine.submit()

    async with engine.session():
        ended = await engine.finish([bundle])

    [[child]] = desk.joined
    assert ended == {"done": 1}
    assert (child.code, child.values) == ("BAD_INPUT", {})


# -- crashes ---------------------------------------------------------------------------


async def test_a_worker_that_dies_while_the_bundle_waits_loses_nothing() -> None:
    """The next one finds the children and the step, and joins."""
    desk = Desk(5, took_s=20)
    engine = desk.engine()
    [bundle] = await engine.submit()
    async with engine.session() as first:
        await parked(engine)
    await engine.bury(first)

    async with engine.session():
        ended = await engine.finish([bundle])

    assert ended == {"done": 1}
    assert len(desk.joined[0]) == 5
    assert (await engine.store.counts()).received == 6
    assert await engine.sound()


async def test_a_worker_that_dies_between_spawn_and_park_spawns_once() -> None:
    """The stage runs again; its children are those of the first time."""
    desk = Desk(5)
    reached = anyio.Event()
    ids: list[list[int]] = []

    async def unpack(letter: Letter, ctx: Any) -> Any:
        ids.append(await ctx.spawn(desk.made, at="part"))
        if len(ids) == 1:
            reached.set()
            await anyio.sleep_forever()
        await ctx.join()
        return Advance()

    engine = Engine([desk.tape.station("unpack", unpack)], branches=desk.branches())
    [bundle] = await engine.submit()
    async with engine.session() as first:
        await reached.wait()
    await engine.bury(first)

    async with engine.session():
        await engine.finish([bundle])

    assert ids[0] == ids[1] == [2, 3, 4, 5, 6]
    assert (await engine.store.counts()).received == 6


@pytest.mark.parametrize("fault", [not_sent, lost, landed])
async def test_a_spawn_whose_commit_is_in_doubt_happens_once(fault: Any) -> None:
    """Whether it arrived or not: one set of children, and their ids are known."""
    desk = Desk(3)
    engine = desk.engine()
    [bundle] = await engine.submit()
    engine.wire.faults["commit"].append(fault)

    async with engine.session():
        await engine.finish([bundle])

    assert [k.item_id for k in desk.joined[0]] == [2, 3, 4]
    assert (await engine.store.counts()).received == 4


@pytest.mark.parametrize("method", ["result_of", "open_children", "kin"])
async def test_a_database_that_is_away_is_waited_for(method: str) -> None:
    """Reading about children charges nobody and ends no session."""
    desk = Desk(3)
    engine = desk.engine()
    [bundle] = await engine.submit()
    engine.wire.faults[method] += [not_sent, not_sent, not_sent]

    async with engine.session() as session:
        ended = await engine.finish([bundle])
        alive = session.done

    assert ended == {"done": 1}
    assert alive == 4
    assert engine.store.attempts == []


async def test_the_deadline_ends_the_wait() -> None:
    """A bundle whose children are held for ever fails in time, with the reason."""
    desk = Desk(1, took_s=1)
    desk.fate = lambda _: Wait(30 * 86400)
    engine = desk.engine()
    [bundle] = await engine.submit(deadline_s=600)

    async with engine.session():
        ended = await engine.finish([bundle])

    assert ended == {"failed": 1}
    assert await engine.code(bundle) == "DEADLINE_PASSED"


async def test_a_cancelled_bundle_takes_its_children_along() -> None:
    """Those in line at once, those in a worker's hands within one renewal."""
    desk = Desk(3, took_s=1000)
    engine = desk.engine()
    [bundle] = await engine.submit()

    async with engine.session() as session:
        await parked(engine)
        await engine.store.cancel([bundle], "ann")
        await until(lambda: session.windows.total == 0, within_s=30)

    assert [await engine.state(i) for i in range(1, 5)] == ["cancelled"] * 4
    assert await engine.sound()


async def test_an_entry_that_spawns_says_so() -> None:
    """One entry of the journal: children and checkpoint go together."""
    desk = Desk(2)
    engine = desk.engine()
    [bundle] = await engine.submit()

    async with engine.session():
        await engine.finish([bundle])

    born: list[Entry] = [e for e in engine.wire.entries if e.spawn is not None]
    assert [(e.item_id, e.checkpoint and e.checkpoint.step) for e in born] == [
        (bundle, "spawn:parts")
    ]


# -- what may not be asked -------------------------------------------------------------


async def failing(run: Any, **more: Any) -> tuple[str, Engine]:
    """The code that a stage's item failed with."""
    tape = Tape()
    engine = Engine([tape.station("unpack", run)], **more)
    [item] = await engine.submit()
    async with engine.session():
        await engine.finish([item])
    return await engine.code(item), engine


async def test_too_many_parts_are_refused() -> None:
    """A journal's batch stays small: the caller slices."""

    async def run(letter: Letter, ctx: Any) -> Any:
        await ctx.spawn(parts(PARTS_MAX + 1))

    code, engine = await failing(run)

    assert code == "SPAWN_SIZE"
    assert (await engine.store.counts()).received == 1


async def test_an_unknown_branch_is_refused() -> None:
    """A typing mistake makes no items that nobody can run."""

    async def run(letter: Letter, ctx: Any) -> Any:
        await ctx.spawn(parts(1), at="nowhere")

    code, engine = await failing(run)

    assert code == "SPAWN_BRANCH"
    assert (await engine.store.counts()).received == 1


@pytest.mark.parametrize("why", ["JOIN", "its children"])
async def test_no_stage_waits_for_children_it_does_not_have(why: str) -> None:
    """A reason is words alone: whatever it says, the wait is for its time."""
    tape = Tape()

    async def run(letter: Letter, ctx: Any) -> Any:
        return Advance() if tape.stages(1)[1:] else Wait(100, why)

    engine = Engine([tape.station("wait", run)])
    [item] = await engine.submit()
    async with engine.session():
        began = anyio.current_time()
        await anyio.sleep(50)
        row = await engine.store.item(item)
        ended = await engine.finish([item])

    assert (row.state, row.why, row.joining) == (State.WAITING, why, False)
    assert ended == {"done": 1}
    assert anyio.current_time() - began >= 100


async def test_names_of_parts_are_cleaned() -> None:
    """They come out of foreign bundles: what the database cannot store goes."""
    tape = Tape()

    async def unpack(letter: Letter, ctx: Any) -> Any:
        if not letter.text:
            await ctx.spawn([Part("a\x00\ud800b" + "c" * 5000, {"text": "\x00x"})])
        return Advance()

    engine = Engine([tape.station("unpack", unpack)])
    await engine.submit()

    async with engine.session():
        await engine.finish([1])
        await engine.finish([2])

    assert (await engine.store.item(2)).name == "ab" + "c" * 998


# -- finished early --------------------------------------------------------------------


async def test_done_ends_the_item_here() -> None:
    """Later stages do not run; what it says is in the state."""
    tape = Tape()

    async def unpack(letter: Letter, ctx: Any) -> Any:
        return Done(answer="nothing more to do")

    engine = Engine([tape.station("unpack", unpack), tape.station("ocr")])
    [item] = await engine.submit()

    async with engine.session() as session:
        ended = await engine.finish([item])

    [kept] = await engine.history(item)
    assert ended == {"done": 1}
    assert tape.stages() == ["unpack"]
    assert (kept.stage, kept.next_stage) == ("unpack", "")
    assert (await engine.letter(item)).answer == "nothing more to do"
    assert session.done == 1


async def test_done_with_a_bad_update_is_a_bug_with_a_name() -> None:
    """What it says is validated like every update."""

    async def run(letter: Letter, ctx: Any) -> Any:
        return Done(no_such_channel=1)

    assert (await failing(run))[0] == "BAD_OUTCOME"
