"""State of a document that an agent reads: its text, what was found, what was ruled."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel

from pipeline.stage import merge


class Deal(BaseModel):
    """
    Its sections by id, what is looked for, what was found, and a person's rulings.
    """

    sections: dict[str, str] = {}
    clause: str = "Term"
    rulings: Annotated[dict[str, Any], merge] = {}
    finding: Annotated[dict[str, Any], merge] = {}
