"""
A run's folder, read: its summary, verdict, faults and what was sampled.

Whatever is missing is left out: a run that was broken off has no summary, one without
vendors no vendors' calls.  The words of the files stand in docs/loadtest.md.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Series = tuple[list[float], list[float]]  # seconds since the begin, values


class Fault(NamedTuple):
    """Something that was done to the service; seconds since the begin."""

    t: float
    until: float
    kind: str
    what: str
    recovered_s: float | None  # from its end; None: there was nothing to recover


class Line(NamedTuple):
    """One check of the verdict."""

    invariant: str
    says: str
    checked: int
    violations: int
    examples: tuple[str, ...]
    during: int  # looks while faults ran


@dataclass(frozen=True)
class Run:
    """
    One run.

    `samples` is by metric and label, as in `samples.csv`.
    """

    name: str
    summary: Mapping[str, Any] = field(repr=False)
    verdict: tuple[Line, ...] = field(repr=False)
    faults: tuple[Fault, ...] = field(repr=False)
    samples: Mapping[str, Mapping[str, Series]] = field(repr=False)

    @property
    def seconds(self) -> float:
        """How long it took; what was sampled last, where no summary says it."""
        summed = float(self.summary.get("seconds") or 0.0)
        last = [t[-1] for of in self.samples.values() for t, _ in of.values() if t]
        return max([summed, *last, *(f.until for f in self.faults), 1.0])

    @property
    def broken(self) -> int:
        """Checks with a violation."""
        return sum(line.violations > 0 for line in self.verdict)


def read(folder: Path) -> Run:
    """
    The run of this folder.

    Raises:
        FileNotFoundError: it is no folder, or has nothing of a run in it.
        ValueError: a file of it is not what it should be; names the file.
    """
    names = ("summary.json", "checker.json", "samples.csv", "faults.csv")
    if not any((folder / name).is_file() for name in names):
        raise FileNotFoundError(f"{folder} is no folder of a run")
    summary = _json(folder / "summary.json") or {}
    verdict = summary.get("verdict") or _json(folder / "checker.json") or []
    try:
        return Run(
            folder.resolve().name,
            summary,
            tuple(_line(row) for row in verdict),
            tuple(_faults(folder / "faults.csv")),
            _samples(folder / "samples.csv"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: {type(error).__name__}: {error}") from error


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _line(row: Mapping[str, Any]) -> Line:
    return Line(
        str(row["invariant"]).replace("-", ""),
        str(row["says"]),
        int(row["checked"]),
        int(row["violations"]),
        tuple(map(str, row.get("examples") or ())),
        int(row.get("during") or 0),
    )


def _faults(path: Path) -> Iterator[Fault]:
    for row in _rows(path):
        t = float(row["t"])
        back = row["recovered_s"]
        yield Fault(
            t,
            float(row["until"] or t),
            row["kind"],
            row["what"],
            float(back) if back else None,
        )


def _samples(path: Path) -> dict[str, dict[str, Series]]:
    found: dict[str, dict[str, Series]] = {}
    for row in _rows(path):
        of = found.setdefault(row["metric"], {}).setdefault(row["label"], ([], []))
        of[0].append(float(row["t"]))
        of[1].append(float(row["value"]))
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    # The last line of a run that was broken off may be half written.
    return [row for row in rows if None not in row.values()]
