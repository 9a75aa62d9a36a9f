"""
Holding, scored: what was held of labelled texts against what a person must see.

A text that a rule file rejects counts as held: nobody answers it unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from waybill.evals.scoring import Share, as_data, f1
from waybill.evals.texts import LABELS, LabelledText


class Weighed(NamedTuple):
    """A labelled text and what was made of it: why it was held, or `code` ""."""

    known: LabelledText
    code: str
    rules: tuple[str, ...] = ()  # that spoke for it, as CATEGORY/RULE


@dataclass(slots=True)
class Tally:
    """How many texts there are of each label, and how many of those were held."""

    care: int = 0
    innocent: int = 0
    care_held: int = 0
    innocent_held: int = 0

    def add(self, one: Weighed) -> None:
        """Count one more."""
        held = int(bool(one.code))
        if one.known.label.care:
            self.care += 1
            self.care_held += held
        else:
            self.innocent += 1
            self.innocent_held += held

    def shares(self) -> dict[str, Share]:
        """
        The rates, by name.

        Precision and F1 are shares of nothing where all texts have one label: they
        would be 1 whatever was held, or 0.
        """
        held = self.care_held + self.innocent_held
        mixed = self.care and self.innocent
        return {
            "recall": Share(self.care_held, self.care),
            "precision": Share(self.care_held, held) if mixed else Share(0, 0),
            "f1": f1(self.care_held, held, self.care) if mixed else Share(0, 0),
            "innocent_held": Share(self.innocent_held, self.innocent),
        }

    def data(self) -> dict[str, Any]:
        """How many texts of each label, and the rates with their intervals."""
        counts = {"care": self.care, "innocent": self.innocent}
        return {**counts, **as_data(self.shares())}


def scored(found: Sequence[Weighed], *, show: bool = False) -> dict[str, Any]:
    """
    The rates of all and by kind, the misses, and what was held by mistake.

    A text of several kinds counts in each.  `show`: with the texts themselves;
    otherwise they are named by their lines alone.
    """
    whole = Tally()
    kinds: dict[str, Tally] = {}
    for one in found:
        whole.add(one)
        for kind in one.known.label.kinds:
            kinds.setdefault(kind, Tally()).add(one)
    wrong = [one for one in found if bool(one.code) != one.known.label.care]
    return {
        "all": whole.data(),
        "kinds": {kind: kinds[kind].data() for kind in sorted(kinds)},
        "missed": _named((o for o in wrong if o.known.label.care), show),
        "held_by_mistake": _named((o for o in wrong if not o.known.label.care), show),
    }


def _named(found: Iterable[Weighed], show: bool) -> list[dict[str, Any]]:
    return [
        {
            "line": one.known.line,
            "label": LABELS[one.known.label.care],
            "kinds": one.known.label.kinds,
            "code": one.code,
            "rules": one.rules,
            **({"text": one.known.text} if show else {}),
        }
        for one in found
    ]
