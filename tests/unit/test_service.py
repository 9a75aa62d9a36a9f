"""The service in its home: whether another one is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from waybill.commands.service import joined


def test_a_second_one_says_that_it_joins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when the first has gone meanwhile; who comes after all is told nothing."""

    def heard() -> bool:
        return "another `waybill up`" in " ".join(capsys.readouterr().err.split())

    with joined(tmp_path):
        first = heard()
    with joined(tmp_path):
        again = heard()
        second = joined(tmp_path)
        second.__enter__()
        joins = heard()
    with joined(tmp_path):
        third = heard()
    second.__exit__(None, None, None)

    assert (first, again, joins, third) == (False, False, True, True)


def test_a_home_that_has_no_locks_is_none_the_worse(tmp_path: Path) -> None:
    """Nobody is told; the service runs."""
    with joined(tmp_path / "nowhere"):
        pass
