"""
The template: a process that is warm and trusted, and forks one for each call.

It imports once what the calls of its pool need, and never sees a request or a document:
those travel between the worker and the forked process.  One call is one process
(`pipeline.jail.program`), which ends with it; before the worker is told that a call has
ended, everything that it started is dead.

There are two of it.  The *guard*, which the worker starts, makes the namespaces, starts
the template itself and waits for it: whichever of the three dies, the others notice and
leave nothing behind.  The template stays single-threaded, or nothing could be forked.

It is told of a call by a number and two sockets: `talk`, to the forked process, and
`line`, on which it says how the call ended.  A line that the worker shuts, or loses,
ends the call.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from pipeline.errors import WaybillError
from pipeline.jail import jail, landlock, namespaces, program, syscalls, watch
from pipeline.jail.syscalls import prctl

LOOK_S = 0.1  # how often calls are measured
BIRTH = struct.Struct(">I")  # a call's number, with its two sockets
DEATH = struct.Struct(">iB")  # exit status, or signal below zero; why
READY = b"r"
DESCRIPTORS = 4096  # more than the worker has open that may have slipped into us
PR_SET_CHILD_SUBREAPER = 36


class Why(IntEnum):
    """Why a call's process ended."""

    ITSELF = 0
    ASKED = 1
    MEMORY = 2  # with all that it started it took more than one process may
    SCRATCH = 3  # its scratch folder, likewise
    UNBORN = 4  # nothing could be forked


def main() -> None:
    """Be the guard; `argv[2]` is the JSON of limits and of what may run."""
    config = json.loads(sys.argv[2])
    sys.path[1:1] = config["paths"]
    control = take_control()
    config["packages"] = packages(config["allow"])
    config["usual"] = landlock.usual_rules(config)
    missing: dict[str, str] = {}
    had = jail.Attempts(missing)
    jail.die_with(config["worker"])
    os.nice(config["nice"])
    # Of whatever comes of it; a call's own limits come on top.
    jail.lower(resource.RLIMIT_AS, config["memory_bytes"])
    stands = {"namespaces": False, "alone": False, "missing": missing}
    stands["processes_max"] = 0
    if sys.platform == "linux":
        jail.prefer_to_die()
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        stands["processes_max"] = jail.processes_beside()
    else:
        missing["kernel"] = f"{sys.platform} has limits alone"
    flags = namespaces.best(config["tier"], had.note)
    if flags:
        namespaces.leave(flags)
    stands["namespaces"] = bool(flags)
    stands["alone"] = flags == namespaces.EVERY
    config["stands"] = stands
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        with leaving():
            jail.die_with(0 if stands["alone"] else guard)
            if stands["alone"]:
                namespaces.show_own_processes()
            Template(control, config).serve()
    control.close()
    os._exit(guarded(pid))


def take_control() -> socket.socket:
    """
    Move the worker's socket away from descriptor 0.

    A stray `print`, a C library's warning or a program that reads its stdin then meets
    /dev/null.  Duplicates are not inheritable, so no program keeps it open either.
    """
    control = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    # Whatever else the worker's event loop let slip into us (uvloop does): sockets
    # of the database have no place here.
    close_all_but(control)
    return socket.socket(fileno=control)


def close_all_but(kept: int) -> None:
    os.closerange(3, kept)
    os.closerange(max(3, kept + 1), DESCRIPTORS)


def packages(allow: list[str]) -> list[str]:
    """
    Folders of our own code, which the jail leaves readable.

    Importing the packages here, which are empty, finds them before the folder they
    lie in can no longer be listed: data may lie in it too.
    """
    names = {"pipeline", *(module.partition(".")[0] for module in allow)}
    return [
        folder
        for name in sorted(names)
        for folder in getattr(importlib.import_module(name), "__path__", ())
    ]


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """What runs in the block ends with it, whatever it raises, and nothing after."""
    try:
        yield
        os._exit(0)
    finally:
        os._exit(os.EX_SOFTWARE)


def guarded(template: int) -> int:
    """Wait for the template; kill what it left; its exit status."""
    status = 1
    while True:
        try:
            pid, ended = os.waitpid(-1, 0)
        except ChildProcessError:
            return status
        if pid == template:
            status = abs(os.waitstatus_to_exitcode(ended))
        # Nobody comes to us but those who lost the template.
        for left in watch.descendants(os.getpid()):
            if left != template or pid == template:
                kill(left)


def kill(pid: int) -> None:
    """SIGKILL a process, and its group when it leads one."""
    for send in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)


@dataclass(slots=True, eq=False)
class Call:
    """A call's process, and whatever it started: they share its session."""

    pid: int
    line: socket.socket
    folder: str
    why: Why = Why.ITSELF
    code: int | None = None  # how it ended; None while it runs


