"""State of a document that an agent reads: its text, what was found, what was ruled."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel

from pipeline.stage import merge


class Deal(BaseModel):
    """Its sections by id, the finding, and what a person said of calls."""

    sections: dict[str, str] = {}
    rulings: Annotated[dict[str, Any], merge] = {}
    finding: Annotated[dict[str, Any], merge] = {}
