"""A contract on its way, and a child of it that reads one type of clause."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pipeline.stage import merge
from stages.abstracts.forms import Check, Clause, Gap
from stages.document import Document


class Contract(Document):
    """
    What the stages of this pipeline read and write: each field is a channel.

    Attributes:
        structure: Artifact of a `stages.abstracts.forms.Structure`.
        clause: Of a child: the type that it reads; "" of the contract itself.
        found: Of a child: what it found.
        model: The model that read beside the rules; "none", or "" until that is known.
        clauses: Of the contract: every type, as its readers and a person have it.
        rulings: What a person said, by type or check: see `waybill review clause`.
    """

    structure: str = ""
    clause: str = ""
    found: Clause | None = None
    model: str = ""
    clauses: dict[str, Clause] = Field(default_factory=dict)
    checks: list[Check] = Field(default_factory=list)
    gaps: list[Gap] = Field(default_factory=list)
    rulings: Annotated[dict[str, Any], merge] = Field(default_factory=dict)
