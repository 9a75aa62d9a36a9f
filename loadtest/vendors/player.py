"""
One vendor of a world: what becomes of each of its calls, in the order of a real one.

An outage comes first, then the credential, the limits, a fault before acceptance, the
memory of idempotency keys, and the work itself; its answer may then be spoilt.
Acceptance is decided when the request is whole, so that a client that dies while it
waits has been accepted all the same.
"""

from __future__ import annotations

import random
from dataclasses import replace
from operator import itemgetter
from typing import NamedTuple

from loadtest.vendors.book import Book, Row, digest, now
from loadtest.vendors.faults import AFTER, BEFORE, ERRORS, OK, unanswered
from loadtest.vendors.kinds import Call, Delivery, Kind, Reply
from loadtest.vendors.limits import Counted, slow_down
from loadtest.vendors.settings import Outage, Play
from loadtest.vendors.wire import HANG_S, JSON, Answer

REMEMBERED_MAX = 200_000  # idempotency keys
CALLERS_MAX = 10_000  # tenants or credentials that are counted apart


class Decided(NamedTuple):
    """What became of a call, and what is sent afterwards."""

    answer: Answer
    outcome: str
    status: int
    reply: Reply = Reply()
    fault: str = ""
    counted: tuple[Counted, ...] = ()
    later: tuple[Delivery, ...] = ()


