"""Who is known to be dead, and who only cannot be looked at."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

from pipeline.run.origin import is_gone, origin
from pipeline.store.rows import Origin


def test_without_descriptors_nobody_is_dead() -> None:
    """Who cannot look at a living neighbour must not put it to death."""
    here = origin()
    parent = os.getppid()
    with open(f"/proc/{parent}/stat") as stat:
        born = stat.read().rpartition(")")[2].split()[19]
    neighbour = Origin(here.host, parent, born)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        gone = is_gone(neighbour)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert not gone


def test_the_dead_are_dead() -> None:
    """A process that ended, and one whose number is another's now."""
    here = origin()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    assert is_gone(Origin(here.host, ended.pid, "1"))
    assert is_gone(Origin(here.host, here.pid, "1"))
    assert not is_gone(here)
