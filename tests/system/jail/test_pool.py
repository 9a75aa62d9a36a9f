"""Jailed processes are killable, bounded, cannot hurt the worker: real processes."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvloop
from anyio.abc import TaskStatus

from pipeline.errors import Permanent, Throttled, Transient, Unacceptable, Usage
from pipeline.jail import watch
from pipeline.jail.codes import JAIL, Cause, Code, End, table
from pipeline.jail.pool import JailPool
from pipeline.jail.pools import JailPools
from pipeline.jail.process import JailedProcess
from pipeline.run.descriptors import used
from tests.system.jail import calls

CODES = table(
    *JAIL.values(),
    Code("CORRUPT", Cause.DOCUMENT, End.REFUSED),
    Code("OCR_CRASHED", Cause.DOCUMENT, End.BROKE, memory=True),
)


# -- fixtures -----------------------------------------------------------------------


@pytest.fixture(params=["uvloop", pytest.param("asyncio", marks=pytest.mark.proof)])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else None
    return "asyncio", {"loop_factory": factory}


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[JailPool]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    async with JailPool(2, allow=[calls], codes=CODES, scratch=scratch) as pool:
        yield pool
    assert not list(scratch.iterdir())


class Shelf:
    """Keeps files by a name of its own."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put_file(self, path: Path) -> str:
        await anyio.lowlevel.checkpoint()
        name = f"artifact-{len(self.kept)}"
        self.kept[name] = path.read_bytes()
        return name


def family(scratch: Path) -> list[int]:
    """
    The pids of processes whose folder is beneath `scratch`.

    Those are a guard and a template, and while a call runs its process and what it
    started.
    """
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"TMPDIR={scratch}/".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


async def lingering(scratch: Path) -> list[int]:
    """The pids of the processes of a pool, once `linger` has started one."""
    with anyio.fail_after(10):
        # Another process starts it: there is no event to wait for.
        while len(pids := family(scratch)) < 4:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    return pids


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie of another parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


async def gone(pids: list[int]) -> bool:
    """Whether all of them end within two seconds."""
    with anyio.move_on_after(2):
        while any(running(pid) for pid in pids):  # noqa: ASYNC110  not ours to wait for
            await anyio.sleep(0.01)
        return True
    return False


# -- what is promised -----------------------------------------------------------------


async def test_a_process_is_jailed(pool: JailPool) -> None:
    """Own session, nice, no secrets, one OpenMP thread, private scratch, no cores."""
    me = await pool.run(calls.whoami, timeout_s=30)

    assert me["leads"]
    assert me["nice"] == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert set(me["environment"]) <= {
        *("PATH", "LANG", "LC_CTYPE", "HOME", "TMPDIR"),
        *("TESSDATA_PREFIX", "OMP_THREAD_LIMIT", "FONTS_HOME"),
        "OPENBLAS_NUM_THREADS",
        "GLIBC_TUNABLES",
    }
    assert me["omp"] == "1"
    assert "scratch" in me["scratch"]
    assert me["core"] == 0
    assert me["descriptors"] <= 6  # 0, 1, 2, the pipes, and the listing itself


async def test_every_call_has_a_process_of_its_own(pool: JailPool) -> None:
    """Nothing that one call did to its process is there in the next."""
    before = [await pool.run(calls.remember, timeout_s=30) for _ in range(3)]
    seen = pool.statistics()

    assert before == [0, 0, 0]
    assert (seen.started, seen.calls, seen.templates, seen.busy) == (3, 3, 1, 0)
    assert repr(pool) == "<JailPool 0 busy of 2>"


async def test_stray_output_cannot_corrupt_an_answer(pool: JailPool) -> None:
    """Prints of the function, of C code and of what it starts go nowhere."""
    answers = [
        await pool.run(calls.babble, timeout_s=30, value=word) for word in ("a", "ü")
    ]

    assert answers == ["a", "ü"]