class Player:
    """One vendor."""

    def __init__(
        self, name: str, play: Play, kind: Kind, book: Book, seed: int
    ) -> None:
        self.name = name
        self.play = play
        self.kind = kind
        self._book = book
        self._dice = random.Random(f"{seed}:{name}")
        self._remembered: dict[tuple[str, str], tuple[str, Reply]] = {}
        self._counted: dict[tuple[int, str], Counted] = {}
        self._asked = 0
        self.under_way = 0
        self.under_way_max = 0
        self.check(play)

    def check(self, play: Play) -> None:
        """
        Raises:
            ValueError: a fault that this kind of vendor does not know.
        """
        known = {OK, *BEFORE, *AFTER, *self.kind.faults}
        if strange := {*play.faults, *play.script} - known:
            listed = ", ".join(sorted(known))
            raise ValueError(f"{self.name} knows no {sorted(strange)}; it has {listed}")

    def change(self, play: Play, *, again: bool) -> None:
        """Behave otherwise from now on; `again`: the script begins anew."""
        self.check(play)
        if play.limits != self.play.limits:
            self._counted.clear()
        if again:
            self._asked = 0
        self.play = play

    def decide(self, call: Call, clock_s: float) -> Decided:
        """What becomes of a call that is whole at `clock_s` of the world's clock."""
        try:
            decided = self._decide(call, clock_s)
        except (AttributeError, KeyError, TypeError, ValueError):
            decided = self._refused(call, 400, "malformed request", "refused")
        self.under_way += 1
        self.under_way_max = max(self.under_way_max, self.under_way)
        for counted in decided.counted:
            counted.under_way += 1
        play, reply = self.play, decided.reply
        accepted = decided.outcome == "accepted"
        row = Row(
            at=now(),
            vendor=self.name,
            kind=play.kind,
            method=call.method,
            path=call.path,
            query=call.asked,
            tenant=call.headers.get(play.tenant_header, ""),
            credential=digest(call.credential.encode())[:12],
            key=call.headers.get(play.key_header, ""),
            body_sha=digest(call.body),
            bytes=len(call.body),
            outcome=decided.outcome,
            fault=decided.fault,
            status=decided.status,
            billed=accepted and bool(reply.taken),
            tokens_in=reply.tokens[0],
            tokens_out=reply.tokens[1],
        )
        self._book.write(row, reply.taken if accepted else [])
        return decided

    def ended(self, decided: Decided) -> None:
        """It was answered, or the client is gone."""
        self.under_way -= 1
        for counted in decided.counted:
            counted.under_way -= 1

    def _decide(self, call: Call, clock_s: float) -> Decided:
        play = self.play
        for outage in play.outage:
            if 0 <= clock_s - outage.at_s < outage.for_s:
                return self._out(call, outage)
        asked = play.credential and not self.kind.free(call)
        if asked and call.credential != play.credential:
            return self._refused(call, 401, "the key is not valid", "refused")
        tokens = self.kind.tokens(call, play)
        limits = self._limits(call)
        waits = [(counted.wait_s(tokens, clock_s), counted.limit) for counted in limits]
        wait_s, limit = max(waits, key=itemgetter(0), default=(0.0, None))
        if not wait_s:
            for counted in limits:
                counted.take(tokens, clock_s)
        known = [each for counted in limits for each in counted.remaining(clock_s)]
        remaining = self.kind.remaining(call, known)
        if limit is None or not wait_s:
            return self._let_in(call, limits, remaining)
        message = "rate limit reached: slow down"
        decided = self._refused(call, limit.status, message, "throttled")
        more = (*decided.answer.headers, *slow_down(limit, wait_s), *remaining)
        return decided._replace(answer=replace(decided.answer, headers=more))

    def _let_in(
        self,
        call: Call,
        limits: tuple[Counted, ...],
        remaining: tuple[tuple[str, str], ...],
    ) -> Decided:
        """A call that the limits allow."""
        play = self.play
        fault = self._fault()
        after_s = play.latency.drawn(self._dice)
        if fault in ERRORS:
            status = ERRORS[fault]
            decided = self._refused(call, status, "not today", "failed")
            answer = replace(decided.answer, after_s=after_s)
            return decided._replace(answer=answer, fault=fault, counted=limits)
        if fault in BEFORE:
            answer = unanswered(fault, play)
            status = 0 if answer.ends == "reset" else answer.status
            return Decided(answer, "failed", status, fault=fault, counted=limits)
        reply, outcome = self._done(call, fault)
        answer = _answer(reply, (*reply.headers, *remaining), after_s)
        if fault in AFTER:
            answer = AFTER[fault](answer, play)
        status = 0 if answer.ends == "reset" else reply.status
        shown = "" if fault == OK else fault
        later = reply.later if outcome == "accepted" else ()
        return Decided(answer, outcome, status, reply, shown, limits, later)

    def _done(self, call: Call, fault: str) -> tuple[Reply, str]:
        """Do the work, unless it was done before under the same key."""
        play = self.play
        key = call.headers.get(play.key_header, "") if play.dedupe else ""
        body_sha = digest(call.body)
        if key and (before := self._remembered.get((call.credential, key))):
            if before[0] != body_sha:
                message = "this idempotency key came with another body"
                return self.kind.error(call, 422, message), "refused"
            again = (*before[1].headers, ("idempotent-replayed", "true"))
            return replace(before[1], headers=again), "repeated"
        reply = self.kind.answer(call, play, fault, self._dice)
        if not reply.accepted:
            return reply, reply.refused
        if key and len(self._remembered) < REMEMBERED_MAX:
            kept = replace(reply, data=reply.body, taken=[], later=())
            self._remembered[call.credential, key] = (body_sha, kept)
        return reply, "accepted"

    def _out(self, call: Call, outage: Outage) -> Decided:
        if outage.how == "error":
            return self._refused(call, outage.status, "down for maintenance", "outage")
        hang_s = HANG_S if outage.how == "hang" else 0.0
        return Decided(Answer(after_s=hang_s, ends="reset"), "outage", 0)

    def _refused(self, call: Call, status: int, message: str, outcome: str) -> Decided:
        reply = self.kind.error(call, status, message)
        return Decided(_answer(reply, reply.headers, 0.0), outcome, reply.status, reply)

    def _fault(self) -> str:
        """What goes wrong with the next call."""
        self._asked += 1
        if self._asked <= len(self.play.script):
            return self.play.script[self._asked - 1]
        drawn = self._dice.random()
        for fault, share in self.play.faults.items():
            drawn -= share
            if drawn < 0:
                return fault
        return OK

    def _limits(self, call: Call) -> tuple[Counted, ...]:
        found = []
        for place, limit in enumerate(self.play.limits):
            who = ""
            if limit.per == "tenant":
                who = call.headers.get(self.play.tenant_header, "")
            elif limit.per == "credential":
                who = call.credential
            if len(self._counted) > CALLERS_MAX:
                self._counted.clear()
            if (place, who) not in self._counted:
                self._counted[place, who] = Counted(limit)
            found.append(self._counted[place, who])
        return tuple(found)


def _answer(
    reply: Reply, headers: tuple[tuple[str, str], ...], after_s: float
) -> Answer:
    kind = JSON if reply.media_type == "application/json" else ()
    named = kind or (("content-type", reply.media_type),)
    return Answer(reply.status, reply.body, (*named, *headers), after_s)
