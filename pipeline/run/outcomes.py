"""
What a stage returned, read once.

A stage may return anything, also a thing of its own class whose attributes raise, or
are others the next time.  It is looked at here, within the stage's own try, and nobody
behind this touches it: what goes on is an outcome of ours, made anew, whose updates
fit the item's state, and texts that the store can keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from pipeline.errors import CODE_CHARS_MAX, Permanent, code_of
from pipeline.lapse import Lapse
from pipeline.model import Advance, Done, Hold, Outcome, Reject, Wait
from pipeline.run.blame import seconds
from pipeline.run.frames import name_of
from pipeline.run.stay import Run
from pipeline.state import clean_text, encode

LAPSE_CHARS_MAX = 8192  # as of an update that stands in its row
BENEATH = 4  # levels that an update may stand in: evidence and state of a hold


@dataclass(slots=True)
class Returned:
    """
    The stage returned an outcome, and its updates fit.

    `update` are the updates as JSON text, `state` is what the item's state would be
    with them; `shown`, of a hold, is what a reviewer sees, as JSON text, and `lapse`
    what it comes to without one.
    """

    outcome: Outcome
    update: str
    state: BaseModel
    shown: str = ""
    lapse: str | None = None


def returned(outcome: Any, run: Run) -> Returned:
    """
    What a stage returned, checked before it is stored: what is stored folds.

    Raises:
        Permanent: BAD_OUTCOME, naming the channel and never the value.
    """
    ours = _ours(outcome)
    if isinstance(ours, Wait):
        return Returned(ours, "{}", run.state)
    if isinstance(ours, Hold):
        for name in (*ours.needs, *ours.ask):
            _asked(name, run)
        if run.effects and not ours.ask:
            raise bad_outcome(
                "the stage plans an effect and is held, and does not run again",
                "plan it in the stage behind, which begins when a person has approved",
            )
    channels = run.pipeline.channels
    try:
        valid = channels.validate(ours.updates)
        state = channels.apply(run.state, valid)
        seen = shown(ours.evidence, run) if isinstance(ours, Hold) else ""
        lapse = _lapse(ours, run) if isinstance(ours, Hold) else None
        return Returned(ours, _update(valid), state, seen, lapse)
    except Permanent as error:
        raise bad_outcome(error.message, error.hint) from None


def _lapse(hold: Hold, run: Run) -> str | None:
    """What a hold comes to when nobody decides, as JSON text."""
    if hold.lapse is None:
        return None
    channels = run.pipeline.channels
    valid = channels.validate(hold.lapse.updates)
    channels.apply(run.state, valid)
    ends = hold.lapse.action == "end"
    text = encode({"ends": ends, "update": valid}, beneath=BENEATH)
    if len(text) > LAPSE_CHARS_MAX:
        raise Permanent(
            f"what lapsing puts into the state has more than {LAPSE_CHARS_MAX} "
            "characters",
            code="BAD_UPDATE",
            hint="keep it in an artifact, or let the stage run again and see to it",
        )
    return text


def _read_lapse(value: Any) -> Lapse | None:
    if value is None:
        return None
    if not isinstance(value, Lapse) or value.action not in ("go_on", "end"):
        raise TypeError("no Lapse")
    after_s = seconds(value.after_s)
    if after_s <= 0:
        raise ValueError("no time")
    return Lapse(after_s, value.action, _updates(value.updates))


def shown(evidence: Any, run: Run) -> str:
    """
    What a reviewer sees of an item that is held, as JSON text.

    Raises:
        Permanent: BAD_UPDATE, it has no JSON.  And whatever serializers raise.
    """
    evidence = _stored("the evidence", evidence)
    return f'{{"evidence":{evidence},"state":{_stored("the state", run.state, 1)}}}'


def bad_outcome(why: str, hint: str = "") -> Permanent:
    """A stage returned what cannot be stored, or what nobody could act on."""
    return Permanent(why, code="BAD_OUTCOME", hint=hint)


def _ours(given: Any) -> Outcome:
    """
    An outcome of ours with what this one says, whatever its class.

    Raises:
        Permanent: BAD_OUTCOME, it is none, or cannot be read.
    """
    # Its own word for its class may be a lie, or raise.
    own = type(given)
    kinds = (k for k in FIELDS if issubclass(own, k))
    kind = Advance if own is Advance else next(kinds, None)  # most are
    if kind is None:
        raise bad_outcome(
            f"the stage returned {_named(given)}, which is no outcome",
            "return Advance(…), Done(…), Hold(…), Reject(…) or Wait(…)",
        )
    read: dict[str, Any] = {}
    name = ""
    try:
        for name in FIELDS[kind]:
            read[name] = READ[name](getattr(given, name))
        updates = read.pop("updates", {})
        ours = kind(**read, **updates)
    except BaseException as error:
        # Nothing is awaited here: no cancellation of ours is lost.
        raise bad_outcome(
            f"{name} of {_named(given)} cannot be read ({_named(error)}): "
            f"it must be {WANTED[name]}"
        ) from error
    code = read.get("code", "")
    if code != code_of(code):
        raise bad_outcome(
            f"the code of {_named(given)} is no word of at most {CODE_CHARS_MAX} "
            "characters"
        )
    return ours


def _named(given: Any) -> str:
    return clean_text(name_of(given))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return str.__str__(value)


def _names(value: Any) -> tuple[str, ...]:
    return tuple(_text(name) for name in value)


def _updates(value: Any) -> dict[str, Any]:
    return {_text(name): given for name, given in dict(value).items()}


# What each kind says, its updates last, and how it is read.
FIELDS: dict[type[Outcome], tuple[str, ...]] = {
    Advance: ("updates",),
    Done: ("updates",),
    Hold: (
        "code",
        "why",
        "evidence",
        "needs",
        "ask",
        "lapse",
        "role",
        "within_s",
        "updates",
    ),
    Reject: ("code", "why", "updates"),
    Wait: ("for_s", "why"),
}
READ: dict[str, Callable[[Any], Any]] = {
    "for_s": seconds,
    "code": _text,
    "why": _text,
    "evidence": lambda value: value,
    "needs": _names,
    "ask": _names,
    "lapse": _read_lapse,
    "role": _text,
    "within_s": lambda value: None if value is None else seconds(value),
    "updates": _updates,
}
WANTED = {
    "for_s": "a number of seconds",
    "code": "a text",
    "why": "a text",
    "evidence": "plain data",
    "needs": "names of channels",
    "ask": "names of channels",
    "lapse": "a Lapse with seconds above 0",
    "role": "a text",
    "within_s": "a number of seconds",
    "updates": "channels with their values",
}


def _asked(name: str, run: Run) -> None:
    """What a hold asks a person for: a channel, or a key of one that is a mapping."""
    channels = run.pipeline.channels
    channel, dot, key = name.partition(".")
    if channel not in channels.model.model_fields:
        raise bad_outcome(
            f"the hold asks for {name!r}, which is no channel",
            f"its channels are {', '.join(channels.model.model_fields)}",
        )
    if dot and (not key or "," in key or not channels.has_keys(channel)):
        raise bad_outcome(
            f"the hold asks for {name!r}, but {channel!r} has no such keys",
            f"ask for {channel!r} itself, or make it a mapping",
        )


def _update(valid: dict[str, Any]) -> str:
    """Updates as JSON text; of several it is said which cannot be stored."""
    try:
        return encode(valid, beneath=BENEATH)
    except Permanent:
        for name, value in valid.items():
            _stored(f"the update of {name!r}", {name: value})
        raise


def _stored(what: str, value: Any, beneath: int = BENEATH) -> str:
    try:
        return encode(value, beneath=beneath)
    except Permanent as error:
        said = f"{what} cannot be stored: {error.message}"
        raise Permanent(said, code=error.code, hint=error.hint) from None