async def test_a_timeout_kills_the_whole_group(pool: JailPool, tmp_path: Path) -> None:
    """After JAIL_TIMEOUT neither the process nor what it started is left."""
    pids: list[int] = []
    await pool.run(calls.echo, timeout_s=30, value=1)  # it is up
    warm = family(tmp_path / "scratch")

    async def watch() -> None:
        pids.extend(set(await lingering(tmp_path / "scratch")).difference(warm))

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        with pytest.raises(Transient) as caught:
            await pool.run(calls.linger, timeout_s=3)

    assert caught.value.code == "JAIL_TIMEOUT"
    assert await gone(pids)
    assert await pool.run(calls.echo, timeout_s=30, value=1) == 1


async def test_a_cancelled_call_leaves_no_process(
    pool: JailPool, tmp_path: Path
) -> None:
    """Cancelling `run` kills the group at once, and the pool stays usable."""
    await pool.run(calls.echo, timeout_s=30, value=1)
    warm = family(tmp_path / "scratch")
    async with anyio.create_task_group() as group:

        async def work() -> None:
            await pool.run(calls.linger, timeout_s=600)

        group.start_soon(work)
        pids = await lingering(tmp_path / "scratch")
        group.cancel_scope.cancel()

    assert await gone([pid for pid in pids if pid not in warm])
    assert pool.statistics().busy == 0
    assert await pool.run(calls.echo, timeout_s=30, value=1) == 1


async def test_cancelling_at_any_moment_leaves_no_process(
    pool: JailPool, tmp_path: Path
) -> None:
    """Whatever a call was doing when it was cancelled, nothing of it stays."""
    for number in range(20):
        with anyio.move_on_after(number * 0.012):
            await pool.run(calls.linger, timeout_s=600)

    assert pool.statistics().busy == 0
    with anyio.fail_after(2):
        while len(family(tmp_path / "scratch")) > 2:  # noqa: ASYNC110  not ours
            await anyio.sleep(0.01)


async def test_a_crash_is_confirmed_by_a_second_try(pool: JailPool) -> None:
    """Twice dead is JAIL_CRASHED with the signal's name."""
    await pool.run(calls.echo, timeout_s=30, value=1)

    with pytest.raises(Permanent, match="SIGSEGV") as caught:
        await pool.run(calls.crash, timeout_s=30, times=9)

    assert caught.value.code == "JAIL_CRASHED"
    assert (pool.statistics().started, pool.statistics().ended) == (3, 2)
    assert await pool.run(calls.echo, timeout_s=30, value=1) == 1


async def test_a_crash_of_one_process_alone_is_forgiven(pool: JailPool) -> None:
    """A call whose process dies by accident succeeds in the next one."""
    answer = await pool.run(calls.crash, timeout_s=30, times=1)

    assert answer == "alive"
    assert pool.statistics().ended == 1


async def test_memory_is_limited(pool: JailPool) -> None:
    """A call that wants 8 GiB ends in MEMORY_LIMIT: its process was a fresh one."""
    with pytest.raises(Permanent) as caught:
        await pool.run(calls.devour, timeout_s=30)

    assert caught.value.code == "MEMORY_LIMIT"
    assert (pool.statistics().started, pool.statistics().ended) == (1, 1)


async def test_memory_of_what_a_jailed_process_starts_is_told_apart(
    tmp_path: Path,
) -> None:
    """A program that died large died for want of memory; a small one did not."""
    async with JailPool(
        1, allow=[calls], codes=CODES, memory_bytes=256 << 20, scratch=tmp_path
    ) as pool:
        with pytest.raises(Permanent) as large:
            await pool.run(calls.starve, timeout_s=30, megabytes=100)
        with pytest.raises(Transient) as small:
            await pool.run(calls.starve, timeout_s=30, megabytes=1)
        seen = pool.statistics()

    assert large.value.code == "MEMORY_LIMIT"
    assert small.value.code == "OCR_CRASHED"
    assert seen.peak_bytes_max > 128 << 20


