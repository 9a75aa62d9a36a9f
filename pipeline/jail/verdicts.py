"""
Verdicts: what is said of a call that has no answer, and of a function that is to blame.

A fault of a pipeline's own function is its author's to mend, so the hint names it; a
fault of one of ours is the document's, or a bug to report.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.errors import Permanent, Transient, Trouble
from pipeline.jail.process import End
from pipeline.jail.program import too_much_scratch
from pipeline.jail.stock import no_start
from pipeline.jail.template import Why


class Asked(NamedTuple):
    """What is run: `module:name`, and the file of a custom function."""

    name: str
    file: str

    def hint(self, otherwise: str) -> str:
        """What to do about its fault: a custom function is its author's to mend."""
        if not self.file:
            return otherwise
        file, _, name = self.name.partition(":")
        return (
            f"look at {name} in {file} of the pipeline: mend it, or catch there what "
            "this document does to it; then retry the item"
        )


def says_of_what(end: End | None) -> bool:
    """Whether a second try would end the same."""
    return end is not None and (end.overran or end.why in (Why.MEMORY, Why.SCRATCH))


def died(asked: Asked, end: End | None) -> Permanent | Transient | Trouble:
    """The error for a process that ended without an answer."""
    if end is None or end.why is Why.UNBORN:
        return no_start(f"the process of {asked.name} was lost twice")
    if end.overran:
        return overrun(asked.name, "with more of the processor than its time allows")
    if end.why is Why.MEMORY:
        return starved(asked)
    if end.why is Why.SCRATCH:
        raised = too_much_scratch(asked.name)
        hint = asked.hint(raised["hint"])
        return Permanent(raised["message"], code=raised["code"], hint=hint)
    hint = asked.hint("the document breaks a parser; convert it and send it again")
    return Permanent(
        f"{asked.name} crashed twice: {end}", code="JAIL_CRASHED", hint=hint
    )


def starved(asked: Asked) -> Permanent:
    """The error for a call that needs too much memory."""
    return Permanent(
        f"{asked.name} needs more memory than a jailed process may have",
        code="MEMORY_LIMIT",
        hint=asked.hint(
            "raise the memory limit of the jail, or give one call less to do"
        ),
    )


def overrun(name: str, how_long: str) -> Transient:
    """A call that took more than its time."""
    return Transient(
        f"{name} ran {how_long}",
        code="JAIL_TIMEOUT",
        hint="raise the stage's timeout_s, or give one call less to do",
    )
