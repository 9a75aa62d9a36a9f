"""
One chart as inline SVG, by matplotlib, in the colours of the page.

matplotlib draws with colours that stand for something; in the SVG they become
variables of the page's style, so that one picture is right by day and by night.  Text
stays text, in the page's font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from loadtest.report.reading import Fault
from loadtest.report.series import Numbers

PX = 100.0  # matplotlib's inch, in pixels of the page
COLOURS = 10

# Not seen by anybody: each is replaced by the variable of its name.
INK, FAINT, FAULT, BAD = "#fe0001", "#fe0002", "#fe0003", "#fe0004"
SOFT = "#fe0005"
SERIES = [f"#fe01{n:02x}" for n in range(COLOURS)]
VARIABLES = {INK: "ink", SOFT: "soft", FAINT: "rule", FAULT: "fault", BAD: "bad"} | {
    colour: f"c{n}" for n, colour in enumerate(SERIES)
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 7.6,  # points: 10.5 pixels
    "axes.linewidth": 0.6,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0,
    "xtick.major.width": 0.6,
    "path.simplify_threshold": 0.4,
}


class Plot:
    """
    A figure with one pair of axes.

    Args:
        width, height: In pixels of the page; the page scales it to its column.
        name: Tells it from others on the page.
    """

    def __init__(self, name: str, width: float, height: float) -> None:
        self.name = name
        self.height = height
        self.figure = Figure(figsize=(width / PX, height / PX), dpi=PX)
        left, right, bottom, top = 40.0, 8.0, 20.0, 8.0
        box = (
            left / width,
            bottom / height,
            (width - left - right) / width,
            (height - bottom - top) / height,
        )
        self.axes: Axes = _bare(self.figure.add_axes(box))

    def above(self, box: tuple[float, float, float, float]) -> Plot:
        """The same figure, with axes of its own in this box, in parts of it."""
        other = copy(self)
        other.axes = _bare(self.figure.add_axes(box))
        return other

    # -- axes --------------------------------------------------------------------------

    def time(self, seconds: float) -> None:
        """The run's time from left to right, in a unit that reads well."""
        self.axes.set_xlim(0, seconds)
        size, unit = next(
            (s, u) for s, u in ((3600, "h"), (60, "min"), (1, "s")) if seconds >= 3 * s
            or s == 1
        )  # fmt: skip
        steps = [1, 1.5, 2, 3, 5, 10] if unit != "s" else [1, 2, 5, 10]
        ticks = MaxNLocator(5, steps=steps).tick_values(0, seconds / size)
        kept = [x for x in ticks if 0 <= x * size <= seconds * 0.98]
        self.axes.set_xticks([x * size for x in kept])
        self.axes.set_xticklabels([f"{x:g} {unit}" if x else "0" for x in kept])

    def values(self, most: float, *, least: float = 0.0) -> None:
        """The height, from `least` on; three or four lines are enough."""
        high = most if most > least else least + 1
        self.axes.set_ylim(least - 0.02 * (high - least) * (least < 0), high * 1.06)
        self.axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        self.axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: short(x)))

    def faults(self, faults: Sequence[Fault]) -> None:
        """Behind everything: when something was done to the service."""
        low, high = self.axes.get_xlim()
        least = (high - low) / 400
        for f in faults:
            self.axes.axvspan(
                f.t, max(f.until, f.t + least), color=FAULT, alpha=0.16, linewidth=0
            )

    # -- series ------------------------------------------------------------------------

    def line(self, at: Numbers, values: Numbers, colour: int) -> None:
        """One line."""
        self.axes.plot(
            at, values, color=SERIES[colour], linewidth=1.4, solid_capstyle="round"
        )

    def area(self, at: Numbers, values: Numbers, colour: int) -> None:
        """One line, and what is below it."""
        self.axes.fill_between(
            at, 0, values, color=SERIES[colour], alpha=0.18, linewidth=0
        )
        self.line(at, values, colour)

    def stack(
        self, at: Numbers, rows: Sequence[Numbers], colours: Sequence[int]
    ) -> None:
        """Areas on top of each other."""
        low = np.zeros_like(at)
        for values, colour in zip(rows, colours, strict=True):
            high = low + np.nan_to_num(values)
            self.axes.fill_between(
                at, low, high, color=SERIES[colour], alpha=0.82, linewidth=0
            )
            low = high

    def bound(self, at: Numbers, values: Numbers) -> None:
        """A dashed line that must not be passed."""
        self.axes.plot(at, values, color=BAD, linewidth=1.1, dashes=(3, 2.4))

    # -- lanes -------------------------------------------------------------------------

    def lanes(self, names: Sequence[str], room: float) -> None:
        """A row a name, top down; the names stand left, in so many pixels."""
        box = self.axes.get_position()
        left = room / (self.figure.get_figwidth() * PX)
        self.axes.set_position((left, box.y0, box.x1 - left, box.height))
        self.axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
        self.axes.set_yticks(range(len(names)), labels=list(names))
        self.axes.yaxis.grid(True, color=FAINT, linewidth=0.6)

    def dots(self, times: Sequence[float], row: int, colour: int) -> None:
        """Values in a lane, and a stroke at the middle one."""
        self.axes.plot(
            times,
            [row] * len(times),
            "o",
            color=SERIES[colour],
            markersize=4.5,
            markeredgewidth=0,
            alpha=0.55,
        )
        self.axes.plot([np.median(times)], [row], "|", color=INK, markersize=11)

    def bars(self, spans: Sequence[tuple[float, float]], row: int) -> None:
        """Faults in a lane: begin and length."""
        self.axes.broken_barh(spans, (row - 0.32, 0.64), facecolors=FAULT, linewidth=0)

    def svg(self, title: str) -> str:
        """The picture, for the page; `title` says what it shows."""
        file = io.BytesIO()
        with mpl.rc_context({"svg.hashsalt": self.name}):
            self.figure.savefig(
                file, format="svg", transparent=True, metadata={"Date": None}
            )
        return _inline(file.getvalue().decode(), title)


@contextmanager
def styled() -> Iterator[None]:
    """Plots made inside look as the page wants them."""
    with mpl.rc_context(STYLE):
        yield


def short(value: float) -> str:
    """12000 -> 12k; as few digits as tell it."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _bare(axes: Axes) -> Axes:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_facecolor("none")
    axes.tick_params(pad=3)
    axes.yaxis.grid(True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _inline(svg: str, title: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    svg = re.sub(r"#fe0[01][0-9a-f]{2}\b", lambda m: f"var(--{VARIABLES[m[0]]})", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    svg = re.sub(r"(\d+\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
