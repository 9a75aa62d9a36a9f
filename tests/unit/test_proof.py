"""What a pipeline's file does to the process that imports it, seen from another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import Usage
from pipeline.proof import prove

HELD = "import re\nre.match('(a+)+$', 'a' * 60 + 'b')"  # in C, with the GIL
CRASH = "import ctypes\nctypes.string_at(0)"


def files(folder: Path, **tops: str) -> list[Path]:
    """Files with these texts, in order."""
    for name, text in tops.items():
        (folder / f"{name}.py").write_text(text)
    return [folder / f"{name}.py" for name in tops]


def test_whoever_ends_the_process_is_named(tmp_path: Path) -> None:
    """Without an exception, or by a signal; and those before it are not to blame."""
    paths = files(tmp_path, good="x = 1", ends="import os\nos._exit(0)")
    crash = files(tmp_path, crash=CRASH)
    forks = files(tmp_path, forks="import os\nif os.fork(): os._exit(0)")

    with pytest.raises(Usage) as ended:
        prove(paths)
    with pytest.raises(Usage) as crashed:
        prove(crash)
    with pytest.raises(Usage, match=r"forks\.py cannot be imported"):
        prove(forks)

    assert ended.value.message.startswith(f"{paths[1]} cannot be imported: it ends")
    assert "(exit code 0)" in ended.value.message
    assert "(exit code -11)" in crashed.value.message


def test_whoever_keeps_the_process_busy_is_named_and_ended(tmp_path: Path) -> None:
    """A thread beside it could not even look at a clock."""
    told = tmp_path / "pid"
    note = f"import os\nopen({str(told)!r}, 'w').write(str(os.getpid()))\n"
    [held] = files(tmp_path, held=note + HELD)

    with pytest.raises(Usage) as refused:
        prove([held], 2.0)

    assert refused.value.code == "PIPELINE_HANGS"
    assert str(held) in refused.value.message
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)


def test_what_a_file_raises_is_told_by_who_loads_it(tmp_path: Path) -> None:
    """The proof is of the process alone; what it forked, or left in threads, ends."""
    prove(
        files(
            tmp_path,
            raises="raise ValueError",
            leaves="import sys; sys.exit(3)",
            threads="import threading, time\n"
            "threading.Thread(target=time.sleep, args=(600,)).start()",
            forks="import os, time\nif os.fork() == 0: time.sleep(600)",
        )
    )
