"""
The stock of a pool: its template, started when needed, and the processes of its calls.

Whoever begins a process has it alone, and buries it, whatever happens.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

from pipeline.errors import Transient, Trouble
from pipeline.jail.jail import USERS_BEGIN
from pipeline.jail.process import GONE, JailedProcess, TemplateProcess, start
from pipeline.jail.scratch import Scratch
from pipeline.proc import EXCUSED
from pipeline.threads import in_thread
from pipeline.trouble import THIS_MACHINE

START_S = 30.0  # a start takes 1 s; a machine that swaps may need far longer
REAP_S = 5.0  # after SIGKILL; longer means uninterruptible sleep in the kernel
USERS = 256  # of one template, in turn: far more than run at once


class Stock:
    """
    The processes of one pool.

    Args:
        config: What a template is told of its limits (`pipeline.jail.template`).
        scratch: Where private folders lie; None: where temporary files do.

    Attributes:
        jail: What stands, as the last process reported it.
        counts: How many were `started`, `ended` by themselves without an answer, were
            `killed` on timeout or cancellation, or `disowned` since they could not be
            reaped; and `templates` started.
    """

    def __init__(self, config: dict[str, Any], scratch: Path | None) -> None:
        self.jail: dict[str, Any] = {}
        self.busy: set[JailedProcess] = set()
        self.closed = False
        self.counts: Counter[str] = Counter()
        self._scratch = Scratch(scratch)
        self._config = config
        self._template: TemplateProcess | None = None
        self._starting = anyio.Lock()

    def __repr__(self) -> str:
        return f"<Stock {len(self.busy)} busy>"

    async def ready(self) -> TemplateProcess:
        """
        The template; started when there is none, or it has died.

        Raises:
            Trouble: JAIL_START.
            Transient: JAIL_CLOSED.
        """
        async with self._starting:
            self.check_open()
            if self._template is not None and not self._template.alive:
                await self._drop()
            if self._template is None:
                self._template = await self._start()
            return self._template

    async def begin(self, request: dict[str, Any]) -> JailedProcess:
        """
        A process that has jailed itself for `request`.

        Raises:
            Trouble: JAIL_START.
            Transient: JAIL_CLOSED.
        """
        for last in (False, True):
            template = await self.ready()
            try:
                with anyio.fail_after(START_S):
                    return await self._fork(template, request)
            except (*GONE, TimeoutError):
                # The template may have died since: not the document's doing.
                self.check_open()
                if last:
                    raise no_start("a jailed process did not start") from None
                if self._template is template:
                    await self._drop()
        raise AssertionError

    async def bury(self, jailed: JailedProcess, how: str = "") -> None:
        """Kill a process and what it started, remove its folder; bounded."""
        if how:
            self.counts[how] += 1
        with anyio.CancelScope(shield=True):
            await self.finish(jailed)
            await jailed.aclose()
            await self._scratch.remove_folder(jailed.folder)
        self.busy.discard(jailed)

    async def finish(self, jailed: JailedProcess) -> bool:
        """Kill a process and what it started; whether nothing of it is left."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(REAP_S):
            await jailed.finish()
        if jailed.end is None:
            # In uninterruptible sleep it cannot be reaped; it holds no lock of ours.
            self.counts["disowned"] += 1
        return jailed.end is not None

    async def aclose(self) -> None:
        """Kill every process and remove the scratch folders.  Idempotent."""
        self.closed = True
        with anyio.CancelScope(shield=True):
            async with self._starting:
                await self._drop()  # its calls end with it; their callers bury them
            if not self.busy:
                await in_thread(self._scratch.remove)

    def check_open(self) -> None:
        """Raise JAIL_CLOSED once the pool was closed: a shutdown, no crash."""
        if self.closed:
            raise Transient(
                "the pool of jailed processes is closed", code="JAIL_CLOSED"
            )

    async def _fork(
        self, template: TemplateProcess, request: dict[str, Any]
    ) -> JailedProcess:
        self.counts["started"] += 1
        number = self.counts["started"]
        folder = self._scratch.folder(number)
        # Root's process is a user whom nobody else is at the same time.
        user = USERS_BEGIN + template.process.pid * USERS + number % USERS
        place = {"scratch": str(folder), "user": 0 if os.geteuid() else user}
        jailed = None
        try:
            jailed = await template.fork(number, folder)
            self.busy.add(jailed)
            await jailed.begin({**request, **place})
        except BaseException:
            if jailed is None:
                folder.rmdir()
            else:
                await self.bury(jailed)
            raise
        self.jail = jailed.jail
        return jailed

    async def _start(self) -> TemplateProcess:
        """Start a template and wait until it is warm."""
        template = await start(self._scratch.place(), self._config)
        self.counts["templates"] += 1
        line_s = 0.0
        try:
            began = anyio.current_time()
            while (left_s := began + START_S + line_s - anyio.current_time()) > 0:
                with anyio.move_on_after(left_s):
                    await template.ready()
                    return template
                # What it has done so far would have to be done again: of a machine
                # that gives it no core it is waited for, and not begun anew.
                line_s = min(template.queued_s, EXCUSED * START_S)
            raise TimeoutError
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await template.aclose(REAP_S)
            if isinstance(error, (*GONE, TimeoutError)):
                self.check_open()
                status = template.process.returncode
                late = f"it did not start in {START_S:g} s, the machine may be busy"
                if line_s > START_S / 2:
                    late = f"in {START_S + line_s:.0f} s the machine gave it no core"
                why = late if status == -9 else f"status {status}"
                raise no_start(f"no jail could be made ({why})") from None
            raise

    async def _drop(self) -> None:
        """End the template and every call of it."""
        template, self._template = self._template, None
        if template is not None:
            with anyio.CancelScope(shield=True):
                reaped = await template.aclose(REAP_S)
            self.counts["disowned"] += not reaped


def no_start(what: str) -> Trouble:
    """The error for a process that did not come up: no document did that."""
    return Trouble(
        what,
        code="JAIL_START",
        where=f"the machine {THIS_MACHINE}",
        hint="it is tried again; if it stays, see `waybill doctor`, and whether memory "
        "and the limit of processes (ulimit -u) suffice",
    )
