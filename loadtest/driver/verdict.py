"""
The checker, a process of its own, where there is one: it looks on while faults run, and
once more when all is over.  What it found is taken as it says it.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKER = "loadtest.checker"
FILE = "checker.json"
ENDS_S = 60.0  # for a look that is under way
LAST_LOOK_S = 600.0


class Judge:
    """
    A checker of one run.

    Args:
        database: As the owner of the database has it.
        book: The vendors' own.
    """

    def __init__(self, run: Path, database: str, book: Path) -> None:
        self._run = run
        self._command = [sys.executable, "-m", CHECKER, str(run)]
        self._command += ["--database", database, "--book", str(book)]
        self._following: subprocess.Popen[bytes] | None = None

    @property
    def there(self) -> bool:
        """Whether this checkout has one."""
        return importlib.util.find_spec(CHECKER) is not None

    def follow(self) -> None:
        """Look on from now."""
        if not self.there:
            return
        with (self._run / "checker.log").open("ab") as log:
            self._following = subprocess.Popen(
                [*self._command, "--follow"], stdout=log, stderr=log
            )

    def stop(self) -> None:
        """The faults are over."""
        if self._following is None:
            return
        self._following.send_signal(signal.SIGTERM)
        try:
            self._following.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            self._following.kill()
            self._following.wait()
        self._following = None

    def verdict(self) -> list[dict[str, Any]]:
        """What it says of all; [] without a checker."""
        self.stop()
        if not self.there:
            return []
        with (self._run / "checker.log").open("ab") as log:
            subprocess.run(
                self._command, stdout=log, stderr=log, timeout=LAST_LOOK_S, check=False
            )
        try:
            found = json.loads((self._run / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = []
        if not isinstance(found, list) or not found:
            why = "the checker gave no verdict; see checker.log"
            return [{"invariant": "", "says": why, "checked": 0, "violations": 1}]
        return found