async def test_processor_time_is_limited(tmp_path: Path) -> None:
    """A call that burns more than its time allows ends like one that took too long."""
    async with JailPool(1, allow=[calls], cpu_per_s=0.01, scratch=tmp_path) as pool:
        await pool.run(calls.echo, timeout_s=30, value=1)
        with pytest.raises(Transient, match="processor") as caught:
            await pool.run(calls.burn, timeout_s=30)
        seen = pool.statistics()

    assert caught.value.code == "JAIL_TIMEOUT"
    assert (seen.ended, seen.killed) == (1, 0), "the kernel ended it, not the clock"


async def test_files_are_limited(tmp_path: Path) -> None:
    """A file larger than `file_bytes` is an error of the call, not its end."""
    async with JailPool(1, allow=[calls], file_bytes=1 << 20, scratch=tmp_path) as pool:
        with pytest.raises(Permanent, match="scratch") as caught:
            await pool.run(calls.fill_disk, timeout_s=30, size=2 << 20)

    assert caught.value.code == "JAIL_SCRATCH"
    assert pool.statistics().ended == 0


async def test_scratch_is_empty_for_every_call(pool: JailPool) -> None:
    """What one call leaves in its scratch folder the next one does not meet."""
    found = [await pool.run(calls.leave_litter, timeout_s=30) for _ in range(2)]

    assert found == [[], []]


async def test_files_of_a_call_are_kept(pool: JailPool) -> None:
    """Plain files become artifacts by name; links, folders and what is in them not."""
    shelf = Shelf()

    for size in (10, 1 << 20):
        names, kept = await pool.run_files(
            calls.unpack, timeout_s=30, keep=shelf, size=size
        )

        assert names == ["a.txt", "b ü.bin", "folder", "link"]
        assert list(kept) == ["a.txt", "b ü.bin"]
        assert shelf.kept[kept["a.txt"]] == b"first"
        assert shelf.kept[kept["b ü.bin"]] == b"x" * size
    assert await pool.run(calls.leave_litter, timeout_s=30) == []


async def test_what_a_call_left_is_not_taken_for_nothing_without_descriptors(
    pool: JailPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker ran out of them while the process jailed itself: that is no answer."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    shelf = Shelf()
    begin = JailedProcess.begin

    async def begin_short(self: JailedProcess, request: dict[str, Any]) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used(), limits[1]))
        try:
            await begin(self, request)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    await pool.run(calls.echo, timeout_s=30, value=1)
    if not pool.jail["bounded"]:
        pytest.skip("a scratch folder is one on the disk here, and takes no descriptor")
    with monkeypatch.context() as short:
        short.setattr(JailedProcess, "begin", begin_short)
        with pytest.raises(OSError, match="Too many open"):
            await pool.run_files(calls.unpack, timeout_s=30, keep=shelf, size=10)
    _, kept = await pool.run_files(calls.unpack, timeout_s=30, keep=shelf, size=10)

    assert list(kept) == ["a.txt", "b ü.bin"]


async def test_of_a_failed_call_nothing_is_kept(pool: JailPool) -> None:
    """A call that raised has left nothing, also for the next one."""
    shelf = Shelf()

    with pytest.raises(Unacceptable):
        await pool.run_files(calls.litter_and_fail, timeout_s=30, keep=shelf)
    _, kept = await pool.run_files(calls.echo, timeout_s=30, keep=shelf, value=1)

    assert kept == shelf.kept == {}


async def test_no_more_files_are_taken_than_allowed(pool: JailPool) -> None:
    """A thousand and one files are JAIL_OUTPUT, and none of them is kept."""
    shelf = Shelf()

    with pytest.raises(Permanent) as caught:
        await pool.run_files(calls.scatter, timeout_s=30, keep=shelf, count=1001)

    assert caught.value.code == "JAIL_OUTPUT"
    assert shelf.kept == {}
    assert pool.statistics().busy == 0


