"""A part that its stage cannot do without: what a person may say of the gap."""

from __future__ import annotations

import pytest

from pipeline.errors import Permanent
from pipeline.model import ItemId, State
from pipeline.store.rows import HoldRow
from tests.unit.engine import Engine, until
from tests.unit.holds.test_holds import decide
from tests.unit.run.test_spawn import Desk

PART = ItemId(3)  # of the second name


class Gap:
    """A bundle of three that needs its second part, which fails at first."""

    def __init__(self) -> None:
        self.desk = Desk(3)
        self.desk.need = ("1.pdf",)
        self.errors = {PART: Permanent("the page is black", code="UNREADABLE")}
        self.desk.fate = self.errors.get  # type: ignore[assignment]
        self.engine: Engine = self.desk.engine()

    async def held(self, before: HoldRow | None = None) -> HoldRow:
        """The hold of the bundle, another one than `before`."""
        last = before.id if before else 0

        def there() -> bool:
            return any(hold > last for hold in self.engine.store._holds)

        await until(there, within_s=600)
        [row] = await self.engine.store.holds()
        return row

    async def ends(self, item: ItemId, state: State) -> None:
        async def so() -> bool:
            return (await self.engine.store.item(item)).state is state

        await until(so, within_s=600)


async def test_an_approval_alone_passes_no_gap_by() -> None:
    """The stage looks anew, and holds again: nothing of it is skipped."""
    gap = Gap()
    [bundle] = await gap.engine.submit()

    async with gap.engine.session():
        first = await gap.held()
        await decide(gap.engine, first, "approve")
        second = await gap.held(first)

    assert (first.code, second.code) == ("PART_MISSING", "PART_MISSING")
    assert (await gap.engine.store.item(bundle)).state is State.HELD
    assert gap.desk.joined == []


async def test_approved_with_its_part_mended_it_goes_on() -> None:
    """And sees all parts, the mended one among them."""
    gap = Gap()
    [bundle] = await gap.engine.submit()

    async with gap.engine.session():
        hold = await gap.held()
        gap.errors.clear()
        await gap.engine.store.retry([PART], "a reviewer")
        await gap.ends(PART, State.DONE)
        await decide(gap.engine, hold, "approve")
        await gap.ends(bundle, State.DONE)

    assert [len(kin) for kin in gap.desk.joined] == [3]


@pytest.mark.parametrize("mended", [False, True])
async def test_a_gap_may_end_its_bundle(mended: bool) -> None:
    gap = Gap()
    [bundle] = await gap.engine.submit()

    async with gap.engine.session():
        hold = await gap.held()
        if mended:
            gap.errors.clear()
        await decide(gap.engine, hold, "reject")
        await gap.ends(bundle, State.REJECTED)

    assert gap.desk.joined == []
