"""
Who pays for a call: decided here for both stores, on rows that the caller has locked.

    spent + reserved + most <= bound        of every budget of the call, or of none

Nothing here reads or writes a store.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, TypeVar
from uuid import UUID

from pipeline.calls import CallId, CallOpening, Usage, WhenUsedUp
from pipeline.errors import NotFound
from pipeline.model import ItemId
from pipeline.store.outside import RESERVED, SCOPES, USED_UP, Short

K = TypeVar("K")


class Key(NamedTuple):
    """Names a budget; locked in this order."""

    scope: str
    of: int
    currency: str


class Where(NamedTuple):
    """What a call is counted in: one number for each of `SCOPES`."""

    item: int  # the outermost of the family
    batch: int
    tenant: int
    day: int

    def keys(self, currency: str) -> list[Key]:
        """The budgets of a call in this currency."""
        return [Key(s, of, currency) for s, of in zip(SCOPES, self, strict=True)]


@dataclass(slots=True)
class Account:
    """A budget's row, while its lock is held."""

    most: Decimal | None = None  # as a person said
    declared: Decimal | None = None
    spent: Decimal = Decimal(0)
    reserved: Decimal = Decimal(0)
    calls: int = 0
    failed: int = 0
    tokens: tuple[int, int, int, int] = (0, 0, 0, 0)
    kept: bool = True  # False: it has no row, and needs none

    @property
    def bound(self) -> Decimal | None:
        """What it may come to: a person's word goes before a file's."""
        return self.declared if self.most is None else self.most


# A call that was refused for now, or was never sent, makes no loop.
IDLE_CODES = ("THROTTLED", "QUOTA", "LIMIT_WAIT", "CANCELLED")


@dataclass(slots=True)
class Caller:
    """What is known of an item that calls."""

    where: Where
    tenant: str
    mine: bool  # of the worker that asks
    number: int = 0  # of its last call
    retried: int = 0  # times, by people
    tokens: dict[UUID, int] = field(default_factory=dict)  # of open calls: number
    idle: int = 0  # of its calls, by `IDLE_CODES`; known where it counts
    _keys: dict[str, list[Key]] = field(default_factory=dict)

    def keys(self, currency: str) -> list[Key]:
        """The budgets of its calls in this currency."""
        found = self._keys.get(currency)
        if found is None:
            found = self._keys[currency] = self.where.keys(currency)
        return found


class Change(NamedTuple):
    """What is added to a budget's row."""

    reserved: Decimal = Decimal(0)
    spent: Decimal = Decimal(0)
    calls: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def plus(self, other: Change) -> Change:
        """Both."""
        return Change(*map(operator.add, self, other))


class Grants:
    """
    What became of openings: verdicts, what to write, and what to add to budgets.

    Attributes:
        verdicts: One for each opening, in order.
        written: The calls that are new.
        waits: Of items that must wait: the budget that lacked room, and what it lacked.
    """

    def __init__(self) -> None:
        self.verdicts: list[CallId | Short] = []
        self.written: list[tuple[CallId, CallOpening]] = []
        self.waits: dict[ItemId, tuple[Key, Decimal]] = {}
        self.changes: dict[Key, Change] = {}


def grant(
    openings: Sequence[CallOpening],
    callers: Mapping[ItemId, Caller],
    accounts: Mapping[Key, Account],
) -> Grants:
    """
    Decide openings in their order.

    Args:
        accounts: Every budget of `Where.keys` of every opening, and those of the same
            scope in other currencies.
    """
    found = Grants()
    foreign: dict[tuple[str, int], list[Key]] = {}
    for key, account in accounts.items():
        if account.most is not None:
            foreign.setdefault(key[:2], []).append(key)
    for opening in openings:
        caller = callers[opening.item_id]
        verdict = _known(opening, caller) or _refused(
            opening, caller, accounts, foreign, found
        )
        if verdict is None:
            verdict = _reserve(opening, caller, accounts, found)
        found.verdicts.append(verdict)
    return found


