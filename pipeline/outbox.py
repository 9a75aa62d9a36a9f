"""
The outbox: effects on the world outside, as stages plan them and as they stand.

    planned → sending → confirmed | refused | in doubt

One that cannot be taken back waits before that for a person's release; one of a trial
is written down and never sent.  Nothing in this module makes anything happen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Protocol


class EffectState(StrEnum):
    """How far an effect is."""

    AWAITING_RELEASE = "awaiting_release"  # a person says when
    PLANNED = "planned"  # a courier will take it when it is due
    SENDING = "sending"  # a courier calls: from here on it may have happened
    CONFIRMED = "confirmed"  # the receiver said that it is done
    REFUSED = "refused"  # the receiver said no, and has done nothing
    IN_DOUBT = "in_doubt"  # nobody knows whether it happened
    NOT_SENT = "not_sent"  # planned in a trial: it stays as it is


class SinkClass(StrEnum):
    """What a receiver makes of an effect that reaches it twice."""

    A = "a"  # knows it by its key, and does it once
    B = "b"  # can be asked by its key whether it was done
    C = "c"  # neither: never sent again but by a person


class Planned(NamedTuple):
    """
    An effect to be written with the outcome of the stage that planned it.

    Attributes:
        payload: JSON text of at most `PAYLOAD_CHARS_MAX`, or None where it stands in
            the artifact `payload_ref`.
        artifacts: JSON text: names, and the artifact of each.
        released: Whether it may go without a person.
        gather_s: It becomes due with all others of its sink planned in this time.
    """

    stage: str
    name: str
    sink: str
    key: str
    sink_class: SinkClass
    payload: str | None
    payload_ref: str | None
    artifacts: str
    released: bool
    gather_s: float = 0.0


PAYLOAD_CHARS_MAX = 8192  # as of an update that stands in its row
EFFECTS_MAX = 100  # of one try of a stage; arbitrary


@dataclass(frozen=True, slots=True)
class SinkFacts:
    """
    What whoever plans an effect must know of its sink; see effects/declared.py.

    Attributes:
        vendor: Who is called for it; "" for a folder and for mail.
    """

    sink_class: SinkClass
    irreversible: bool = False
    gather_s: float = 0.0
    vendor: str = ""


def key_of(*parts: Any) -> str:
    """What a receiver knows an effect by, for ever: 40 hex digits of its origin."""
    said = "\0".join(str(part) for part in parts)
    return hashlib.sha256(said.encode()).hexdigest()[:40]


class Planning(Protocol):
    """What a stage may plan to have done outside (`Context` of pipeline/stage.py)."""

    async def effect(
        self,
        name: str,
        sink: str,
        payload: Mapping[str, Any] | None = None,
        *,
        artifacts: Mapping[str, str] | None = None,
        irreversible: bool = False,
    ) -> str:
        """
        Plan something that happens outside, once.

        Committed together with the stage's Advance, Done or Reject; nothing is sent
        before that, and an attempt that ends otherwise plans nothing.  It does not
        hold up the item, which may be done before its effects are confirmed.

        The same name of the same stage is the same effect, however often it runs: it
        has one key.  What was not sent yet, or was refused, is replaced by the newer
        plan; what was sent stays as it is.

        Args:
            sink: Name of a `[sink.NAME]` of vendors.toml.
            payload: Plain data, as the sink's kind wants it.
            artifacts: By name, what `artifacts.put` gave: files that go with it.
            irreversible: A person releases it first (`waybill effects release`).

        Returns:
            Its key.

        Raises:
            Permanent: NO_SUCH_SINK, BAD_EFFECT.
        """
        ...
