"""
Answers from outside, on their way to the item that asks for them.

Whoever brings one (a person, a callback) has been let in already.  Here it is seen to
be JSON, small enough and of the form that the stage asked for, and given to the store,
which takes the first one.  What an answer says reaches no error and no log.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, NoReturn, assert_never

from pydantic_core import from_json

from pipeline.errors import Conflict, NotFound, Permanent, Usage
from pipeline.model import ItemId
from pipeline.names import visible
from pipeline.signals import is_name
from pipeline.stage import Artifacts
from pipeline.state import encode, inline_or_ref
from pipeline.store.signals import REFUSALS, Delivery, SignalRow, SignalStore, Taken
from pipeline.threads import in_thread

BYTES_MAX = 1 << 20  # of one answer: a large one names where its pages are
ID_CHARS_MAX = 200
MISFITS_MAX = 3  # that one error names


async def deliver(
    store: SignalStore,
    artifacts: Artifacts,
    item: ItemId,
    name: str,
    body: bytes,
    *,
    author: str,
    tenant: str = "",
    delivery: str = "",
    until: float | None = None,
) -> Taken:
    """
    Take an answer in; returns after COMMIT.

    Args:
        tenant: The item must be this one's; "": whoever it belongs to.
        delivery: Makes it the same when it comes again; "": what it says does.
        until: It is not taken after that, in seconds since 1970.

    Raises:
        Conflict: SIGNAL_ANSWERED, another one came first; SIGNAL_LATE, SIGNAL_FULL.
        NotFound: SIGNAL_FOREIGN, no such item of this tenant, or after `until`.
        Usage: SIGNAL_SCHEMA, SIGNAL_SIZE, BAD_SIGNAL: nobody could take it.
        Trouble, StoreUnavailable: it may be sent again.
    """
    if not is_name(name):
        raise Usage(
            "that cannot be a signal's name",
            code="BAD_SIGNAL",
            hint="use a-z, A-Z, 0-9, `_`, `-` and dots, 100 at most",
        )
    text = _text(body)
    payload, ref = await inline_or_ref(text, artifacts)
    kept = delivery[:ID_CHARS_MAX] or hashlib.sha256(body).hexdigest()
    answer = Delivery(kept, payload, ref, author, until)
    # Whose item it is comes first: strangers do not learn what it asks for.
    while (
        taken := await store.answer(item, name, answer, tenant=tenant)
    ) is Taken.UNSEEN:
        # The item may park, and say what fits, between the look and the answer.
        rows = await store.signals(item, name)
        schema = rows[0].schema if rows and rows[0].open else None
        if schema is not None:
            await _fits(store, item, rows[0], text, author)
        answer = answer._replace(schema=schema)
    match taken:
        case Taken.NOW | Taken.KEPT | Taken.AGAIN:
            return taken
        case Taken.UNKNOWN | Taken.EXPIRED:
            said = f"item {item} takes no such answer: {taken.value}"
            raise NotFound(said, code=REFUSALS[taken])
        case Taken.ANSWERED | Taken.LATE | Taken.FULL | Taken.UNSEEN:
            raise Conflict(
                f"item {item} does not take this answer to {name}: {taken.value}",
                code=REFUSALS.get(taken),
                hint=f"`waybill items show {item}` shows what there is",
            )
        case _:
            assert_never(taken)


def _text(body: bytes) -> str:
    """An answer as the database can keep it."""
    if len(body) > BYTES_MAX:
        raise Usage(
            f"an answer has at most {BYTES_MAX} bytes",
            code="SIGNAL_SIZE",
            hint="send where the rest of it is",
        )
    try:
        return encode(from_json(body, allow_inf_nan=False))
    except (ValueError, Permanent):
        hint = """write it as JSON, a text in quotation marks: '"yes"'"""
        raise Usage("the answer is no JSON", code="SIGNAL_SCHEMA", hint=hint) from None


async def _fits(
    store: SignalStore, item: ItemId, row: SignalRow, text: str, author: str
) -> None:
    assert row.schema is not None
    wrong = await in_thread(misfits, row.schema, json.loads(text))
    if wrong:
        code = "SIGNAL_SCHEMA"
        await store.note_refused(item, row.name, code, author)
        raise Usage(
            f"the answer to {row.name} is not what stage {row.stage} asked for: "
            f"{'; '.join(wrong)}",
            code=code,
            hint=f"`waybill items show {item} --json` shows its schema",
        )


def misfits(schema: dict[str, Any], value: Any) -> list[str]:
    """What of a value does not fit a JSON Schema; never a value of it."""
    # Here: few commands need it, and it takes a tenth of a second.
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import extend
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # Patterns of ours on texts of strangers can take for ever, and so can comparing
    # all with all: the stage itself looks at both.
    quick = extend(
        Draft202012Validator,
        dict.fromkeys(("pattern", "patternProperties", "uniqueItems"), _skipped),
    )
    written = json.dumps(schema)
    # A registry of its own: nothing is fetched.
    looked = quick(schema, registry=Registry())
    found: list[str] = []
    try:
        quick.check_schema(schema)
        for error in looked.iter_errors(value):
            found.append(_misfit(error, written))
            if len(found) == MISFITS_MAX:
                break
        return found
    except RecursionError:
        return ["it is nested too deep"]
    except (SchemaError, Unresolvable):
        return []  # nobody can say here: the stage itself will


def _skipped(*_: Any) -> Iterator[NoReturn]:
    return iter(())


def _misfit(error: Any, written: str) -> str:
    """Where, and by which rule: names that the schema knows."""
    where = "".join(
        f"[{part}]"
        if isinstance(part, int)
        else f".{part if json.dumps(part) in written else '…'}"
        for part in error.absolute_path
    )
    rule, wanted = error.validator, error.validator_value
    if rule == "required":
        wanted = [name for name in wanted if name not in error.instance]
    said = "" if isinstance(wanted, dict) or rule.endswith("Of") else f" {wanted}"
    if rule == "type":
        rule = "it must be of type"
    return visible(f"{where.lstrip('.') or 'it'}: {rule}{said}"[:200])
