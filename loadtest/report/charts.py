"""
Which charts a run has, and what is in each.

A chart that a run sampled nothing for is not drawn.  With several runs each chart is
drawn for all of them on the same scales, so that they can be laid side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from loadtest.report.plot import COLOURS, Plot
from loadtest.report.reading import Run, Series
from loadtest.report.series import Numbers, by_kind, grid, largest, level, rate

# Pixels: a column of three, or a phone; one of two; the page.
NARROW, HALF, WIDE = 380.0, 580.0, 1160.0
HEIGHT, TALL = 168.0, 210.0
LANE = 19.0
MOST = 8  # series of a chart; what is small is left out

STATES = ("done", "held", "waiting", "joining", "running", "ready")
STATES_AFTER = ("rejected", "failed", "cancelled", "quarantined")
STATE_COLOUR = {
    "done": 0,
    "held": 3,
    "waiting": 4,
    "joining": 6,
    "running": 1,
    "ready": 2,
    "rejected": 7,
    "failed": 5,
    "cancelled": 8,
    "quarantined": 9,
}
OUTCOME_COLOUR = {
    "accepted": 0,
    "repeated": 2,
    "throttled": 3,
    "outage": 7,
    "failed": 5,
    "refused": 8,
}
SLACK = {"p0": "least", "p1": "1 in 100", "p50": "half"}


class Key(NamedTuple):
    """What a colour means, or a dashed line."""

    label: str
    colour: int
    dashed: bool = False


class Chart(NamedTuple):
    """One chart of one run, ready for the page."""

    svg: str
    legend: tuple[Key, ...]
    note: str = ""  # a figure worth saying


class Kind(NamedTuple):
    """A chart that runs may have: what it is called, and who draws it."""

    name: str
    title: str
    unit: str
    draw: Callable[[Run, Scale, str], Chart | None]
    reach: Callable[[Run], float]  # the highest value in it


class Scale(NamedTuple):
    """What all runs of a chart share."""

    seconds: float
    most: float
    width: float = NARROW
    height: float = HEIGHT


# -- drawing --------------------------------------------------------------------------


def _plot(run: Run, scale: Scale, name: str, *, least: float = 0.0) -> Plot:
    plot = Plot(f"{run.name}/{name}/{scale.width:.0f}", scale.width, scale.height)
    plot.time(scale.seconds)
    plot.values(scale.most, least=least)
    plot.faults(run.faults)
    return plot


def _of(run: Run, metric: str) -> Mapping[str, Series]:
    return run.samples.get(metric, {})


def _peak(rows: Sequence[Numbers]) -> float:
    known = [float(np.nanmax(r)) for r in rows if not np.isnan(r).all()]
    return max(known, default=0.0)


def _lines(
    metric: str, title: str, of: Callable[[Series, Numbers], Numbers]
) -> tuple[Callable[[Run, Scale, str], Chart | None], Callable[[Run], float]]:
    """A chart of one line a label."""

    def rows(run: Run) -> dict[str, Numbers]:
        at = grid(run.seconds)
        found = _of(run, metric)
        # As they come in the file: stages in the order of their pipeline.
        kept = [k for k in found if k in largest(found, MOST)]
        return {label: of(found[label], at) for label in kept}

    def draw(run: Run, scale: Scale, name: str) -> Chart | None:
        lines = rows(run)
        if not lines:
            return None
        plot = _plot(run, scale, name)
        single = len(lines) == 1
        for colour, values in enumerate(lines.values()):
            (plot.area if single else plot.line)(grid(run.seconds), values, colour)
        legend = tuple(Key(k, n) for n, k in enumerate(lines) if k and not single)
        return Chart(
            plot.svg(title), legend, f"at most {_say(_peak([*lines.values()]))}"
        )

    return draw, lambda run: _peak([*rows(run).values()])


def _say(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _stacked(
    rows: Mapping[str, Numbers], colours: Mapping[str, int], plot: Plot, at: Numbers
) -> tuple[Key, ...]:
    plot.stack(at, [*rows.values()], [colours[k] for k in rows])
    return tuple(Key(k, colours[k]) for k in rows)


def _total(rows: Mapping[str, Numbers]) -> float:
    return _peak(
        [np.sum([np.nan_to_num(r) for r in rows.values()], axis=0)] if rows else []
    )


def _states(run: Run) -> dict[str, Numbers]:
    at, found = grid(run.seconds), _of(run, "items")
    order = [*STATES, *STATES_AFTER]
    order += sorted(set(found) - set(order))
    rows = {k: level(found[k], at) for k in order if k in found}
    return {k: v for k, v in rows.items() if np.nan_to_num(v).any()}


def _items(run: Run, scale: Scale, name: str) -> Chart | None:
    rows = _states(run)
    if not rows:
        return None
    colours = {k: STATE_COLOUR.get(k, COLOURS - 1) for k in rows}
    plot = _plot(run, scale, name)
    legend = _stacked(rows, colours, plot, grid(run.seconds))
    return Chart(
        plot.svg("Items in each state"), legend, f"{_say(_total(rows))} in all"
    )


def _held_rows(run: Run) -> dict[str, Numbers]:
    at, found = grid(run.seconds), _of(run, "held")
    return {k: level(found[k], at) for k in largest(found, MOST)}


def _held(run: Run, scale: Scale, name: str) -> Chart | None:
    rows = _held_rows(run)
    if not rows:
        return None
    plot = _plot(run, scale, name)
    colours = {k: n for n, k in enumerate(rows)}
    legend = _stacked(rows, colours, plot, grid(run.seconds))
    return Chart(plot.svg("Held for a person"), legend, f"at most {_say(_total(rows))}")


def _slack_rows(run: Run) -> dict[str, Numbers]:
    at, found = grid(run.seconds), _of(run, "slack_s")
    return {k: level(found[k], at) for k in SLACK if k in found}


def _slack(run: Run, scale: Scale, name: str) -> Chart | None:
    rows = _slack_rows(run)
    if not rows:
        return None
    at = grid(run.seconds)
    known = [float(np.nanmin(v)) for v in rows.values() if not np.isnan(v).all()]
    least = min([0.0, *known])
    plot = _plot(run, scale, name, least=least)
    colours = {"p50": 2, "p1": 4, "p0": 1}
    for label, values in rows.items():
        plot.line(at, values, colours[label])
    plot.bound(at, np.zeros_like(at))
    legend = tuple(Key(SLACK[k], colours[k]) for k in rows)
    closest = min(known, default=0.0)
    note = f"{_say(closest)} s to spare" if closest >= 0 else f"{_say(-closest)} s late"
    title = "Time left to the deadlines of what is unfinished"
    return Chart(plot.svg(title), (*legend, Key("due", 0, True)), note)


def vendors(runs: Sequence[Run]) -> list[str]:
    """Every vendor that was called, by name."""
    return sorted(
        {k.partition(":")[0] for run in runs for k in _of(run, "vendor_calls")}
    )


def _calls(run: Run, vendor: str) -> dict[str, Numbers]:
    at, found = grid(run.seconds), _of(run, "vendor_calls")
    rows = {
        outcome: rate(found[f"{vendor}:{outcome}"], at)
        for outcome in OUTCOME_COLOUR
        if f"{vendor}:{outcome}" in found
    }
    return {k: v for k, v in rows.items() if v.any()}


def _limit(run: Run, vendor: str) -> Numbers | None:
    found = _of(run, "vendor_limit").get(vendor)
    return None if found is None else level(found, grid(run.seconds))


def vendor_kind(vendor: str) -> Kind:
    """The chart of one vendor's calls, by its own book, and of what it allows."""

    def draw(run: Run, scale: Scale, name: str) -> Chart | None:
        rows, limit = _calls(run, vendor), _limit(run, vendor)
        if not rows:
            return None
        at = grid(run.seconds)
        plot = _plot(run, scale, name)
        legend = _stacked(rows, OUTCOME_COLOUR, plot, at)
        if limit is not None:
            plot.bound(at, limit)
            legend = (*legend, Key("its limit", 0, True))
        peak = _peak([rows["accepted"]]) if "accepted" in rows else 0.0
        return Chart(
            plot.svg(f"Calls of {vendor}"), legend, f"accepted at most {_say(peak)}/s"
        )

    def reach(run: Run) -> float:
        limit = _limit(run, vendor)
        return max(
            _total(_calls(run, vendor)), 0.0 if limit is None else _peak([limit])
        )

    return Kind(f"vendor {vendor}", f"Calls of {vendor}", "calls / s", draw, reach)


