"""
A session: one lease, and the tasks that live and die with it.

Items are carried through their stages here.  Every item is a task, every stage a
cancel scope whose deadline is the earlier of the stage's timeout and the item's
deadline.  When the lease is lost everything in the session is cancelled: its items
have not failed, they are or soon will be worked elsewhere.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from pipeline.errors import (
    DeadlinePassed,
    Disposition,
    LeaseLost,
    Permanent,
    StageTimeout,
    StoreUnavailable,
    Transient,
    WaybillError,
)
from pipeline.folder import BoundStage, Catalogue
from pipeline.holds.parking import park
from pipeline.model import (
    Advance,
    Attempt,
    Checkpoint,
    Claim,
    Done,
    Entry,
    Finish,
    Hold,
    ItemId,
    Move,
    Outcome,
    Progress,
    Reject,
    Spawn,
    State,
    ToJoining,
    ToReady,
    Wait,
    WorkerId,
)
from pipeline.run.context import Parked, Run, Services, StageContext, patient
from pipeline.run.dispatcher import Dispatcher, Windows
from pipeline.run.endings import (
    after_error,
    checked,
    first,
    message,
    sentence,
    wait,
)
from pipeline.run.journal import FLUSHERS, Journal
from pipeline.run.origin import is_gone, origin
from pipeline.state import encode
from pipeline.store.port import WorkStore
from pipeline.vendors.limits import Limits

log = structlog.get_logger()

UPDATE_BYTES_MAX = 8192  # larger updates go to the artifact store by reference


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """
    Bounds of one worker process.

    Attributes:
        lease_s: How long it may act without renewing; a worker on another
            machine is replaced after this.
        items_max: Items in this process at once.
        drain_s: How long a stopping worker lets stages finish.
        poll_s: With nothing to do, look for work and for dead neighbours this often.
    """

    lease_s: float = 9.0
    items_max: int = 5000
    drain_s: float = 30.0
    poll_s: float = 0.5


class Session:
    """One lease: the tasks that live and die with it."""

    def __init__(
        self,
        store: WorkStore,
        worker: WorkerId,
        catalogue: Catalogue,
        services: Services,
        settings: WorkerSettings,
    ) -> None:
        self.services = services
        self.worker = worker
        self.windows = Windows(settings.items_max)
        self.done = 0
        self.store = store
        self._catalogue = catalogue
        self._settings = settings
        self._claimed: dict[ItemId, Claim] = {}  # ours, until their task has ended
        self._runs: dict[ItemId, Run] = {}
        self._limits: dict[int, Limits] = {}
        self._scope = anyio.CancelScope()
        self._lost = False
        # Until then nobody can have replaced us, by our own clock.
        self._safe_until = anyio.current_time() + settings.lease_s * 0.8
        self._draining = False
        self._journal = Journal(store, worker, self.lose)
        self._dispatcher = Dispatcher(
            store,
            worker,
            self.windows,
            self._accept,
            lambda: list(self._claimed),
            poll_s=settings.poll_s,
        )
        self._tasks: TaskGroup | None = None

    def __repr__(self) -> str:
        return f"<Session {self.worker} items={len(self._runs)} done={self.done}>"

    # -- life ------------------------------------------------------------------------

    async def run(self) -> bool:
        """Work until drained (True) or until the lease is lost (False)."""
        with self._scope:
            async with anyio.create_task_group() as self._tasks:
                for _ in range(FLUSHERS):
                    self._tasks.start_soon(self._journal.run)
                self._tasks.start_soon(self._heartbeat)
                self._tasks.start_soon(self._watch_lease)
                self._tasks.start_soon(self._reaper)
                self._tasks.start_soon(self._guarded, self._dispatcher.run)
        return not self._lost

    def drain(self) -> None:
        """Claim nothing more; let stages finish; then end the session."""
        if not self._draining:
            self._draining = True
            self._dispatcher.stop()
            if self._tasks is not None:
                self._tasks.start_soon(self._drained)

    def stop(self) -> None:
        """End the session now; what is in hand goes back in line."""
        self._scope.cancel()

    def lose(self) -> None:
        """The lease is gone: abandon everything."""
        if not self._lost:
            self._lost = True
            log.warning("lease_lost", worker=str(self.worker), items=len(self._runs))
            self._journal.lose()
            self._scope.cancel()

    def check_lease(self) -> None:
        """
        Start nothing when we may have been replaced: a machine that slept goes on
        in the middle of a stage, before any write tells it so.

        Raises:
            LeaseLost: the session is over.
        """
        if anyio.current_time() > self._safe_until:
            self.lose()
            raise LeaseLost("this worker's lease may have run out")

    def ring(self) -> None:
        """Something may be ready."""
        self._dispatcher.ring()

    async def _drained(self) -> None:
        with anyio.move_on_after(self._settings.drain_s):
            while self._claimed:
                await self.windows.wait_freed()
        self._scope.cancel()

    async def _guarded(self, loop: Callable[[], Awaitable[None]]) -> None:
        try:
            await loop()
        except LeaseLost:
            self.lose()

    async def _watch_lease(self) -> None:
        """Give up early by this machine's own clock, also while a renewal hangs."""
        try:
            while anyio.current_time() <= self._safe_until:  # noqa: ASYNC110  # a clock
                # A little longer: a timer may come early by a rounding error.
                await anyio.sleep_until(self._safe_until + 0.001)
            self.lose()
        finally:
            self._journal.close()

    async def _heartbeat(self) -> None:
        """Renew five times a lease."""
        lease_s = self._settings.lease_s
        while True:
            await anyio.sleep(lease_s / 5)
            sent = anyio.current_time()
            try:
                # Shielded from the session's end, bounded by the lease.
                with anyio.move_on_after(lease_s, shield=True):
                    cancelled = await self.store.renew(self.worker, lease_s=lease_s)
                    self._safe_until = sent + lease_s * 0.8
                    for item in cancelled:
                        self._cancel_item(item)
            except LeaseLost:
                self.lose()
            except StoreUnavailable as error:
                log.warning("renewal_waits", code=error.code)

    async def _reaper(self) -> None:
        """Remove workers that died: at once on this machine, else by lease."""
        in_touch_since = anyio.current_time()
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    for s in await self.store.sessions():
                        if s.id == self.worker:
                            continue
                        gone = is_gone(s.origin)
                        # After an outage every lease is over.  Nobody is declared
                        # dead before everyone had one lease to come back.
                        patient = anyio.current_time() - in_touch_since
                        over = s.left_s <= 0 and patient > self._settings.lease_s
                        if gone or over:
                            # A former session of this very process: it lost its
                            # lease, its items killed nobody.
                            died = s.origin != origin()
                            items = await self.store.reap([s.id], died=died)
                            log.warning(
                                "worker_reaped",
                                worker=str(s.id),
                                items=items,
                                gone=gone,
                            )
                            self.ring()
            except StoreUnavailable:
                in_touch_since = anyio.current_time()
            await anyio.sleep(self._settings.poll_s * random.uniform(0.6, 1.2))

    # -- items -----------------------------------------------------------------------

    async def _accept(self, claims: list[Claim]) -> None:
        """Load what was claimed and start it."""
        resumed = [c.item.id for c in claims if c.seq > 0]
        try:
            history = await self.store.history(resumed) if resumed else {}
        except StoreUnavailable:
            for claim in claims:
                self.windows.leave(claim.stage)
                self._dispatcher.settled(claim.solo)
            raise
        assert self._tasks is not None
        self._claimed.update((c.item.id, c) for c in claims)
        for claim in claims:
            self._tasks.start_soon(self._carry, claim, history.get(claim.item.id, []))

    async def _carry(self, claim: Claim, history: list[Checkpoint]) -> None:
        """An item's stay in this worker, whatever happens."""
        stage = claim.stage
        run: Run | None = None
        try:
            run = await self._load(claim, history)
            self._runs[claim.item.id] = run
            while await self._one_stage(run):
                pass
        except LeaseLost:
            self.lose()
        except StoreUnavailable:
            # It could not be loaded; that is not its fault.
            self._dispatcher.doubt()
        except WaybillError as error:
            # The item cannot even begin here (its pipeline, its input).
            await self._end_badly(claim.item.id, run.stage if run else stage, error)
        except Exception as error:
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
            await self._end_badly(claim.item.id, run.stage if run else stage, odd)
        finally:
            # Back in line, it may have been claimed again before we heard of it.
            if self._claimed.get(claim.item.id) is claim:
                del self._claimed[claim.item.id]
                self._runs.pop(claim.item.id, None)
            self.windows.leave(run.stage if run is not None else stage)
            self._dispatcher.settled(claim.solo)

    async def _end_badly(self, item: ItemId, stage: str, error: WaybillError) -> None:
        move = Finish(State.FAILED, stage, error.code, message(error))
        try:
            await self._journal.record(Entry(item, None, move))
        except LeaseLost:
            self.lose()
        log.warning("item_failed", item=item, stage=stage, code=error.code)

    async def _load(self, claim: Claim, history: list[Checkpoint]) -> Run:
        """Fold the item's checkpoints into its state; keep its steps at hand."""
        pipeline = await self._catalogue.get(claim.item.pipeline_id, self.store)
        if claim.item.pipeline_id not in self._limits:
            self._limits[claim.item.pipeline_id] = Limits(pipeline.limits)
            for bound in pipeline.stages.values():
                self.windows.shape(bound.name, bound.stage.window, bound.depth)
        updates: list[str] = []
        memo: dict[tuple[str, str], str] = {}
        for c in history:
            text = c.update
            if text is None and c.ref is not None:
                text = (await self.services.artifacts.get(c.ref)).decode()
            if text is None:
                continue
            if c.step is None:
                updates.append(text)
            else:
                memo[c.stage, c.step] = text
        deadline = anyio.current_time() + claim.left_s
        state = pipeline.channels.fold(claim.item.input, updates)
        return Run(
            claim,
            pipeline,
            claim.stage,
            claim.seq,
            claim.attempt,
            state,
            deadline,
            memo,
        )

    async def _one_stage(self, run: Run) -> bool:
        """Run one stage; True when the item goes on in this worker."""
        bound = run.pipeline.stages.get(run.stage)
        if bound is None:
            raise Permanent(
                f"the pipeline {run.pipeline.name} has no stage {run.stage!r}",
                code="UNKNOWN_STAGE",
            )
        if run.cancelled:
            await self._let_go(run)
            return False
        began = anyio.current_time()
        try:
            outcome = await self._attempt(run, bound, began)
            valid: dict[str, Any] = {}
            state = run.state
            if not isinstance(outcome, Wait | ToJoining):
                valid = run.pipeline.channels.validate(outcome.updates)
                # Before it is stored: what is stored always folds again.
                state = run.pipeline.channels.apply(run.state, valid)
        except WaybillError as error:
            await self._failed(run, bound, error)
            return False
        if run.cancelled:
            await self._let_go(run)
            return False
        match outcome:
            case Advance():
                if not await self._advance(run, bound, valid, began, bound.next):
                    return False
                run.state = state
                return True
            case Done():
                await self._advance(run, bound, valid, began, "")
            case Hold():
                text = encode(valid)
                await self._move(run, park(outcome, bound, run.seq, run.state, text))
            case Reject():
                why = sentence(outcome.why)
                checkpoint = await self._checkpoint(run, bound.name, None, valid, "", 0)
                end = Finish(State.REJECTED, bound.name, outcome.code, why)
                await self._move(run, end, checkpoint)
            case Wait():
                why = sentence(outcome.why)
                await self._move(run, wait(run, run.attempt, outcome.for_s, why))
            case ToJoining():
                await self._move(run, outcome)
        return False

    async def _attempt(
        self, run: Run, bound: BoundStage, began: float
    ) -> Outcome | ToJoining:
        """
        One try within its scope; `ToJoining` when it waits for children.

        Raises:
            DeadlinePassed, StageTimeout: the scope's two ways to end.
            WaybillError: the stage's own; anything else becomes Transient, so
                that a bug is charged, retried and named, never swallowed.
        """
        if run.deadline <= began:
            raise DeadlinePassed("the item's deadline was over before this stage")
        outcome: Any = None
        returned = parked = False
        with anyio.CancelScope(deadline=run.deadline) as run.scope:
            try:
                async with self._permit(run, bound):
                    self.check_lease()
                    # From here: the line for a permit is not the stage's time.
                    timeout_at = anyio.current_time() + bound.stage.timeout_s
                    run.scope.deadline = min(run.deadline, timeout_at)
                    ctx = StageContext(self, run, bound, run.scope.deadline)
                    outcome = await bound.stage.run(run.state, ctx)
                    returned = True
            except WaybillError:
                raise
            except Parked:
                parked = True
            except BaseExceptionGroup as group:
                # It may have joined beside other tasks.
                parked = group.subgroup(Parked) is not None
                if not parked and isinstance(group, ExceptionGroup):
                    raise first(group) from group
                if not parked:
                    raise
            except Exception as error:
                log.error("stage_raised", stage=bound.name, error=type(error).__name__)
                raise Transient(
                    f"the stage raised {type(error).__name__}", code="STAGE_RAISED"
                ) from error
        run.scope = None
        if parked:
            return ToJoining(run.stage, run.seq, run.attempt)
        if returned:
            return checked(outcome)
        if run.cancelled:
            return Wait(0)
        if anyio.current_time() >= run.deadline:
            raise DeadlinePassed("the item's deadline passed while this stage ran")
        raise StageTimeout(f"the stage ran longer than {bound.stage.timeout_s:g} s")

    def _permit(self, run: Run, bound: BoundStage) -> AbstractAsyncContextManager[None]:
        if bound.stage.limit is None:
            return nullcontext()
        return self._limits[run.item.pipeline_id].hold(bound.stage.limit)

    async def _advance(
        self,
        run: Run,
        bound: BoundStage,
        valid: Mapping[str, Any],
        began: float,
        after: str,
    ) -> bool:
        """Checkpoint the finished stage; go on to `after` here if that has room."""
        took_s = anyio.current_time() - began
        checkpoint = await self._checkpoint(run, bound.name, None, valid, after, took_s)
        run.attempt = 0
        if not after:
            await self._move(run, Finish(State.DONE, bound.name), checkpoint)
            self.done += 1
            return False
        if self._draining or not self.windows.move(bound.name, after):
            await self._move(run, ToReady(after, run.seq), checkpoint)
            self.ring()
            return False
        run.stage = after
        made = run.take_products()
        await self._journal.record(Entry(run.item.id, checkpoint, products=made))
        return True

    async def _failed(self, run: Run, bound: BoundStage, error: WaybillError) -> None:
        """What an error does to the item: its class says."""
        run.products.clear()
        if run.cancelled:
            await self._let_go(run)
            return
        log.info(
            "stage_failed",
            item=run.item.id,
            stage=bound.name,
            attempt=run.attempt,
            code=error.code,
            disposition=error.disposition.value,
        )
        move, attempt = after_error(run, bound, error)
        limit, rest_s = bound.stage.limit, error.retry_after_s
        if error.disposition is Disposition.WAIT and limit is not None and rest_s:
            # The whole limit rests, not the one call that was told.
            self._limits[run.item.pipeline_id].pause(limit, rest_s)
        await self._move(run, move, attempt=attempt)

    async def _let_go(self, run: Run) -> None:
        """Somebody cancelled this item."""
        run.products.clear()
        move = Finish(State.CANCELLED, run.stage, "CANCELLED", "cancelled by a person")
        await self._move(run, move)

    def _cancel_item(self, item: ItemId) -> None:
        run = self._runs.get(item)
        if run is not None:
            run.cancelled = True
            if run.scope is not None:
                run.scope.cancel()

    # -- records ---------------------------------------------------------------------

    async def record_step(
        self, run: Run, key: tuple[str, str], text: str, began: float
    ) -> None:
        """Make a step's result durable before anybody sees it."""
        took_s = anyio.current_time() - began
        update, ref = await self._inline_or_ref(text)
        seq, run.seq = run.seq, run.seq + 1
        checkpoint = Checkpoint(seq, key[0], key[1], update, ref, None, took_s)
        await self._journal.record(Entry(run.item.id, checkpoint))
        run.memo[key] = text

    async def record_spawn(
        self, run: Run, key: tuple[str, str], spawn: Spawn, began: float
    ) -> str:
        """Make children durable; returns their ids, as the step's result."""
        took_s = anyio.current_time() - began
        seq, run.seq = run.seq, run.seq + 1
        checkpoint = Checkpoint(seq, key[0], key[1], None, None, None, took_s)
        await self._journal.record(Entry(run.item.id, checkpoint, spawn=spawn))
        # The store wrote them; after a lost answer nobody else could say.
        run.memo[key] = await patient(self.store.result_of, run.item.id, seq)
        return run.memo[key]

    def note_progress(self, run: Run, progress: Progress) -> None:
        """Have it committed with whatever is committed next."""
        self._journal.note(Entry(run.item.id, progress=progress))

    async def _checkpoint(
        self,
        run: Run,
        stage: str,
        step: str | None,
        valid: Mapping[str, Any],
        after: str,
        took_s: float,
    ) -> Checkpoint:
        update, ref = await self._inline_or_ref(encode(valid))
        seq, run.seq = run.seq, run.seq + 1
        return Checkpoint(seq, stage, step, update, ref, after, took_s)

    async def _inline_or_ref(self, text: str) -> tuple[str | None, str | None]:
        data = text.encode()
        if len(data) <= UPDATE_BYTES_MAX:
            return text, None
        return None, await self.services.artifacts.put(data)

    async def _move(
        self,
        run: Run,
        move: Move,
        checkpoint: Checkpoint | None = None,
        attempt: Attempt | None = None,
    ) -> None:
        """Record a move; one the database refuses ends the item with its code."""
        try:
            made = run.take_products()
            entry = Entry(run.item.id, checkpoint, move, attempt, products=made)
            stood = await self._journal.record(entry)
        except LeaseLost:
            raise
        except WaybillError as error:
            await self._end_badly(run.item.id, run.stage, error)
            return
        if stood and isinstance(move, Finish):
            log.info(
                "item_finished",
                item=run.item.id,
                state=move.state.value,
                stage=move.stage,
                code=move.code,
            )