async def test_a_huge_answer_is_refused(tmp_path: Path) -> None:
    """An answer over `output_bytes` is JAIL_OUTPUT; the process serves on."""
    async with JailPool(
        1, allow=[calls], output_bytes=10_000, scratch=tmp_path
    ) as pool:
        with pytest.raises(Permanent) as caught:
            await pool.run(calls.chatter, timeout_s=30, size=20_000)
        answer = await pool.run(calls.chatter, timeout_s=30, size=9_000)

    assert caught.value.code == "JAIL_OUTPUT"
    assert len(answer) == 9_000


async def test_errors_keep_class_code_and_hint(pool: JailPool) -> None:
    """A WaybillError arrives as it was raised."""
    with pytest.raises(Unacceptable, match="no") as refused:
        await pool.run(calls.refuse, timeout_s=30)
    with pytest.raises(Throttled) as throttled:
        await pool.run(calls.slow_down, timeout_s=30)

    assert refused.value.code == "PDF_ENCRYPTED"
    assert refused.value.hint == "remove the password"
    assert throttled.value.retry_after_s == 7.0


async def test_other_errors_say_their_type_alone(pool: JailPool) -> None:
    """The message of a foreign error, which may quote the document, stays inside."""
    with pytest.raises(Permanent) as caught:
        await pool.run(calls.blunder, timeout_s=30)

    assert caught.value.code == "JAIL_ERROR"
    assert "ZeroDivisionError" in str(caught.value)
    assert "document" not in str(caught.value)


async def test_only_allowed_functions_run(pool: JailPool) -> None:
    """Neither another module's function nor a closure reaches a process."""
    for fn in (os.system, lambda: None, Path.unlink):
        with pytest.raises(Usage) as caught:
            await pool.run(fn, timeout_s=30)
        assert caught.value.code == "JAIL_NOT_ALLOWED"

    assert pool.statistics().started == 0


async def test_callers_beyond_the_size_wait_in_turn(pool: JailPool) -> None:
    """Ten calls are worked off two at a time, and the loop goes on turning."""
    turns = 0
    answers: list[None] = []

    async def call() -> None:
        answers.append(await pool.run(calls.rest, timeout_s=30, s=0.2))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(call)
        while len(answers) < 10:
            await anyio.sleep(0.001)
            turns += 1

    assert pool.statistics().started == 10
    # A thousand; were a call waited for on the loop, a few times a call.  How long a
    # turn takes says how busy the machine is.
    assert turns > 100


@pytest.mark.parametrize("which", [0, 1])
async def test_a_template_that_died_is_replaced(
    pool: JailPool, tmp_path: Path, which: int
) -> None:
    """The kernel may kill it, or its guard; the next call does not notice."""
    await pool.run(calls.echo, timeout_s=30, value=1)
    pids = family(tmp_path / "scratch")
    os.kill(sorted(pids)[which], signal.SIGKILL)
    assert await gone(pids)

    assert await pool.run(calls.echo, timeout_s=30, value=1) == 1
    assert pool.statistics().templates == 2


@pytest.mark.parametrize("which", [0, 1])
async def test_a_template_that_dies_takes_its_calls_along(
    pool: JailPool, tmp_path: Path, which: int
) -> None:
    """Nothing outlives it; the call is tried once more from a new one."""
    pids: list[int] = []

    async def kill() -> None:
        pids.extend(await lingering(tmp_path / "scratch"))
        os.kill(sorted(pids)[which], signal.SIGKILL)

    async with anyio.create_task_group() as group:
        group.start_soon(kill)
        with pytest.raises(Transient) as caught:
            await pool.run(calls.linger, timeout_s=3)

    assert caught.value.code == "JAIL_TIMEOUT"
    assert await gone(pids)
    assert pool.statistics().templates == 2


async def test_a_closed_pool_starts_nothing(tmp_path: Path) -> None:
    """After `aclose` a call is refused, and can be retried elsewhere."""
    pool = JailPool(1, allow=[calls], scratch=tmp_path)
    await pool.aclose()

    with pytest.raises(Transient) as caught:
        await pool.run(calls.echo, timeout_s=30, value=1)

    assert caught.value.code == "JAIL_CLOSED"