class Template:
    """The loop of the template: fork, watch, bury."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self._control = control
        self._config = config
        self._calls: dict[int, Call] = {}
        self._next_look = 0.0
        self._selector = selectors.DefaultSelector()
        self._forking: namespaces.ForkFirst | None = None
        self._woken, waker = socket.socketpair()
        for end in (self._woken, waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._waker = waker

    def serve(self) -> None:
        """Until the worker shuts the control socket, or is no more."""
        self._warm()
        self._control.send(READY)
        self._selector.register(self._control, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        while True:
            ready = self._selector.select(LOOK_S if self._calls else None)
            for key, _ in ready:
                if key.fileobj is self._control:
                    if not self._bear():
                        return
                elif key.fileobj is self._woken:
                    self._woken.recv(4096)
                elif isinstance(key.data, Call):
                    # The worker has its answer, gave up, or died.
                    self._end(key.data, Why.ASKED)
            self._reap()
            self._look()

    def _warm(self) -> None:
        """Import what the calls need; everything in here is shared by them all."""
        if sys.platform == "linux":
            prctl(PR_SET_CHILD_SUBREAPER, 1)
        if self._config["stands"]["alone"]:
            self._forking = namespaces.ForkFirst()
        for module in set(self._config["allow"]) - set(self._config["later"]):
            importlib.import_module(module)
        warm = list(self._config["warm"])
        if self._config["threadless"] and sys.platform == "linux":
            with contextlib.suppress(OSError):
                syscalls.refuse_threads()
                warm += self._config["threadless"]
        for name in warm:
            module, _, function = name.partition(":")
            # What is missing or broken here says so in the call that needs it.
            with contextlib.suppress(WaybillError, ImportError, OSError):
                getattr(importlib.import_module(module), function)()
        if sys.platform == "linux":
            threads = len(os.listdir("/proc/self/task"))
            assert threads == 1, f"the template has {threads} threads: none may fork"
            with contextlib.suppress(OSError):
                syscalls.compiled()
        gc.collect()
        gc.freeze()  # or each collection would copy what is shared

    def _bear(self) -> bool:
        """Fork a process for a call; False when the worker has no more of them."""
        message, descriptors, _, _ = socket.recv_fds(self._control, BIRTH.size, 2)
        if len(message) < BIRTH.size or len(descriptors) < 2:
            return False
        (number,) = BIRTH.unpack(message)
        talk, line = (socket.socket(fileno=each) for each in descriptors)
        for each in (talk, line):
            each.set_inheritable(False)
        call = Call(0, line, os.path.join(self._config["folder"], f"jailed-{number}"))
        try:
            call.pid = self._forking.fork() if self._forking else os.fork()
        except OSError:
            talk.close()
            self._say(call, 0, Why.UNBORN)
            return True
        if call.pid == 0:
            with leaving():
                self._be_born(talk)
        talk.close()
        self._calls[call.pid] = call
        self._selector.register(line, selectors.EVENT_READ, call)
        return True

    def _be_born(self, talk: socket.socket) -> None:
        """What the forked process does."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_all_but(talk.fileno())
        program.answer_one(talk, self._config)

    def _reap(self) -> None:
        """Bury whoever died; say of a call that it ended when nothing of it is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            call = self._calls.get(pid)
            if call is not None:
                call.code = os.waitstatus_to_exitcode(status)
        for call in [c for c in self._calls.values() if c.code is not None]:
            if self._survived(call.pid):
                continue  # it is dying, and we are told when it is dead
            del self._calls[call.pid]
            self._say(call, call.code or 0, call.why)

    def _survived(self, leader: int) -> bool:
        """Whether anything outlives a call's process; it is killed."""
        if self._forking:
            return False  # the kernel saw to it before we were told
        found = [pid for pid, session in self._living() if session == leader]
        found += [pid for pid, session in self._living() if session not in self._calls]
        for pid in found:
            kill(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
            found.append(leader)
        return bool(found)

    def _living(self) -> Iterator[tuple[int, int]]:
        """Each process that calls started, or are, with its session."""
        for pid in watch.descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                yield pid, os.getsid(pid)

    def _look(self) -> None:
        """End calls that take too much."""
        if time.monotonic() < self._next_look or not self._calls:
            return
        self._next_look = time.monotonic() + LOOK_S
        limits = self._config
        cap = limits["memory_bytes"]
        sizes = (limits["scratch_bytes"], limits["scratch_files"])
        living = list(self._living())
        for leader, call in self._calls.items():
            pids = [pid for pid, session in living if session == leader]
            if watch.memory_bytes(pids, cap) > cap:
                self._end(call, Why.MEMORY)
            bounded = watch.bounded(leader, call.folder)  # where looking costs most
            if not bounded and watch.overfull(call.folder, pids, *sizes):
                self._end(call, Why.SCRATCH)

    def _end(self, call: Call, why: Why) -> None:
        """Kill a call's process and whatever it started."""
        if call.why is Why.ITSELF and call.code is None:
            call.why = why
        kill(call.pid)
        self._hang_up(call)  # a line that is shut would be ready for ever

    def _hang_up(self, call: Call) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(call.line)

    def _say(self, call: Call, code: int, why: Why) -> None:
        self._hang_up(call)
        with contextlib.suppress(OSError):
            call.line.send(DEATH.pack(code, why))
        call.line.close()
