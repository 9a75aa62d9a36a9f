"""
An item's children: made once, and waited for without a task.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

import anyio
from pydantic import TypeAdapter

from pipeline.errors import PartMissing, Permanent
from pipeline.model import Checkpoint, Kin, Spawn, State
from pipeline.parts import PARTS_MAX, Part
from pipeline.run.stay import Parked, Run, StepRecorder, memoised, until_answered
from pipeline.state import clean_text, encode
from pipeline.store.rows import KinRow

NAME_CHARS_MAX = 1000  # of a part, as of a file
GAPS_SHOWN = 5  # by name, of parts that are missing
KIN_AT_ONCE = 50  # arbitrary: histories read by one query


class Family:
    """The children of the item that is in one stage."""

    def __init__(self, session: StepRecorder, run: Run, stage: str) -> None:
        self._session = session
        self._run = run
        self._stage = stage
        self._joins = 0

    async def spawn(
        self, parts: Sequence[Part], *, name: str, at: str
    ) -> list[int | None]:
        """See `Context.spawn` of pipeline/stage.py."""
        key = (self._stage, f"spawn:{name}")
        kept = self._run.memo.get(key)
        if kept is None:
            self._session.check_lease()
            spawn = Spawn(
                self._branch(at),
                f"{self._run.item.id}/{self._stage}/{name}",
                tuple(_clean(part) for part in self._counted(parts)),
            )
            began = anyio.current_time()
            kept = await self._session.record_decided(self._run, key, spawn, began)
        return _IDS.validate_json(kept)

    def _branch(self, at: str) -> str:
        """The stage where children begin."""
        pipeline = self._run.pipeline
        if not at:
            return pipeline.first
        if at not in pipeline.branches:
            raise Permanent(
                f"the pipeline {pipeline.name} has no branch {at!r}",
                code="SPAWN_BRANCH",
                hint=f"add [branch.{at}] with its `stages` to pipeline.toml",
            )
        return pipeline.branches[at]

    def _counted(self, parts: Sequence[Part]) -> Sequence[Part]:
        if len(parts) > PARTS_MAX:
            raise Permanent(
                f"{len(parts)} parts in one spawn, {PARTS_MAX} are the most",
                code="SPAWN_SIZE",
                hint="spawn them in slices, each under a name of its own",
            )
        return parts

    async def join(self, need: Collection[str]) -> list[Kin]:
        """See `Context.join` of pipeline/stage.py."""
        # Joined twice, a stage has spawned more in between.
        self._joins += 1
        name = "join" if self._joins == 1 else f"join-{self._joins}"
        key = (self._stage, name)
        seen = await memoised(self._session, self._run, key, self._seen, need)
        found: list[Kin] = []
        for at in range(0, len(seen), KIN_AT_ONCE):
            found += await self._kin(seen[at : at + KIN_AT_ONCE])
        return found

    async def _seen(self, need: Collection[str]) -> list[_Ended]:
        """How each child ended, as this stage will see it for ever."""
        store, item = self._session.store, self._run.item.id
        if await until_answered(store.open_children, item):
            self._park()
        rows = await until_answered(store.kin, item)
        if any(row.state is None for row in rows):  # one is being retried
            self._park()
        done = {row.name for row in rows if row.state == State.DONE}
        missing = sorted(set(need) - done)
        if missing:
            # Nothing is kept: whoever mends them has this stage look again.
            raise _gap(missing, {row.name: row for row in rows})
        return [(r.id, State(r.state or ""), r.stage, r.code) for r in rows]

    def _park(self) -> NoReturn:
        self._run.joins = True
        raise Parked

    async def _kin(self, seen: Sequence[_Ended]) -> list[Kin]:
        """These children with the values of their state."""
        store = self._session.store
        ids = [item for item, *_ in seen]
        facts = {
            row.id: row
            for row in await until_answered(store.kin, self._run.item.id, ids)
        }
        history = await until_answered(store.history, ids)
        return [
            Kin(
                item,
                facts[item].name,
                state,
                stage,
                code,
                await self._values(facts[item], history[item]),
            )
            for item, state, stage, code in seen
        ]

    async def _values(
        self, row: KinRow, history: Sequence[Checkpoint]
    ) -> dict[str, Any]:
        updates = []
        for c in history:
            if c.step is None:
                text = c.update
                if text is None and c.ref is not None:
                    text = (await self._session.services.artifacts.get(c.ref)).decode()
                updates.append(text or "{}")
        try:
            state = self._run.pipeline.channels.fold(row.input, updates)
        except Permanent:
            return {}  # its input never fitted: it failed with that, and says so
        return state.model_dump(mode="json")


_Ended = tuple[int, State, str, str]  # a child's id, state, stage and code
_IDS = TypeAdapter(list[int | None])


def _gap(missing: Sequence[str], rows: Mapping[str, KinRow]) -> PartMissing:
    """The parts that did not end well, without which the stage cannot go on."""
    said = [
        f"{name} (item {rows[name].id}, {rows[name].state} {rows[name].code}".rstrip()
        + ")"
        if name in rows
        else f"{name} (there is none)"
        for name in missing[:GAPS_SHOWN]
    ]
    more = len(missing) - len(said)
    return PartMissing(
        f"needed, and not done: {', '.join(said)}" + f", and {more} more" * bool(more),
        hint="`waybill items retry` them, and approve this when they are done: the"
        " stage looks anew",
    )


def _clean(part: Part) -> Part:
    """A part as the database can store it: names come out of foreign bundles."""
    return Part(
        clean_text(part.name)[:NAME_CHARS_MAX],
        json.loads(encode(part.input)),
        clean_text(part.key),
        part.size_bytes,
        part.refused_code,
        clean_text(part.refused_why),
    )