async def test_pools_are_named(tmp_path: Path) -> None:
    """A call goes to the pool it names; an unused pool starts nothing."""
    shelf = Shelf()
    pools = JailPools(
        {
            "": JailPool(1, allow=[calls], scratch=tmp_path),
            "second": JailPool(1, allow=[calls], scratch=tmp_path),
        }
    )
    async with pools:
        assert await pools.run(calls.echo, timeout_s=30, value=1) == 1
        assert pools["second"].statistics().started == 0
        answer = await pools.run_files(
            calls.echo, pool="second", owner=7, timeout_s=30, keep=shelf, value=2
        )
        with pytest.raises(Usage) as caught:
            await pools.run(calls.echo, pool="third", timeout_s=30, value=3)

    assert answer == (2, {})
    assert [pool.statistics().calls for pool in pools.values()] == [1, 1]
    assert caught.value.code == "NO_SUCH_POOL"
    assert list(tmp_path.iterdir()) == []


async def test_a_book_does_not_hold_up_a_postcard(pool: JailPool) -> None:
    """A free process goes to the owner with the fewest calls, not to who came first."""
    order: list[str] = []

    async def call(owner: str, s: float, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await pool.run(calls.rest, timeout_s=30, owner=owner, s=s)
        order.append(owner)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            # Far longer than a process may have to wait for its processor: the
            # order of answers is then the order of turns.
            await group.start(call, "book", 0.3)
        await group.start(call, "postcard", 0.0)

    assert order.index("postcard") <= 3


WORKER = """
import sys, anyio
from pathlib import Path
from pipeline.jail.pool import JailPool
from tests.system.jail import calls

async def main():
    fn = getattr(calls, sys.argv[2])
    async with JailPool(1, allow=[calls], scratch=Path(sys.argv[1])) as pool:
        await pool.run(fn, timeout_s=600)

anyio.run(main)
"""


@pytest.mark.parametrize("call", ["linger", "grind"])
async def test_a_killed_worker_leaves_no_process(tmp_path: Path, call: str) -> None:
    """kill -9 of the worker ends what it jailed and what they started in 2 s."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    root = Path(__file__).parents[3]
    worker = await anyio.open_process(
        [sys.executable, "-c", WORKER, str(scratch), call], cwd=root
    )
    pids = await lingering(scratch)

    worker.kill()
    await worker.aclose()

    assert await gone(pids)
    # The next pool sweeps away what the dead one could not.
    assert len(list(scratch.iterdir())) == 1
    async with JailPool(1, allow=[calls], scratch=scratch) as pool:
        await pool.run(calls.echo, timeout_s=30, value=1)
        assert len(list(scratch.iterdir())) == 1
    assert not list(scratch.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
async def test_what_would_start_threads_is_warmed_where_there_are_none(
    tmp_path: Path,
) -> None:
    """The template stays alone, and calls start programs, but no thread."""
    said = []
    for threadless in ([calls.start_a_thread], []):
        async with JailPool(
            1, allow=[calls], threadless=threadless, scratch=tmp_path
        ) as pool:
            said.append(await pool.run(calls.of_threads, timeout_s=30))

    assert said == [[1, "hello"], [2, "hello"]]


async def test_the_kernels_bound_of_a_scratch_folder_is_seen_from_outside(
    tmp_path: Path,
) -> None:
    """The template does not measure what is bounded: it sees what the call reports."""
    for tier in (3, 2):
        async with (
            JailPool(1, allow=[calls], scratch=tmp_path, tier=tier) as pool,
            anyio.create_task_group() as group,
        ):
            group.start_soon(partial(pool.run, calls.rest, timeout_s=30, s=20))
            with anyio.fail_after(20):
                while not pool.jail:  # noqa: ASYNC110  another process does it
                    await anyio.sleep(0.01)
            (folder,) = tmp_path.glob("waybill-*/jailed-*")
            seen = [watch.bounded(pid, str(folder)) for pid in family(tmp_path)]
            assert any(seen) == pool.jail["bounded"]
            group.cancel_scope.cancel()