def _known(opening: CallOpening, caller: Caller) -> CallId | Short | None:
    if not caller.mine:
        return Short("NOT_OURS")
    number = caller.tokens.get(opening.token)
    if number is not None:
        return CallId(opening.item_id, number)
    allowed = opening.budget.calls_max * (1 + caller.retried)
    if caller.number - caller.idle >= allowed:
        return Short("CALLS_LIMIT", bound=Decimal(allowed))
    return None


def _refused(
    opening: CallOpening,
    caller: Caller,
    accounts: Mapping[Key, Account],
    foreign: Mapping[tuple[str, int], list[Key]],
    found: Grants,
) -> Short | None:
    """Why one of its budgets does not pay."""
    if not opening.most:
        return None  # free: whatever is used up
    for key in caller.keys(opening.currency):
        name = _name(key, caller)
        declared = opening.declared(key.scope)
        others = {k.currency for k in foreign.get(key[:2], ())}
        others |= {declared.currency} if declared else set()
        if others and opening.currency not in others:
            return Short("BUDGET_CURRENCY", name, currency=min(others))
        account = accounts[key]
        bound = account.most
        if bound is None and declared is not None:
            bound = declared.amount
        if bound is None or opening.most <= bound - account.spent - account.reserved:
            continue
        left = bound - account.spent
        code = USED_UP if opening.most > left else RESERVED
        if code == RESERVED or (opening.budget.when_used_up is not WhenUsedUp.STOP):
            found.waits[opening.item_id] = key, opening.most
        return Short(code, name, bound, key.currency, left)
    return None


def _reserve(
    opening: CallOpening,
    caller: Caller,
    accounts: Mapping[Key, Account],
    found: Grants,
) -> CallId:
    caller.number += 1
    call = CallId(opening.item_id, caller.number)
    caller.tokens[opening.token] = caller.number
    more = Change(reserved=opening.most, calls=1)
    for key in caller.keys(opening.currency):
        accounts[key].reserved += opening.most
        if accounts[key].kept:
            add(found.changes, key, more)
    found.written.append((call, opening))
    found.waits.pop(opening.item_id, None)
    return call


def _name(key: Key, caller: Caller) -> str:
    return f"tenant/{caller.tenant}" if key.scope == "tenant" else name_of(key)


def name_of(key: Key) -> str:
    """What people call a budget; a tenant's stands by its number."""
    if key.scope != "day":
        return f"{key.scope}/{key.of}"
    if not key.of:
        return "day"
    year, rest = divmod(key.of, 10_000)
    return f"day/{year:04d}-{rest // 100:02d}-{rest % 100:02d}"


class Closed(NamedTuple):
    """A call that was settled just now."""

    where: Where
    currency: str
    reserved: Decimal
    cost: Decimal
    code: str
    tokens: tuple[int, int, int, int]  # in the order of `Usage`


def changes_of(closed: Sequence[Closed]) -> dict[Key, Change]:
    """What settled calls change."""
    found: dict[Key, Change] = {}
    for call in closed:
        change = Change(
            -call.reserved, call.cost, 0, int(call.code != ""), *call.tokens
        )
        for key in call.where.keys(call.currency):
            add(found, key, change)
    return found


def add(changes: dict[K, Change], key: K, more: Change) -> None:
    """Sum up what is added to one thing."""
    before = changes.get(key)
    changes[key] = more if before is None else before.plus(more)


def tokens_of(used: Usage) -> tuple[int, int, int, int]:
    """A usage as its four columns."""
    return (
        used.input_tokens,
        used.cached_input_tokens,
        used.output_tokens,
        used.reasoning_tokens,
    )


def day_of(text: str, name: str) -> int:
    """`2026-12-31` as 20261231; "" every day, 0."""
    if not text:
        return 0
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise unnamed(name)
    return int(text.replace("-", ""))


def of_one_day(name: str) -> NotFound:
    """A single day is not bounded."""
    return NotFound(
        f"{name!r} cannot be bounded by itself", hint="name each day by `day`"
    )


def unnamed(name: str) -> NotFound:
    """There is no such thing to have a budget."""
    return NotFound(
        f"there is nothing named {name!r}",
        hint="write item/437, batch/NAME, tenant/acme or day; a tenant has a budget"
        " once something was submitted for it",
    )
