"""Lots: the same at every try, evenly spread, and nobody's but the service's."""

from __future__ import annotations

from pipeline.run.lots import Lots


def test_a_lot_is_the_same_at_every_try():
    """Also of another process with the key; another key or name draws another."""
    first, again = Lots(b"k" * 32), Lots(b"k" * 32)

    assert first.lot(7, "sample") == again.lot(7, "sample")
    assert first.lot(7, "sample") != Lots(b"K" * 32).lot(7, "sample")
    assert first.lot(7, "sample") != first.lot(7, "other")
    assert "k" * 4 not in repr(first)


def test_its_rate_is_what_is_said():
    """Of 100,000 items 5 % are drawn, within five standard deviations."""
    lots = Lots(b"k" * 32)

    drawn = sum(lots.lot(item, "sample") < 0.05 for item in range(100_000))

    assert abs(drawn - 5_000) < 5 * (100_000 * 0.05 * 0.95) ** 0.5