def recovery(run: Run, scale: Scale, name: str) -> Chart | None:
    """Seconds from the end of each fault until work went on as before it."""
    kinds = {
        kind: [f.recovered_s for f in them if f.recovered_s is not None]
        for kind, them in by_kind(run.faults).items()
    }
    kinds = {kind: times for kind, times in kinds.items() if times}
    if not kinds:
        return None
    plot = Plot(f"{run.name}/{name}", scale.width, 30 + LANE * len(kinds))
    plot.axes.set_xlim(-scale.most * 0.02, scale.most * 1.06 or 1)
    plot.lanes([*kinds], 112)
    for row, times in enumerate(kinds.values()):
        plot.dots(times, row, 1)
    plot.axes.xaxis.set_major_formatter(lambda x, _: f"{x:g} s")
    worst = max(max(times) for times in kinds.values())
    legend = (Key("a fault; the stroke is the middle one", 1),)
    return Chart(
        plot.svg("Recovery after each fault"), legend, f"at most {_say(worst)} s"
    )


def _recovery_reach(run: Run) -> float:
    return max((f.recovered_s or 0.0 for f in run.faults), default=0.0)


def finished(run: Run) -> Numbers | None:
    """Stages finished a second, of all of them."""
    rows = [rate(s, grid(run.seconds)) for s in _of(run, "finished").values()]
    return np.asarray(np.sum(rows, axis=0)) if rows else None


