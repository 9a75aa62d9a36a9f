"""Our own trouble is told from what a jailed call came to."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import Permanent, Trouble, WaybillError
from pipeline.jail.pools import JailPools
from pipeline.jail.stock import no_start
from pipeline.trouble import Place


class Failing:
    """A pool whose every call fails so."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def run(self, fn: Any, /, **kwargs: Any) -> Any:
        raise self.error

    run_files = run


async def raised(error: Exception, scratch: Path | None = None) -> WaybillError:
    place = None if scratch is None else Place("the scratch folder", scratch)
    pool: Any = Failing(error)
    pools = JailPools({"": pool}, scratch=place)
    with pytest.raises(WaybillError) as run:
        await pools.run(len, timeout_s=1)
    keep: Any = None
    with pytest.raises(WaybillError) as files:
        await pools.run_files(len, timeout_s=1, keep=keep)
    assert type(run.value) is type(files.value)
    return run.value


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
class TestTrouble:
    """In real time: a look at a folder is a thread's work."""

    async def test_no_process_is_trouble(self) -> None:
        """With the code that it has."""
        error = await raised(no_start("none came up"))

        assert isinstance(error, Trouble)
        assert error.code == "JAIL_START"

    @pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.ENOSPC])
    async def test_what_the_machine_has_none_of_is_trouble(self, number: int) -> None:
        """No pipe, no memory for a process, no scratch folder."""
        assert isinstance(await raised(OSError(number, "none")), Trouble)

    async def test_a_call_that_could_not_write_is_to_blame_for_nothing(
        self, tmp_path: Path
    ) -> None:
        """A parser without room says whatever; the look at the disk decides."""
        broken = Permanent("the file is broken", code="PDF_BROKEN")
        (tmp_path / "tmp").write_text("no folder")

        sick = await raised(broken, tmp_path / "tmp" / "x")
        well = await raised(broken, tmp_path)

        assert isinstance(sick, Trouble)
        assert well is broken
