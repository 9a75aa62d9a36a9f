"""
An item's stay in this worker: it is loaded and carried from stage to stage.

Every try of a stage (attempt.py) comes to an ending (endings.py), which is made
durable here before anything else happens to the item.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

import anyio
import structlog

from pipeline.bound import BoundStage
from pipeline.calls import Settled
from pipeline.errors import (
    Integrity,
    LeaseLost,
    Permanent,
    StoreUnavailable,
    Trouble,
    WaybillError,
    code_of,
)
from pipeline.folder import Catalogue, Pipeline
from pipeline.holds.parking import by_reference
from pipeline.model import (
    Checkpoint,
    Claim,
    Entry,
    Finish,
    ItemId,
    Progress,
    Spawn,
    State,
    ToHeld,
    ToReady,
    ToWaiting,
)
from pipeline.purse import Draw
from pipeline.run.attempt import STUCK_S, abandon, attempt, use_of
from pipeline.run.clock import clock
from pipeline.run.endings import Ending, aside, ending, error_text
from pipeline.run.gate import Gate
from pipeline.run.journal import Journal
from pipeline.run.outside import Outside
from pipeline.run.services import Services
from pipeline.run.stay import Abandoned, Run, resumed, until_answered
from pipeline.run.windows import Windows
from pipeline.state import inline_or_ref, update_of
from pipeline.store.port import WorkStore
from pipeline.trouble import trouble_of

log = structlog.get_logger()

MENDED_S = 60.0  # so often an item looks whether what it needs is sound again


class Carrier:
    """
    Carries the items of one session (and records their steps).

    Args:
        check_lease: Raises `LeaseLost` when this worker may have been replaced.
        ring: Called when an item went back in line.
        gate: Hears of the machine's trouble.

    Attributes:
        runs: The items that are loaded.
        done: How many were finished.
        draining: No item goes on to another stage here.
    """

    def __init__(
        self,
        store: WorkStore,
        catalogue: Catalogue,
        services: Services,
        outside: Outside,
        windows: Windows,
        journal: Journal,
        check_lease: Callable[[], None],
        ring: Callable[[], None],
        gate: Gate,
    ) -> None:
        self.store = store
        self.services = services
        self.outside = outside
        self.check_lease = check_lease
        self.runs: dict[ItemId, Run] = {}
        self.done = 0
        self.draining = False
        self._catalogue = catalogue
        self._windows = windows
        self._journal = journal
        self._ring = ring
        self._gate = gate
        self._now = clock()
        self._shaped: set[int] = set()  # pipelines whose windows are known
        self._large = anyio.Lock()  # one large state is loaded at a time

    def __repr__(self) -> str:
        return f"<Carrier items={len(self.runs)} done={self.done}>"

    async def carry(self, claim: Claim, history: list[Checkpoint] | None) -> None:
        """
        An item's stay in this worker; whatever it raises ends this item alone.

        Without a `history` it is read when its turn has come.

        Raises:
            LeaseLost: the item is abandoned, and the session is over.
            StoreUnavailable: it could not be loaded; that is not its fault.
        """
        run: Run | None = None
        try:
            run = await self._load(claim, history)
            self.runs[claim.item.id] = run
            while await self._one_stage(run):
                pass
        except (LeaseLost, StoreUnavailable):
            raise
        except Abandoned:
            pass  # as if it had never returned
        except Trouble as trouble:
            await self._put_aside(run or claim, trouble)
        except Integrity as error:
            await self._look_again(run or claim, error)
        except WaybillError as error:
            # The item cannot even begin here (its pipeline, its input).
            await self._end_badly(claim.item.id, (run or claim).stage, error)
        except Exception as error:
            ours = trouble_of(error, self.services.places)
            if ours is not None:
                await self._put_aside(run or claim, ours)
                return
            # The worker's edge: whatever it is, it ends this item and no other.
            # No traceback: its last line may quote a document.
            where = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                "item_raised",
                item=claim.item.id,
                error=type(error).__name__,
                at=f"{where.filename}:{where.lineno}",
            )
            odd = Permanent(f"the item raised {type(error).__name__}", code="INTERNAL")
            await self._end_badly(claim.item.id, (run or claim).stage, odd)
        finally:
            # Back in line, it may have been claimed again before we heard of it.
            if run is not None and self.runs.get(claim.item.id) is run:
                del self.runs[claim.item.id]
            if run is None:
                self._windows.leave(claim.stage)
            elif not run.abandoned:
                self._left(run)

    def _left(self, run: Run) -> None:
        self._windows.load(-run.loaded)
        self._windows.leave(run.stage)

    def stuck(self, passed_s: float) -> list[Run]:
        """Whose stage has not ended, long after it was to; `passed_s` since asked."""
        now = anyio.current_time()
        late = [r for r in self.runs.values() if r.scope and r.scope.deadline <= now]
        for run in late:
            run.late_s += passed_s
        return [run for run in late if run.late_s > STUCK_S]

    async def abandon(self, run: Run) -> None:
        """
        Let an item go on without a stage that does not end: that try is charged.

        Raises:
            LeaseLost: the session is over.
        """
        bound = run.pipeline.stages[run.stage]
        item, attempt = run.item.id, run.attempt
        log.error("stage_stuck", item=item, stage=run.stage, attempt=attempt)
        what = ending(run, bound, abandon(run, bound), bound.stage.timeout_s)
        del self.runs[item]
        self._left(run)
        await self._write(run, bound, what)

    def cancel(self, item: ItemId) -> None:
        """Somebody cancelled this item: stop the stage that it is in."""
        run = self.runs.get(item)
        if run is not None:
            run.cancelled = True
            if run.scope is not None:
                run.scope.deadline = min(run.scope.deadline, anyio.current_time())
                run.scope.cancel()

    async def _load(self, claim: Claim, history: list[Checkpoint] | None) -> Run:
        """
        Gather what the item's state is folded from; keep its steps at hand.

        What is large is read by one item after the other, while there is room for
        it: were all read at once, none would ever be finished.
        """
        pipeline = await self._catalogue.get(claim.item.pipeline_id, self.store)
        if claim.item.pipeline_id not in self._shaped:
            self._shaped.add(claim.item.pipeline_id)
            for bound in pipeline.stages.values():
                self._windows.shape(bound.name, bound.stage.window, bound.depth)
        if (
            history is not None
            and self._windows.light
            and all(c.ref is None for c in history)
        ):
            return self._begun(claim, pipeline, history)
        async with self._large:
            await self._windows.until_light()
            if history is None:
                item = claim.item.id
                history = (await self.store.history([item]))[item]
            artifacts = self.services.artifacts
            read = [
                c if c.ref is None else c._replace(update=await update_of(c, artifacts))
                for c in history
            ]
            return self._begun(claim, pipeline, read)

    def _begun(
        self, claim: Claim, pipeline: Pipeline, history: list[Checkpoint]
    ) -> Run:
        run = resumed(claim, pipeline, history)
        self._windows.load(run.loaded)
        return run

    async def _one_stage(self, run: Run) -> bool:
        """Run one stage; True when the item goes on in this worker."""
        bound = run.pipeline.stages.get(run.stage)
        if bound is None:
            raise Permanent(
                f"the pipeline {run.pipeline.name} has no stage {run.stage!r}",
                code="UNKNOWN_STAGE",
            )
        began = self._now()
        return await self._write(
            run,
            bound,
            # Not named: thousands that wait below would each keep how it ended, for
            # the garbage collector to walk over.
            ending(
                run,
                bound,
                await attempt(self, run, bound, self.outside.permits, began),
                self._now() - began,
            ),
        )

    async def _write(self, run: Run, bound: BoundStage, what: Ending) -> bool:
        """Make an ending durable; True when the item goes on in this worker."""
        if what.trouble is not None:
            self._gate.meet(what.trouble)
        if what.pause_s and bound.stage.limit is not None:
            use = use_of(run, bound.stage.limit)
            self.outside.permits.pause(use.key, what.pause_s)
        checkpoint = await self._checkpoint(run, bound, what)
        move = what.move
        if isinstance(move, ToHeld):
            move = await by_reference(move, self.services.artifacts)
        entry = Entry(run.item.id, checkpoint, move, what.attempt)
        entry.products, entry.effects = what.products, what.effects
        if what.move is not None:
            await self._move(run, entry)
            return False
        run.attempt = 0
        if self.draining or not self._windows.move(bound.name, bound.next):
            entry.move = ToReady(bound.next, run.seq)
            await self._move(run, entry)
            self._ring()
            return False
        run.stage = bound.next  # whose window it is in now, whatever becomes of it
        try:
            await self._journal.record(entry)
        except LeaseLost:
            raise
        except WaybillError as error:
            # Where its result was refused, so that a retry makes it again.
            await self._end_badly(run.item.id, bound.name, error)
            return False
        run.state = what.state
        return True

    # -- records ---------------------------------------------------------------------

    async def record_step(
        self,
        run: Run,
        key: tuple[str, str],
        text: str,
        began: float,
        settled: Settled | None = None,
    ) -> None:
        """Make a step's result durable before anybody sees it."""
        took_s = anyio.current_time() - began
        update, ref = await inline_or_ref(text, self.services.artifacts)
        _refuse_abandoned(run)
        seq, run.seq = run.seq, run.seq + 1
        checkpoint = Checkpoint(seq, key[0], key[1], update, ref, None, took_s)
        await self._journal.record(Entry(run.item.id, checkpoint, settled=settled))
        run.memo[key] = text
        self._grown(run, text)

    async def record_decided(
        self, run: Run, key: tuple[str, str], what: Spawn | Draw, began: float
    ) -> str:
        """Have the store decide a step; returns its result: ids, or what was drawn."""
        took_s = anyio.current_time() - began
        _refuse_abandoned(run)
        seq, run.seq = run.seq, run.seq + 1
        checkpoint = Checkpoint(seq, key[0], key[1], None, None, None, took_s)
        entry = Entry(run.item.id, checkpoint)
        if isinstance(what, Spawn):
            entry.spawn = what
        else:
            entry.draw = what
        await self._journal.record(entry)
        # The store wrote them; after a lost answer nobody else could say.
        run.memo[key] = await until_answered(self.store.result_of, run.item.id, seq)
        return run.memo[key]

    def note_progress(self, run: Run, progress: Progress) -> None:
        """Have it committed with whatever is committed next."""
        _refuse_abandoned(run)
        self._journal.note(Entry(run.item.id, progress=progress))

    async def _checkpoint(
        self, run: Run, bound: BoundStage, what: Ending
    ) -> Checkpoint | None:
        """The record of a finished stage; None when it is not finished."""
        if what.update is None:
            return None
        self._grown(run, what.update)
        update, ref = await inline_or_ref(what.update, self.services.artifacts)
        seq, run.seq = run.seq, run.seq + 1
        after = bound.next if what.move is None else ""
        return Checkpoint(seq, bound.name, None, update, ref, after, what.took_s)

    def _grown(self, run: Run, text: str) -> None:
        """The item's state in memory is larger by this."""
        run.loaded += len(text)
        self._windows.load(len(text))

    async def _move(self, run: Run, entry: Entry) -> None:
        """Record a move; one the database refuses ends the item with its code."""
        try:
            stood = await self._journal.record(entry)
        except LeaseLost:
            raise
        except WaybillError as error:
            await self._end_badly(run.item.id, run.stage, error)
            return
        move = entry.move
        if isinstance(move, Finish):
            self.done += move.state is State.DONE
            if stood:
                log.info(
                    "item_finished",
                    item=run.item.id,
                    state=move.state.value,
                    stage=move.stage,
                    code=move.code,
                )

    async def _put_aside(self, at: Run | Claim, trouble: Trouble) -> None:
        """Not the item is to blame: it goes on when the trouble is over."""
        self._gate.meet(trouble)
        await self._journal.record(Entry(at.item.id, None, aside(at, trouble)))

    async def _look_again(self, at: Run | Claim, error: Integrity) -> None:
        """What it needs was changed by somebody: it waits until that is mended."""
        item = at.item.id
        log.error("item_waits", item=item, code=error.code, why=error_text(error))
        wait = ToWaiting(at.stage, at.seq, at.attempt, MENDED_S, error.code)
        await self._journal.record(Entry(item, None, wait))

    async def _end_badly(self, item: ItemId, stage: str, error: WaybillError) -> None:
        code = code_of(error.code)
        move = Finish(State.FAILED, stage, code, error_text(error))
        await self._journal.record(Entry(item, None, move))
        log.warning("item_failed", item=item, stage=stage, code=code)


def _refuse_abandoned(run: Run) -> None:
    """A try that was given up writes nothing more: the item may be elsewhere."""
    if run.abandoned:
        raise Permanent("this try of the stage was given up", code="STAGE_TIMEOUT")
