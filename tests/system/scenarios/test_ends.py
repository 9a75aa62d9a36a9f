"""A run that is ended before its time leaves no service behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.system.command import ROOT, Home, eventually

RUN = ("run", "kill", "--items", "5000", "--kills", "500")


@pytest.mark.parametrize(
    "what", [pytest.param(signal.SIGTERM, marks=pytest.mark.proof), signal.SIGKILL]
)
def test_nothing_of_a_run_goes_on(what: signal.Signals) -> None:
    """Told to end it tidies up; killed it cannot, but its processes end themselves."""
    home = Home(Path(mkdtemp(prefix="waybill-home-")))  # not in pytest's: conftest.py
    run = subprocess.Popen(
        [sys.executable, "-m", "loadtest", *RUN],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(home.folder)},
        stderr=subprocess.DEVNULL,
    )

    def works() -> bool:
        return sum(" work\n" in line + "\n" for line in commands(home)) >= 3

    try:
        assert eventually(works, within_s=60)
        run.send_signal(what)
        run.wait(60)
        assert eventually(lambda: not home.processes(), within_s=30), commands(home)
        assert what == signal.SIGKILL or list(home.folder.iterdir()) == []
    finally:
        run.kill()
        run.wait(10)
        home.remove()


def commands(home: Home) -> list[str]:
    """Command lines of what lives."""
    return [told.split("\n")[0].strip() for told in home.processes().values()]
