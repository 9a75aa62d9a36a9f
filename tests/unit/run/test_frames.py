"""What a stage raised is shown as frames: where, and never what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from pipeline.errors import Permanent, Transient
from pipeline.run.frames import LINE_CHARS_MAX, LINES_MAX, frames_of
from pipeline.stage import Retry
from tests.unit.engine import Engine, Tape, run_all

SECRET = "the text of a document"
HERE = Path(__file__).parent


def fails(text: str) -> None:
    json.loads("{" + text)


def translates(text: str) -> None:
    try:
        fails(text)
    except ValueError as error:
        raise Permanent("it cannot be read", code="UNREADABLE") from error


def recurses(text: str) -> None:
    recurses(text)


def groups(text: str) -> None:
    try:
        fails(text)
    except ValueError as error:
        raise ExceptionGroup(text, [error, KeyError(text)]) from None


def caught(call: Any) -> BaseException:
    try:
        call(SECRET)
    except Exception as error:
        return error
    raise AssertionError("it did not raise")


def test_frames_lead_from_the_stage_to_the_library() -> None:
    """File, line and function, outermost first; no value and no foreign message."""
    lines = frames_of(caught(fails), HERE).splitlines()

    assert lines[0].startswith("test_frames.py:")
    assert lines[0].endswith(" in caught")
    assert lines[1].endswith(" in fails")
    assert lines[-1].startswith("json/decoder.py:")
    assert SECRET not in "\n".join(lines)


def test_what_it_came_from_is_told_by_its_type() -> None:
    """Causes and contexts, with frames of their own."""
    told = frames_of(caught(translates), HERE)

    assert "because of JSONDecodeError\n" in told
    assert told.index("in translates") < told.index("because of")
    assert told.index("because of") < told.index("json/decoder.py")
    assert SECRET not in told
    assert "it cannot be read" not in told


def test_a_group_is_told_by_its_members() -> None:
    """Type and frames of each; not the message of the group."""
    told = frames_of(caught(groups), HERE)

    assert "in the group: JSONDecodeError\n" in told
    assert "in the group: KeyError" in told
    assert SECRET not in told


def test_ten_thousand_frames_are_a_few() -> None:
    """The first and the last; the middle is counted."""
    lines = frames_of(caught(recurses), HERE).splitlines()

    assert len(lines) < 20
    assert any("more frames" in line for line in lines)
    assert lines[-1].endswith("in recurses")


def test_a_chain_without_end_ends() -> None:
    """Causes in a circle, and a thousand of them, and names without end."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert frames_of(first, HERE) == "because of KeyError"

    error: BaseException = ValueError()
    for _ in range(1000):
        kind = type("K" * 5000, (ValueError,), {})
        error.__context__, error = None, kind()
        error.__cause__ = ValueError()
    many = ExceptionGroup("", [ValueError() for _ in range(1000)])
    for found in (frames_of(error, HERE), frames_of(many, HERE)):
        assert len(found.splitlines()) <= LINES_MAX + 1
        assert all(len(line) <= LINE_CHARS_MAX for line in found.splitlines())


async def test_an_exception_raised_again_tells_of_this_time() -> None:
    """One made at the top of a file keeps what it is raised through."""
    once = Transient("away")

    async def run(state: Any, ctx: Any) -> Any:
        raise once

    engine = Engine([Tape().station("one", run, retry=Retry(attempts=9))])
    await run_all(engine)

    last, *_, first = await engine.store.failures(1, limit=50)
    assert last.frames == first.frames
    assert once.__traceback__ is None


def test_the_engines_own_frames_are_left_out() -> None:
    """An author reads what an author wrote."""
    from pipeline.bound import seconds

    [line] = frames_of(caught(seconds), HERE).splitlines()

    assert line.endswith("in caught")


async def test_they_stand_with_the_failed_attempt() -> None:
    """Of a bug, of an error of ours, and of a stage whose time was up."""

    async def bug(state: Any, ctx: Any) -> Any:
        fails(SECRET)

    async def ours(state: Any, ctx: Any) -> Any:
        raise Transient("away")

    async def sleeps(state: Any, ctx: Any) -> Any:
        await anyio.sleep(100)

    for run, word in ((bug, "fails"), (ours, "ours"), (sleeps, "sleeps")):
        once = {"retry": Retry(attempts=1), "timeout_s": 10}
        engine = Engine([Tape().station("one", run, **once)])
        await run_all(engine)

        [failed] = await engine.store.failures(1)
        assert any(word in line for line in failed.frames)
        assert (failed.stage, failed.attempt) == ("one", 0)
        assert SECRET not in str(failed)


async def test_the_log_names_item_stage_attempt_and_place() -> None:
    """One line of it is enough to begin with."""

    async def bug(state: Any, ctx: Any) -> Any:
        fails(SECRET)

    engine = Engine([Tape().station("one", bug, retry=Retry(attempts=2))])
    with structlog.testing.capture_logs() as lines:
        await run_all(engine)

    first, second = [line for line in lines if line["event"] == "stage_failed"]
    assert (first["item"], first["stage"], first["attempt"]) == (1, "one", 1)
    assert (second["attempt"], second["log_level"]) == (2, "error")
    assert any(line.endswith("in fails") for line in first["frames"])
    assert SECRET not in str(lines)


@pytest.mark.parametrize("limit", [1, 10])
async def test_the_newest_failure_comes_first(limit: int) -> None:
    """A thousand tries are not all shown."""

    async def bug(state: Any, ctx: Any) -> Any:
        raise KeyError

    engine = Engine([Tape().station("one", bug, retry=Retry(attempts=3))])
    await run_all(engine)

    found = await engine.store.failures(1, limit=limit)
    assert [row.attempt for row in found] == [2, 1, 0][:limit]
