"""State of a document that an agent reads: its text, and what was found in it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel

from pipeline.stage import merge


class Deal(BaseModel):
    """Its sections by id, and the finding."""

    sections: dict[str, str] = {}
    finding: Annotated[dict[str, Any], merge] = {}
