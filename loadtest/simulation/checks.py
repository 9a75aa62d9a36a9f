"""
What must hold when a history is over: the store, held to the world's own books.

Each promise goes by its number, I1 to I28, of the invariants that every run checks.
"""

from __future__ import annotations

from collections import Counter

from loadtest.simulation.stations import RATE, STAGES, TRIES
from loadtest.simulation.world import World
from pipeline.model import ItemId, State
from pipeline.outbox import EffectState, SinkClass

# Why an item may fail, by what its stages do.
MAY_FAIL = {
    "transient": {"TRANSIENT"},
    "hangs": {"STAGE_TIMEOUT"},
    "bug": {"STAGE_RAISED"},
    "permanent": {"NEVER"},
}
WINDOW_MARGIN_S = 1e-6  # clocks are floats


async def check(world: World) -> None:
    """Enter into the books whatever promise is broken."""
    await _conserved(world)
    for item in world.store.everything():
        _ended_rightly(world, item)
        _tries(world, item)
        _sequence(world, item)
    _effects(world)
    _decisions(world)
    _pace(world)
    if world.left & set(world.store.sessions_left()):
        world.books.breach("I23", "a worker that left in order left its row behind")


async def _conserved(world: World) -> None:
    counts = await world.store.counts()
    if not counts.conserved or await world.store.astray():
        world.books.breach("I1", f"counts {counts}")
    if missing := set(world.items) - set(world.store.everything()):
        world.books.breach("I2", f"acknowledged and gone: {sorted(missing)}")


def _ended_rightly(world: World, item: ItemId) -> None:
    """Its end is one that its stages, a person, its deadline or its workers made."""
    end = world.store.end(item)
    if end is None:
        return  # said already: it is not finished
    finish, at = end
    answered = world.books.answered.get(item)
    if answered == "cancelled" and finish.state is not State.CANCELLED:
        world.books.breach("I3", f"item {item}: cancelled, and then {finish.state}")
    kinds = {world.stations.nature(item, name).kind for name in STAGES}
    if finish.state is State.DONE:
        fine = _went_through(world, item)
    elif finish.state is State.REJECTED:
        fine = "rejects" in kinds or item in world.books.rejected
    elif finish.state is State.CANCELLED:
        fine = answered is not None or world.store.is_child(item)
    else:
        codes = {code for kind in kinds for code in MAY_FAIL.get(kind, ())}
        killed = world.store.deaths[item] >= 3
        late = at >= world.store.deadline(item) - WINDOW_MARGIN_S
        fine = (
            finish.code in codes
            or (finish.code == "WORKER_KILLED" and killed)
            or (finish.code == "DEADLINE_PASSED" and late)
        )
    if not fine:
        what = (
            f"item {item} of {sorted(kinds)}: {finish} after {world.store.deaths[item]}"
        )
        world.books.breach("I3", f"{what} deaths")


def _went_through(world: World, item: ItemId) -> bool:
    """One checkpoint a stage, in their order, led to the end."""
    led = [
        c for c in world.store.kept(item) if c.step is None and c.next_stage is not None
    ]
    since = world.books.again.get(item, 0)
    passed = [c.stage for c in led if c.next_stage != c.stage]
    if since:  # rejected by a stage, and tried again by a person
        passed = list(dict.fromkeys(passed))
    return passed == list(STAGES)


def _tries(world: World, item: ItemId) -> None:
    """Charged tries are bounded, and waiting for somebody else costs none."""
    tried = [a for i, a in world.store.attempts if i == item and a.charged]
    # Of a commit that landed after it was sent again the row is there twice.
    charged = Counter(stage for stage, _ in {(a.stage, a.attempt) for a in tried})
    most = TRIES * (1 + world.books.retried[item])
    for stage, count in charged.items():
        if count > most:
            world.books.breach("I20", f"item {item}: {count} charged tries of {stage}")
    for i, a in world.store.attempts:
        if i == item and a.charged and a.code == "THROTTLED":
            world.books.breach("I20", f"item {item}: charged for a throttle")


def _sequence(world: World, item: ItemId) -> None:
    found = [c.seq for c in world.store.kept(item)]
    # One may be missing: a spawn that was refused, for its try was over by then.
    if found != sorted(set(found)):
        world.books.breach("I3", f"item {item}: checkpoints {found}")
    steps = Counter((c.stage, c.step) for c in world.store.kept(item) if c.step)
    if twice := [key for key, count in steps.items() if count > 1]:
        world.books.breach("I9", f"item {item}: recorded twice: {twice}")


def _effects(world: World) -> None:
    """Done once, or in doubt; nothing planned is forgotten, nothing unplanned done."""
    ledger = {(e.sink, e.key): e for e in world.store.every_effect()}
    for receiver in world.receivers:
        for key, times in receiver.did.items():
            if times > 1:
                world.books.breach("I7", f"{receiver.name} did {key[:8]} {times} times")
            if (receiver.name, key) not in ledger:
                world.books.breach("I7", f"{receiver.name} did what nobody planned")
        for key, bodies in receiver.bodies.items():
            if len(bodies) > 1:
                world.books.breach("I7", f"{receiver.name} got {key[:8]} with {bodies}")
        for e in ledger.values():
            did = receiver.did[e.key]
            if e.sink != receiver.name:
                continue
            if e.state is EffectState.CONFIRMED and not did:
                world.books.breach("I8", f"{e.sink}: {e.key[:8]} confirmed, never done")
            if e.state is EffectState.REFUSED and did:
                world.books.breach("I8", f"{e.sink}: {e.key[:8]} refused, and done")
            doubtful = e.state is EffectState.IN_DOUBT
            if doubtful and receiver.facts.sink_class is SinkClass.A:
                world.books.breach("I8", f"{e.sink}: {e.key[:8]} in doubt for ever")
    planned = Counter(e.item_id for e in ledger.values())
    for item in world.store.everything():
        end = world.store.end(item)
        if end and end[0].state is State.DONE and planned[item] != len(world.receivers):
            world.books.breach("I8", f"item {item} done with {planned[item]} effects")


def _decisions(world: World) -> None:
    for hold, times in world.books.ruled.items():
        if times > 1:
            world.books.breach("I12", f"hold {hold} ruled on {times} times")


def _pace(world: World) -> None:
    """No window holds more tries than the limit says, of all workers together."""
    calls = sorted(world.books.calls)
    most = int(RATE.rate)
    for first, beyond in zip(calls, calls[most:], strict=False):
        if beyond - first < RATE.per_s - WINDOW_MARGIN_S:
            window = f"{most + 1} calls within {beyond - first:.3f} s at {first:.3f}"
            world.books.breach("I19", window)
            return
