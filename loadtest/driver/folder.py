"""
The folder of a run: what was dropped, what was seen, what was done, what came of it.

`submitted.jsonl` has a line a file, written and flushed before the file is dropped, so
that whoever asks later what must be there asks somebody who knows.  The words of all
files stand in docs/loadtest.md.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import Usage

FAULTS = ("t", "until", "kind", "what", "recovered_s")
SAMPLES = ("t", "metric", "label", "value")


class Submitted(NamedTuple):
    """One line of `submitted.jsonl`; times are unix time, in seconds."""

    at: float
    tenant: str
    batch: str
    pipeline: str
    name: str
    sha256: str
    deadline: float
    urgent: bool
    expect: str  # done, held, quarantined, failed or any


@dataclass
class Fault:
    """Something that was done to the service, in seconds since the run began."""

    t: float
    until: float
    kind: str
    what: str
    recovered_s: float | None = None


class RunFolder:
    """
    One run's folder, and the clock that everything in it goes by.

    Args:
        beside: The folder of the scenario's file, whose paths go by it.

    Raises:
        Usage: there is something in it.
    """

    def __init__(self, path: Path, beside: Path) -> None:
        self.path = path
        self.beside = beside
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            # What an earlier run saw would be held against this one.
            raise Usage(f"{path} is not empty", hint="name another --out, or empty it")
        self.began = time.time()
        self._mono = time.monotonic()
        self.faults: list[Fault] = []
        self.submitted: list[Submitted] = []
        self._lines = (path / "submitted.jsonl").open("w", encoding="utf-8")
        self._samples = (path / "samples.csv").open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._samples)
        self._rows.writerow(SAMPLES)
        self._write_faults()

    def begin(self) -> None:
        """The clock begins: everything is up."""
        self.began = time.time()
        self._mono = time.monotonic()

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._mono

    # -- what was dropped ------------------------------------------------------------

    def submit(self, lines: Iterable[Submitted]) -> None:
        """Written and flushed before this returns: then they may be dropped."""
        for line in lines:
            self.submitted.append(line)
            self._lines.write(json.dumps(line._asdict()) + "\n")
        self._lines.flush()
        os.fsync(self._lines.fileno())

    # -- what was done ---------------------------------------------------------------

    @contextmanager
    def fault(self, kind: str, what: str = "") -> Iterator[Fault]:
        """A fault while the block lasts; it stands in `faults.csv` from its start."""
        fault = Fault(self.now(), -1.0, kind, what)
        self.faults.append(fault)
        self._write_faults()
        try:
            yield fault
        finally:
            fault.until = self.now()
            self._write_faults()

    @property
    def fired(self) -> dict[str, int]:
        """How often each kind of fault was made."""
        return dict(Counter(fault.kind for fault in self.faults))

    @property
    def last_fault_ended(self) -> float:
        """Seconds since the begin; 0 without one."""
        return max((fault.until for fault in self.faults), default=0.0)

    def recovered(self, finished: list[tuple[float, float]]) -> None:
        """
        Say of each fault when throughput was back to 80 % of the mean before.

        Args:
            finished: (t, so many stages finished by then), growing.
        """
        for fault in self.faults:
            fault.recovered_s = _recovered_s(fault, finished)
        self._write_faults()

    def _write_faults(self) -> None:
        part = self.path / "faults.csv.part"
        with part.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(FAULTS)
            for one in self.faults:
                back = "" if one.recovered_s is None else round(one.recovered_s, 2)
                until = "" if one.until < 0 else round(one.until, 2)
                rows.writerow([round(one.t, 2), until, one.kind, one.what, back])
        part.replace(self.path / "faults.csv")

    # -- what was seen ---------------------------------------------------------------

    def sample(self, rows: Iterable[tuple[str, str, float]]) -> None:
        """What was seen at this moment: metric, label, value."""
        t = round(self.now(), 2)
        self._rows.writerows([t, m, label, _short(v)] for m, label, v in rows)
        self._samples.flush()

    # -- what came of it ---------------------------------------------------------------

    def write(self, name: str, data: Any) -> None:
        """A JSON file of the folder, whole or not at all."""
        part = self.path / f"{name}.part"
        part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        part.replace(self.path / name)

    def close(self) -> None:
        """No more is written."""
        self._lines.close()
        self._samples.close()


BEFORE_S, STEP_S, AS_BEFORE = 10.0, 3.0, 0.8


def _recovered_s(fault: Fault, finished: list[tuple[float, float]]) -> float | None:
    """Seconds from its end; None where nothing was done before, or never again."""
    before = _rate(finished, fault.t - BEFORE_S, fault.t)
    if not before or fault.until < 0:
        return None
    for t, _ in finished:
        rate = _rate(finished, t, t + STEP_S) if t >= fault.until else None
        if rate is not None and rate >= AS_BEFORE * before:
            return max(0.0, t - fault.until)
    return None


def _rate(
    finished: list[tuple[float, float]], begin: float, end: float
) -> float | None:
    """Stages finished a second between two moments; None when none was seen there."""
    inside = [one for one in finished if begin - 1e-6 <= one[0] <= end + 1e-6]
    if len(inside) < 2 or inside[-1][0] <= inside[0][0]:
        return None
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() else round(value, 3)
