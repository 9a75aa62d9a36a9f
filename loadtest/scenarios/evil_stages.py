"""
What an evil stage does to its worker: each kind once, by the name of its item.

A good item sleeps a moment and goes on.  Every other one does what its name says,
in every try.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import anyio.to_thread

GOOD_S = 0.05
FOREVER_S = 3600.0
HELD: list[bytearray] = []
OPENED: list[int] = []


class Odd(BaseException):
    """Nobody's error."""


async def exits() -> None:
    """As a script would end."""
    sys.exit(0)


async def exits_in_a_task() -> None:
    """asyncio lets this one through its loop."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exits)


async def is_interrupted() -> None:
    """As by Ctrl-C."""
    raise KeyboardInterrupt


async def is_closed() -> None:
    """As a generator that somebody drops."""
    raise GeneratorExit


async def is_odd() -> None:
    """Neither an error nor an exit."""
    raise Odd


async def plays_cancelled() -> None:
    """Nobody cancelled it."""
    raise asyncio.CancelledError


async def is_gone() -> None:
    """The process ends, without a word."""
    os._exit(0)


async def kills_itself() -> None:
    """As the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


async def crashes() -> None:
    """Reads address 0."""
    ctypes.string_at(0)


async def sleeps() -> None:
    """Blocks the loop in a system call."""
    time.sleep(FOREVER_S)  # noqa: ASYNC251  # the evil


async def sleeps_in_a_task() -> None:
    """The same, beside its stage."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeps)


async def matches() -> None:
    """A regular expression that needs longer than the sun."""
    re.match(r"(a+)+$", "a" * 60 + "b")


async def spins() -> None:
    """A loop without an await."""
    while True:
        pass


async def swallows_and_sleeps() -> None:
    """Whatever interrupts it, it goes on."""
    while True:
        with suppress(Exception):
            time.sleep(FOREVER_S)  # noqa: ASYNC251  # the evil


async def computes() -> None:
    """One call in C, which no signal interrupts."""
    sum(range(10**14))


async def swallows() -> None:
    """Its time is over, and it does not end."""
    while True:
        with suppress(BaseException):
            await anyio.sleep(1)


async def shields() -> None:
    """Its time is over, and it does not hear it."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()


async def hangs_in_a_thread() -> None:
    """Waits for one that never ends."""
    await anyio.to_thread.run_sync(time.sleep, FOREVER_S)


async def hangs_in_finally() -> None:
    """Cleans up for ever."""
    try:
        await anyio.sleep_forever()
    finally:
        await shields()


async def computes_in_a_task() -> None:
    """A call in C, beside its stage."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(computes)


async def outgrows() -> None:
    """More and more memory."""
    while True:
        HELD.append(bytearray(b"x") * (16 << 20))
        await anyio.sleep(0.01)


async def leaves_threads() -> None:
    """Threads that nobody ends, and that keep the process from ending."""
    for _ in range(60):
        threading.Thread(target=time.sleep, args=(FOREVER_S,)).start()


async def leaks_descriptors() -> None:
    """Opens, and never closes."""
    while True:
        OPENED.append(os.open(os.devnull, os.O_RDONLY))
        await anyio.sleep(0.002)


async def lowers_limits() -> None:
    """A thread that nobody ends has the process open nothing any more."""

    def lowers() -> None:
        while True:
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (5, hard))
            time.sleep(0.01)

    threading.Thread(target=lowers, daemon=True).start()


KINDS: dict[str, Callable[[], Awaitable[None]]] = {
    kind.__name__.replace("_", "-"): kind
    for kind in (
        *(exits, exits_in_a_task, is_interrupted, is_closed, is_odd, plays_cancelled),
        *(is_gone, kills_itself, crashes),
        *(sleeps, sleeps_in_a_task, matches, spins, swallows_and_sleeps, computes),
        *(computes_in_a_task, swallows, shields, hangs_in_a_thread, hangs_in_finally),
        *(outgrows, leaves_threads, leaks_descriptors, lowers_limits),
    )
}


async def act(name: str) -> None:
    """What the item of this name does."""
    kind = KINDS.get(name)
    if kind is not None:
        await kind()
    await anyio.sleep(GOOD_S)