def timeline(run: Run, scale: Scale) -> Chart | None:
    """What was finished a second, and below it a lane for each kind of fault."""
    whole, width = finished(run), scale.width
    kinds = by_kind(run.faults)
    if whole is None and not kinds:
        return None
    height = (30 if whole is None else TALL) + LANE * len(kinds)
    room = 112.0 if kinds else 44.0
    plot = Plot(f"{run.name}/timeline/{width:.0f}", width, height)
    left, right = room / width, 1 - 10 / width
    foot = 20 / height
    lanes = LANE * len(kinds) / height
    plot.axes.set_position((left, foot, right - left, max(lanes, 1e-3)))
    plot.time(scale.seconds)
    plot.lanes([*kinds], room)
    if not kinds:
        plot.axes.set_yticks([])
    for row, them in enumerate(kinds.values()):
        least = scale.seconds / 320
        spans = [(f.t, max(f.until - f.t, least)) for f in them]
        plot.bars(spans, row)
    if whole is not None:
        over = plot.above(
            (left, foot + lanes + 10 / height, right - left, (TALL - 40) / height)
        )
        over.axes.set_xlim(0, scale.seconds)
        over.axes.set_xticks([])
        over.values(scale.most)
        over.faults(run.faults)
        over.area(grid(run.seconds), whole, 0)
    return Chart(plot.svg("Stages finished a second, and faults"), ())


def _kind(
    name: str,
    title: str,
    unit: str,
    metric: str,
    of: Callable[[Series, Numbers], Numbers],
) -> Kind:
    draw, reach = _lines(metric, title, of)
    return Kind(name, title, unit, draw, reach)


KINDS = (
    _kind("throughput", "Throughput by stage", "items / s", "finished", rate),
    Kind(
        "items",
        "Items in each state",
        "items",
        _items,
        lambda run: _total(_states(run)),
    ),
    _kind("in flight", "In flight", "items", "in_flight", level),
    _kind(
        "queue age", "Age of the oldest in line", "s, by stage", "queue_age_s", level
    ),
    Kind(
        "slack",
        "Time left to the deadlines",
        "s, unfinished items",
        _slack,
        lambda run: _peak([*_slack_rows(run).values()]),
    ),
    Kind(
        "held",
        "Held for a person",
        "items, by code",
        _held,
        lambda run: _total(_held_rows(run)),
    ),
    _kind("tenants", "Finished by tenant", "items / s", "tenant_finished", rate),
    _kind("memory", "Memory", "MB, by role", "rss_mb", level),
)
RECOVERY = Kind(
    "recovery",
    "Recovery after each fault",
    "s after its end",
    recovery,
    _recovery_reach,
)


def drawn(runs: Sequence[Run]) -> list[tuple[Kind, list[Chart | None]]]:
    """Every chart that one of the runs has, for each of them, on one scale."""
    kinds = [*KINDS, *map(vendor_kind, vendors(runs)), RECOVERY]
    seconds = max(run.seconds for run in runs)
    found = []
    for kind in kinds:
        scale = Scale(seconds, max(kind.reach(run) for run in runs))
        row = [kind.draw(run, scale, kind.name) for run in runs]
        if any(chart is not None for chart in row):
            found.append((kind, row))
    return found
